#include "data/importer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/text.h"
#include "data/image.h"
#include "data/phrase.h"

/* ---- pictures ---- */

static import_picture **find_slot(import_picture **table, uint64_t slots, const char *path)
{
    uint64_t i = hash_fnv1a(path, strlen(path)) & (slots - 1);
    while (table[i] && strcmp(table[i]->path, path) != 0)
        i = (i + 1) & (slots - 1);
    return &table[i];
}

static void grow_table(importer *im)
{
    uint64_t slots = im->slots ? 2 * im->slots : 1024;
    import_picture **table = heap_get(slots * sizeof *table);
    memset(table, 0, slots * sizeof *table);
    for (uint64_t i = 0; i < im->slots; i++)
        if (im->table[i])
            *find_slot(table, slots, im->table[i]->path) = im->table[i];
    free(im->table);
    im->table = table;
    im->slots = slots;
}

static err open_picture(import_picture *p, bool headers)
{
    image_header header;
    image whole;
    TRY(image_probe(&header, p->path, NULL));
    p->width = image_header_width(&header);
    p->height = image_header_height(&header);
    p->stored_width = header.width;
    p->stored_height = header.height;
    if (headers)
        return OK;
    TRY(image_load(&whole, p->path, NULL));
    image_free(&whole);
    return OK;
}

const import_picture *import_look(importer *im, const char *path)
{
    if (2 * im->used >= im->slots)
        grow_table(im);
    import_picture **slot = find_slot(im->table, im->slots, path);
    if (!*slot) {
        *slot = ARENA_NEW(&im->memory, import_picture);
        (*slot)->path = arena_copy_string(&im->memory, path);
        im->used++;
        (*slot)->usable = open_picture(*slot, im->o->headers) == OK;
        if (!(*slot)->usable)
            import_skip(im, "a picture that cannot be read", "%s", err_message());
    }
    return (*slot)->usable ? *slot : NULL;
}

/* ---- paths ---- */

/* `path` as seen from the manifest's folder; links on the way to its folder are resolved. NULL: it has none. Heap. */
static char *relative_path(importer *im, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (!folder)
        return NULL;
    if (!im->seen_folder || strcmp(im->seen_folder, folder) != 0) {
        free(im->seen_folder);
        free(im->real_folder);
        im->seen_folder = folder;
        im->real_folder = realpath(folder, NULL);
    } else {
        free(folder);
    }
    if (!im->real_folder)
        return NULL;
    const char *from = im->folder, *to = im->real_folder;
    size_t same = 0, ups = 0;
    for (size_t i = 0;; i++) { /* `same`: the length of what both share, at the end of a name */
        bool from_ends = !from[i] || from[i] == '/', to_ends = !to[i] || to[i] == '/';
        if (from_ends && to_ends)
            same = i;
        if (!from[i] || from[i] != to[i])
            break;
    }
    for (const char *c = from + same; *c; c++)
        ups += *c == '/' && c[1];
    const char *rest = to + same;
    rest += *rest == '/';
    size_t room = 3 * ups + strlen(rest) + strlen(name) + 2;
    char *out = heap_get(room), *end = out;
    for (size_t i = 0; i < ups; i++, end += 3)
        memcpy(end, "../", 3);
    snprintf(end, room - 3 * ups, "%s%s%s", rest, *rest ? "/" : "", name);
    return out;
}

/* The text for the manifest, or NULL after a skip. */
static json_t *path_json(importer *im, const char *path)
{
    char *relative = relative_path(im, path);
    bool good = relative && text_utf8_valid(NULL, relative, strlen(relative));
    for (const char *c = relative; good && *c; c++)
        good = (unsigned char)*c >= 0x20 && *c != 0x7F;
    json_t *out = good ? json_string(relative) : NULL;
    free(relative);
    if (!out)
        import_skip(im, "a file name that is not UTF-8 or holds control characters", "%s", path);
    return out;
}

/* ---- samples ---- */

