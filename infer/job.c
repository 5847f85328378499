#include "infer/job.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "data/image.h"
#include "infer/sampler.h"

enum { MAX_SIDE = 8192, FIRST_ROOM = 8, MAX_BATCH = 1000000 };

job job_default(void)
{
    return (job){.negative_prompt = "monochrome, lowres, bad anatomy, worst quality, low quality", .steps = 30,
                 .batch_count = 1, .cfg_scale = 7.5, .scale = 0.6, .sampling_method = "euler", .scheduler = "discrete"};
}

static job_subject *add(job *j, arena *memory)
{
    if (j->subjects == j->room) { /* the old array stays in the arena: lists are short */
        j->room = j->room ? 2 * j->room : FIRST_ROOM;
        job_subject *grown = ARENA_ARRAY(memory, job_subject, j->room);
        if (j->subjects)
            memcpy(grown, j->subject, (size_t)j->subjects * sizeof *grown);
        j->subject = grown;
    }
    job_subject *s = &j->subject[j->subjects++];
    *s = (job_subject){.box = {0, 0, 1, 1}, .scale = (double)NAN};
    return s;
}

/* ---- --subject SPEC ---- */

static const char *const fields[] = {"image=", "phrase=", "box=", "mask=", "scale="};
enum { FIELD_COUNT = sizeof fields / sizeof *fields };
enum { FIELD_IMAGE, FIELD_PHRASE, FIELD_BOX, FIELD_MASK, FIELD_SCALE };

/* Which field begins at `text`, or -1. */
static int field_at(const char *text)
{
    for (int i = 0; i < FIELD_COUNT; i++)
        if (!strncmp(text, fields[i], strlen(fields[i])))
            return i;
    return -1;
}

/* The end of a value: the next ",field=" or the end of the text. */
static const char *value_end(const char *text)
{
    for (const char *c = strchr(text, ','); c; c = strchr(c + 1, ','))
        if (field_at(c + 1) >= 0)
            return c;
    return text + strlen(text);
}

static bool parse_number(double *out, const char **at)
{
    char *end;
    *out = strtod(*at, &end);
    bool good = end != *at && isfinite(*out);
    *at = end;
    return good;
}

static err parse_box(double box[4], const char *text, const char *spec)
{
    const char *at = text;
    bool good = true;
    for (int i = 0; i < 4 && good; i++) {
        good = parse_number(&box[i], &at);
        if (good && i < 3)
            good = *at++ == ',';
    }
    if (!good || *at)
        return err_set(E_USAGE,
                       "--subject %s: box: '%s', expected four numbers x0,y0,x1,y1 in 0..1 such as 0,0.25,0.5,0.9",
                       spec, text);
    return OK;
}

static err set_field(job_subject *s, int field, const char *value, const char *spec)
{
    if (!*value)
        return err_set(E_USAGE, "--subject %s: %s has no value", spec, fields[field]);
    switch (field) {
    case FIELD_IMAGE:
        s->image = value;
        return OK;
    case FIELD_PHRASE:
        s->phrase = value;
        return OK;
    case FIELD_BOX:
        return parse_box(s->box, value, spec);
    case FIELD_MASK:
        s->mask = value;
        return OK;
    default: {
        const char *at = value;
        if (!parse_number(&s->scale, &at) || *at)
            return err_set(E_USAGE, "--subject %s: scale: '%s' is not a number", spec, value);
        return OK;
    }
    }
}

err job_add_subject(job *j, arena *memory, const char *spec)
{
    job_subject *s = add(j, memory);
    bool given[FIELD_COUNT] = {false};
    for (const char *at = spec; *at;) {
        int field = field_at(at);
        if (field < 0)
            return err_set(E_USAGE, "--subject %s: '%s': expected image=, phrase=, box=, mask= or scale=", spec, at);
        if (given[field])
            return err_set(E_USAGE, "--subject %s: %s is given twice", spec, fields[field]);
        given[field] = true;
        const char *value = at + strlen(fields[field]), *end = value_end(value);
        TRY(set_field(s, field, arena_print(memory, "%.*s", (int)(end - value), value), spec));
        at = *end ? end + 1 : end;
    }
    if (!s->image || !s->phrase)
        return err_set(E_USAGE, "--subject %s: %s is missing; give image=FILE,phrase=WORDS[,box=x0,y0,x1,y1]", spec,
                       s->image ? "phrase=" : "image=");
    return OK;
}

/* ---- JSON ---- */

static const char *const keys[] = {"prompt", "negative_prompt", "width", "height", "steps", "seed", "cfg_scale",
                                   "scale", "sampling_method", "scheduler", "drop_grounding", "batch_count",
                                   "subjects", "output"};
