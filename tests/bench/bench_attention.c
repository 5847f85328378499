/* Attention at the shapes of the networks, forward and backward in both types:
 *     bench_attention [ROUNDS [THREADS [ROWS]]]
 * ROWS: how many of the shapes, from the first on. Prints the median of each in ms, and the most scratch taken. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "autograd/device.h"
#include "base/half.h"
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

static err numbers(tensor **out, arena *a, device *d, const char *name, dtype type, int64_t t, int64_t h, int64_t size)
{
    TRY(tensor_new(out, a, d, LIFE_STEP, name, type, DIMS(1, t, h, size)));
    tensor *x = *out;
    float  *host = malloc((size_t)tensor_count(x) * sizeof *host);
    counter_uniform(host, name, 0, tensor_count(x));
    for (int64_t i = 0; i < tensor_count(x); i++) {
        if (type == DT_BF16)
            ((uint16_t *)x->data)[i] = f32_to_bf16(host[i]);
        else
            ((float *)x->data)[i] = host[i];
    }
    free(host);
    return OK;
}

typedef struct shape {
    int64_t heads, queries, keys, size;
    bool    causal;
} shape;

static err measure(device *d, const shape *s, dtype type, int rounds)
{
    arena    a = {0};
    tensor  *t[8], *lse, *q, *k, *v, *y;
    const char *name[] = {"q", "k", "v", "y", "dy", "dq", "dk", "dv"};
    for (int i = 0; i < 8; i++)
        TRY(numbers(&t[i], &a, d, name[i], type, i == 1 || i == 2 || i >= 6 ? s->keys : s->queries, s->heads, s->size));
    TRY(tensor_new(&lse, &a, d, LIFE_STEP, "lse", DT_F32, DIMS(1, s->heads, s->queries)));
    q = t[0], k = t[1], v = t[2], y = t[3];
    double time[2][MOST_ROUNDS];
    for (int r = -1; r < rounds; r++) { /* the first warms up */
        double begin = milliseconds();
        TRY(d->p->attention(d, y, lse, q, k, v, 0.125f, s->causal));
        double between = milliseconds();
        TRY(d->p->attention_backward(d, t[5], t[6], t[7], t[4], y, lse, q, k, v, 0.125f, s->causal, false, false,
                                     false));
        time[0][r < 0 ? 0 : r] = between - begin;
        time[1][r < 0 ? 0 : r] = milliseconds() - between;
    }
    printf("%2d x %4d x %4d x %3d %-4s  forward %8.3f  backward %8.3f\n", (int)s->heads, (int)s->queries, (int)s->keys,
           (int)s->size, dtype_name(type), median(time[0], rounds), median(time[1], rounds));
    for (int i = 0; i < 8; i++)
        tensor_release(t[i]);
    tensor_release(lse);
    arena_free(&a);
    return OK;
}

int main(int argc, char **argv)
{
    static const shape shapes[] = {{10, 4096, 4096, 64, false}, {5, 1024, 1024, 64, false}, {10, 256, 256, 64, false},
                                   {5, 1024, 77, 64, false},    {16, 257, 257, 104, false}, {12, 77, 77, 64, true},
                                   {1, 4096, 4096, 512, false}};
    int rounds = argc > 1 ? atoi(argv[1]) : 5, rows = argc > 3 ? atoi(argv[3]) : 7;
    rounds = rounds < 1 ? 1 : rounds > MOST_ROUNDS ? MOST_ROUNDS : rounds;
    device *d = NULL;
    err     e = device_open_cpu(&d, argc > 2 ? atoi(argv[2]) : 0);
    for (int i = 0; e == OK && i < rows && i < (int)(sizeof shapes / sizeof *shapes); i++) {
        e = measure(d, &shapes[i], DT_F32, rounds);
        e = e == OK ? measure(d, &shapes[i], DT_BF16, rounds) : e;
    }
    if (e != OK)
        fprintf(stderr, "%s\n", err_message());
    printf("most scratch: %zu MiB\n", d ? d->memory->peak[LIFE_SCRATCH] >> 20 : 0);
    device_close(d);
    return e == OK ? 0 : 1;
}
