#include "support_golden.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "tests/test_values.h"

golden golden_open(const char *name)
{
    golden g = {0};
    char  *path = arena_print(&g.memory, "%s/%s", MSD_GOLDENS, name);
    CHECK(safetensors_open(&g.file, path) == OK, "%s", err_message());
    const char *config = safetensors_metadata(g.file, "config");
    if (config)
        CHECK(json_text_parse(&g.config, config, strlen(config), name, JSON_KEEP_LAST) == OK, "%s", err_message());
    return g;
}

void golden_close(golden *g)
{
    safetensors_close(g->file);
    json_decref(g->config);
    arena_free(&g->memory);
}

const stored_tensor *golden_tensor(const golden *g, const char *name)
{
    const stored_tensor *t = tensor_table_find(&g->file->tensors, name);
    CHECK(t, "golden without '%s'", name);
    return t;
}

float *golden_f32(golden *g, const char *name)
{
    const stored_tensor *t = golden_tensor(g, name);
    float *out = arena_get(&g->memory, (size_t)t->count * sizeof *out);
    stored_to_f32(out, t->type, t->data, t->count);
    return out;
}

int32_t *golden_i32(golden *g, const char *name)
{
    const stored_tensor *t = golden_tensor(g, name);
    int32_t *out = arena_get(&g->memory, (size_t)t->count * sizeof *out);
    CHECK(t->type == STORED_I32, "'%s' is %s", name, stored_type_name(t->type));
    memcpy(out, t->data, t->bytes);
    return out;
}

static void swap_inner(float *out, const float *x, int64_t outer, int64_t rows, int64_t columns)
{
    for (int64_t o = 0; o < outer; o++, x += rows * columns)
        for (int64_t c = 0; c < columns; c++)
            for (int64_t r = 0; r < rows; r++)
                *out++ = x[r * columns + c];
}

float *golden_nhwc(golden *g, const char *name)
{
    const stored_tensor *t = golden_tensor(g, name);
    float *out = arena_get(&g->memory, (size_t)t->count * sizeof *out);
    CHECK(t->ndim == 4, "'%s' has %d dimensions", name, t->ndim);
    swap_inner(out, golden_f32(g, name), t->dim[0], t->dim[1], t->dim[2] * t->dim[3]);
    return out;
}

float *nchw_from_nhwc(arena *memory, const float *x, int64_t b, int64_t h, int64_t w, int64_t c)
{
    float *out = arena_get(memory, (size_t)(b * h * w * c) * sizeof *out);
    swap_inner(out, x, b, h * w, c);
    return out;
}

double relative_error(const float *ours, const float *ref, int64_t count)
{
    double error = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)ours[i] - (double)ref[i];
        error += d * d;
        size += (double)ref[i] * (double)ref[i];
    }
    return sqrt(error / size);
}

static bool same_shape(const stored_tensor *ref, const tensor *ours, bool nchw)
{
    static const int nhwc_place[4] = {0, 3, 1, 2};
    bool same = ref->ndim == ours->ndim;
    for (int i = 0; same && i < ref->ndim; i++)
        same = ref->dim[i] == ours->dim[nchw ? nhwc_place[i] : i];
    return same;
}

bool golden_agrees(golden *g, const char *name, const tensor *ours, bool nchw, double tolerance)
{
    const stored_tensor *ref = golden_tensor(g, name);
    if (!ours || !same_shape(ref, ours, nchw)) {
        printf("FAIL %s: ours %s, reference %s\n", name, ours ? tensor_shape_text(&g->memory, ours) : "(none)",
               stored_shape_text(&g->memory, ref->ndim, ref->dim));
        return false;
    }
    float *values = arena_get(&g->memory, (size_t)ref->count * sizeof *values);
    CHECK(tensor_download(values, DT_F32, ours) == OK, "%s", err_message());
    if (nchw)
        values = nchw_from_nhwc(&g->memory, values, ours->dim[0], ours->dim[1], ours->dim[2], ours->dim[3]);
    const float *exact = golden_f32(g, name);
    test_values_note(name, values, tolerance > 1e-3 ? exact : NULL, ref->count); /* only bf16 asks for so much */
    double error = relative_error(values, exact, ref->count);
    bool   good = error <= tolerance; /* NaN fails */
    printf("%s %-28s %6.2f %% of tolerance %.0e\n", good ? "ok  " : "FAIL", name, 100 * error / tolerance, tolerance);
    return good;
}
