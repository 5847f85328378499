#include "data/manifest.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/text.h"

#define CLIP_TOLERANCE 1e-6 /* rounding in the last digits of a written box is not worth a warning */

typedef struct seen { /* of the table of duplicates */
    uint64_t hash;
    int64_t  line; /* 0: free */
} seen;

typedef struct reading {
    manifest *m;
    problems *p;
    int64_t   max_subjects, capacity;
    seen     *table; /* open addressing */
    uint64_t  slots, used;
    sample   *now;   /* the sample being read */
} reading;

static void mistake(reading *r, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void mistake(reading *r, const char *key, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    r->now->valid = false;
    problems_add(r->p, E_DATASET, r->m->path, r->now->line, "%s: %s", key, text);
}

static void expected(reading *r, const char *key, const json_t *value, const char *what)
{
    char found[96];
    if (value)
        mistake(r, key, "found %s, expected %s", json_text_describe(found, value), what);
    else
        mistake(r, key, "missing, expected %s", what);
}

static void check_keys(reading *r, json_t *object, const char *prefix, const char *const *names, size_t count)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        bool known = false;
        for (size_t i = 0; i < count && !known; i++)
            known = !strcmp(key, names[i]);
        if (known)
            continue;
        char shown[96], whole[160];
        const char *near = text_nearest(key, names, count);
        snprintf(whole, sizeof whole, "%s%s", prefix, text_escaped(shown, sizeof shown, key));
        if (near)
            mistake(r, whole, "unknown key; did you mean %s%s?", prefix, near);
        else
            mistake(r, whole, "unknown key");
    }
}

/* A string of one line that is not empty, or NULL after a mistake. */
static const char *read_line(reading *r, const json_t *object, const char *key, const char *name)
{
    const json_t *value = json_object_get(object, key);
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    bool good = text[0] != 0;
    for (const char *c = text; *c; c++)
        good = good && (unsigned char)*c >= 0x20 && *c != 0x7F;
    if (good)
        return text;
    expected(r, name, value, "a string of one line that is not empty");
    return NULL;
}

static const char *read_path(reading *r, const json_t *object, const char *key, const char *name, bool required)
{
    if (!required && !json_get_present(object, key))
        return NULL;
    const char *text = read_line(r, object, key, name);
    if (!text)
        return NULL;
    char *path = path_beside(r->m->path, text);
    const char *kept = arena_copy_string(&r->m->memory, path);
    free(path);
    return kept;
}

static bool outside(const double b[4], double width, double height)
{
    return b[0] >= width || b[1] >= height || b[2] <= 0 || b[3] <= 0;
}

/* What four numbers tell without the picture: order, and whether they are in the other units. */
static void check_box(reading *r, const char *name, const double b[4])
{
    char text[4][32], shown[160];
    for (int i = 0; i < 4; i++)
        text_number(text[i], b[i]);
    snprintf(shown, sizeof shown, "[%s, %s, %s, %s]", text[0], text[1], text[2], text[3]);
    double most = fmax(fmax(b[0], b[1]), fmax(b[2], b[3])), least = fmin(fmin(b[0], b[1]), fmin(b[2], b[3]));
    if (!(b[2] > b[0] && b[3] > b[1]))
        mistake(r, name, "found %s, expected x0 < x1 and y0 < y1; boxes are [x0, y0, x1, y1], not x, y, width, height",
                shown);
    else if (r->now->units == BOX_NORMALIZED && most > 1.5)
        mistake(r, name, "found %s, expected numbers from 0 to 1; if these are pixels, set box_units to \"pixel\"",
                shown);
    else if (r->now->units == BOX_PIXEL && most <= 1)
        mistake(r, name, "found %s, expected pixels; if these are from 0 to 1, set box_units to \"normalized\"", shown);
    else if (outside(b, r->now->units == BOX_NORMALIZED ? 1 : INFINITY, r->now->units == BOX_NORMALIZED ? 1 : INFINITY))
        mistake(r, name, "found %s, which lies outside of the picture", shown);
    else if (r->now->units == BOX_NORMALIZED && (least < -CLIP_TOLERANCE || most > 1 + CLIP_TOLERANCE))
        problems_warn(r->p, r->m->path, r->now->line, "%s: %s reaches outside of the picture and is clipped", name,
                      shown);
}

