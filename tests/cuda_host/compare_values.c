/* What a test got on the CPU against what it got on the CUDA device: two files of tests/test_values.h with the same
 * records.
 *     compare_values NAME CPU CUDA F32 BF16
 * prints, for each type, "NAME TYPE GROUPS RECORDS VALUES WORST BOUND WHERE CPU CUDA" with tabs between. WORST:
 * ||a - b|| / ||a|| of the record where that is largest, a being the CPU's; it may be at most the type's bound. CPU, CUDA,
 * in bf16: how far each is from what it should be, root mean square of all records. Two that round in another order differ
 * by more than either, so this says whether CUDA loses more than the CPU does; it may be 1.2 times as far. */
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/error.h"

typedef struct totals {
    const char *type;
    double      bound, worst, cpu, cuda; /* sums of squares, of distances to what is exact */
    char        where[80];
    char       *groups[1024];
    int         group_count;
    int64_t     records, values;
} totals;

typedef struct record {
    char    group[80], type[8];
    int64_t count;
    float  *values, *exact; /* exact: only in bf16 */
} record;

/* Whether there was one. */
static bool next_record(record *r, FILE *file, const char *path)
{
    int found = fscanf(file, "%79s %7s %" SCNd64, r->group, r->type, &r->count);
    if (found == EOF)
        return false;
    CHECK(found == 3 && fgetc(file) == '\n' && r->count >= 0, "%s: no record", path);
    size_t n = (size_t)r->count * (strcmp(r->type, "bf16") ? 1 : 2);
    r->values = heap_get(n * sizeof *r->values + 1);
    r->exact = strcmp(r->type, "bf16") ? NULL : r->values + r->count;
    CHECK(fread(r->values, sizeof *r->values, n, file) == n, "%s ends early", path);
    return true;
}

/* Zeros ask for zeros; NaN is infinitely far from everything. */
static double distance(const float *a, const float *b, int64_t n)
{
    double size = 0, apart = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        apart += d * d;
        size += (double)a[i] * (double)a[i];
    }
    double share = apart == 0 ? 0 : sqrt(apart / size);
    return isnan(share) ? INFINITY : share;
}

static void add(totals *t, const record *cpu, const record *cuda)
{
    int    g = 0;
    double apart = distance(cpu->values, cuda->values, cpu->count);
    t->records++;
    t->values += cpu->count;
    if (cpu->exact) {
        double a = distance(cpu->exact, cpu->values, cpu->count), b = distance(cpu->exact, cuda->values, cpu->count);
        t->cpu += a * a;
        t->cuda += b * b;
    }
    while (g < t->group_count && strcmp(t->groups[g], cpu->group) != 0)
        g++;
    CHECK(g < 1024, "more than 1024 groups");
    if (g == t->group_count)
        t->groups[t->group_count++] = strdup(cpu->group);
    if (apart > t->bound)
        fprintf(stderr, "FAIL %s (%s): %.3g apart, the bound is %.0e\n", cpu->group, cpu->type, apart, t->bound);
    if (t->records == 1 || apart > t->worst) {
        t->worst = apart;
        snprintf(t->where, sizeof t->where, "%s", cpu->group);
    }
}

static void compare(totals of[2], const char *cpu_path, const char *cuda_path)
{
    record cpu, cuda;
    FILE  *a = fopen(cpu_path, "rb"), *b = fopen(cuda_path, "rb");
    CHECK(a && b, "%s or %s cannot be read", cpu_path, cuda_path);
    while (next_record(&cpu, a, cpu_path)) {
        CHECK(next_record(&cuda, b, cuda_path), "%s ends before %s", cuda_path, cpu.group);
        CHECK(!strcmp(cpu.group, cuda.group) && !strcmp(cpu.type, cuda.type) && cpu.count == cuda.count,
              "%s (%s) on the CPU meets %s (%s)", cpu.group, cpu.type, cuda.group, cuda.type);
        add(&of[!strcmp(cpu.type, "bf16")], &cpu, &cuda);
        free(cpu.values);
        free(cuda.values);
    }
    CHECK(!next_record(&cuda, b, cuda_path), "%s goes on with %s", cuda_path, cuda.group);
    fclose(a);
    fclose(b);
}

int main(int count, char **argument)
{
    static totals of[2];
    if (count != 6)
        return fprintf(stderr, "compare_values NAME CPU CUDA F32 BF16\n"), 2;
    of[0] = (totals){.type = "f32", .bound = atof(argument[4])};
    of[1] = (totals){.type = "bf16", .bound = atof(argument[5])};
    compare(of, argument[2], argument[3]);
    bool good = of[0].records + of[1].records > 0;
    for (totals *t = of; t < of + 2; t++) {
        double n = t->records > 0 ? (double)t->records : 1, cpu = sqrt(t->cpu / n), cuda = sqrt(t->cuda / n);
        if (t->records)
            printf("%s\t%s\t%d\t%" PRId64 "\t%" PRId64 "\t%.1e\t%.1e\t%s\t%.1e\t%.1e\n", argument[1], t->type,
                   t->group_count, t->records, t->values, t->worst, t->bound, t->where, cpu, cuda);
        if (!(cuda <= 1.2 * cpu))
            fprintf(stderr, "FAIL %s: CUDA is %.2e from what it should be, the CPU %.2e\n", argument[1], cuda, cpu);
        good &= t->worst <= t->bound && cuda <= 1.2 * cpu;
        for (int g = 0; g < t->group_count; g++)
            free(t->groups[g]);
    }
    return !good;
}
