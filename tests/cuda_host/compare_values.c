/* What a test got on the CPU against what it got on the CUDA device: two files of tests/test_values.h with the same records.
 *     compare_values NAME CPU CUDA F32 BF16
 * prints, for each type, "NAME TYPE GROUPS RECORDS VALUES WORST BOUND WHERE" with tabs between. WORST: ||a - b|| / ||a|| of the
 * record where that is largest, a being the CPU's; it may be at most the type's bound. */
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
    double      bound, worst;
    char        where[80];
    char       *groups[1024];
    int         group_count;
    int64_t     records, values;
} totals;

typedef struct record {
    char    group[80], type[8];
    int64_t count;
    float  *values;
} record;

/* Whether there was one. */
static bool next_record(record *r, FILE *file, const char *path)
{
    int found = fscanf(file, "%79s %7s %" SCNd64, r->group, r->type, &r->count);
    if (found == EOF)
        return false;
    CHECK(found == 3 && fgetc(file) == '\n' && r->count >= 0, "%s: no record", path);
    r->values = heap_get((size_t)r->count * sizeof *r->values + 1);
    CHECK(fread(r->values, sizeof *r->values, (size_t)r->count, file) == (size_t)r->count, "%s ends early", path);
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
        if (t->records)
            printf("%s\t%s\t%d\t%" PRId64 "\t%" PRId64 "\t%.1e\t%.0e\t%s\n", argument[1], t->type, t->group_count, t->records,
                   t->values, t->worst, t->bound, t->where);
        good &= t->worst <= t->bound;
        for (int g = 0; g < t->group_count; g++)
            free(t->groups[g]);
    }
    return !good;
}