static bool read_box(reading *r, double out[4], const json_t *object, const char *key, const char *name)
{
    const json_t *value = json_object_get(object, key);
    bool good = json_is_array(value) && json_array_size(value) == 4;
    for (size_t i = 0; good && i < 4; i++)
        good = json_is_number(json_array_get(value, i));
    if (!good) {
        expected(r, name, value, "a list of four numbers x0, y0, x1, y1");
        return false;
    }
    for (size_t i = 0; i < 4; i++)
        out[i] = json_number_value(json_array_get(value, i));
    return true;
}

/* Reads a box and checks it where the units are known. */
static bool take_box(reading *r, double out[4], const json_t *object, const char *key, const char *name,
                     bool units_known)
{
    if (!read_box(r, out, object, key, name))
        return false;
    if (units_known)
        check_box(r, name, out);
    return true;
}

static void read_subject(reading *r, subject *s, json_t *object, int index, bool units_known)
{
    static const char *const keys[] = {"phrase", "box", "reference", "reference_box", "mask"};
    char name[5][48], prefix[24];
    snprintf(prefix, sizeof prefix, "subjects[%d].", index);
    for (int i = 0; i < 5; i++)
        snprintf(name[i], sizeof name[i], "%s%s", prefix, keys[i]);
    if (!json_is_object(object)) {
        prefix[strlen(prefix) - 1] = 0;
        expected(r, prefix, object, "an object with phrase and box");
        return;
    }
    check_keys(r, object, prefix, keys, 5);
    const char *phrase = read_line(r, object, "phrase", name[0]);
    s->phrase = phrase ? arena_copy_string(&r->m->memory, phrase) : NULL;
    take_box(r, s->box, object, "box", name[1], units_known);
    s->reference = read_path(r, object, "reference", name[2], false);
    s->mask = read_path(r, object, "mask", name[4], false);
    if (!json_get_present(object, "reference_box"))
        return;
    if (!json_get_present(object, "reference"))
        mistake(r, name[3], "given without a reference; name the reference picture, or remove it");
    s->has_reference_box = take_box(r, s->reference_box, object, "reference_box", name[3], units_known);
}

static void read_subjects(reading *r, json_t *list, bool units_known)
{
    if (!list) /* a picture without subjects is legal */
        return;
    if (!json_is_array(list)) {
        expected(r, "subjects", list, "a list");
        return;
    }
    size_t count = json_array_size(list);
    if (count > (size_t)r->max_subjects) {
        mistake(r, "subjects", "found %zu, expected at most the %lld of data.max_subjects", count,
                (long long)r->max_subjects);
        return;
    }
    r->now->subject = ARENA_ARRAY(&r->m->memory, subject, count);
    r->now->subjects = (int)count;
    for (size_t i = 0; i < count; i++)
        read_subject(r, &r->now->subject[i], json_array_get(list, i), (int)i, units_known);
}

static bool read_units(reading *r, const json_t *value)
{
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    if (strcmp(text, "pixel") != 0 && strcmp(text, "normalized") != 0) {
        expected(r, "box_units", value, "\"pixel\" or \"normalized\"");
        return false;
    }
    r->now->units = text[0] == 'p' ? BOX_PIXEL : BOX_NORMALIZED;
    return true;
}

static void read_sample(reading *r, json_t *object)
{
    static const char *const keys[] = {"image", "text", "subjects", "box_units"};
    if (!json_is_object(object)) {
        expected(r, "sample", object, "an object with image, text, subjects and box_units");
        return;
    }
    check_keys(r, object, "", keys, 4);
    r->now->image = read_path(r, object, "image", "image", true);
    const json_t *text = json_object_get(object, "text");
    if (json_is_string(text))
        r->now->text = arena_copy_string(&r->m->memory, json_string_value(text));
    else
        expected(r, "text", text, "a string");
    bool units_known = read_units(r, json_object_get(object, "box_units"));
    read_subjects(r, json_object_get(object, "subjects"), units_known);
}

static seen *find_slot(seen *table, uint64_t slots, uint64_t hash)
{
    uint64_t i = hash & (slots - 1);
    while (table[i].line && table[i].hash != hash)
        i = (i + 1) & (slots - 1);
    return &table[i];
}

