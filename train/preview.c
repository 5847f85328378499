#include "train/preview.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/file.h"
#include "data/hf_folder.h"
#include "model/clip_vision.h"
#include "train/preview_page.h"
#include "train/sample_turn.h"

enum { THUMBNAIL = 240, MOST_THUMBNAILS = 144, PROBLEM_LINES = 50, USUAL_CLIP_SIDE = 224 };

typedef struct previewing {
    const preview_options *options;
    logger       *log;
    arena         memory;  /* of the config */
    arena         page;    /* of one sample */
    run_config   *config;
    manifest      dataset;
    sample_turns *turns;
    int           clip_side;
    image         thumbnail[MOST_THUMBNAILS];
    int           thumbnails;
    int64_t       bad;
} previewing;

/* ---- inputs ---- */

/* The side that the image encoder wants; where there is none yet, that of the usual ones. */
static int read_clip_side(const char *folder)
{
    json_t *config = NULL;
    clip_vision_config parsed;
    if (!folder || hf_config(&config, folder, NULL) != OK)
        return USUAL_CLIP_SIDE;
    err e = clip_vision_config_parse(&parsed, config, folder);
    json_decref(config);
    return e == OK ? (int)parsed.image_size : USUAL_CLIP_SIDE;
}

static err read_inputs(previewing *p)
{
    const preview_options *o = p->options;
    problems found = {.memory = &p->memory};
    run_config_load(&p->config, &p->memory, &found, o->config, o->set, o->sets);
    if (!found.errors)
        manifest_load(&p->dataset, &found, p->config->data.manifest, p->config->data.max_subjects);
    TRY(problems_report(&found, stderr, PROBLEM_LINES));
    p->turns = sample_turns_open(p->config, &p->dataset, 1);
    p->clip_side = read_clip_side(p->config->model.image_encoder);
    return folder_make(o->folder);
}

/* ---- one sample ---- */

static const char *facts_of(arena *memory, const target_frame *f, const run_config *c)
{
    return arena_print(memory, "picture %d x %d, resized to %d x %d, crop %d x %d at (%d,%d), %s%s\n"
                               "time_ids (%d,%d, %d,%d, %d,%d)",
                       f->original_width, f->original_height, f->width, f->height, f->crop_width, f->crop_height, f->left,
                       f->top, c->data.crop == CROP_RANDOM ? "random" : "center", c->data.buckets ? ", bucket" : "",
                       f->original_height, f->original_width, f->top, f->left, f->crop_height, f->crop_width);
}

static err load_pictures(image *target, image *references, previewing *p, const sample_view *v)
{
    const target_frame *f = &v->frame;
    int64_t clip = 3 * (int64_t)p->clip_side * p->clip_side;
    float *pixels = ARENA_ARRAY(&p->page, float, 3 * (int64_t)f->crop_width * f->crop_height);
    float **rows = ARENA_ARRAY(&p->page, float *, v->subjects + 1);
    for (int j = 0; j < v->subjects; j++)
        rows[j] = ARENA_ARRAY(&p->page, float, clip);
    int bad;
    TRY(sample_view_load(pixels, rows, &bad, v, p->config, p->clip_side));
    TRY(preprocess_target_picture(target, pixels, f->crop_width, f->crop_height));
    for (int j = 0; j < v->subjects; j++)
        TRY(preprocess_clip_picture(&references[j], rows[j], p->clip_side));
    return OK;
}

static err save_page(previewing *p, const preview_sample *s, const sample_turn *t)
{
    image page;
    TRY(preview_page(&page, s));
    const char *name = arena_print(&p->page, "step-%06" PRId64 "-%" PRId64 ".png", t->step, t->place);
    char *path = path_join(p->options->folder, name);
    err e = image_save_png(path, &page, NULL, 0);
    free(path);
    image_free(&page);
    if (e == OK && p->thumbnails < MOST_THUMBNAILS)
        TRY(preview_thumbnail(&p->thumbnail[p->thumbnails++], s, THUMBNAIL));
    return e;
}

/* As training does, but that nothing stands in for the sample. */
static err note_bad(previewing *p, const sample *m, err e)
{
    if (e != E_IO && e != E_FORMAT && e != E_DATASET)
        return e;
    e = err_prefix(err_as(e, E_DATASET), "%s:%" PRId64, p->dataset.path, m->line);
    if (p->config->data.bad_samples == BAD_SAMPLES_FATAL)
        return e;
    p->bad++;
    log_warning(p->log, "%s; left out here, in training the next good sample stands in for it", err_message());
    return OK;
}

static err preview_turn(previewing *p, const sample_turn *t)
{
    const run_config *c = p->config;
    const sample *m = &p->dataset.sample[t->index];
    sample_view view = {0};
    image target = {0}, *references = NULL;
    err e = sample_view_make(&view, &p->page, m, c, t->crop);
    if (e == OK) {
        sample_view_augment(&view, c, t->step, t->place);
        references = ARENA_ARRAY(&p->page, image, view.subjects + 1);
        e = load_pictures(&target, references, p, &view);
    }
    if (e != OK) {
        e = note_bad(p, m, e);
    } else {
        preview_sample s = {.view = &view, .target = &target, .references = references,
                            .drop = draw_drops((uint64_t)c->train.seed, t->step, t->place, c->data.drop),
                            .facts = facts_of(&p->page, &view.frame, c)};
        s.title = arena_print(&p->page, "step %" PRId64 ", place %" PRId64 ": line %" PRId64 ", %s", t->step, t->place, m->line,
                              m->image);
        e = save_page(p, &s, t);
    }
    image_free(&target);
    for (int j = 0; references && j < view.subjects; j++)
        image_free(&references[j]);
    return e;
}

/* ---- all ---- */

static err preview_all(previewing *p)
{
    for (int64_t at = 0; at < p->options->count; at++) {
        arena_reset(&p->page);
        sample_turn turn = sample_turns_at(p->turns, at);
        TRY(preview_turn(p, &turn));
    }
    return OK;
}

static err save_sheet(previewing *p)
{
    image sheet;
    if (!p->thumbnails)
        return OK;
    TRY(preview_sheet(&sheet, p->thumbnail, p->thumbnails, THUMBNAIL));
    char *path = path_join(p->options->folder, "sheet.png");
    err e = image_save_png(path, &sheet, NULL, 0);
    free(path);
    image_free(&sheet);
    return e;
}

err preview_run(const preview_options *o, logger *log)
{
    previewing *p = heap_get(sizeof *p);
    *p = (previewing){.options = o, .log = log};
    err e = read_inputs(p);
    if (e == OK)
        e = preview_all(p);
    if (e == OK)
        e = save_sheet(p);
    if (e == OK)
        log_info(log, "%s: %" PRId64 " samples drawn", o->folder, o->count - p->bad);
    for (int i = 0; i < p->thumbnails; i++)
        image_free(&p->thumbnail[i]);
    sample_turns_close(p->turns);
    manifest_free(&p->dataset);
    arena_free(&p->page);
    arena_free(&p->memory);
    free(p);
    return e;
}
