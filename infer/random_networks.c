#include "infer/random_networks.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/counter.h"
#include "infer/synth_configs.h"

enum { CHUNK = 1 << 16 };

typedef struct filling {
    const load_target *to;
    const char        *component;
    float             *value; /* heap, of the largest weight so far */
    int64_t            room;
    err                status;
} filling;

static err fill(filling *f, tensor *t, const char *key)
{
    int64_t count = tensor_count(t);
    if (t->dev->dataless)
        return OK;
    if (count > f->room) {
        free(f->value);
        f->room = 0;
        f->value = malloc((size_t)count * sizeof(float));
        if (!f->value)
            return err_set(E_MEMORY, "%s: no memory for %lld numbers", key, (long long)count);
        f->room = count;
    }
#pragma omp parallel for schedule(static) if (count > 4 * CHUNK)
    for (int64_t c = 0; c < (count + CHUNK - 1) / CHUNK; c++)
        counter_fill_part(f->value + c * CHUNK, key, t->ndim, t->dim, c * CHUNK,
                          count - c * CHUNK < CHUNK ? count - c * CHUNK : CHUNK);
    return tensor_upload(t, f->value, DT_F32);
}

static void fill_visit(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    filling *f = bind_user(b);
    int64_t  order[TENSOR_MAX_DIM] = {0};
    if (f->status != OK)
        return;
    memcpy(order, dim, (size_t)ndim * sizeof *dim);
    if (kind == WEIGHT_CONV) {
        order[1] = dim[2];
        order[2] = dim[3];
        order[3] = dim[1];
    }
    char *key = arena_print(f->to->owner, "%s.%s", f->component, path);
    f->status = bind_make(b, slot, f->to->owner, f->to->dev, LIFE_WEIGHTS, key, f->to->type, ndim, order);
    if (f->status == OK)
        f->status = fill(f, *slot, key);
}

/* config.json of the component, as `msd synth` writes it. */
static err config_of(json_t **out, const char *size, const char *component)
{
    const synth_size *s = synth_size_find(size);
    arena             memory = {0};
    synth_file        file[SYNTH_FILES];
    err               e = OK;
    *out = NULL;
    if (!s)
        return err_set(E_USAGE, "--random %.40s: there are tiny, half, sdxl", size);
    synth_files(file, &memory, s);
    for (int i = 0; i < SYNTH_FILES && e == OK; i++)
        if (file[i].component && !strcmp(file[i].component, component) && !strcmp(file[i].name, "config.json"))
            e = json_text_parse(out, file[i].text, strlen(file[i].text), component, JSON_REFUSE_DUPLICATES);
    CHECK(e != OK || *out, "no config of %s", component);
    arena_free(&memory);
    return e;
}

static err begin(binder **out, filling *f, const load_target *to, const char *component)
{
    *f = (filling){.to = to, .component = component};
    return bind_walk_begin(out, to->owner, fill_visit, f);
}

static err end(binder *b, filling *f)
{
    err e = bind_end(b);
    free(f->value);
    return e == OK ? f->status : e;
}

err random_unet(unet *out, const load_target *to, const char *size)
{
    json_t     *config;
    unet_config parsed;
    binder     *b;
    filling     f;
    *out = (unet){0};
    TRY(config_of(&config, size, "unet"));
    err e = unet_config_parse(&parsed, config, "unet");
    json_decref(config);
    TRY(e);
    TRY(begin(&b, &f, to, "unet"));
    unet_bind(b, out, to->owner, &parsed);
    e = end(b, &f);
    if (e != OK)
        unet_release(out);
    return e;
}

err random_vae(vae *out, const load_target *to, const char *size)
{
    json_t    *config;
    vae_config parsed;
    binder    *b;
    filling    f;
    *out = (vae){0};
    TRY(config_of(&config, size, "vae"));
    err e = vae_config_parse(&parsed, config, "vae");
    json_decref(config);
    TRY(e);
    TRY(begin(&b, &f, to, "vae"));
    vae_bind(b, out, to->owner, &parsed);
    e = end(b, &f);
    if (e != OK)
        vae_release(out);
    return e;
}

err random_image_encoder(clip_vision *out, const load_target *to, const char *size)
{
    json_t            *config;
    clip_vision_config parsed;
    binder            *b;
    filling            f;
    *out = (clip_vision){0};
    TRY(config_of(&config, size, "image_encoder"));
    err e = clip_vision_config_parse(&parsed, config, "image_encoder");
    json_decref(config);
    TRY(e);
    TRY(begin(&b, &f, to, "image_encoder"));
    clip_vision_bind(b, out, to->owner, &parsed, true);
    e = end(b, &f);
    if (e != OK)
        clip_vision_release(out);
    return e;
}

err random_text_encoder(clip_text *out, const load_target *to, const char *size, bool second)
{
    const char      *component = second ? "text_encoder_2" : "text_encoder";
    json_t          *config;
    clip_text_config parsed;
    binder          *b;
    filling          f;
    *out = (clip_text){0};
    TRY(config_of(&config, size, component));
    err e = clip_text_config_parse(&parsed, config, component, second);
    json_decref(config);
    TRY(e);
    TRY(begin(&b, &f, to, component));
    clip_text_bind(b, out, to->owner, &parsed);
    e = end(b, &f);
    if (e != OK)
        clip_text_release(out);
    return e;
}
