#include "infer/synth.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/text.h"
#include "data/counter.h"
#include "data/safetensors.h"
#include "data/vocab.h"
#include "infer/synth_configs.h"
#include "model/clip_text.h"
#include "model/clip_vision.h"
#include "model/unet.h"
#include "model/vae.h"

enum { CHUNK = 1 << 16, PIECE_CHUNKS = 32, PIECE = CHUNK * PIECE_CHUNKS, COMPONENTS = 5 };

typedef struct models {
    unet_config        unet;
    vae_config         vae;
    clip_text_config   text1, text2;
    clip_vision_config vision;
} models;

typedef struct component {
    const char *folder, *file;
    void (*bind)(binder *b, arena *memory, const models *m);
} component;

static void bind_unet(binder *b, arena *memory, const models *m)
{
    unet network = {0};
    unet_bind(b, &network, memory, &m->unet);
}

static void bind_vae(binder *b, arena *memory, const models *m)
{
    vae network = {0};
    vae_bind(b, &network, memory, &m->vae);
}

static void bind_text1(binder *b, arena *memory, const models *m)
{
    clip_text network = {0};
    clip_text_bind(b, &network, memory, &m->text1);
}

static void bind_text2(binder *b, arena *memory, const models *m)
{
    clip_text network = {0};
    clip_text_bind(b, &network, memory, &m->text2);
}

static void bind_vision(binder *b, arena *memory, const models *m)
{
    clip_vision network = {0};
    clip_vision_bind(b, &network, memory, &m->vision, true);
}

static const component components[COMPONENTS] = { /* in the order of synth_files */
    {"unet", "diffusion_pytorch_model.safetensors", bind_unet},
    {"vae", "diffusion_pytorch_model.safetensors", bind_vae},
    {"text_encoder", "model.safetensors", bind_text1},
    {"text_encoder_2", "model.safetensors", bind_text2},
    {"image_encoder", "model.safetensors", bind_vision},
};

/* The configs go through the parsers that will read them. */
static err parse_configs(models *m, const synth_file *file)
{
    json_t *config[COMPONENTS] = {0};
    err     e = OK;
    for (int i = 0; i < COMPONENTS && e == OK; i++)
        e = json_text_parse(&config[i], file[i].text, strlen(file[i].text), file[i].component, JSON_REFUSE_DUPLICATES);
    if (e == OK)
        e = unet_config_parse(&m->unet, config[0], "unet");
    if (e == OK)
        e = vae_config_parse(&m->vae, config[1], "vae");
    if (e == OK)
        e = clip_text_config_parse(&m->text1, config[2], "text_encoder", false);
    if (e == OK)
        e = clip_text_config_parse(&m->text2, config[3], "text_encoder_2", true);
    if (e == OK)
        e = clip_vision_config_parse(&m->vision, config[4], "image_encoder");
    for (int i = 0; i < COMPONENTS; i++)
        json_decref(config[i]);
    return e;
}

/* ---- weights ---- */

typedef struct job {
    uint64_t            seed;
    stored_type         type;
    models              models;
    progress            progress; /* in MiB of weights */
    int64_t             bytes;    /* counted or written so far */
    const component    *component;
    safetensors_writer *file;
    float              *value;    /* PIECE */
    uint16_t           *narrow;   /* PIECE, of 16-bit types */
    err                 status;
} job;

static int64_t count_of(int ndim, const int64_t *dim)
{
    int64_t count = 1;
    for (int i = 0; i < ndim; i++)
        count *= dim[i];
    return count;
}

static void count_visit(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    job *j = bind_user(b);
    (void)slot, (void)path, (void)kind;
    j->bytes += count_of(ndim, dim) * (int64_t)stored_type_bytes(j->type);
}

static void declare_visit(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    job *j = bind_user(b);
    (void)slot, (void)kind;
    safetensors_declare(j->file, path, j->type, ndim, dim);
}

/* Elements [first, first + count) of a weight, by all threads; the formula makes every element on its own. */
static void fill_piece(job *j, const char *key, int ndim, const int64_t *dim, int64_t first, int64_t count)
{
    int64_t chunks = (count + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static) if (chunks > 4)
    for (int64_t c = 0; c < chunks; c++) {
        int64_t at = c * CHUNK, length = count - at < CHUNK ? count - at : CHUNK;
        counter_fill_part(j->value + at, key, ndim, dim, first + at, length);
        if (j->type != STORED_F32)
            stored_from_f32(j->narrow + at, j->type, j->value + at, length);
    }
}

static void write_visit(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    job    *j = bind_user(b);
    arena   text = {0};
    int64_t total = count_of(ndim, dim);
    char   *key = j->seed ? arena_print(&text, "%s#%" PRIu64 ".%s", j->component->folder, j->seed, path)
                          : arena_print(&text, "%s.%s", j->component->folder, path);
    (void)slot, (void)kind;
    for (int64_t first = 0; first < total && j->status == OK; first += PIECE) {
        int64_t count = total - first < PIECE ? total - first : PIECE;
        size_t  bytes = (size_t)count * stored_type_bytes(j->type);
        fill_piece(j, key, ndim, dim, first, count);
        j->status = safetensors_write(j->file, j->type == STORED_F32 ? (const void *)j->value : j->narrow, bytes);
        j->bytes += (int64_t)bytes;
        progress_update(&j->progress, j->bytes >> 20, j->component->folder);
    }
    arena_free(&text);
}

