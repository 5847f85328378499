/* What a test compared, for comparing two devices: appended to the file that MSD_TEST_VALUES names, if it names one.
 * tests/cuda_host/compare_values.c reads it: a line "GROUP KIND COUNT", then COUNT floats as they lie in memory. */
#ifndef MSD_TEST_VALUES_H
#define MSD_TEST_VALUES_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"

/* group: what is counted as one row or module (no spaces); in_bf16: of a network or op in bf16, else f32. */
static inline void test_values_note(const char *group, bool in_bf16, const float *values, int64_t count)
{
    const char *path = getenv("MSD_TEST_VALUES");
    if (!path)
        return;
    FILE *file = fopen(path, "ab");
    CHECK(file, "%s cannot be written", path);
    fprintf(file, "%s %s %" PRId64 "\n", group, in_bf16 ? "bf16" : "f32", count);
    CHECK(fwrite(values, sizeof *values, (size_t)count, file) == (size_t)count && fclose(file) == 0, "%s", path);
}

#endif
