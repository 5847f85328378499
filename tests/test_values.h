/* What a test compared, for comparing two devices: appended to the file that MSD_TEST_VALUES names, if it names one.
 * tests/cuda_host/compare_values.c reads it: a line "GROUP TYPE COUNT", then COUNT floats as they lie in memory; in bf16
 * COUNT more, what they should be. */
#ifndef MSD_TEST_VALUES_H
#define MSD_TEST_VALUES_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"

/* group: what is counted as one row or module (no spaces). exact: what f32 gives, of a network or op in bf16; NULL: in
 * f32. */
static inline void test_values_note(const char *group, const float *values, const float *exact, int64_t count)
{
    const char *path = getenv("MSD_TEST_VALUES");
    if (!path)
        return;
    FILE *file = fopen(path, "ab");
    CHECK(file, "%s cannot be written", path);
    fprintf(file, "%s %s %" PRId64 "\n", group, exact ? "bf16" : "f32", count);
    fwrite(values, sizeof *values, (size_t)count, file);
    if (exact)
        fwrite(exact, sizeof *exact, (size_t)count, file);
    CHECK(!ferror(file) && fclose(file) == 0, "%s", path);
}

#endif
