#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/progress.h"
#include "base/threads.h"
#include "data/image.h"
#include "train/check.h"

typedef struct picture {
    const char *path; /* NULL: a free slot */
    const char *wrong; /* why it cannot be used, or NULL */
    err         code;
    int         width, height;               /* upright */
    int         stored_width, stored_height; /* before the EXIF turn */
    char        content[65];                 /* SHA-256 of a decoded file, or empty */
} picture;

typedef struct looking {
    problems       *p;
    const manifest *m;
    arena           memory;
    picture        *table; /* open addressing: a file that many samples name is opened once */
    uint64_t        slots, used;
    bool            headers;
    logger         *log;
    pthread_mutex_t guard;     /* of memory, done and bar */
    progress        bar;
    int64_t         done;
    _Atomic uint64_t next;     /* slot that the next free thread takes */
} looking;

static picture *find_slot(picture *table, uint64_t slots, const char *path)
{
    uint64_t i = hash_fnv1a(path, strlen(path)) & (slots - 1);
    while (table[i].path && strcmp(table[i].path, path) != 0)
        i = (i + 1) & (slots - 1);
    return &table[i];
}

static void grow_table(looking *l)
{
    uint64_t slots = l->slots ? 2 * l->slots : 1024;
    picture *table = heap_get(slots * sizeof *table);
    memset(table, 0, slots * sizeof *table);
    for (uint64_t i = 0; i < l->slots; i++)
        if (l->table[i].path)
            *find_slot(table, slots, l->table[i].path) = l->table[i];
    free(l->table);
    l->table = table;
    l->slots = slots;
}

static void collect(looking *l, const char *path)
{
    if (!path)
        return;
    if (2 * l->used >= l->slots)
        grow_table(l);
    picture *slot = find_slot(l->table, l->slots, path);
    if (slot->path)
        return;
    *slot = (picture){.path = path};
    l->used++;
}

static err open_picture(picture *slot, bool headers)
{
    image_header header;
    TRY(image_probe(&header, slot->path, NULL));
    slot->width = image_header_width(&header);
    slot->height = image_header_height(&header);
    slot->stored_width = header.width;
    slot->stored_height = header.height;
    if (headers)
        return OK;
    image whole;
    TRY(image_load(&whole, slot->path, NULL));
    image_free(&whole);
    return file_sha256(slot->content, slot->path);
}

/* Each slot belongs to the one thread that took its number; what is found does not depend on the threads. */
static void *open_some(void *user)
{
    looking *l = user;
    for (uint64_t i = atomic_fetch_add(&l->next, 1); i < l->slots; i = atomic_fetch_add(&l->next, 1)) {
        picture *slot = &l->table[i];
        if (!slot->path)
            continue;
        err failed = open_picture(slot, l->headers);
        pthread_mutex_lock(&l->guard);
        if (failed) {
            slot->code = err_as(failed, E_DATASET);
            slot->wrong = arena_copy_string(&l->memory, err_message());
        }
        progress_update(&l->bar, ++l->done, NULL);
        pthread_mutex_unlock(&l->guard);
    }
    return NULL;
}

/* A thread that cannot be started leaves its pictures to the others and to this one. */
static void open_all(looking *l, int threads)
{
    pthread_t helper[64];
    int wanted = threads > 0 ? threads : threads_usable(), helpers = 0;
    pthread_mutex_init(&l->guard, NULL);
    l->bar = progress_start(l->log, "check", "pictures", 0, (int64_t)l->used);
    while (helpers < 64 && helpers + 1 < wanted && !threads_start(&helper[helpers], open_some, l))
        helpers++;
    open_some(l);
    for (int i = 0; i < helpers; i++)
        pthread_join(helper[i], NULL);
    progress_end(&l->bar);
    pthread_mutex_destroy(&l->guard);
}

static void collect_all(looking *l)
{
    for (int64_t i = 0; i < l->m->count; i++) {
        const sample *s = &l->m->sample[i];
        collect(l, s->image);
        for (int j = 0; j < s->subjects; j++) {
            collect(l, s->subject[j].reference);
            collect(l, s->subject[j].mask);
        }
    }
}