/* Clips a box to the picture of width x height; false after a skip. *share: of the picture. */
static bool take_box(importer *im, double box[4], double *share, const sample *s, const char *whose, int width,
                     int height)
{
    double side[2] = {s->units == BOX_PIXEL ? width : 1, s->units == BOX_PIXEL ? height : 1}, most = 0;
    float fitted[4];
    for (int i = 0; i < 4; i++)
        most = isfinite(box[i]) ? fmax(most, box[i]) : INFINITY;
    const char *reason = NULL;
    if (!isfinite(most))
        reason = "a box with a number that is not finite";
    else if (!(box[2] > box[0] && box[3] > box[1]))
        reason = "a box without width or height";
    else if (s->units == BOX_NORMALIZED && most > 1.5)
        reason = "a box in pixels where numbers from 0 to 1 are expected";
    else if (s->units == BOX_PIXEL && most <= 1)
        reason = "a box of at most one pixel (or from 0 to 1 where pixels are expected)";
    else if (box_fit(fitted, box, s->units, width, height) == BOX_OUTSIDE)
        reason = "a box outside of its picture";
    if (reason) {
        import_skip(im, reason, "%s of %s: [%g, %g, %g, %g]", whose, s->image, box[0], box[1], box[2], box[3]);
        return false;
    }
    for (int i = 0; i < 4; i++)
        box[i] = fmin(fmax(box[i], 0), side[i % 2]);
    *share = (box[2] - box[0]) / side[0] * ((box[3] - box[1]) / side[1]);
    return true;
}

/* Checks the subject against the files it names; false after a skip. */
static bool take_subject(importer *im, subject *one, double *share, const sample *s, const import_picture *target)
{
    double unused;
    one->phrase = one->phrase ? import_trimmed(im, one->phrase, strlen(one->phrase)) : NULL;
    if (!one->phrase) {
        import_skip(im, "a box without a name", "in %s", s->image);
        return false;
    }
    if (!take_box(im, one->box, share, s, one->phrase, target->width, target->height))
        return false;
    if (*share < im->min_area) {
        import_skip(im, "a box smaller than --min-area", "%s of %s: %.2g of the picture", one->phrase, s->image,
                    *share);
        return false;
    }
    const import_picture *cut = one->reference ? import_look(im, one->reference) : target;
    if (!cut || (one->has_reference_box &&
                 !take_box(im, one->reference_box, &unused, s, "reference", cut->width, cut->height)))
        return false;
    const import_picture *mask = one->mask ? import_look(im, one->mask) : NULL;
    if (mask && (mask->stored_width != cut->width || mask->stored_height != cut->height)) {
        import_skip(im, "a mask of another size than its picture", "%s: %d x %d for %d x %d", one->mask,
                    mask->stored_width, mask->stored_height, cut->width, cut->height);
        return false;
    }
    return !one->mask || mask;
}

/* Drops the smallest beyond --max-subjects; the order of the others stays. */
static void keep_largest(importer *im, import_selection *k, const char *path)
{
    while (k->count > im->o->max_subjects) {
        int least = 0;
        for (int i = 1; i < k->count; i++)
            least = k->share[i] <= k->share[least] ? i : least;
        import_skip(im, "more subjects than --max-subjects", "%s of %s", k->item[least].phrase, path);
        size_t behind = (size_t)(--k->count - least);
        memmove(k->item + least, k->item + least + 1, sizeof *k->item * behind);
        memmove(k->share + least, k->share + least + 1, sizeof *k->share * behind);
        memmove(k->from + least, k->from + least + 1, sizeof *k->from * behind);
    }
}

static json_t *box_json(const double box[4])
{
    return json_pack("[f,f,f,f]", box[0], box[1], box[2], box[3]);
}

static json_t *subject_json(importer *im, const subject *one)
{
    json_t *out = json_pack("{s:s, s:o}", "phrase", one->phrase, "box", box_json(one->box));
    const char *const keys[] = {"reference", "mask"}, *const paths[] = {one->reference, one->mask};
    for (int i = 0; i < 2; i++) {
        json_t *path = paths[i] ? path_json(im, paths[i]) : NULL;
        if (paths[i] && !path) {
            json_decref(out);
            return NULL;
        }
        if (path)
            json_object_set_new(out, keys[i], path);
    }
    if (one->has_reference_box)
        json_object_set_new(out, "reference_box", box_json(one->reference_box));
    return out;
}