static const char *const subject_keys[] = {"image", "phrase", "box", "mask", "scale"};

static err refuse_unknown(const json_t *object, const char *where, const char *const *names, size_t count)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        bool known = false;
        for (size_t i = 0; i < count && !known; i++)
            known = !strcmp(key, names[i]);
        if (known)
            continue;
        char shown[96];
        const char *near = text_nearest(key, names, count);
        return err_set(E_CONFIG, "%s: unknown key %s%s%s", where, text_escaped(shown, sizeof shown, key),
                       near ? ", did you mean " : "", near ? near : "");
    }
    return OK;
}

static err take_text(const char **out, arena *memory, const json_t *o, const char *key, const char *where)
{
    const char *text = NULL;
    if (!json_get_present(o, key))
        return OK;
    TRY(json_get_text(&text, o, key, where));
    *out = arena_copy_string(memory, text);
    return OK;
}

/* A path beside base_file. */
static err take_path(const char **out, arena *memory, const json_t *o, const char *key, const char *where,
                     const char *base_file)
{
    TRY(take_text(out, memory, o, key, where));
    if (*out && base_file) {
        char *path = path_beside(base_file, *out);
        *out = arena_copy_string(memory, path);
        free(path);
    }
    return OK;
}

static err take_number(double *out, const json_t *o, const char *key, const char *where)
{
    return json_get_present(o, key) ? json_get_number(out, o, key, where) : OK;
}

static err take_whole(int64_t *out, const json_t *o, const char *key, const char *where, int64_t low, int64_t high)
{
    return json_get_present(o, key) ? json_get_int(out, o, key, where, low, high) : OK;
}

static err take_box(double box[4], const json_t *o, const char *where)
{
    const json_t *list = NULL;
    if (!json_get_present(o, "box"))
        return OK;
    TRY(json_get_list(&list, o, "box", where));
    for (size_t i = 0; i < 4; i++) {
        const json_t *n = json_array_get(list, i);
        if (json_array_size(list) != 4 || !json_is_number(n))
            return err_set(E_CONFIG, "%s: box: expected four numbers x0, y0, x1, y1 in 0..1", where);
        box[i] = json_number_value(n);
    }
    return OK;
}

static err subject_from_json(job_subject *s, arena *memory, const json_t *o, const char *where, const char *base_file)
{
    if (!json_is_object(o))
        return err_set(E_CONFIG, "%s: expected an object with image, phrase, box", where);
    TRY(refuse_unknown(o, where, subject_keys, sizeof subject_keys / sizeof *subject_keys));
    TRY(take_path(&s->image, memory, o, "image", where, base_file));
    TRY(take_text(&s->phrase, memory, o, "phrase", where));
    TRY(take_path(&s->mask, memory, o, "mask", where, base_file));
    TRY(take_number(&s->scale, o, "scale", where));
    TRY(take_box(s->box, o, where));
    if (!s->image || !s->phrase)
        return err_set(E_CONFIG, "%s: %s is missing", where, s->image ? "phrase" : "image");
    return OK;
}

static err subjects_from_json(job *j, arena *memory, const json_t *o, const char *where, const char *base_file)
{
    const json_t *list = NULL;
    if (!json_get_present(o, "subjects"))
        return OK;
    TRY(json_get_list(&list, o, "subjects", where));
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY(subject_from_json(add(j, memory), memory, json_array_get(list, i),
                              arena_print(memory, "%s: subjects[%zu]", where, i), base_file));
    return OK;
}

static err parse_json(job *j, arena *memory, const json_t *o, const char *where, const char *base_file)
{
    int64_t seed = 0;
    TRY(refuse_unknown(o, where, keys, sizeof keys / sizeof *keys));
    TRY(take_text(&j->prompt, memory, o, "prompt", where));
    TRY(take_text(&j->negative_prompt, memory, o, "negative_prompt", where));
    TRY(take_text(&j->sampling_method, memory, o, "sampling_method", where));
    TRY(take_text(&j->scheduler, memory, o, "scheduler", where));
    TRY(take_path(&j->output, memory, o, "output", where, base_file));
    TRY(take_whole(&j->width, o, "width", where, 0, MAX_SIDE));
    TRY(take_whole(&j->height, o, "height", where, 0, MAX_SIDE));
    TRY(take_whole(&j->steps, o, "steps", where, 1, INT32_MAX));
    TRY(take_whole(&seed, o, "seed", where, 0, INT64_MAX));
    TRY(take_whole(&j->batch_count, o, "batch_count", where, 1, MAX_BATCH));
    TRY(take_number(&j->cfg_scale, o, "cfg_scale", where));
    TRY(take_number(&j->scale, o, "scale", where));
    if (json_get_present(o, "drop_grounding"))
        TRY(json_get_bool(&j->drop_grounding, o, "drop_grounding", where));
    j->seed = (uint64_t)seed;
    if (!j->prompt)
        return err_set(E_CONFIG, "%s: prompt is missing", where);
    return subjects_from_json(j, memory, o, where, base_file);
}

