/* SimpleTuner's sidecars: beside a.jpg a file a.bbox that is a JSON array of {label, bbox, mask?}, JSON Lines of such
 * objects, or YOLO's lines "class x_center y_center width height"; all numbers from 0 to 1. */
#include <stdlib.h>
#include <string.h>

#include "data/importer.h"

enum { SIDECAR_BYTES = 4 << 20, MOST = 1000 };

typedef struct reading {
    importer   *im;
    const char *path;  /* the sidecar */
    subject    *list;  /* (MOST) */
    int         count;
} reading;

static subject *next(reading *r)
{
    if (r->count < MOST)
        return &r->list[r->count];
    import_skip(r->im, "more than 1000 boxes for a picture", "%s", r->path);
    return NULL;
}

static void take_object(reading *r, const json_t *object, int64_t number)
{
    const json_t *mask = json_object_get(object, "mask"), *label = json_object_get(object, "label");
    subject *one = next(r);
    if (!one)
        return;
    const char *name = import_class_name(r->im, label);
    *one = (subject){.phrase = name ? arena_copy_string(&r->im->memory, name) : NULL};
    if (!import_box(one->box, json_object_get(object, "bbox"), false)) {
        import_skip(r->im, "a box that is not four numbers", "%s: object %lld", r->path, (long long)number);
        return;
    }
    if (json_is_string(mask) && json_string_value(mask)[0]) {
        char *beside = path_beside(r->path, json_string_value(mask));
        one->mask = arena_copy_string(&r->im->memory, beside);
        free(beside);
    }
    r->count++;
}

static void take_yolo(reading *r, const char *line, int64_t number)
{
    double v[5];
    const char *at = line;
    for (int i = 0; i < 5; i++) {
        char *end;
        v[i] = strtod(at, &end);
        if (end == at || !(*end == ' ' || *end == '\t' || (i == 4 && *end == 0))) {
            import_skip(r->im, "a line that is neither JSON nor YOLO's five numbers", "%s:%lld", r->path,
                        (long long)number);
            return;
        }
        at = end;
    }
    subject *one = next(r);
    if (!one)
        return;
    double half[2] = {v[3] / 2, v[4] / 2};
    json_t *class = json_integer(v[0] >= 0 && v[0] < 1e9 ? (json_int_t)v[0] : -1);
    *one = (subject){.phrase = import_class_name(r->im, class),
                     .box = {v[1] - half[0], v[2] - half[1], v[1] + half[0], v[2] + half[1]}};
    json_decref(class);
    if (one->phrase)
        r->count++;
    else
        import_skip(r->im, "a class number that --classes does not name", "%s:%lld: %g", r->path, (long long)number,
                    v[0]);
}

static void read_lines(reading *r, const char *text, size_t size)
{
    const char *end = text + size;
    int64_t number = 0;
    for (const char *at = text; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        number++;
        const char *line = import_trimmed(r->im, at, (size_t)(stop - at));
        json_t *value = NULL;
        if (line && line[0] != '{')
            take_yolo(r, line, number);
        else if (line && json_text_parse(&value, line, strlen(line), NULL, JSON_KEEP_LAST) == OK)
            take_object(r, value, number);
        else if (line)
            import_skip(r->im, "a line that is not JSON", "%s:%lld: %s", r->path, (long long)number, err_message());
        json_decref(value);
        at = stop + 1;
    }
}

/* A JSON array, one object, or lines. */
static bool read_sidecar(reading *r)
{
    char *text;
    size_t size;
    if (file_read(&text, &size, r->path, SIDECAR_BYTES) != OK) {
        import_skip(r->im, "a sidecar that cannot be read", "%s", err_message());
        return false;
    }
    const char *first = text + strspn(text, " \t\r\n");
    json_t *value = NULL;
    bool array = *first == '[';
    if ((array || *first == '{') && json_text_parse(&value, text, size, r->path, JSON_KEEP_LAST) == OK) {
        if (array)
            for (size_t i = 0; i < json_array_size(value); i++)
                take_object(r, json_array_get(value, i), (int64_t)i);
        else
            take_object(r, value, 0);
    } else if (array) {
        import_skip(r->im, "a sidecar that is not JSON", "%s", err_message());
    } else {
        read_lines(r, text, size);
    }
    json_decref(value);
    free(text);
    return true;
}

static err take_picture(importer *im, const char *path, subject *list)
{
    reading r = {.im = im, .path = import_with_ending(im, path, ".bbox"), .list = list};
    if (!file_exists(r.path)) {
        import_skip(im, "a picture without a .bbox beside it", "%s", path);
        return OK;
    }
    if (!read_sidecar(&r))
        return OK;
    sample s = {.image = path, .text = import_caption_beside(im, path), .subject = list, .subjects = r.count,
                .units = BOX_NORMALIZED};
    return import_add(im, &s);
}

/* Masks are pictures too, but not targets: those that sidecars name have no .bbox and are skipped by that. */
err import_bbox(importer *im)
{
    import_list pictures;
    TRY(import_list_pictures(im, &pictures, im->o->source, true));
    subject *list = heap_get(MOST * sizeof *list);
    progress bar = progress_start(im->log, "import", "pictures", 0, pictures.count);
    err e = OK;
    for (int64_t i = 0; i < pictures.count && e == OK; i++) {
        e = take_picture(im, pictures.item[i], list);
        progress_update(&bar, i + 1, NULL);
    }
    progress_end(&bar);
    free(list);
    free(pictures.item);
    return e;
}
