/* Hugging Face's imagefolder: a folder with metadata.jsonl, one picture a line: file_name, text, and perhaps
 * objects: {bbox: [[...], ...], categories: [...]} or a list of {bbox, category}. */
#include <stdlib.h>
#include <string.h>

#include "data/importer.h"

typedef struct reading {
    importer   *im;
    const char *path, *folder;
    double      box[4];
} reading;

static const json_t *first_of(const json_t *object, const char *a, const char *b, const char *c)
{
    const json_t *value = json_object_get(object, a);
    value = value ? value : json_object_get(object, b);
    return value ? value : json_object_get(object, c);
}

static void take_object(reading *r, sample *s, const json_t *box, const json_t *category, int64_t line)
{
    subject *one = &s->subject[s->subjects];
    const char *format = r->im->o->bbox_format;
    *one = (subject){.phrase = import_class_name(r->im, category)};
    if (!import_box(one->box, box, !format || !strcmp(format, "xywh")))
        import_skip(r->im, "a box that is not four numbers", "%s:%lld", r->path, (long long)line);
    else if (!one->phrase && json_is_integer(category))
        import_skip(r->im, "a class number that --classes does not name", "%s:%lld: %lld", r->path, (long long)line,
                    (long long)json_integer_value(category));
    else
        s->subjects++;
}

static void take_objects(reading *r, sample *s, arena *memory, const json_t *objects, int64_t line)
{
    bool columns = json_is_object(objects);
    const json_t *boxes = columns ? first_of(objects, "bbox", "bboxes", "boxes") : objects;
    const json_t *names = columns ? first_of(objects, "categories", "category", "label") : NULL;
    if (columns && !names)
        names = first_of(objects, "labels", "phrases", "names");
    size_t count = json_array_size(boxes);
    if (!json_is_array(boxes) || (columns && json_array_size(names) != count)) {
        import_skip(r->im, "objects without as many categories as boxes", "%s:%lld", r->path, (long long)line);
        return;
    }
    s->subject = ARENA_ARRAY(memory, subject, count + 1);
    r->im->need_subject = count > 0; /* an empty list says that there are none */
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_array_get(boxes, i);
        take_object(r, s, columns ? one : json_object_get(one, "bbox"),
                    columns ? json_array_get(names, i) : first_of(one, "category", "label", "phrase"), line);
    }
}

static err take_line(void *user, json_t *object, int64_t line)
{
    reading *r = user;
    importer *im = r->im;
    const json_t *name = json_object_get(object, "file_name"), *text = first_of(object, "text", "caption", "prompt");
    const json_t *objects = json_object_get(object, "objects");
    if (!json_is_string(name) || !json_string_value(name)[0]) {
        import_skip(im, "a line without file_name", "%s:%lld", r->path, (long long)line);
        return OK;
    }
    arena memory = {0};
    subject whole = {.phrase = im->o->phrase};
    memcpy(whole.box, r->box, sizeof whole.box);
    char *image = json_string_value(name)[0] == '/' ? strdup(json_string_value(name))
                                                    : path_join(r->folder, json_string_value(name));
    sample s = {.image = image, .text = im->o->caption, .units = BOX_PIXEL};
    if (json_is_string(text) && json_string_value(text)[0])
        s.text = json_string_value(text);
    im->need_subject = false;
    if (json_get_present(object, "objects"))
        take_objects(r, &s, &memory, objects, line);
    else if (im->o->phrase)
        s = (sample){.image = image, .text = s.text, .subject = &whole, .subjects = 1, .units = BOX_NORMALIZED};
    err e = image ? import_add(im, &s) : err_set(E_MEMORY, "out of memory for a path");
    free(image);
    arena_free(&memory);
    return e;
}

err import_metadata(importer *im)
{
    const char *source = im->o->source;
    reading r = {.im = im, .path = source, .folder = im->o->images};
    TRY(import_box_option(r.box, im->o));
    char *inside = NULL, *beside = NULL;
    if (folder_exists(source)) {
        r.path = inside = path_join(source, "metadata.jsonl");
        r.folder = r.folder ? r.folder : source;
        char *table = path_join(source, "metadata.csv");
        bool csv = !file_exists(inside) && file_exists(table);
        free(table);
        if (csv) {
            free(inside);
            return err_set(E_DATASET, "%s: has a metadata.csv, expected metadata.jsonl: one object a line with "
                                      "file_name and text; convert it", source);
        }
    } else if (!r.folder) {
        r.folder = beside = path_beside(source, ".");
    }
    err e = import_json_lines(im, r.path, take_line, &r);
    free(inside);
    free(beside);
    return e;
}
