#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "data/safetensors.h"
#include "train/batch_source.h"

typedef struct dumped {
    const char  *name;
    const float *values;
    int          ndim;
    int64_t      dim[4];
} dumped;

static float *nchw(const float *nhwc, const batch *b)
{
    int64_t plane = b->h * b->w;
    float *to = heap_get((size_t)(b->B * b->C * plane) * sizeof *to);
    for (int64_t i = 0; i < b->B; i++)
        for (int64_t c = 0; c < b->C; c++)
            for (int64_t k = 0; k < plane; k++)
                to[(i * b->C + c) * plane + k] = nhwc[(i * plane + k) * b->C + c];
    return to;
}

static err write_dump(const char *path, const dumped *item, int count)
{
    safetensors_writer *w = NULL;
    TRY(safetensors_create(&w, path));
    for (int i = 0; i < count; i++)
        safetensors_declare(w, item[i].name, STORED_F32, item[i].ndim, item[i].dim);
    for (int i = 0; i < count; i++) {
        err e = safetensors_write_f32(w, item[i].values);
        if (e != OK) {
            safetensors_discard(w);
            return e;
        }
    }
    return safetensors_publish(w);
}

err batch_source_dump(const batch_source *s, const char *folder, int64_t step, int64_t micro)
{
    const batch *b = &s->batch;
    float *latents = nchw(b->latents, b), *noise = nchw(b->noise, b), *drop = heap_get((size_t)b->B * sizeof *drop);
    for (int64_t i = 0; i < b->B; i++)
        drop[i] = (float)b->drop_grounding[i];
    const dumped item[] = {
        {"latents", latents, 4, {b->B, b->C, b->h, b->w}},
        {"noise", noise, 4, {b->B, b->C, b->h, b->w}},
        {"timesteps", b->timesteps, 1, {b->B}},
        {"encoder_hidden_states", b->text, 3, {b->B, b->T, b->X}},
        {"text_embeds", b->pooled, 2, {b->B, b->P}},
        {"time_ids", b->time_ids, 2, {b->B, 6}},
        {"image_hidden", b->image_hidden, 4, {b->B, b->S, b->L, b->D}},
        {"phrase_embeds", b->phrases, 3, {b->B, b->S, b->E}},
        {"boxes", b->boxes, 3, {b->B, b->S, 4}},
        {"drop_grounding_tokens", drop, 1, {b->B}},
    };
    char name[64];
    snprintf(name, sizeof name, "step-%06" PRId64 "-%" PRId64 ".safetensors", step, micro * s->ranks + s->rank);
    char *path = path_join(folder, name);
    err e = write_dump(path, item, sizeof item / sizeof *item);
    free(path);
    free(latents);
    free(noise);
    free(drop);
    return e;
}
