/* COCO: an instances JSON (images, annotations, categories) and perhaps a captions JSON (annotations with captions). */
#include <stdlib.h>
#include <string.h>

#include "data/coco_mask.h"
#include "data/importer.h"
#include "data/json_stream.h"
#include "data/phrase.h"

typedef struct coco_image {
    int64_t     id, width, height; /* 0: not said */
    const char *file;
} coco_image;

typedef struct coco_object {
    int64_t     picture, category, order;
    double      box[4], area;
    const char *text; /* the annotation within the file */
    size_t      size;
} coco_object;

typedef struct coco_caption {
    int64_t     picture, order;
    const char *text;
} coco_caption;

typedef struct coco_category {
    int64_t     id;
    const char *name;
} coco_category;

typedef struct table {
    char   *item; /* heap */
    int64_t count, capacity;
    size_t  size; /* of one */
} table;

typedef struct coco {
    importer   *im;
    const char *path, *folder;  /* the file being read; of the pictures */
    table       images, sorted, objects, captions, categories;
    char       *masks, *drawing; /* folder by its last name, and while it is filled; NULL: no masks */
} coco;

static void *append(table *t)
{
    if (t->count == t->capacity) {
        t->capacity = t->capacity ? 2 * t->capacity : 256;
        t->item = heap_grow(t->item, (size_t)t->capacity * t->size);
    }
    return t->item + (size_t)t->count++ * t->size;
}

/* ---- reading ---- */

static void bad_element(coco *c, const json_element *e, const char *list, const char *why)
{
    import_skip(c->im, "an entry of the JSON that cannot be used", "%s: %s[%lld]: %s", c->path, list,
                (long long)e->index, why);
}

static bool whole(int64_t *out, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    *out = json_integer_value(value);
    return json_is_integer(value);
}

static void take_image(coco *c, const json_element *e)
{
    const json_t *file = json_object_get(e->value, "file_name");
    coco_image one = {0};
    if (!whole(&one.id, e->value, "id") || !json_is_string(file) || !json_string_value(file)[0]) {
        bad_element(c, e, "images", "expected id and file_name");
        return;
    }
    whole(&one.width, e->value, "width");
    whole(&one.height, e->value, "height");
    one.file = arena_copy_string(&c->im->memory, json_string_value(file));
    *(coco_image *)append(&c->images) = one;
}

static void take_object(coco *c, const json_element *e)
{
    coco_object one = {.order = e->index, .text = e->text, .size = e->size};
    const json_t *crowd = json_object_get(e->value, "iscrowd");
    if (!whole(&one.picture, e->value, "image_id") || !whole(&one.category, e->value, "category_id") ||
        !import_box(one.box, json_object_get(e->value, "bbox"), true)) {
        bad_element(c, e, "annotations", "expected image_id, category_id and a bbox of four numbers");
        return;
    }
    if (json_integer_value(crowd) || json_is_true(crowd)) {
        import_skip(c->im, "a crowd (iscrowd)", "%s: annotations[%lld]", c->path, (long long)e->index);
        return;
    }
    one.area = (one.box[2] - one.box[0]) * (one.box[3] - one.box[1]);
    *(coco_object *)append(&c->objects) = one;
}

static void take_category(coco *c, const json_element *e)
{
    const json_t *name = json_object_get(e->value, "name");
    coco_category one;
    if (!whole(&one.id, e->value, "id") || !json_is_string(name)) {
        bad_element(c, e, "categories", "expected id and name");
        return;
    }
    one.name = arena_copy_string(&c->im->memory, json_string_value(name));
    *(coco_category *)append(&c->categories) = one;
}

static err take_element(void *user, const json_element *e)
{
    static const char *const names[] = {"images", "annotations", "categories"};
    coco *c = user;
    if (!json_is_object(e->value))
        bad_element(c, e, names[e->list], e->value ? "no object" : err_message());
    else if (e->list == 0)
        take_image(c, e);
    else if (e->list == 1)
        take_object(c, e);
    else
        take_category(c, e);
    return OK;
}

static err take_caption(void *user, const json_element *e)
{
    coco *c = user;
    const json_t *text = json_object_get(e->value, "caption");
    coco_caption one = {.order = e->index};
    if (json_is_string(text))
        one.text = import_trimmed(c->im, json_string_value(text), json_string_length(text));
    if (!whole(&one.picture, e->value, "image_id") || !one.text) {
        bad_element(c, e, "annotations", "expected image_id and caption");
        return OK;
    }
    *(coco_caption *)append(&c->captions) = one;
    return OK;
}

/* ---- tables ---- */