err job_from_json(job *out, arena *memory, const json_t *object, const char *where, const char *base_file)
{
    *out = job_default();
    if (!json_is_object(object))
        return err_set(E_CONFIG, "%s: expected an object with prompt, subjects, ...", where);
    return err_as(parse_json(out, memory, object, where, base_file), E_CONFIG);
}

/* ---- checks ---- */

static bool zero_box(const double b[4])
{
    return b[0] == 0 && b[1] == 0 && b[2] == 0 && b[3] == 0;
}

double job_box_clipped(double v)
{
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

/* A coordinate further out than this is no slip of a box drawn over the edge. */
static const double far_outside = 2;

static err check_box(const double b[4], int number, const char *phrase)
{
    if (zero_box(b))
        return OK;
    for (int k = 0; k < 4; k++)
        if (!(fabs(b[k]) <= far_outside))
            return err_set(E_USAGE,
                           "subject %d (%s): box: %g is outside 0..1; boxes are shares of width and height, not pixels",
                           number, phrase, b[k]);
    if (b[0] >= b[2] || b[1] >= b[3])
        return err_set(E_USAGE, "subject %d (%s): box: %g,%g,%g,%g is empty; expected x0 < x1 and y0 < y1", number,
                       phrase, b[0], b[1], b[2], b[3]);
    if (b[0] >= 1 || b[1] >= 1 || b[2] <= 0 || b[3] <= 0)
        return err_set(E_USAGE, "subject %d (%s): box: %g,%g,%g,%g lies outside the picture, which is 0,0,1,1", number,
                       phrase, b[0], b[1], b[2], b[3]);
    return OK;
}

err job_check(const job *j)
{
    if (j->steps < 1)
        return err_set(E_USAGE, "steps: %" PRId64 "; give 1 or more", j->steps);
    if (j->width < 0 || j->width > MAX_SIDE || j->height < 0 || j->height > MAX_SIDE)
        return err_set(E_USAGE, "width, height: %" PRId64 " x %" PRId64 " is outside 1..%d", j->width, j->height,
                       MAX_SIDE);
    if (!isfinite(j->cfg_scale) || !isfinite(j->scale))
        return err_set(E_USAGE, "cfg_scale, scale: expected finite numbers");
    if (j->batch_count < 1 || j->batch_count > MAX_BATCH)
        return err_set(E_USAGE, "batch_count: %" PRId64 " is outside 1..%d", j->batch_count, MAX_BATCH);
    TRY(sampler_check_names(j->sampling_method, j->scheduler));
    for (int i = 0; i < j->subjects; i++)
        TRY(check_box(j->subject[i].box, i + 1, j->subject[i].phrase));
    return OK;
}

void job_warn(const job *j, logger *log)
{
    for (int i = 0; i < j->subjects; i++) {
        const job_subject *s = &j->subject[i];
        bool               outside = false;
        for (int k = 0; k < 4; k++)
            outside = outside || s->box[k] != job_box_clipped(s->box[k]);
        if (outside)
            log_warning(log, "subject %d (%s): the box reaches outside the picture and is clipped", i + 1, s->phrase);
        if (zero_box(s->box))
            log_warning(log,
                        "subject %d (%s): a zero box switches its picture off; --mask-threshold, which finds the place "
                        "by itself, is not in this version: give a box", i + 1, s->phrase);
    }
}

err job_check_pictures(const job *j)
{
    arena       memory = {0};
    const char *all = "";
    for (int i = 0; i < j->subjects; i++) {
        const char  *path[] = {j->subject[i].image, j->subject[i].mask};
        image_header header[2];
        bool         good = true;
        for (int k = 0; k < 2; k++) {
            if (path[k] && image_probe(&header[k], path[k], NULL) != OK) {
                all = arena_print(&memory, "%s%s%s", all, *all ? "; " : "", err_message());
                good = false;
            }
        }
        if (good && path[1] &&
            (image_header_width(&header[0]) != header[1].width || image_header_height(&header[0]) != header[1].height))
            all = arena_print(&memory, "%s%s%s: the mask is %d x %d, its picture %d x %d; they have to be equal", all,
                              *all ? "; " : "", path[1], header[1].width, header[1].height,
                              image_header_width(&header[0]), image_header_height(&header[0]));
    }
    err e = *all ? err_set(E_DATASET, "%s", all) : OK;
    arena_free(&memory);
    return e;
}
