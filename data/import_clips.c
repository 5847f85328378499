/* Clips: a folder of frames each, with boxes. Target and reference of a sample are different frames of one clip: the
 * reference is not the target's own pixels (so the reference's authors trained). */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/philox.h"
#include "base/text.h"
#include "data/importer.h"

typedef struct clip_subject {
    const char *key; /* what is the same subject in another frame */
    subject     what;
} clip_subject;

typedef struct frame {
    const char   *path, *text;
    clip_subject *item;
    int           count;
    box_units     units;
} frame;

typedef struct clip {
    importer   *im;
    const char *folder, *sidecar;
    frame      *frames; /* (count), by name */
    int64_t     count;
    arena       memory;
} clip;

/* ---- boxes ---- */

static const char *key_of(clip *c, const json_t *id, const char *phrase)
{
    if (json_is_string(id))
        return arena_print(&c->memory, "id %s", json_string_value(id));
    if (json_is_integer(id))
        return arena_print(&c->memory, "id %lld", (long long)json_integer_value(id));
    return arena_print(&c->memory, "phrase %s", phrase);
}

static void take_subject(clip *c, frame *f, const json_t *object, const char *where)
{
    const json_t *phrase = json_object_get(object, "phrase"), *mask = json_object_get(object, "mask");
    clip_subject one = {0};
    phrase = phrase ? phrase : json_object_get(object, "label");
    const json_t *box = json_object_get(object, "box");
    if (json_is_string(phrase))
        one.what.phrase = import_trimmed(c->im, json_string_value(phrase), json_string_length(phrase));
    if (!one.what.phrase || !import_box(one.what.box, box ? box : json_object_get(object, "bbox"), false)) {
        import_skip(c->im, "a subject of a frame without phrase or box", "%s", where);
        return;
    }
    if (json_is_string(mask) && json_string_value(mask)[0])
        one.what.mask = arena_print(&c->memory, "%s/%s", c->folder, json_string_value(mask));
    one.key = key_of(c, json_object_get(object, "id"), one.what.phrase);
    for (int i = 0; i < f->count; i++)
        if (!strcmp(f->item[i].key, one.key)) {
            import_skip(c->im, "a subject that is twice in a frame; give each an id", "%s in %s", one.what.phrase,
                        where);
            return;
        }
    f->item[f->count++] = one;
}

static void take_frame(clip *c, frame *f, const json_t *object, const char *where)
{
    const json_t *list = json_object_get(object, "subjects"), *text = json_object_get(object, "text");
    const json_t *units = json_object_get(object, "box_units");
    const char *said = json_is_string(units) ? json_string_value(units) : c->im->o->box_units;
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > 1000 || f->item) {
        import_skip(c->im, f->item ? "a frame whose boxes are there twice" : "a frame without a list of subjects", "%s",
                    where);
        return;
    }
    f->units = said && !strcmp(said, "normalized") ? BOX_NORMALIZED : BOX_PIXEL;
    f->text = json_is_string(text) ? import_trimmed(c->im, json_string_value(text), json_string_length(text)) : NULL;
    f->item = ARENA_ARRAY(&c->memory, clip_subject, count + 1);
    for (size_t i = 0; i < count; i++)
        take_subject(c, f, json_array_get(list, i), where);
}

static int compare_path(const void *path, const void *f)
{
    return strcmp(path, ((const frame *)f)->path);
}

static err take_line(void *user, json_t *object, int64_t number)
{
    clip *c = user;
    const json_t *name = json_object_get(object, "frame");
    const char *where = arena_print(&c->memory, "%s:%lld", c->sidecar, (long long)number);
    if (!json_is_string(name)) {
        import_skip(c->im, "a line without frame", "%s", where);
        return OK;
    }
    const char *path = arena_print(&c->memory, "%s/%s", c->folder, json_string_value(name));
    frame *f = c->count ? bsearch(path, c->frames, (size_t)c->count, sizeof *f, compare_path) : NULL;
    if (f)
        take_frame(c, f, object, where);
    else
        import_skip(c->im, "a line that names no frame of its clip", "%s: %s", where, json_string_value(name));
    return OK;
}

static err read_boxes(clip *c)
{
    c->sidecar = arena_print(&c->memory, "%s/boxes.jsonl", c->folder);
    if (file_exists(c->sidecar))
        TRY(import_json_lines(c->im, c->sidecar, take_line, c));
    for (int64_t i = 0; i < c->count; i++) {
        const char *path = import_with_ending(c->im, c->frames[i].path, ".json");
        json_t *object = NULL;
        if (!file_exists(path))
            continue;
        if (json_file_parse(&object, path, MANIFEST_LINE, JSON_KEEP_LAST) == OK)
            take_frame(c, &c->frames[i], object, path);
        else
            import_skip(c->im, "a sidecar that is not JSON", "%s", err_message());
        json_decref(object);
    }
    return OK;
}

/* ---- pairs ---- */

static const clip_subject *find(const frame *f, const char *key)
{
    for (int i = 0; i < f->count; i++)
        if (!strcmp(f->item[i].key, key))
            return &f->item[i];
    return NULL;
}