/* "a dog and a cat" */
static char *caption_of(arena *memory, const subject *list, int count)
{
    size_t size = 1;
    for (int i = 0; i < count; i++)
        size += strlen(list[i].phrase) + 8;
    char *text = arena_get(memory, size), *end = text;
    for (int i = 0; i < count; i++) {
        const char *name = list[i].phrase, *before = !i ? "" : i + 1 == count ? " and " : ", ";
        end += snprintf(end, size - (size_t)(end - text), "%s%s %s", before, strchr("aeiouAEIOU", name[0]) ? "an" : "a",
                        name);
    }
    return text;
}

static err write_line(importer *im, const sample *s, const char *text, const subject *list, int count)
{
    json_t *target = path_json(im, s->image), *subjects = json_array();
    for (int i = 0; target && i < count; i++) {
        json_t *one = subject_json(im, &list[i]);
        if (one)
            json_array_append_new(subjects, one);
    }
    int written = (int)json_array_size(subjects);
    json_t *line = target ? json_pack("{s:o, s:s, s:o, s:s}", "image", target, "text", text, "subjects", subjects,
                                      "box_units", s->units == BOX_PIXEL ? "pixel" : "normalized")
                          : NULL;
    char *dump = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    if (!target)
        json_decref(subjects);
    json_decref(line);
    err e = OK;
    if (dump && strlen(dump) >= MANIFEST_LINE)
        import_skip(im, "a sample longer than a line of a manifest may be", "%s", s->image);
    else if (dump && written == 0 && im->need_subject)
        import_skip(im, "a picture without a usable subject", "%s", s->image);
    else if (dump) {
        file_write(im->out, dump, strlen(dump));
        e = file_write(im->out, "\n", 1);
        im->report->samples++;
        im->report->subjects += written;
    }
    free(dump);
    return e;
}

static void remark_phrases(importer *im, arena *memory, const char *path, const char *text, const subject *list,
                           int count)
{
    const char **phrases = ARENA_ARRAY(memory, const char *, count);
    bool *found = ARENA_ARRAY(memory, bool, count);
    for (int i = 0; i < count; i++)
        phrases[i] = list[i].phrase;
    if (phrase_present(found, text, phrases, count) != OK)
        return;
    for (int i = 0; i < count; i++)
        if (!found[i])
            import_remark(im, "a phrase that is not in its caption", "%s in %s", phrases[i], path);
}

bool import_select(importer *im, import_selection *out, const sample *s)
{
    *out = (import_selection){.target = import_look(im, s->image)};
    if (!out->target)
        return false;
    out->item = ARENA_ARRAY(&out->memory, subject, s->subjects + 1);
    out->share = ARENA_ARRAY(&out->memory, double, s->subjects + 1);
    out->from = ARENA_ARRAY(&out->memory, int, s->subjects + 1);
    for (int i = 0; i < s->subjects; i++) {
        out->item[out->count] = s->subject[i];
        out->from[out->count] = i;
        out->count += take_subject(im, &out->item[out->count], &out->share[out->count], s, out->target);
    }
    keep_largest(im, out, s->image);
    if (!out->count && im->need_subject)
        import_skip(im, "a picture without a usable subject", "%s", s->image);
    else if (!s->text && !out->count)
        import_skip(im, "a picture without a caption", "%s", s->image);
    else
        return true;
    return false;
}

err import_write(importer *im, const sample *s, import_selection *selected)
{
    const char *text = s->text ? s->text : caption_of(&selected->memory, selected->item, selected->count);
    remark_phrases(im, &selected->memory, s->image, text, selected->item, selected->count);
    return write_line(im, s, text, selected->item, selected->count);
}

err import_add(importer *im, const sample *s)
{
    import_selection selected;
    err e = import_select(im, &selected, s) ? import_write(im, s, &selected) : OK;
    arena_free(&selected.memory);
    return e;
}
