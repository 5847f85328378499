#include "train/batch_source.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"

enum { SPARE_SLOTS = 4 }; /* beyond two micro-batches */

typedef struct skipped {
    int64_t     index;  /* in the dataset */
    const char *reason;
} skipped;

/* A sample on its way: drawn, read by a thread, waiting for its turn. */
struct ahead_sample {
    sample_slot   slot;
    const sample *chosen;
    skipped      *skip;     /* (skips) samples that it stands in for */
    int           skips, room;
    arena         texts;
    err           failed;
    const char   *message;  /* of `failed` */
};

static float *floats(int64_t count)
{
    return heap_get((size_t)count * sizeof(float));
}

/* ---- ahead ---- */

static void note_skip(ahead_sample *a, int64_t index)
{
    if (a->skips == a->room) {
        a->room = a->room ? 2 * a->room : 8;
        a->skip = heap_grow(a->skip, (size_t)a->room * sizeof *a->skip);
    }
    a->skip[a->skips++] = (skipped){index, arena_copy_string(&a->texts, err_message())};
}

static bool is_bad_sample(err e)
{
    return e == E_IO || e == E_FORMAT || e == E_DATASET;
}

/* A header may say something else than when the buckets were made. */
static err check_size(const batch_source *s, const target_frame *f, int bucket)
{
    bucket_size expected = bucket_size_at(bucket, s->config->data.resolution);
    if (f->crop_width == expected.width && f->crop_height == expected.height)
        return OK;
    return err_set(E_DATASET, "the picture is %d x %d now and no longer fits the bucket of %d x %d; leave pictures as they are "
                   "while training", f->original_width, f->original_height, expected.width, expected.height);
}

/* The place among the samples of all ranks of the position-th one of this rank: micro-batches go round the ranks. */
static int64_t place_in_run(const batch_source *s, int64_t position)
{
    int64_t B = s->config->train.batch_size;
    return (position / B * s->ranks + s->rank) * B + position % B;
}

/* The sample at a position of this rank's run. A bad one is replaced by the next good one of the manifest: what stands in
 * for a sample depends on the dataset alone. */
static void read_ahead(void *user, int slot, int64_t position)
{
    batch_source *s = user;
    ahead_sample *a = &s->slot[slot];
    int64_t count = s->dataset->count;
    sample_turn turn = sample_turns_at(s->turns, place_in_run(s, position));
    bool skip = s->config->data.bad_samples == BAD_SAMPLES_SKIP;
    a->slot.step = turn.step;
    a->slot.place = turn.place;
    a->skips = 0;
    arena_reset(&a->texts);
    for (int64_t tried = 0; tried < count; tried++) {
        int64_t index = (turn.index + tried) % count;
        if (sample_turns_bucket(s->turns, index) != turn.bucket)
            continue;
        arena_reset(&a->slot.memory);
        a->chosen = &s->dataset->sample[index];
        a->failed = s->source->read(s->source, &a->slot, index, turn.crop);
        if (a->failed == OK)
            a->failed = check_size(s, &a->slot.view.frame, turn.bucket);
        if (a->failed == OK)
            return;
        if (is_bad_sample(a->failed))
            a->failed = err_prefix(err_as(a->failed, E_DATASET), "%s:%" PRId64, s->dataset->path, a->chosen->line);
        if (a->failed != E_DATASET || !skip)
            break;
        note_skip(a, index);
    }
    a->message = arena_copy_string(&a->texts, err_message());
}

static void start_ahead(batch_source *s, int64_t position)
{
    ahead_stop(s->ahead);
    s->ahead = ahead_start(s->threads, s->slots, position, read_ahead, s);
}

/* ---- opening ---- */