/* The picture when it is usable, else NULL and a problem at the sample's line. */
static const picture *usable(looking *l, const sample *s, const char *key, const char *path)
{
    if (!path)
        return NULL;
    const picture *found = find_slot(l->table, l->slots, path);
    if (!found->wrong)
        return found;
    problems_add(l->p, found->code, l->m->path, s->line, "%s: %s", key, found->wrong);
    return NULL;
}

static void check_box(looking *l, const sample *s, const char *key, const double box[4], const picture *in)
{
    float fitted[4];
    if (!in || s->units != BOX_PIXEL) /* of normalised boxes the manifest's reader has said everything */
        return;
    box_verdict verdict = box_fit(fitted, box, s->units, in->width, in->height);
    if (verdict == BOX_OUTSIDE)
        problems_add(l->p, E_DATASET, l->m->path, s->line,
                     "%s: [%g, %g, %g, %g] lies outside of the picture of %d x %d", key, box[0], box[1], box[2], box[3],
                     in->width, in->height);
    else if (verdict == BOX_CLIPPED)
        problems_warn(l->p, l->m->path, s->line,
                      "%s: [%g, %g, %g, %g] reaches outside of the picture of %d x %d and is clipped", key, box[0],
                      box[1], box[2], box[3], in->width, in->height);
}

static bool sound_box(const double box[4])
{
    return box[2] > box[0] && box[3] > box[1]; /* others were named when the manifest was read */
}

static void check_subject(looking *l, const sample *s, int index, const picture *target)
{
    const subject *one = &s->subject[index];
    char key[4][48];
    static const char *const names[] = {"box", "reference", "reference_box", "mask"};
    for (int i = 0; i < 4; i++)
        snprintf(key[i], sizeof key[i], "subjects[%d].%s", index, names[i]);
    const picture *reference = usable(l, s, key[1], one->reference);
    if (sound_box(one->box))
        check_box(l, s, key[0], one->box, target);
    if (one->has_reference_box && sound_box(one->reference_box))
        check_box(l, s, key[2], one->reference_box, reference);
    const picture *mask = usable(l, s, key[3], one->mask), *cut = one->reference ? reference : target;
    if (mask && cut && (mask->stored_width != cut->width || mask->stored_height != cut->height))
        problems_add(l->p, E_DATASET, l->m->path, s->line,
                     "%s: %s: found %d x %d, expected the %d x %d of the %s that it cuts", key[3], mask->path,
                     mask->stored_width, mask->stored_height, cut->width, cut->height,
                     one->reference ? "reference" : "image");
}

static int compare_contents(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int64_t count_same_contents(const looking *l)
{
    const char **contents = heap_get((l->used + 1) * sizeof *contents);
    size_t count = 0;
    int64_t same = 0;
    for (uint64_t i = 0; i < l->slots; i++)
        if (l->table[i].path && l->table[i].content[0])
            contents[count++] = l->table[i].content;
    qsort(contents, count, sizeof *contents, compare_contents);
    for (size_t i = 1; i < count; i++)
        same += strcmp(contents[i - 1], contents[i]) == 0;
    free(contents);
    return same;
}

static void gather(check_statistics *out, const looking *l)
{
    int *size = heap_get((size_t)(2 * l->m->count + 1) * sizeof *size);
    for (int64_t i = 0; i < l->m->count; i++) {
        const char *path = l->m->sample[i].image;
        const picture *found = path ? find_slot(l->table, l->slots, path) : NULL;
        size[2 * i] = found && !found->wrong ? found->width : 0;
        size[2 * i + 1] = found && !found->wrong ? found->height : 0;
    }
    check_statistics_gather(out, l->m, size);
    out->same_content = count_same_contents(l);
    free(size);
}

int64_t check_pictures(check_statistics *statistics, problems *p, const manifest *m, const check_look *how)
{
    looking l = {.p = p, .m = m, .headers = how->headers, .log = how->log};
    collect_all(&l);
    open_all(&l, how->threads);
    for (int64_t i = 0; i < m->count; i++) {
        const sample *s = &m->sample[i];
        const picture *target = usable(&l, s, "image", s->image);
        for (int j = 0; j < s->subjects; j++)
            check_subject(&l, s, j, target);
    }
    if (statistics)
        gather(statistics, &l);
    int64_t files = (int64_t)l.used;
    free(l.table);
    arena_free(&l.memory);
    return files;
}
