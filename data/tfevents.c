#include "data/tfevents.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/io.h"
#include "data/crc32c.h"

struct tfevents {
    char *path;
    int   fd;
};

/* ---- protobuf ---- */

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

typedef struct message {
    uint8_t *bytes;
    size_t   size, room;
} message;

static void put(message *m, const void *bytes, size_t size)
{
    if (m->size + size > m->room) {
        m->room = 2 * (m->size + size) + 64;
        m->bytes = heap_grow(m->bytes, m->room);
    }
    if (size)
        memcpy(m->bytes + m->size, bytes, size);
    m->size += size;
}

static void put_little_endian(message *m, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        put(m, &(uint8_t){(uint8_t)(value >> 8 * i)}, 1);
}

static void put_varint(message *m, uint64_t value)
{
    for (; value >= 128; value >>= 7)
        put(m, &(uint8_t){(uint8_t)(value | 128)}, 1);
    put(m, &(uint8_t){(uint8_t)value}, 1);
}

static void put_key(message *m, int field, int wire)
{
    put_varint(m, (uint64_t)(field << 3 | wire));
}

static void put_whole(message *m, int field, int64_t value)
{
    put_key(m, field, WIRE_VARINT);
    put_varint(m, (uint64_t)value);
}

static void put_double(message *m, int field, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(m, field, WIRE_64);
    put_little_endian(m, bits, 8);
}

static void put_float(message *m, int field, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(m, field, WIRE_32);
    put_little_endian(m, bits, 4);
}

static void put_bytes(message *m, int field, const void *bytes, size_t size)
{
    put_key(m, field, WIRE_BYTES);
    put_varint(m, size);
    put(m, bytes, size);
}

static void put_text(message *m, int field, const char *text)
{
    put_bytes(m, field, text, strlen(text));
}

static void put_message(message *m, int field, message *inner)
{
    put_bytes(m, field, inner->bytes, inner->size);
    free(inner->bytes);
    *inner = (message){0};
}

static message event(double wall_time, int64_t step)
{
    message m = {0};
    put_double(&m, 1, wall_time);
    put_whole(&m, 2, step);
    return m;
}

/* ---- records ---- */

uint8_t *tfevents_record(size_t *size, const void *bytes, size_t count)
{
    message m = {0};
    put_little_endian(&m, count, 8);
    put_little_endian(&m, crc32c_masked(m.bytes, 8), 4);
    put(&m, bytes, count);
    put_little_endian(&m, crc32c_masked(bytes, count), 4);
    *size = m.size;
    return m.bytes;
}

/* Frees m. */
static err write_event(tfevents *t, message *m)
{
    size_t size;
    uint8_t *record = tfevents_record(&size, m->bytes, m->size);
    bool written = io_write_all(t->fd, record, size);
    int number = errno;
    free(record);
    free(m->bytes);
    return written ? OK : io_error(number, t->path, "append");
}

/* ---- files ---- */

static const char PREFIX[] = "events.out.tfevents.";

/* Readers take the files by name: two runs in one second must not share or swap them. */
static int64_t free_second(const char *folder)
{
    int64_t second = (int64_t)time(NULL), other;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (!strncmp(e->d_name, PREFIX, sizeof PREFIX - 1) &&
            sscanf(e->d_name + sizeof PREFIX - 1, "%" SCNd64, &other) == 1 && other >= second && other < INT64_MAX)
            second = other + 1;
    if (d)
        closedir(d);
    return second;
}

static err write_start(tfevents *t, double now, int64_t step)
{
    message m = {0};
    put_double(&m, 1, now);
    put_text(&m, 3, "brain.Event:2");
    TRY(write_event(t, &m));
    if (step <= 0)
        return OK;
    message start = {0};
    put_whole(&start, 1, 1);
    m = event(now, step);
    put_message(&m, 7, &start);
    return write_event(t, &m);
}

err tfevents_open(tfevents **out, const char *folder, int64_t step)
{
    char name[96];
    int64_t second = free_second(folder);
    snprintf(name, sizeof name, "%s%010" PRId64 ".msd", PREFIX, second);
    char *path = path_join(folder, name);
    *out = NULL;
    int fd = io_open(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
    if (fd < 0) {
        err e = io_error(errno, path, "create");
        free(path);
        return e;
    }
    tfevents *t = heap_get(sizeof *t);
    *t = (tfevents){.path = path, .fd = fd};
    err e = write_start(t, (double)second, step);
    if (e != OK) {
        tfevents_close(t);
        return e;
    }
    *out = t;
    return OK;
}

void tfevents_close(tfevents *t)
{
    if (!t)
        return;
    io_close(t->fd);
    free(t->path);
    free(t);
}

/* ---- what is said ---- */

err tfevents_scalars(tfevents *t, double wall_time, int64_t step, const tfevents_scalar *scalar, int count)
{
    message m = event(wall_time, step), summary = {0};
    for (int i = 0; i < count; i++) {
        message value = {0};
        put_text(&value, 1, scalar[i].tag);
        put_float(&value, 2, (float)scalar[i].value);
        put_message(&summary, 1, &value);
    }
    put_message(&m, 5, &summary);
    return write_event(t, &m);
}

err tfevents_picture(tfevents *t, double wall_time, int64_t step, const char *tag, const void *png, size_t size,
                     int width, int height)
{
    message m = event(wall_time, step), summary = {0}, value = {0}, picture = {0};
    put_whole(&picture, 1, height);
    put_whole(&picture, 2, width);
    put_whole(&picture, 3, 3); /* RGB */
    put_bytes(&picture, 4, png, size);
    put_text(&value, 1, tag);
    put_message(&value, 4, &picture);
    put_message(&summary, 1, &value);
    put_message(&m, 5, &summary);
    return write_event(t, &m);
}
