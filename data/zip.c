/* Layout by PKWARE's APPNOTE 6.3: members, central directory, [zip64 end record, its locator,] end record. */
#include "data/zip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/text.h"

enum {
    LOCAL_BYTES = 30, CENTRAL_BYTES = 46, END_BYTES = 22, END64_BYTES = 56, LOCATOR_BYTES = 20,
    LOCAL_MAGIC = 0x04034b50, CENTRAL_MAGIC = 0x02014b50, END_MAGIC = 0x06054b50, END64_MAGIC = 0x06064b50,
    LOCATOR_MAGIC = 0x07064b50,
    FLAG_ENCRYPTED = 1, FLAG_DESCRIPTOR = 8, FLAG_UTF8 = 0x800, MAX_MEMBERS = 100000
};

static uint64_t little(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | at[i];
    return value;
}

typedef struct directory {
    const uint8_t *bytes;
    size_t size;
    uint64_t offset, length, members;
} directory;

static err damaged(const char *what)
{
    return err_set(E_FORMAT, "zip: %s; the file is damaged or cut off, download it again", what);
}

/* Finds the central directory. The end record must close the file, so no comment can imitate it. */
static err find_directory(directory *d)
{
    if (d->size < END_BYTES)
        return damaged("too short for an end record");
    size_t end = d->size - END_BYTES;
    const uint8_t *e = d->bytes + end;
    if (little(e, 4) != END_MAGIC || little(e + 20, 2) != 0)
        return damaged("no end record at the end of the file");
    if (little(e + 4, 2) != 0 || little(e + 6, 2) != 0 || little(e + 8, 2) != little(e + 10, 2))
        return damaged("an archive of several volumes");
    d->members = little(e + 10, 2);
    d->length = little(e + 12, 4);
    d->offset = little(e + 16, 4);
    bool large = end >= LOCATOR_BYTES && little(e - LOCATOR_BYTES, 4) == LOCATOR_MAGIC;
    if (large) {
        if (end < LOCATOR_BYTES + END64_BYTES)
            return damaged("too short for a zip64 end record");
        const uint8_t *locator = e - LOCATOR_BYTES, *r = locator - END64_BYTES;
        end -= LOCATOR_BYTES + END64_BYTES;
        if (little(r, 4) != END64_MAGIC || little(r + 4, 8) != END64_BYTES - 12 || little(locator + 8, 8) != end)
            return damaged("the zip64 end record is not where its locator says");
        uint64_t members = little(r + 32, 8), length = little(r + 40, 8), offset = little(r + 48, 8);
        if (little(r + 24, 8) != members || (d->members != 0xFFFF && d->members != members) ||
            (d->length != 0xFFFFFFFF && d->length != length) || (d->offset != 0xFFFFFFFF && d->offset != offset))
            return damaged("the two end records disagree");
        d->members = members;
        d->length = length;
        d->offset = offset;
    }
    if (d->offset > end || d->length != end - d->offset)
        return damaged("the directory does not end where the end record begins");
    if (d->members > MAX_MEMBERS || d->members > d->length / CENTRAL_BYTES)
        return err_set(E_FORMAT, "zip: %llu members do not fit a directory of %llu bytes (limit %d)",
                       (unsigned long long)d->members, (unsigned long long)d->length, MAX_MEMBERS);
    return OK;
}

/* Replaces the saturated ones among size, packed size and offset by the 64-bit ones of extra field 1. */
static err read_zip64_extra(uint64_t *const value[3], const uint8_t *extra, size_t length)
{
    bool wanted = *value[0] == 0xFFFFFFFF || *value[1] == 0xFFFFFFFF || *value[2] == 0xFFFFFFFF;
    while (wanted && length >= 4) {
        size_t id = (size_t)little(extra, 2), size = (size_t)little(extra + 2, 2), at = 4;
        if (size > length - 4)
            break;
        for (int i = 0; id == 1 && i < 3; i++) {
            if (*value[i] != 0xFFFFFFFF)
                continue;
            if (at + 8 > 4 + size)
                return damaged("a zip64 field is too short");
            *value[i] = little(extra + at, 8);
            at += 8;
        }
        if (id == 1)
            return OK;
        extra += 4 + size;
        length -= 4 + size;
    }
    return wanted ? damaged("a zip64 field is missing") : OK;
}