static void take_sizes(batch_source *s)
{
    const encoder_sizes *z = &s->source->sizes;
    bucket_size most = sample_view_largest(s->config);
    int64_t B = s->config->train.batch_size, h = most.height / z->latent_factor, w = most.width / z->latent_factor;
    int64_t S = s->config->data.max_subjects;
    s->batch = (batch){.B = B, .S = S, .h = h, .w = w, .C = z->latent_channels, .T = z->tokens, .X = z->text_width,
                       .P = z->pooled_width, .L = z->picture_tokens, .D = z->picture_width, .E = z->phrase_width};
    batch *b = &s->batch;
    int64_t plane = h * w * b->C;
    b->latents = floats(B * plane);
    b->noise = floats(B * plane);
    b->timesteps = floats(B);
    b->text = floats(B * b->T * b->X);
    b->pooled = floats(B * b->P);
    b->time_ids = floats(B * 6);
    b->image_hidden = floats(B * S * b->L * b->D);
    b->phrases = floats(B * S * b->E);
    b->boxes = floats(B * S * 4);
    b->drop_grounding = heap_get((size_t)B * sizeof *b->drop_grounding);
    s->latent = floats(2 * plane);
    s->drops = heap_get((size_t)B * sizeof *s->drops);
    s->chosen = heap_get((size_t)B * sizeof *s->chosen);
}

err batch_source_open(batch_source *s, const run_config *c, const manifest *dataset, sample_source *source, int64_t timesteps,
                      int threads, int rank, int ranks, logger *log)
{
    *s = (batch_source){.config = c, .dataset = dataset, .source = source, .timesteps = timesteps, .threads = threads, .rank = rank,
                        .ranks = ranks, .log = log};
    s->turns = sample_turns_open(c, dataset, ranks);
    take_sizes(s);
    s->bad = heap_get((size_t)dataset->count * sizeof *s->bad);
    memset(s->bad, 0, (size_t)dataset->count * sizeof *s->bad);
    s->slots = 2 * (int)c->train.batch_size + SPARE_SLOTS;
    s->slot = heap_get((size_t)s->slots * sizeof *s->slot);
    for (int i = 0; i < s->slots; i++)
        s->slot[i] = (ahead_sample){.slot.values = floats(source->slot_floats)};
    return OK;
}

void batch_source_close(batch_source *s)
{
    batch *b = &s->batch;
    ahead_stop(s->ahead);
    for (int i = 0; i < s->slots; i++) {
        ahead_sample *a = &s->slot[i];
        arena_free(&a->slot.memory);
        arena_free(&a->texts);
        free(a->slot.values);
        free(a->skip);
    }
    void *owned[] = {b->latents, b->noise, b->timesteps, b->text, b->pooled, b->time_ids, b->image_hidden, b->phrases,
                     b->boxes, b->drop_grounding, s->latent, s->drops, s->chosen, s->bad, s->slot};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
    sample_turns_close(s->turns);
    *s = (batch_source){0};
}

/* ---- a sample into its row ---- */

static void draw_latents(batch_source *s, int64_t i, draw_key draw)
{
    batch *b = &s->batch;
    int64_t plane = b->h * b->w * b->C;
    float *to = b->latents + i * plane, factor = (float)s->source->sizes.scaling_factor;
    draw.purpose = DRAW_POSTERIOR;
    draw_normals(to, (size_t)plane, draw);
    for (int64_t k = 0; k < plane; k++)
        to[k] = (s->latent[k] + s->latent[plane + k] * to[k]) * factor;
    draw_noise(b->noise + i * plane, draw.seed, (int64_t)draw.step, (int64_t)draw.sample, b->h * b->w, b->C,
               s->config->train.noise_offset);
}

static err fill_row(batch_source *s, const sample_slot *slot, int64_t i, draw_key draw)
{
    batch *b = &s->batch;
    const sample_view *v = &slot->view;
    const drops *drop = &s->drops[i];
    int64_t tokens = b->L * b->D;
    encoded_sample out = {.latent = s->latent, .text = b->text + i * b->T * b->X, .pooled = b->pooled + i * b->P,
                          .phrases = b->phrases + i * b->S * b->E, .image_hidden = b->image_hidden + i * b->S * tokens};
    if (drop->text) {
        memcpy(out.text, s->source->empty_text, (size_t)(b->T * b->X) * sizeof(float));
        memcpy(out.pooled, s->source->empty_pooled, (size_t)b->P * sizeof(float));
        out.text = out.pooled = NULL;
    }
    for (int j = 0; j < v->subjects; j++) {
        memcpy(b->boxes + 4 * (i * b->S + j), v->subject[j].box, sizeof v->subject[j].box);
        if (drop->image)
            memcpy(out.image_hidden + j * tokens, s->source->mean_colour, (size_t)tokens * sizeof(float));
    }
    if (drop->image)
        out.image_hidden = NULL;
    target_time_ids(b->time_ids + 6 * i, &v->frame);
    TRY(s->source->encode(&out, s->source, slot));
    draw_latents(s, i, draw);
    return OK;
}

