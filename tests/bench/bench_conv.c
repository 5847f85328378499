/* Winograd's convolution against oneDNN's direct one, turn about in one run: bench_conv [ROUNDS [THREADS]]. Weights are
 * laid out, as a loaded model has them. Prints the median of each and direct / Winograd. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "autograd/cpu/winograd.h"
#include "data/counter.h"

enum { MOST_ROUNDS = 1000 };

static double milliseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times, int count)
{
    qsort(times, (size_t)count, sizeof *times, by_size);
    return times[count / 2];
}

static err numbers(device *d, void **out, const char *name, int64_t count)
{
    TRY(d->memory->get(d->memory, out, (size_t)count * sizeof(float), LIFE_STEP));
    counter_uniform(*out, name, 0, count);
    return OK;
}

static err compare(device *d, int64_t side, int64_t channels, int rounds)
{
    conv_shape s = {.batch = 1, .height = side, .width = side, .in = channels, .out_height = side, .out_width = side,
                    .out = channels, .kernel_height = 3, .kernel_width = 3, .geometry = {1, 1, 1, 1, 1},
                    .type = DT_F32, .weights = CONV_BLOCKED};
    int64_t count = side * side * channels, weights = channels * channels * 9;
    void   *x, *y, *plain, *blocked;
    TRY(numbers(d, &x, "x", count));
    TRY(numbers(d, &y, "y", count));
    TRY(numbers(d, &plain, "w", weights));
    TRY(numbers(d, &blocked, "w", weights));
    TRY(onednn_conv_block(d, blocked, plain, &s));
    conv_shape direct = s; /* plain: oneDNN orders them at each call, as it did before weights were laid out */
    direct.weights = CONV_PLAIN;
    double time[2][MOST_ROUNDS];
    for (int r = -1; r < rounds; r++) { /* the first warms up */
        double begin = milliseconds();
        TRY(winograd_conv(d, y, x, blocked, NULL, &s, false));
        double between = milliseconds();
        TRY(onednn_conv(d, y, x, plain, NULL, &direct, false));
        time[0][r < 0 ? 0 : r] = between - begin;
        time[1][r < 0 ? 0 : r] = milliseconds() - between;
    }
    double ours = median(time[0], rounds), theirs = median(time[1], rounds);
    printf("3x3 %4lld -> %-4lld at %3lld x %-3lld  Winograd %8.2f ms (from %.2f)  direct %8.2f ms (from %.2f)  %.2f x\n",
           (long long)channels, (long long)channels, (long long)side, (long long)side, ours, time[0][0], theirs,
           time[1][0], theirs / ours);
    d->memory->put(d->memory, x, (size_t)count * sizeof(float), LIFE_STEP);
    d->memory->put(d->memory, y, (size_t)count * sizeof(float), LIFE_STEP);
    d->memory->put(d->memory, plain, (size_t)weights * sizeof(float), LIFE_STEP);
    d->memory->put(d->memory, blocked, (size_t)weights * sizeof(float), LIFE_STEP);
    return OK;
}

int main(int count, char **words)
{
    static const int64_t shapes[][2] = {{64, 320}, {64, 160}, {32, 320}, {16, 640}, {128, 256}};
    int     rounds = count > 1 ? atoi(words[1]) : 15;
    device *d = NULL;
    err     e = device_open_cpu(&d, count > 2 ? atoi(words[2]) : 0);
    rounds = rounds < 1 ? 1 : rounds > MOST_ROUNDS ? MOST_ROUNDS : rounds;
    for (size_t i = 0; e == OK && i < sizeof shapes / sizeof *shapes; i++)
        e = compare(d, shapes[i][0], shapes[i][1], rounds);
    if (e != OK) {
        fprintf(stderr, "bench_conv: %s\n", err_message());
        return err_exit_code(e);
    }
    device_close(d);
    return 0;
}