static int order_of(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_images(const void *a, const void *b)
{
    return order_of(((const coco_image *)a)->id, ((const coco_image *)b)->id);
}

static int compare_categories(const void *a, const void *b)
{
    return order_of(((const coco_category *)a)->id, ((const coco_category *)b)->id);
}

/* By picture, the largest first. */
static int compare_objects(const void *a, const void *b)
{
    const coco_object *x = a, *y = b;
    if (x->picture != y->picture)
        return order_of(x->picture, y->picture);
    if (x->area != y->area)
        return x->area > y->area ? -1 : 1;
    return order_of(x->order, y->order);
}

static int compare_captions(const void *a, const void *b)
{
    const coco_caption *x = a, *y = b;
    return x->picture != y->picture ? order_of(x->picture, y->picture) : order_of(x->order, y->order);
}

static void sort_table(table *t, int (*compare)(const void *, const void *))
{
    if (t->count)
        qsort(t->item, (size_t)t->count, t->size, compare);
}

/* The first entry whose leading int64 (the picture) is not below `id`. */
static int64_t first_of(const table *t, int64_t id)
{
    int64_t low = 0, high = t->count, key;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        memcpy(&key, t->item + (size_t)middle * t->size, sizeof key);
        if (key < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void sort_all(coco *c)
{
    for (int64_t i = 0; i < c->images.count; i++)
        *(coco_image *)append(&c->sorted) = ((coco_image *)c->images.item)[i];
    sort_table(&c->sorted, compare_images);
    sort_table(&c->categories, compare_categories);
    sort_table(&c->objects, compare_objects);
    sort_table(&c->captions, compare_captions);
    const coco_image *known = (const coco_image *)c->sorted.item;
    const coco_object *objects = (const coco_object *)c->objects.item;
    for (int64_t i = 0; i < c->objects.count; i++) {
        int64_t at = first_of(&c->sorted, objects[i].picture);
        if (at == c->sorted.count || known[at].id != objects[i].picture)
            import_skip(c->im, "an annotation of a picture that images does not list", "%s: annotations[%lld]", c->path,
                        (long long)objects[i].order);
    }
}

static const char *category_name(const coco *c, int64_t id)
{
    int64_t at = first_of(&c->categories, id);
    const coco_category *found = (const coco_category *)c->categories.item + at;
    return at < c->categories.count && found->id == id ? found->name : NULL;
}

/* ---- samples ---- */

/* The caption that holds most of the phrases; of equals the first. */
static const char *best_caption(coco *c, int64_t picture, const import_selection *k, arena *memory)
{
    const coco_caption *list = (const coco_caption *)c->captions.item;
    const char *best = NULL, **phrases = ARENA_ARRAY(memory, const char *, k->count);
    bool *found = ARENA_ARRAY(memory, bool, k->count);
    int most = -1;
    for (int i = 0; i < k->count; i++)
        phrases[i] = k->item[i].phrase;
    for (int64_t i = first_of(&c->captions, picture); i < c->captions.count && list[i].picture == picture; i++) {
        int held = 0;
        if (phrase_present(found, list[i].text, phrases, k->count) != OK)
            continue;
        for (int j = 0; j < k->count; j++)
            held += found[j];
        if (held > most) {
            most = held;
            best = list[i].text;
        }
    }
    return best ? best : c->im->o->caption;
}

static err draw_mask(coco *c, subject *one, const coco_object *object, const import_picture *target, arena *memory)
{
    json_t *annotation = NULL;
    image mask;
    const char *name = arena_print(memory, "%012lld-%lld.png", (long long)object->picture, (long long)object->order);
    err e = json_text_parse(&annotation, object->text, object->size, NULL, JSON_KEEP_LAST);
    if (e == OK)
        e = coco_mask(&mask, json_object_get(annotation, "segmentation"), target->width, target->height);
    json_decref(annotation);
    if (e == E_FORMAT) {
        import_remark(c->im, "a subject without a mask", "%s: annotations[%lld]: %s", c->path,
                      (long long)object->order, err_message());
        return OK;
    }
    TRY(e);
    e = image_save_png(arena_print(memory, "%s/%s", c->drawing, name), &mask, NULL, 0);
    one->mask = arena_print(memory, "%s/%s", c->masks, name);
    image_free(&mask);
    return e;
}

static err write_sample(coco *c, sample *s, import_selection *k, const coco_object *objects)
{
    err e = OK;
    for (int i = 0; c->masks && i < k->count && e == OK; i++)
        e = draw_mask(c, &k->item[i], &objects[k->from[i]], k->target, &k->memory);
    return e == OK ? import_write(c->im, s, k) : e;
}

static bool same_size(coco *c, const coco_image *one, const import_picture *target)
{
    if ((!one->width && !one->height) || (one->width == target->width && one->height == target->height))
        return true;
    import_skip(c->im, "a picture of another size than its annotations", "%s: %d x %d, annotated at %lld x %lld",
                target->path, target->width, target->height, (long long)one->width, (long long)one->height);
    return false;
}

static err take_picture(coco *c, const coco_image *one)
{
    arena memory = {0};
    int64_t first = first_of(&c->objects, one->id), last = first;
    const coco_object *objects = (const coco_object *)c->objects.item + first;
    while (last < c->objects.count && objects[last - first].picture == one->id)
        last++;
    char *path = one->file[0] == '/' ? path_beside("", one->file) : path_join(c->folder, one->file);
    sample s = {.image = path, .units = BOX_PIXEL, .subject = ARENA_ARRAY(&memory, subject, last - first + 1)};
    for (; s.subjects < last - first && s.subjects < 100000; s.subjects++) {
        subject *to = &s.subject[s.subjects];
        to->phrase = category_name(c, objects[s.subjects].category);
        memcpy(to->box, objects[s.subjects].box, sizeof to->box);
    }
    import_selection k = {0};
    err e = OK;
    if (s.subjects == 0) {
        import_skip(c->im, "a picture without annotated objects", "%s", path);
    } else if (import_select(c->im, &k, &s) && same_size(c, one, k.target)) {
        s.text = best_caption(c, one->id, &k, &memory);
        e = write_sample(c, &s, &k, objects);
    }
    arena_free(&k.memory);
    free(path);
    arena_free(&memory);
    return e;
}

static err take_pictures(coco *c)
{
    const coco_image *list = (const coco_image *)c->images.item, *known = (const coco_image *)c->sorted.item;
    progress bar = progress_start(c->im->log, "import", "pictures", 0, c->images.count);
    err e = OK;
    for (int64_t i = 0; i < c->images.count && e == OK; i++) {
        int64_t at = first_of(&c->sorted, list[i].id);
        if (at + 1 < c->sorted.count && known[at + 1].id == list[i].id)
            import_skip(c->im, "a picture whose id is there twice", "%s: id %lld", list[i].file, (long long)list[i].id);
        else
            e = take_picture(c, &list[i]);
        progress_update(&bar, i + 1, NULL);
    }
    progress_end(&bar);
    return e;
}

/* ---- masks ---- */

/* data.jsonl -> data-masks: there and empty, so that paths to it can be made; filled under another name. */
static err open_masks(coco *c)
{
    c->masks = heap_get(strlen(c->im->o->output) + 8);
    const char *stem = import_with_ending(c->im, c->im->o->output, "-masks");
    strcpy(c->masks, stem);
    if (file_exists(c->masks) || (folder_exists(c->masks) && !folder_empty(c->masks)))
        return err_set(E_USAGE, "%s: is there already; remove it, or write another manifest", c->masks);
    TRY(folder_make(c->masks));
    return folder_create_temporary(&c->drawing, c->masks);
}

static err close_masks(coco *c, err e)
{
    if (e == OK && c->drawing && c->im->report->samples)
        return folder_publish(c->drawing, c->masks);
    if (c->drawing)
        folder_remove(c->drawing);
    if (c->masks && folder_empty(c->masks))
        folder_remove(c->masks);
    return e;
}

/* ---- the whole ---- */

static err read_captions(coco *c)
{
    static const char *const keys[] = {"annotations", NULL};
    bool present[1];
    file_map map;
    c->path = c->im->o->captions;
    TRY(err_as(file_map_open(&map, c->path), E_DATASET));
    err e = err_as(json_stream(present, (const char *)map.bytes, map.size, c->path, keys, take_caption, c), E_DATASET);
    if (e == OK && !present[0])
        e = err_set(E_DATASET, "%s: has no list annotations; give COCO's captions JSON", c->path);
    file_map_close(&map);
    return e;
}

static err read_and_write(coco *c, const file_map *map)
{
    static const char *const keys[] = {"images", "annotations", "categories", NULL};
    bool present[3];
    TRY(err_as(json_stream(present, (const char *)map->bytes, map->size, c->path, keys, take_element, c), E_DATASET));
    for (int i = 0; i < 3; i++)
        if (!present[i])
            return err_set(E_DATASET, "%s: has no list %s; give COCO's instances JSON", c->path, keys[i]);
    if (c->im->o->captions)
        TRY(read_captions(c));
    c->path = c->im->o->source;
    sort_all(c);
    if (c->im->o->masks)
        TRY(open_masks(c));
    return take_pictures(c);
}

err import_coco(importer *im)
{
    coco c = {.im = im, .path = im->o->source, .folder = im->o->images};
    c.images.size = c.sorted.size = sizeof(coco_image);
    c.objects.size = sizeof(coco_object);
    c.captions.size = sizeof(coco_caption);
    c.categories.size = sizeof(coco_category);
    char *beside = path_beside(im->o->source, ".");
    c.folder = c.folder ? c.folder : beside;
    file_map map;
    err e = err_as(file_map_open(&map, c.path), E_DATASET);
    if (e == OK) {
        e = close_masks(&c, read_and_write(&c, &map));
        file_map_close(&map);
    }
    free(c.images.item);
    free(c.sorted.item);
    free(c.objects.item);
    free(c.captions.item);
    free(c.categories.item);
    free(c.masks);
    free(c.drawing);
    free(beside);
    return e;
}