/* ---- a batch ---- */

static void clear_subjects(batch *b)
{
    int64_t R = b->B * b->S;
    memset(b->image_hidden, 0, (size_t)(R * b->L * b->D) * sizeof(float));
    memset(b->phrases, 0, (size_t)(R * b->E) * sizeof(float));
    memset(b->boxes, 0, (size_t)(R * 4) * sizeof(float));
}

static void name_skipped(batch_source *s, const ahead_sample *a)
{
    for (int i = 0; i < a->skips; i++) {
        if (s->bad[a->skip[i].index])
            continue;
        s->bad[a->skip[i].index] = true;
        s->bad_samples++;
        log_warning(s->log, "%s; the next good sample of the manifest stands in for it", a->skip[i].reason);
    }
}

/* Takes the batch's samples in order; at[i] is the slot of sample i. */
static err take_samples(const ahead_sample **at, batch_source *s)
{
    err e = OK;
    for (int64_t i = 0; i < s->batch.B; i++) {
        const ahead_sample *a = &s->slot[ahead_take(&s->waited, s->ahead)];
        at[i] = a;
        s->chosen[i] = a->chosen;
        if (e != OK)
            continue; /* all are taken, so that all can be given back */
        if (a->failed != OK)
            e = err_set(a->failed, "%s", a->message);
        else
            name_skipped(s, a);
    }
    return e;
}

static err fill_batch(batch_source *s, const ahead_sample *const *at, int64_t step, int64_t first)
{
    const run_config *c = s->config;
    uint64_t seed = (uint64_t)c->train.seed;
    batch *b = &s->batch;
    int64_t low = c->train.timesteps[0], high = c->train.timesteps[1] ? c->train.timesteps[1] : s->timesteps;
    const target_frame *frame = &at[0]->slot.view.frame; /* of all */
    b->h = frame->crop_height / s->source->sizes.latent_factor;
    b->w = frame->crop_width / s->source->sizes.latent_factor;
    b->S = 0;
    for (int64_t i = 0; i < b->B; i++)
        b->S = at[i]->slot.view.subjects > b->S ? at[i]->slot.view.subjects : b->S;
    clear_subjects(b);
    for (int64_t i = 0; i < b->B; i++) {
        draw_key draw = {.seed = seed, .step = (uint64_t)step, .sample = (uint64_t)(first + i)};
        s->drops[i] = draw_drops(seed, step, first + i, c->data.drop);
        b->drop_grounding[i] = s->drops[i].grounding;
        b->timesteps[i] = (float)(low + draw_timestep(seed, step, first + i, high - low));
        err e = fill_row(s, &at[i]->slot, i, draw);
        if (e != OK)
            return err_prefix(e, "%s:%" PRId64, s->dataset->path, s->chosen[i]->line);
    }
    return OK;
}

err batch_source_make(batch_source *s, int64_t step, int64_t micro)
{
    int64_t B = s->batch.B, position = ((step - 1) * s->config->train.accumulation + micro) * B;
    int64_t first = (micro * s->ranks + s->rank) * B; /* among the step's samples */
    if (!s->ahead || ahead_position(s->ahead) != position)
        start_ahead(s, position);
    const ahead_sample **at = heap_get((size_t)B * sizeof *at);
    err e = take_samples(at, s);
    if (e == OK)
        e = fill_batch(s, at, step, first);
    for (int64_t i = 0; i < B; i++)
        ahead_give(s->ahead);
    free(at);
    return e;
}
