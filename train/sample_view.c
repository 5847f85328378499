#include "train/sample_view.h"

#include "data/phrase.h"

int sample_view_crops(const run_config *c)
{
    return c->data.crop == CROP_RANDOM ? SAMPLE_RANDOM_CROPS : 1;
}

static box in_pixels(const double from[4], box_units units, int width, int height)
{
    float unit[4];
    box_fit(unit, from, units, width, height);
    return (box){(double)unit[0] * width, (double)unit[1] * height, (double)unit[2] * width, (double)unit[3] * height};
}

static err view_subject(subject_view *out, const sample *m, const subject *u, const sample_view *v)
{
    int width = v->frame.original_width, height = v->frame.original_height;
    *out = (subject_view){.picture = u->reference ? u->reference : m->image, .own = !u->reference, .mask = u->mask};
    box in_image = in_pixels(u->box, m->units, width, height);
    target_box(out->box, in_image, &v->frame);
    if (!u->reference) {
        out->crop = in_image;
        return OK;
    }
    image_header h;
    TRY(image_probe(&h, u->reference, NULL));
    int own_width = image_header_width(&h), own_height = image_header_height(&h);
    out->crop = u->has_reference_box ? in_pixels(u->reference_box, m->units, own_width, own_height)
                                     : (box){0, 0, own_width, own_height};
    return OK;
}

static void place_crop(target_frame *f, const run_config *c, int crop)
{
    if (c->data.crop != CROP_RANDOM)
        return;
    f->left = (int)((int64_t)(f->width - f->crop_width) * crop / (SAMPLE_RANDOM_CROPS - 1));
    f->top = (int)((int64_t)(f->height - f->crop_height) * crop / (SAMPLE_RANDOM_CROPS - 1));
}

static int bucket_of(int width, int height, const run_config *c)
{
    return c->data.buckets ? bucket_choose(width, height, c->data.resolution) : bucket_square();
}

err sample_view_bucket(int *bucket, const sample *m, const run_config *c)
{
    image_header h;
    *bucket = bucket_square();
    TRY(image_probe(&h, m->image, NULL));
    *bucket = bucket_of(image_header_width(&h), image_header_height(&h), c);
    return OK;
}

bucket_size sample_view_largest(const run_config *c)
{
    return c->data.buckets ? bucket_largest(c->data.resolution) : bucket_size_at(bucket_square(), c->data.resolution);
}

err sample_view_make(sample_view *out, arena *memory, const sample *m, const run_config *c, int crop)
{
    image_header h;
    *out = (sample_view){.image = m->image, .text = m->text, .subjects = m->subjects};
    TRY(image_probe(&h, m->image, NULL));
    int width = image_header_width(&h), height = image_header_height(&h);
    bucket_size size = bucket_size_at(bucket_of(width, height, c), c->data.resolution);
    out->frame = target_frame_center(width, height, size.width, size.height);
    place_crop(&out->frame, c, crop);
    out->subject = ARENA_ARRAY(memory, subject_view, m->subjects);
    const char **phrase = ARENA_ARRAY(memory, const char *, m->subjects), **words = ARENA_ARRAY(memory, const char *, m->subjects);
    for (int j = 0; j < m->subjects; j++) {
        TRY(view_subject(&out->subject[j], m, &m->subject[j], out));
        phrase[j] = m->subject[j].phrase;
    }
    TRY(phrase_words(words, memory, m->text, phrase, m->subjects));
    for (int j = 0; j < m->subjects; j++)
        out->subject[j].words = words[j];
    return OK;
}

void sample_view_augment(sample_view *v, const run_config *c, int64_t step, int64_t place)
{
    draw_key key = {.seed = (uint64_t)c->train.seed, .purpose = DRAW_AUGMENT,
                    .step = (uint64_t)step, .sample = (uint64_t)place};
    for (int j = 0; j < v->subjects; j++) {
        v->subject[j].augmented = !augment_is_off(&c->data.augment);
        v->subject[j].how = augment_draw(&c->data.augment, key, j);
    }
}

/* ---- pixels ---- */

static err load_mask(grey_image *mask, const char *path, const image *cut)
{
    TRY(grey_image_load(mask, path, NULL));
    if (mask->width == cut->width && mask->height == cut->height)
        return OK;
    err e = err_set(E_DATASET, "%s: the mask is %d x %d, the picture it cuts is %d x %d", path, mask->width, mask->height,
                    cut->width, cut->height);
    grey_image_free(mask);
    *mask = (grey_image){0};
    return e;
}

static err cut_reference(float *to, const image *from, const grey_image *mask, const subject_view *u, int resolution,
                         int clip_side)
{
    image cut, changed;
    TRY(preprocess_cut_reference(&cut, from, mask, u->crop));
    err e = u->augmented ? augment_apply(&changed, &cut, &u->how) : OK;
    if (e == OK && u->augmented) {
        image_free(&cut);
        cut = changed;
    }
    if (e == OK)
        e = preprocess_cut_to_clip(to, &cut, resolution, clip_side);
    image_free(&cut);
    return e;
}

static err load_reference(float *to, const subject_view *u, const image *target, const run_config *c, int clip_side)
{
    image own = {0};
    grey_image mask = {0};
    if (!u->own)
        TRY(image_load(&own, u->picture, NULL));
    const image *from = u->own ? target : &own;
    err e = u->mask ? load_mask(&mask, u->mask, from) : OK;
    if (e == OK)
        e = cut_reference(to, from, u->mask ? &mask : NULL, u, (int)c->data.resolution, clip_side);
    if (mask.grey)
        grey_image_free(&mask);
    image_free(&own);
    return e;
}

/* The file may have changed since its header was read. */
static err load_target(image *out, const sample_view *v)
{
    TRY(image_load(out, v->image, NULL));
    if (out->width == v->frame.original_width && out->height == v->frame.original_height)
        return OK;
    err e = err_set(E_DATASET, "%s: changed from %d x %d to %d x %d while it was read", v->image, v->frame.original_width,
                    v->frame.original_height, out->width, out->height);
    image_free(out);
    return e;
}

err sample_view_load(float *target, float *const *references, int *bad, const sample_view *v, const run_config *c, int clip_side)
{
    image picture = {0};
    bool needed = target != NULL;
    for (int j = 0; j < v->subjects; j++)
        needed = needed || (references[j] && v->subject[j].own);
    *bad = -1;
    err e = needed ? load_target(&picture, v) : OK;
    if (e == OK && target)
        e = preprocess_target(target, &picture, &v->frame);
    for (int j = 0; j < v->subjects && e == OK; j++) {
        if (!references[j])
            continue;
        *bad = j;
        e = load_reference(references[j], &v->subject[j], &picture, c, clip_side);
    }
    image_free(&picture);
    return e;
}
