/* Which queries of an h x w grid a box covers. */
#include <math.h>

#include "autograd/cpu/cpu.h"

/* Products in f32, as the reference does it: x0*w in f64 can fall on the other side of an integer. A
 * NaN covers nothing, since it compares false. */
static void one_box(uint8_t *mask, const float *box, int64_t h, int64_t w)
{
    float left = floorf(box[0] * (float)w), right = ceilf(box[2] * (float)w);
    float top = floorf(box[1] * (float)h), bottom = ceilf(box[3] * (float)h);
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++)
            mask[y * w + x] = (float)y >= top && (float)y < bottom && (float)x >= left && (float)x < right;
}

err cpu_box_mask(device *d, tensor *mask, const tensor *boxes, int64_t h, int64_t w)
{
    TRY(cpu_need_f32("box_mask", boxes));
    int64_t count = tensor_count(boxes) / 4;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < count; i++)
        one_box((uint8_t *)mask->data + i * h * w, (const float *)boxes->data + i * 4, h, w);
    return OK;
}
