/* The functions of msd.h that deal with words and pictures: generate, tokenize, preprocess. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/device.h"
#include "base/text.h"
#include "data/preprocess.h"
#include "data/safetensors.h"
#include "data/tokenizer.h"
#include "infer/generate.h"
#include "train/libmsd_status.h"

/* ---- generate ---- */

msd_generate_options msd_generate_defaults(void)
{
    job j = job_default();
    return (msd_generate_options){.steps = j.steps, .batch_count = 1, .cfg_scale = j.cfg_scale, .scale = j.scale,
                                  .sampling_method = j.sampling_method, .scheduler = j.scheduler};
}

static err check_text(const char *flag, const char *text)
{
    size_t bad;
    if (text_utf8_valid(&bad, text, strlen(text)))
        return OK;
    return err_set(E_USAGE, "%s: byte %zu is not UTF-8; is the terminal's locale another?", flag, bad);
}

static err job_of(job *j, arena *memory, const msd_generate_options *o)
{
    *j = job_default();
    if (o->seed < 0)
        return err_set(E_USAGE, "--seed: %lld is negative; give 0 or more", (long long)o->seed);
    j->prompt = o->prompt;
    j->negative_prompt = o->negative_prompt ? o->negative_prompt : j->negative_prompt;
    j->width = o->width;
    j->height = o->height;
    j->steps = o->steps;
    j->seed = (uint64_t)o->seed;
    j->cfg_scale = o->cfg_scale;
    j->scale = o->scale;
    j->sampling_method = o->sampling_method;
    j->scheduler = o->scheduler;
    j->drop_grounding = o->drop_grounding;
    j->output = o->output;
    j->batch_count = o->batch_count;
    TRY(check_text("--prompt", j->prompt));
    TRY(check_text("--negative-prompt", j->negative_prompt));
    for (int i = 0; i < o->subjects.count; i++) {
        TRY(check_text("--subject", o->subjects.item[i]));
        TRY(job_add_subject(j, memory, o->subjects.item[i]));
    }
    return job_check(j);
}

static err run_job(const msd_generate_options *o, const job *j, logger *log)
{
    device *dev = NULL;
    pipeline *p = NULL;
    pipeline_files files = {.model = o->model, .image_encoder = o->image_encoder, .adapter = o->adapter,
                            .type = libmsd_type(&o->run)};
    TRY(libmsd_check_run(&o->run));
    TRY(device_open(&dev, libmsd_device(&o->run), (int)o->run.threads));
    if (o->run.no_graphs)
        dev->capture = NULL;
    err e = pipeline_open(&p, dev, &files, log);
    if (e == OK)
        e = generate_pictures(p, j, log);
    pipeline_close(p);
    device_close(dev);
    return e;
}

int msd_generate(const msd_generate_options *o)
{
    arena memory = {0};
    logger log = logger_start(o->run.quiet);
    job j;
    err e = job_of(&j, &memory, o);
    if (e == OK)
        e = run_job(o, &j, &log);
    arena_free(&memory);
    return libmsd_status(e);
}

/* ---- tokenize ---- */

static err tokenize_line(const tokenizer *t, const char *text, size_t size, int64_t number, FILE *out)
{
    int32_t ids[TOKENIZER_LENGTH];
    err e = tokenizer_encode_padded(ids, NULL, t, text, size);
    if (e != OK)
        return err_prefix(err_as(e, E_USAGE), "line %lld", (long long)number);
    for (int i = 0; i < TOKENIZER_LENGTH; i++)
        fprintf(out, "%s%d", i ? ", " : "[", (int)ids[i]);
    fprintf(out, "]\n");
    return OK;
}

static err tokenize_all(const tokenizer *t, FILE *in, FILE *out)
{
    char *text = NULL;
    size_t room = 0;
    err e = OK;
    for (int64_t number = 1; e == OK; number++) {
        ssize_t size = getdelim(&text, &room, '\n', in);
        if (size < 0)
            break;
        e = tokenize_line(t, text, (size_t)size - (text[size - 1] == '\n'), number, out);
    }
    free(text);
    if (e == OK && ferror(in))
        return err_set(E_IO, "standard input: cannot read: %s", strerror(errno));
    return e;
}

int msd_tokenize(const char *model, int64_t which, FILE *in, FILE *out)
{
    arena memory = {0};
    tokenizer *t = NULL;
    if (which != 1 && which != 2)
        return msd_usage_error("--which: %lld; give 1 or 2", (long long)which);
    err e = err_as(tokenizer_open(&t, arena_print(&memory, "%s/%s", model, which == 1 ? "tokenizer" : "tokenizer_2")), E_MODEL);
    if (e == OK)
        e = tokenize_all(t, in, out);
    tokenizer_close(t);
    arena_free(&memory);
    return libmsd_status(e);
}

/* ---- preprocess ---- */

static err write_pixels(const char *path, const float *pixels, int64_t side, const float *time_ids)
{
    safetensors_writer *w = NULL;
    TRY(safetensors_create(&w, path));
    safetensors_declare(w, "pixel_values", STORED_F32, DIMS(1, 3, side, side));
    if (time_ids)
        safetensors_declare(w, "time_ids", STORED_F32, DIMS(1, 6));
    err e = safetensors_write_f32(w, pixels);
    if (e == OK && time_ids)
        e = safetensors_write_f32(w, time_ids);
    if (e == OK)
        return safetensors_publish(w);
    safetensors_discard(w);
    return e;
}

static err preprocess(const char *kind, const char *path, int64_t size, const char *dst)
{
    bool clip = !strcmp(kind, "clip");
    if (!clip && strcmp(kind, "train"))
        return err_set(E_USAGE, "msd preprocess: '%s' is none of clip, train", kind);
    int64_t side = size ? size : clip ? 224 : 512;
    if (side < 1 || side > 8192)
        return err_set(E_USAGE, "--size: %lld is outside 1..8192", (long long)side);
    image picture;
    TRY(err_as(image_load(&picture, path, NULL), E_DATASET));
    float *pixels = heap_get((size_t)(3 * side * side) * sizeof *pixels), ids[6];
    target_frame frame = target_frame_center(picture.width, picture.height, (int)side, (int)side);
    target_time_ids(ids, &frame);
    err e = clip ? preprocess_clip(pixels, &picture, (int)side) : preprocess_target(pixels, &picture, &frame);
    if (e == OK)
        e = write_pixels(dst, pixels, side, clip ? NULL : ids);
    free(pixels);
    image_free(&picture);
    return e;
}

int msd_preprocess(const char *kind, const char *path, int64_t size, const char *dst)
{
    return libmsd_status(preprocess(kind, path, size, dst));
}
