#include "autograd/moment_code.h"

#include <math.h>
#include <stdlib.h>

static int rising(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void moment_map_make(moment_map *out, bool is_signed)
{
    int count = 0;
    for (int decade = 0; decade < 7; decade++) {
        int n = is_signed ? 1 << decade : 2 << decade;
        for (int j = 0; j < n; j++) {
            double x = pow(10, decade - 6) * (0.1 + 0.9 * (j + 0.5) / n);
            out->value[count++] = (float)x;
            if (is_signed)
                out->value[count++] = (float)-x;
        }
    }
    out->value[count++] = 0;
    out->value[count++] = 1;
    qsort(out->value, (size_t)count, sizeof *out->value, rising);
    for (int i = 0; i + 1 < MOMENT_CODES; i++)
        out->middle[i] = (out->value[i] + out->value[i + 1]) / 2;
    out->middle[MOMENT_CODES - 1] = INFINITY;
}

int64_t moment_blocks(int64_t count)
{
    return (count + MOMENT_BLOCK - 1) / MOMENT_BLOCK;
}