static err check_name(const char *name, size_t length)
{
    if (strlen(name) != length || !text_utf8_valid(NULL, name, length))
        return damaged("a member's name contains NUL or is not UTF-8");
    for (const char *c = name; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == '\\')
            return damaged("a member's name has control characters or backslashes");
    }
    for (const char *part = name;;) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return err_set(E_FORMAT, "zip: member name '%.100s' is not a plain path; torch writes no such archive",
                           name);
        if (!part[n])
            return OK;
        part += n + 1;
    }
}

/* The local header must agree with the directory; its end is where the data begins. */
static err read_local(zip_member *m, const directory *d, const uint8_t *central, size_t name_length)
{
    if (m->local > d->offset || d->offset - m->local < LOCAL_BYTES)
        return damaged("a member lies outside the file");
    const uint8_t *h = d->bytes + m->local;
    size_t local_name = (size_t)little(h + 26, 2), extra = (size_t)little(h + 28, 2);
    uint64_t room = d->offset - m->local - LOCAL_BYTES;
    if (little(h, 4) != LOCAL_MAGIC || local_name != name_length || local_name + extra > room ||
        memcmp(h + LOCAL_BYTES, central + CENTRAL_BYTES, name_length) != 0)
        return damaged("a member's own header does not agree with the directory");
    if (little(h + 6, 2) != little(central + 8, 2) || little(h + 8, 2) != 0)
        return damaged("a member's own flags or method do not agree with the directory");
    bool sizes_here = !(little(h + 6, 2) & FLAG_DESCRIPTOR);
    uint64_t packed = little(h + 18, 4), size = little(h + 22, 4);
    if (sizes_here && (little(h + 14, 4) != m->crc || (packed != m->size && packed != 0xFFFFFFFF) ||
                       (size != m->size && size != 0xFFFFFFFF)))
        return damaged("a member's own size or checksum does not agree with the directory");
    if (m->size > room - local_name - extra)
        return damaged("a member's data lies outside the file");
    m->data = h + LOCAL_BYTES + local_name + extra;
    return OK;
}

static err read_member(zip *z, zip_member *m, const directory *d, const uint8_t **at)
{
    const uint8_t *c = *at, *end = d->bytes + d->offset + d->length;
    if (end - c < CENTRAL_BYTES || little(c, 4) != CENTRAL_MAGIC)
        return damaged("the directory has fewer members than it says");
    size_t name_length = (size_t)little(c + 28, 2), extra = (size_t)little(c + 30, 2),
           comment = (size_t)little(c + 32, 2);
    if ((size_t)(end - c) - CENTRAL_BYTES < name_length + extra + comment)
        return damaged("the directory is cut off");
    uint64_t flags = little(c + 8, 2), method = little(c + 10, 2);
    uint64_t packed = little(c + 20, 4), size = little(c + 24, 4), local = little(c + 42, 4);
    char *name = arena_get(&z->memory, name_length + 1);
    memcpy(name, c + CENTRAL_BYTES, name_length);
    TRY(check_name(name, name_length));
    if (flags & FLAG_ENCRYPTED)
        return err_set(E_FORMAT, "zip: member '%.100s' is encrypted; torch writes no such archive", name);
    if (method != 0)
        return err_set(E_FORMAT,
                       "zip: member '%.100s' is compressed (method %llu), torch stores plainly; save it again with "
                       "torch.save or convert it to safetensors",
                       name, (unsigned long long)method);
    if (flags & ~(uint64_t)(FLAG_DESCRIPTOR | FLAG_UTF8))
        return err_set(E_FORMAT, "zip: member '%.100s' has flags %#llx; torch writes no such archive", name,
                       (unsigned long long)flags);
    TRY(read_zip64_extra((uint64_t *const[]){&size, &packed, &local}, c + CENTRAL_BYTES + name_length, extra));
    if (packed != size || size > d->offset)
        return damaged("a stored member's sizes are wrong");
    *m = (zip_member){.name = name, .size = (size_t)size, .crc = (uint32_t)little(c + 16, 4), .local = local};
    *at = c + CENTRAL_BYTES + name_length + extra + comment;
    err e = read_local(m, d, c, name_length);
    return e ? err_prefix(e, "%.100s", name) : OK;
}