static err walk(job *j, const component *c, bind_visit visit)
{
    binder *b;
    arena   memory = {0};
    j->component = c;
    TRY(bind_walk_begin(&b, &memory, visit, j));
    c->bind(b, &memory, &j->models);
    err e = bind_end(b);
    arena_free(&memory);
    return e == OK ? j->status : e;
}

static err write_component(job *j, const component *c, const char *folder)
{
    arena text = {0};
    err   e;
    TRY_GOTO(e, safetensors_create(&j->file, arena_print(&text, "%s/%s/%s", folder, c->folder, c->file)), done);
    safetensors_note(j->file, "format", "pt"); /* transformers refuses files without it */
    e = walk(j, c, declare_visit);
    if (e == OK)
        e = walk(j, c, write_visit);
    if (e == OK)
        e = safetensors_publish(j->file);
    else
        safetensors_discard(j->file);
done:
    arena_free(&text);
    return e;
}

/* ---- the folder ---- */

static err write_text(const char *path, const char *text)
{
    file_writer *w = NULL;
    TRY(file_create(&w, path));
    err e = file_write(w, text, strlen(text));
    if (e == OK)
        return file_publish(w);
    file_discard(w);
    return e;
}

static err write_small_files(const char *folder, const synth_file *file, arena *memory)
{
    static const char *const tokenizer[2][2] = {{"tokenizer", "<|endoftext|>"}, {"tokenizer_2", "!"}};
    for (int i = 0; i < 2; i++) {
        const char *at = arena_print(memory, "%s/%s", folder, tokenizer[i][0]);
        TRY(folder_make(at));
        TRY(vocab_write(at, tokenizer[i][1]));
    }
    for (int i = 0; i < SYNTH_FILES; i++) {
        const char *at = file[i].component ? arena_print(memory, "%s/%s", folder, file[i].component) : folder;
        TRY(folder_make(at));
        TRY(write_text(arena_print(memory, "%s/%s", at, file[i].name), file[i].text));
    }
    return OK;
}

static err write_folder(job *j, const char *folder, const synth_file *file, arena *memory)
{
    TRY(write_small_files(folder, file, memory));
    for (int i = 0; i < COMPONENTS; i++)
        TRY(write_component(j, &components[i], folder));
    return OK;
}

static err check_free_name(const char *folder)
{
    if (file_exists(folder) || (folder_exists(folder) && !folder_empty(folder)))
        return err_set(E_USAGE, "%s: exists already; give another folder, or remove this one", folder);
    return OK;
}

static err check_space(const char *folder, int64_t bytes)
{
    uint64_t free_bytes;
    char     need[32], have[32];
    TRY(file_free_space(&free_bytes, folder));
    if (free_bytes < (uint64_t)bytes)
        return err_set(E_DISK_FULL, "%s: needs %s, %s are free; use another disk or a smaller size", folder,
                       text_bytes(need, (uint64_t)bytes), text_bytes(have, free_bytes));
    return OK;
}

static err run(job *j, const char *folder, const synth_file *file, arena *memory, logger *log)
{
    char *temporary = NULL;
    for (int i = 0; i < COMPONENTS; i++)
        TRY(walk(j, &components[i], count_visit));
    TRY(check_space(folder, j->bytes));
    j->value = malloc(PIECE * sizeof *j->value);
    j->narrow = malloc(PIECE * sizeof *j->narrow);
    if (!j->value || !j->narrow)
        return err_set(E_MEMORY, "synth: no memory for a piece of %d numbers", PIECE);
    TRY(folder_create_temporary(&temporary, folder));
    j->progress = progress_start(log, "synth", "MiB", 0, j->bytes >> 20);
    j->bytes = 0;
    err e = write_folder(j, temporary, file, memory);
    if (e == OK)
        e = folder_publish(temporary, folder);
    if (e == OK)
        progress_end(&j->progress);
    else
        folder_remove(temporary);
    free(temporary);
    return e;
}

err synth_write(const char *folder, const char *size, uint64_t seed, stored_type type, logger *log)
{
    const synth_size *s = synth_size_find(size);
    arena             memory = {0};
    synth_file        file[SYNTH_FILES];
    job               j = {.seed = seed, .type = type};
    if (!s)
        return err_set(E_USAGE, "synth: unknown size %.40s; there are tiny, half, sdxl", size);
    CHECK(type == STORED_F32 || type == STORED_F16 || type == STORED_BF16, "synth in %s", stored_type_name(type));
    synth_files(file, &memory, s);
    err e = parse_configs(&j.models, file);
    CHECK(e == OK, "our own config: %s", err_message());
    e = check_free_name(folder);
    if (e == OK)
        e = run(&j, folder, file, &memory, log);
    free(j.value);
    free(j.narrow);
    arena_free(&memory);
    return e;
}
