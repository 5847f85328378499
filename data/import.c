#include "data/import.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "data/importer.h"

enum { CLASSES_BYTES = 1 << 20 };

static const struct {
    const char *name;
    err (*run)(importer *im);
    bool need_subject;
} kinds[] = {{"coco", import_coco, true},
             {"bbox", import_bbox, true},
             {"folder", import_folder, true},
             {"metadata", import_metadata, false},
             {"clips", import_clips, true}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static err find_kind(int *out, const char *kind)
{
    const char *names[KINDS];
    for (int i = 0; i < KINDS; i++) {
        names[i] = kinds[i].name;
        if (!strcmp(kind, names[i])) {
            *out = i;
            return OK;
        }
    }
    const char *near = text_nearest(kind, names, KINDS);
    return err_set(E_USAGE, "msd import: '%s' is none of coco, bbox, folder, metadata, clips%s%s%s", kind,
                   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static err check_options(const import_options *o)
{
    double box[4];
    if (o->max_subjects < 1 || o->max_subjects > 1000)
        return err_set(E_USAGE, "--max-subjects: %lld is outside 1..1000", (long long)o->max_subjects);
    if (!(o->min_area <= 1))
        return err_set(E_USAGE, "--min-area: %g; give a share of the picture from 0 to 1", o->min_area);
    if (o->pairs < 1 || o->pairs > 1000000)
        return err_set(E_USAGE, "--pairs: %lld is outside 1..1000000", (long long)o->pairs);
    if (o->min_gap < 1)
        return err_set(E_USAGE, "--min-gap: %lld; give 1 or more", (long long)o->min_gap);
    if (o->bbox_format && strcmp(o->bbox_format, "xywh") && strcmp(o->bbox_format, "xyxy"))
        return err_set(E_USAGE, "--bbox-format: '%s' is none of xywh, xyxy", o->bbox_format);
    if (o->box_units && strcmp(o->box_units, "pixel") && strcmp(o->box_units, "normalized"))
        return err_set(E_USAGE, "--box-units: '%s' is none of pixel, normalized", o->box_units);
    const char *const texts[] = {o->phrase, o->caption};
    for (int i = 0; i < 2; i++)
        if (texts[i] && (!texts[i][0] || !text_utf8_valid(NULL, texts[i], strlen(texts[i]))))
            return err_set(E_USAGE, "%s: empty or not UTF-8; give a text", i ? "--caption" : "--phrase");
    return import_box_option(box, o);
}

static err read_classes(importer *im)
{
    char *text;
    size_t size;
    if (!im->o->classes)
        return OK;
    TRY(err_as(file_read(&text, &size, im->o->classes, CLASSES_BYTES), E_DATASET));
    for (size_t i = 0; i < size; i++)
        im->class_count += text[i] == '\n' || i + 1 == size;
    im->class_name = ARENA_ARRAY(&im->memory, const char *, im->class_count + 1);
    int64_t count = 0;
    for (const char *at = text, *end = text + size; at < end; count++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        im->class_name[count] = import_trimmed(im, at, (size_t)(stop - at));
        at = stop + 1;
    }
    free(text);
    return OK;
}

static err open_output(importer *im)
{
    char *beside = path_beside(im->o->output, ".");
    err e = folder_make(beside);
    if (e == OK && !(im->folder = realpath(beside, NULL)))
        e = err_set(E_IO, "%s: its folder cannot be resolved; name another", im->o->output);
    free(beside);
    return e == OK ? file_create(&im->out, im->o->output) : e;
}

static err finish(importer *im)
{
    const import_report *r = im->report;
    if (r->samples)
        return OK;
    const import_reason *most = NULL;
    for (int i = 0; i < r->reasons; i++)
        if (!r->reason[i].remark && (!most || r->reason[i].count > most->count))
            most = &r->reason[i];
    if (!most)
        return err_set(E_DATASET, "%s: nothing to import was found there; msd import --help says what is looked for",
                       im->o->source);
    return err_set(E_DATASET, "%s: not one usable sample; %lld skipped, most of them: %s (%s); nothing was written",
                   im->o->source, (long long)r->skipped, most->text, most->named[0]);
}

static void release(importer *im)
{
    file_discard(im->out);
    free(im->folder);
    free(im->table);
    free(im->seen_folder);
    free(im->real_folder);
    arena_free(&im->memory);
}

err import_run(import_report *out, const import_options *o, logger *log)
{
    int kind = 0;
    *out = (import_report){0};
    TRY(find_kind(&kind, o->kind));
    TRY(check_options(o));
    importer im = {.o = o, .report = out, .log = log, .need_subject = kinds[kind].need_subject};
    im.min_area = o->min_area >= 0 ? o->min_area : !strcmp(o->kind, "coco") ? 0.01 : 0;
    err e = read_classes(&im);
    if (e == OK && !file_exists(o->source) && !folder_exists(o->source))
        e = err_set(E_DATASET, "%s: no such file or folder", o->source);
    if (e == OK)
        e = open_output(&im);
    if (e == OK)
        e = kinds[kind].run(&im);
    if (e == OK)
        e = finish(&im);
    if (e == OK) {
        e = file_publish(im.out);
        im.out = NULL;
    }
    release(&im);
    return e;
}