static void grow_table(reading *r)
{
    uint64_t slots = r->slots ? 2 * r->slots : 1024;
    seen *table = heap_get(slots * sizeof *table);
    memset(table, 0, slots * sizeof *table);
    for (uint64_t i = 0; i < r->slots; i++)
        if (r->table[i].line)
            *find_slot(table, slots, r->table[i].hash) = r->table[i];
    free(r->table);
    r->table = table;
    r->slots = slots;
}

static void note_duplicate(reading *r)
{
    if (!r->now->image || !r->now->text)
        return;
    if (2 * r->used >= r->slots)
        grow_table(r);
    uint64_t hash = hash_fnv1a(r->now->image, strlen(r->now->image) + 1) ^
                    hash_fnv1a(r->now->text, strlen(r->now->text)) * 0x9E3779B97F4A7C15u;
    seen *slot = find_slot(r->table, r->slots, hash);
    if (slot->line) {
        problems_warn(r->p, r->m->path, r->now->line, "the same image and text as on line %lld", (long long)slot->line);
        return;
    }
    *slot = (seen){.hash = hash, .line = r->now->line};
    r->used++;
}

static void take_line(reading *r, const char *text, size_t size, int64_t line)
{
    manifest *m = r->m;
    if (m->count == r->capacity) {
        r->capacity = r->capacity ? 2 * r->capacity : 64;
        m->sample = heap_grow(m->sample, (size_t)r->capacity * sizeof *m->sample);
    }
    r->now = &m->sample[m->count++];
    *r->now = (sample){.line = line, .valid = true};
    json_t *value;
    if (json_text_parse(&value, text, size, NULL, JSON_REFUSE_DUPLICATES) != OK) {
        problems_add_error(r->p, E_DATASET, m->path, line);
        r->now->valid = false;
        return;
    }
    read_sample(r, value);
    json_decref(value);
    note_duplicate(r);
}

static bool blank(const char *text, size_t size)
{
    size_t i = 0;
    while (i < size && (text[i] == ' ' || text[i] == '\t' || text[i] == '\r'))
        i++;
    return i == size;
}

static void read_lines(reading *r, const char *text, size_t size)
{
    int64_t line = 0;
    for (size_t at = 0; at < size;) {
        size_t left = size - at, room = left < MANIFEST_LINE ? left : MANIFEST_LINE;
        const char *end = memchr(text + at, '\n', room);
        line++;
        if (!end && left > MANIFEST_LINE) { /* where the next line begins nobody knows without reading all of it */
            problems_add(r->p, E_DATASET, r->m->path, line,
                         "a line longer than %d bytes; what follows was not read. Is it JSONL, one "
                         "sample a line?",
                         (int)MANIFEST_LINE);
            return;
        }
        size_t length = end ? (size_t)(end - (text + at)) : left;
        if (!blank(text + at, length))
            take_line(r, text + at, length, line);
        at += length + 1;
    }
}

void manifest_load(manifest *out, problems *p, const char *path, int64_t max_subjects)
{
    *out = (manifest){0};
    out->path = arena_copy_string(&out->memory, path);
    file_map map;
    err failed = file_map_open(&map, path);
    if (failed) {
        problems_add_error(p, err_as(failed, E_DATASET), NULL, 0);
        return;
    }
    reading r = {.m = out, .p = p, .max_subjects = max_subjects};
    int64_t before = p->errors;
    if (map.size)
        read_lines(&r, (const char *)map.bytes, map.size);
    if (out->count == 0 && p->errors == before)
        problems_add(p, E_DATASET, out->path, 0, "no samples in it, expected at least one");
    free(r.table);
    file_map_close(&map);
}

void manifest_free(manifest *m)
{
    free(m->sample);
    arena_free(&m->memory);
    *m = (manifest){0};
}

box_verdict box_fit(float out[4], const double box[4], box_units units, int width, int height)
{
    double side[2] = {units == BOX_PIXEL ? width : 1, units == BOX_PIXEL ? height : 1};
    double worst = 0;
    memset(out, 0, 4 * sizeof *out);
    if (!(box[2] > box[0] && box[3] > box[1]) || outside(box, side[0], side[1]))
        return BOX_OUTSIDE;
    for (int i = 0; i < 4; i++) {
        double v = box[i] / side[i % 2], clipped = v < 0 ? 0 : v > 1 ? 1 : v;
        worst = fmax(worst, fabs(v - clipped));
        out[i] = (float)clipped;
    }
    return worst > CLIP_TOLERANCE ? BOX_CLIPPED : BOX_INSIDE;
}