static int compare_places(const void *a, const void *b)
{
    const zip_member *m = a, *n = b;
    return m->local < n->local ? -1 : m->local > n->local;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const zip_member *)a)->name, ((const zip_member *)b)->name);
}

static err check_overlap(zip *z, const uint8_t *bytes)
{
    qsort(z->at, z->count, sizeof *z->at, compare_places);
    for (size_t i = 1; i < z->count; i++) {
        if (z->at[i - 1].data + z->at[i - 1].size > bytes + z->at[i].local)
            return err_set(E_FORMAT, "zip: members '%.100s' and '%.100s' overlap; the file is damaged",
                           z->at[i - 1].name, z->at[i].name);
    }
    return OK;
}

/* torch puts everything under one folder whose name means nothing: it is checked, and left out of the names. */
static err strip_folder(zip *z)
{
    size_t prefix = strcspn(z->at[0].name, "/") + 1;
    for (size_t i = 0; i < z->count; i++) {
        if (strncmp(z->at[i].name, z->at[0].name, prefix) != 0 || strlen(z->at[i].name) <= prefix)
            return err_set(E_FORMAT,
                           "zip: '%.100s' and '%.100s' do not lie under one folder; torch.save did not write this",
                           z->at[0].name, z->at[i].name);
    }
    for (size_t i = 0; i < z->count; i++)
        z->at[i].name += prefix;
    qsort(z->at, z->count, sizeof *z->at, compare_names);
    for (size_t i = 1; i < z->count; i++) {
        if (strcmp(z->at[i - 1].name, z->at[i].name) == 0)
            return err_set(E_FORMAT, "zip: member '%.100s' appears twice; the file is damaged", z->at[i].name);
    }
    return OK;
}

static err check_sums(const zip *z)
{
    for (size_t i = 0; i < z->count; i++) {
        const zip_member *m = &z->at[i];
        if (crc32_z(0, m->data, m->size) != m->crc)
            return err_set(E_FORMAT, "zip: member '%.100s': checksum differs; the file is damaged, download it again",
                           m->name);
    }
    return OK;
}

static err parse(zip *z, const uint8_t *bytes, size_t size)
{
    directory d = {.bytes = bytes, .size = size};
    TRY(find_directory(&d));
    if (d.members == 0)
        return damaged("no members");
    z->at = heap_get((size_t)d.members * sizeof *z->at);
    const uint8_t *at = bytes + d.offset;
    for (; z->count < d.members; z->count++)
        TRY(read_member(z, &z->at[z->count], &d, &at));
    if (at != bytes + d.offset + d.length)
        return damaged("the directory has more members than it says");
    TRY(check_overlap(z, bytes));
    TRY(strip_folder(z));
    return check_sums(z);
}

err zip_parse(zip *out, const uint8_t *bytes, size_t size)
{
    zip z = {0};
    err e = parse(&z, bytes, size);
    if (e)
        zip_free(&z);
    *out = z;
    return e;
}

void zip_free(zip *z)
{
    free(z->at);
    arena_free(&z->memory);
    *z = (zip){0};
}

const zip_member *zip_find(const zip *z, const char *name)
{
    zip_member key = {.name = name};
    return z->count ? bsearch(&key, z->at, z->count, sizeof *z->at, compare_names) : NULL;
}
