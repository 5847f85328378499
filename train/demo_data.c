#include "train/demo_data.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/philox.h"
#include "base/progress.h"
#include "train/demo_subjects.h"

enum { SIDE = 256, REFERENCE_SIDE = 256 };

typedef struct placement {
    int x, y, width, height;
} placement;

/* A vertical gradient between two pale colours. */
static void fill_ground(image *target, draw_key k)
{
    double from[3], to[3];
    for (int c = 0; c < 3; c++) {
        from[c] = 130 + 110 * draw_uniform(k, (uint64_t)c);
        to[c] = 130 + 110 * draw_uniform(k, (uint64_t)c + 3);
    }
    for (int y = 0; y < target->height; y++)
        for (int x = 0; x < target->width; x++)
            for (int c = 0; c < 3; c++)
                target->rgb[3 * (y * target->width + x) + c] =
                    (uint8_t)(from[c] + (to[c] - from[c]) * y / (target->height - 1));
}

/* A rectangle in the left (0) or right (1) half: 60 to 95 % of its width, as high as wide. */
static placement place(draw_key k, int half)
{
    uint64_t at = 10 + 3 * (uint64_t)half;
    int room = SIDE / 2;
    int size = (int)(room * (0.6 + 0.35 * draw_uniform(k, at)));
    placement p = {.width = size, .height = size};
    p.x = half * room + (int)draw_below(k, at + 1, (uint64_t)(room - size + 1));
    p.y = (int)draw_below(k, at + 2, (uint64_t)(SIDE - size + 1));
    return p;
}

static json_t *subject_json(const demo_subject *s, placement p)
{
    char reference[512];
    snprintf(reference, sizeof reference, "references/%s.png", s->name);
    return json_pack("{s:s, s:[f,f,f,f], s:s}", "phrase", s->phrase, "box", (double)p.x / SIDE, (double)p.y / SIDE,
                     (double)(p.x + p.width) / SIDE, (double)(p.y + p.height) / SIDE, "reference", reference);
}

static err write_line(file_writer *w, const char *file, const demo_subject *pair[2], const placement at[2])
{
    char text[1024];
    snprintf(text, sizeof text, "a %s and a %s", pair[0]->phrase, pair[1]->phrase);
    json_t *line = json_pack("{s:s, s:s, s:[o,o], s:s}", "image", file, "text", text, "subjects", subject_json(pair[0], at[0]),
                             subject_json(pair[1], at[1]), "box_units", "normalized");
    char *dump = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(line);
    if (!dump)
        return err_set(E_DATASET, "%s or %s: its file name is not UTF-8; rename the picture", pair[0]->name, pair[1]->name);
    file_write(w, dump, strlen(dump));
    free(dump);
    return file_write(w, "\n", 1);
}

static err write_target(file_writer *manifest, const char *folder, const demo_subjects *s, uint64_t seed, int64_t i)
{
    draw_key k = {.seed = seed, .purpose = DRAW_AUGMENT, .sample = (uint64_t)i};
    uint64_t first = draw_below(k, 8, (uint64_t)s->count), step = 1 + draw_below(k, 9, (uint64_t)s->count - 1);
    const demo_subject *pair[2] = {&s->item[first], &s->item[(first + step) % (uint64_t)s->count]};
    placement at[2] = {place(k, 0), place(k, 1)};
    image target;
    TRY(image_new(&target, SIDE, SIDE));
    fill_ground(&target, k);
    err e = OK;
    for (int j = 0; j < 2 && e == OK; j++)
        e = demo_subject_paste(&target, pair[j], at[j].x, at[j].y, at[j].width, at[j].height);
    char file[64];
    snprintf(file, sizeof file, "images/%06" PRId64 ".png", i);
    char *path = path_join(folder, file);
    if (e == OK)
        e = image_save_png(path, &target, NULL, 0);
    if (e == OK)
        e = write_line(manifest, file, pair, at);
    free(path);
    image_free(&target);
    return e;
}

static err write_reference(const char *folder, const demo_subject *s)
{
    image picture;
    TRY(demo_subject_reference(&picture, s, REFERENCE_SIDE));
    arena text = {0};
    err e = image_save_png(arena_print(&text, "%s/references/%s.png", folder, s->name), &picture, NULL, 0);
    arena_free(&text);
    image_free(&picture);
    return e;
}

static err write_references(const char *folder, const demo_subjects *s)
{
    file_writer *list = NULL;
    char *path = path_join(folder, "subjects.txt");
    err e = file_create(&list, path);
    free(path);
    TRY(e);
    arena text = {0};
    for (int i = 0; i < s->count && e == OK; i++) {
        e = write_reference(folder, &s->item[i]);
        const char *line = arena_print(&text, "%s=references/%s.png\n", s->item[i].phrase, s->item[i].name);
        file_write(list, line, strlen(line));
    }
    arena_free(&text);
    if (e == OK)
        return file_publish(list);
    file_discard(list);
    return e;
}

static err write_targets(const char *folder, const demo_subjects *s, int64_t count, uint64_t seed, logger *log)
{
    file_writer *manifest = NULL;
    char *path = path_join(folder, "data.jsonl");
    err e = file_create(&manifest, path);
    free(path);
    TRY(e);
    progress bar = progress_start(log, "demo-data", "pictures", 0, count);
    for (int64_t i = 0; i < count && e == OK; i++) {
        e = write_target(manifest, folder, s, seed, i);
        progress_update(&bar, i + 1, NULL);
    }
    progress_end(&bar);
    if (e == OK)
        return file_publish(manifest);
    file_discard(manifest);
    return e;
}

static err make_folders(const char *folder)
{
    static const char *const parts[] = {"images", "references"};
    for (int i = 0; i < 2; i++) {
        char *path = path_join(folder, parts[i]);
        err e = folder_make(path);
        free(path);
        TRY(e);
    }
    return OK;
}

err demo_data_write(const char *folder, const char *photos, int64_t count, uint64_t seed, logger *log)
{
    if (count < 1)
        return err_set(E_USAGE, "--count: %" PRId64 "; give 1 or more", count);
    char *manifest = path_join(folder, "data.jsonl");
    bool exists = file_exists(manifest);
    free(manifest);
    if (exists)
        return err_set(E_USAGE, "%s: holds a data.jsonl already; remove it or name another folder", folder);
    arena memory = {0};
    demo_subjects s;
    err e = OK;
    if (photos)
        e = demo_subjects_find(&s, &memory, photos);
    else
        demo_subjects_shapes(&s, &memory);
    if (e == OK)
        e = make_folders(folder);
    if (e == OK)
        e = write_references(folder, &s);
    if (e == OK)
        e = write_targets(folder, &s, count, seed, log);
    arena_free(&memory);
    return e;
}