/* Whether frame r can show the subject for target t. */
static const clip_subject *shows(const clip *c, int64_t r, int64_t t, const char *key)
{
    int64_t gap = r > t ? r - t : t - r;
    if (gap < c->im->o->min_gap || c->frames[r].units != c->frames[t].units)
        return NULL;
    return find(&c->frames[r], key);
}

/* The subject with a reference drawn among the frames that show it; false when there is none. */
static bool draw_reference(subject *out, const clip *c, int64_t t, int index, draw_key k)
{
    const clip_subject *one = &c->frames[t].item[index], *there;
    int64_t shown = 0;
    for (int64_t r = 0; r < c->count; r++)
        shown += shows(c, r, t, one->key) != NULL;
    if (!shown)
        return false;
    uint64_t wanted = draw_below(k, (uint64_t)index, (uint64_t)shown);
    for (int64_t r = 0;; r++) {
        there = shows(c, r, t, one->key);
        if (!there || wanted--)
            continue;
        *out = one->what;
        out->reference = c->frames[r].path;
        out->has_reference_box = true;
        memcpy(out->reference_box, there->what.box, sizeof out->reference_box);
        out->mask = there->what.mask; /* a mask cuts the reference */
        return true;
    }
}

static const char *caption_of(clip *c, const frame *f)
{
    const char *whole = f->text ? f->text : import_caption_beside(c->im, f->path);
    if (whole && whole != c->im->o->caption)
        return whole;
    whole = import_caption_beside(c->im, arena_print(&c->memory, "%s/caption.txt", c->folder));
    if (whole && whole != c->im->o->caption)
        return whole;
    return import_caption_beside(c->im, arena_print(&c->memory, "%s.txt", c->folder));
}

static err take_target(clip *c, int64_t t, draw_key k, bool *taken)
{
    const frame *f = &c->frames[t];
    subject *list = ARENA_ARRAY(&c->memory, subject, f->count + 1);
    int count = 0;
    k.step = (uint64_t)t + 1;
    for (int i = 0; i < f->count; i++)
        count += draw_reference(&list[count], c, t, i, k);
    *taken = false;
    if (!count)
        return OK;
    int64_t before = c->im->report->samples;
    sample s = {.image = f->path, .text = caption_of(c, f), .subject = list, .subjects = count, .units = f->units};
    TRY(import_add(c->im, &s));
    *taken = c->im->report->samples > before;
    return OK;
}

/* Targets in an order drawn from the seed and the clip's name: other clips do not change it. */
static err take_pairs(clip *c)
{
    const char *name = strrchr(c->folder, '/');
    name = name ? name + 1 : c->folder;
    draw_key k = {.seed = c->im->o->seed, .purpose = DRAW_AUGMENT, .sample = (uint32_t)hash_fnv1a(name, strlen(name))};
    int64_t *order = ARENA_ARRAY(&c->memory, int64_t, c->count + 1), made = 0;
    for (int64_t i = 0; i < c->count; i++) {
        int64_t j = (int64_t)draw_below(k, (uint64_t)i, (uint64_t)i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (int64_t i = 0; i < c->count && made < c->im->o->pairs; i++) {
        bool taken;
        TRY(take_target(c, order[i], k, &taken));
        made += taken;
    }
    if (!made)
        import_skip(c->im, "a clip without two frames of one subject", "%s", c->folder);
    else if (made < c->im->o->pairs)
        import_remark(c->im, "a clip with fewer pairs than --pairs", "%s: %lld", c->folder, (long long)made);
    return OK;
}

static err take_clip(importer *im, const char *folder)
{
    clip c = {.im = im, .folder = folder};
    import_list list;
    if (import_list_pictures(im, &list, folder, false) != OK) {
        import_skip(im, "a folder that cannot be read", "%s", err_message());
        return OK;
    }
    c.frames = ARENA_ARRAY(&c.memory, frame, list.count + 1);
    for (; c.count < list.count; c.count++)
        c.frames[c.count].path = list.item[c.count];
    err e = read_boxes(&c);
    if (e == OK)
        e = take_pairs(&c);
    free(list.item);
    arena_free(&c.memory);
    return e;
}

static const char *without_slash(importer *im, const char *folder)
{
    size_t size = strlen(folder);
    while (size > 1 && folder[size - 1] == '/')
        size--;
    return arena_print(&im->memory, "%.*s", (int)size, folder);
}

/* A folder without folders is one clip. */
err import_clips(importer *im)
{
    import_list folders;
    const char *source = without_slash(im, im->o->source);
    TRY(import_list_folders(im, &folders, source));
    progress bar = progress_start(im->log, "import", "clips", 0, folders.count);
    err e = folders.count ? OK : take_clip(im, source);
    for (int64_t i = 0; i < folders.count && e == OK; i++) {
        e = take_clip(im, folders.item[i]);
        progress_update(&bar, i + 1, NULL);
    }
    progress_end(&bar);
    free(folders.item);
    return e;
}
