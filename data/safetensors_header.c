#include "data/safetensors_header.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/text.h"

typedef struct scanner {
    const char *begin, *at, *end;
    safetensors *s;
    size_t metadata_capacity;
    uint64_t data_bytes;
    const uint8_t *data;
} scanner;

static err fail(const scanner *c, const char *expected)
{
    if (c->at >= c->end)
        return err_set(E_FORMAT, "header: ends early, expected %s; the file is damaged", expected);
    return err_set(E_FORMAT, "header byte %zu: found '%c', expected %s; the file is damaged or not safetensors",
                   (size_t)(c->at - c->begin), *c->at >= 0x20 && *c->at < 0x7F ? *c->at : '?', expected);
}

static void skip_space(scanner *c)
{
    while (c->at < c->end && memchr(" \t\r\n", *c->at, 4))
        c->at++;
}

static bool take(scanner *c, char wanted)
{
    skip_space(c);
    if (c->at >= c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

static bool hex4(const scanner *c, uint32_t *out)
{
    if (c->end - c->at < 4)
        return false;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef", *found;
        char lower = (char)(c->at[i] >= 'A' && c->at[i] <= 'F' ? c->at[i] + 32 : c->at[i]);
        if (!lower || !(found = strchr(digits, lower)))
            return false;
        *out = *out << 4 | (uint32_t)(found - digits);
    }
    return true;
}

/* Four hex digits behind \u, with its second half where it is a surrogate; appends UTF-8 at *to. */
static err scan_unicode_escape(scanner *c, char **to)
{
    uint32_t code, low;
    if (!hex4(c, &code))
        return fail(c, "four hexadecimal digits");
    c->at += 4;
    if (code >= 0xD800 && code < 0xDC00) {
        if (c->end - c->at < 6 || c->at[0] != '\\' || c->at[1] != 'u')
            return fail(c, "the second half of a surrogate pair");
        c->at += 2;
        if (!hex4(c, &low) || low < 0xDC00 || low > 0xDFFF)
            return fail(c, "the second half of a surrogate pair");
        c->at += 4;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code == 0 || (code >= 0xDC00 && code < 0xE000))
        return fail(c, "a character (no NUL, no lone surrogate)");
    *to += utf8proc_encode_char((utf8proc_int32_t)code, (utf8proc_uint8_t *)*to);
    return OK;
}

static err scan_escape(scanner *c, char **to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    if (c->at >= c->end)
        return fail(c, "an escape");
    char letter = *c->at;
    const char *found = letter ? strchr(from, letter) : NULL;
    if (letter == 'u') {
        c->at++;
        return scan_unicode_escape(c, to);
    }
    if (!found)
        return fail(c, "an escape");
    c->at++;
    *(*to)++ = into[found - from];
    return OK;
}

/* The header is known to be UTF-8. An escape is never shorter than what it stands for. */
static err scan_string(scanner *c, char **out, const char *expected)
{
    if (!take(c, '"'))
        return fail(c, expected);
    const char *close = c->at;
    while (close < c->end && *close != '"')
        close += *close == '\\' && close + 1 < c->end ? 2 : 1;
    char *to = *out = arena_get(&c->s->memory, (size_t)(close - c->at) + 1);
    while (c->at < c->end && *c->at != '"') {
        if ((unsigned char)*c->at < 0x20)
            return fail(c, "a string without control characters");
        if (*c->at == '\\') {
            c->at++;
            TRY(scan_escape(c, &to));
        } else {
            *to++ = *c->at++;
        }
    }
    return take(c, '"') ? OK : fail(c, "the end of a string");
}

/* Digits only: a sign, a fraction or an exponent is refused by what must follow. */
static err scan_whole(scanner *c, uint64_t *out, const char *what)
{
    skip_space(c);
    const char *first = c->at;
    *out = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        if (__builtin_mul_overflow(*out, 10u, out) || __builtin_add_overflow(*out, (uint64_t)(*c->at - '0'), out) ||
            *out > INT64_MAX)
            return err_set(E_FORMAT, "header byte %zu: %s is 2^63 or more; the file is damaged",
                           (size_t)(first - c->begin), what);
    }
    bool leading_zero = c->at - first > 1 && *first == '0';
    bool fraction = c->at < c->end && memchr(".eE", *c->at, 3);
    if (c->at == first || leading_zero || fraction) {
        c->at = first;
        return err_set(E_FORMAT, "header byte %zu: %s is not a whole number without sign; the file is damaged",
                       (size_t)(first - c->begin), what);
    }
    return OK;
}

static err scan_shape(scanner *c, stored_tensor *t)
{
    enum { MAX_RANK = 64 }; /* as many as NumPy takes */
    int64_t dim[MAX_RANK];
    if (!take(c, '['))
        return fail(c, "'[' of the shape");
    if (!take(c, ']')) {
        do {
            uint64_t value;
            TRY(scan_whole(c, &value, "a dimension"));
            if (t->ndim == MAX_RANK)
                return err_set(E_FORMAT, "more than %d dimensions; the file is damaged", MAX_RANK);
            dim[t->ndim++] = (int64_t)value;
        } while (take(c, ','));
        if (!take(c, ']'))
            return fail(c, "',' or ']' in the shape");
    }
    size_t bytes = (size_t)t->ndim * sizeof *dim;
    t->dim = memcpy(arena_get(&c->s->memory, bytes), dim, bytes);
    return OK;
}

static err scan_offsets(scanner *c, uint64_t *begin, uint64_t *end)
{
    if (!take(c, '['))
        return fail(c, "'[' of data_offsets");
    TRY(scan_whole(c, begin, "data_offsets"));
    if (!take(c, ','))
        return fail(c, "two data_offsets");
    TRY(scan_whole(c, end, "data_offsets"));
    return take(c, ']') ? OK : fail(c, "']' behind two data_offsets");
}

/* {"dtype": .., "shape": .., "data_offsets": ..} in any order, each once. */
static err scan_tensor_fields(scanner *c, stored_tensor *t, uint64_t *begin, uint64_t *end)
{
    static const char *const fields[] = {"dtype", "shape", "data_offsets"};
    unsigned seen = 0;
    if (!take(c, '{'))
        return fail(c, "'{' of a tensor");
    do {
        char *field, *type;
        TRY(scan_string(c, &field, "a field's name"));
        int which = 0;
        while (which < 3 && strcmp(fields[which], field) != 0)
            which++;
        if (which == 3)
            return err_set(E_FORMAT, "unknown field '%s'; expected dtype, shape, data_offsets",
                           stored_name_text(&c->s->memory, field));
        if (seen & 1u << which)
            return err_set(E_FORMAT, "field '%s' appears twice; the file is damaged", field);
        seen |= 1u << which;
        if (!take(c, ':'))
            return fail(c, "':'");
        if (which == 0) {
            TRY(scan_string(c, &type, "a dtype's name"));
            if (!stored_type_parse(&t->type, type))
                return err_set(E_FORMAT, "dtype '%s' is not supported; convert the file to F32, F16 or BF16",
                               stored_name_text(&c->s->memory, type));
        } else if (which == 1) {
            TRY(scan_shape(c, t));
        } else {
            TRY(scan_offsets(c, begin, end));
        }
    } while (take(c, ','));
    if (!take(c, '}'))
        return fail(c, "',' or '}' in a tensor");
    for (int which = 0; which < 3; which++) {
        if (!(seen & 1u << which))
            return err_set(E_FORMAT, "field '%s' is missing; the file is damaged", fields[which]);
    }
    return OK;
}

static err check_tensor(const scanner *c, stored_tensor *t, uint64_t begin, uint64_t end)
{
    if (!stored_size(&t->count, &t->bytes, t->type, t->ndim, t->dim))
        return err_set(E_FORMAT, "the number of elements overflows 64 bits; the file is damaged");
    if (end < begin)
        return err_set(E_FORMAT, "data_offsets [%llu,%llu] run backwards; the file is damaged",
                       (unsigned long long)begin, (unsigned long long)end);
    if (end - begin != t->bytes)
        return err_set(E_FORMAT, "data_offsets span %llu bytes, dtype and shape need %zu; the file is damaged",
                       (unsigned long long)(end - begin), t->bytes);
    if (end > c->data_bytes)
        return err_set(E_FORMAT, "data ends at %llu, the file has %llu bytes of data; it is cut off, download it again",
                       (unsigned long long)end, (unsigned long long)c->data_bytes);
    t->data = c->data + begin;
    return OK;
}

static err scan_tensor(scanner *c, const char *name)
{
    uint64_t begin, end;
    stored_tensor *t = tensor_table_add(&c->s->tensors);
    t->name = name;
    err e = scan_tensor_fields(c, t, &begin, &end);
    if (!e)
        e = check_tensor(c, t, begin, end);
    return e ? err_prefix(e, "%s", stored_name_text(&c->s->memory, name)) : OK;
}

static int compare_pairs(const void *a, const void *b)
{
    return strcmp(((const text_pair *)a)->key, ((const text_pair *)b)->key);
}

static err scan_metadata(scanner *c)
{
    safetensors *s = c->s;
    if (!take(c, '{'))
        return fail(c, "'{' of __metadata__");
    if (take(c, '}'))
        return OK;
    do {
        if (s->metadata_count == c->metadata_capacity) {
            c->metadata_capacity = c->metadata_capacity ? 2 * c->metadata_capacity : 16;
            s->metadata = heap_grow(s->metadata, c->metadata_capacity * sizeof *s->metadata);
        }
        char *key, *value;
        TRY(scan_string(c, &key, "a key of __metadata__"));
        if (!take(c, ':'))
            return fail(c, "':'");
        TRY(scan_string(c, &value, "a string in __metadata__"));
        s->metadata[s->metadata_count++] = (text_pair){key, value};
    } while (take(c, ','));
    if (!take(c, '}'))
        return fail(c, "',' or '}' in __metadata__");
    qsort(s->metadata, s->metadata_count, sizeof *s->metadata, compare_pairs);
    for (size_t i = 1; i < s->metadata_count; i++) {
        if (strcmp(s->metadata[i - 1].key, s->metadata[i].key) == 0)
            return err_set(E_FORMAT, "__metadata__: key '%s' appears twice; the file is damaged",
                           stored_name_text(&s->memory, s->metadata[i].key));
    }
    return OK;
}

static err scan_object(scanner *c)
{
    bool metadata_seen = false;
    c->at++; /* the '{' was checked */
    if (take(c, '}'))
        return OK;
    do {
        char *name;
        TRY(scan_string(c, &name, "a tensor's name"));
        if (!take(c, ':'))
            return fail(c, "':'");
        if (strcmp(name, "__metadata__") != 0) {
            TRY(scan_tensor(c, name));
        } else if (metadata_seen) {
            return err_set(E_FORMAT, "__metadata__ appears twice; the file is damaged");
        } else {
            metadata_seen = true;
            TRY(scan_metadata(c));
        }
    } while (take(c, ','));
    return take(c, '}') ? OK : fail(c, "',' or '}' in the header");
}

/* By place; of tensors at one place the empty ones come first, and otherwise by name, so that the order is one. */
static int compare_places(const void *a, const void *b)
{
    const stored_tensor *s = a, *t = b;
    if (s->data != t->data)
        return s->data < t->data ? -1 : 1;
    if (s->bytes != t->bytes)
        return s->bytes < t->bytes ? -1 : 1;
    return strcmp(s->name, t->name);
}

static err check_contiguous(const scanner *c)
{
    tensor_table *t = &c->s->tensors;
    if (t->count)
        qsort(t->at, t->count, sizeof *t->at, compare_places);
    uint64_t expected = 0;
    for (size_t i = 0; i < t->count; i++) {
        uint64_t begin = (uint64_t)(t->at[i].data - c->data);
        if (begin != expected)
            return err_set(E_FORMAT, "%s: data begins at %llu, expected %llu: %s; the file is damaged",
                           stored_name_text(&c->s->memory, t->at[i].name), (unsigned long long)begin,
                           (unsigned long long)expected,
                           begin < expected ? "it overlaps the tensor before" : "there is a hole before it");
        expected = begin + t->at[i].bytes;
    }
    if (expected != c->data_bytes)
        return err_set(E_FORMAT, "%llu bytes lie behind the last tensor; the file is damaged",
                       (unsigned long long)(c->data_bytes - expected));
    return OK;
}

err safetensors_scan_header(safetensors *s, const char *header, size_t size, const uint8_t *data, uint64_t data_bytes)
{
    scanner c = {.begin = header, .at = header, .end = header + size, .s = s, .data = data, .data_bytes = data_bytes};
    size_t bad;
    if (size == 0 || header[0] != '{')
        return err_set(E_FORMAT, "header does not begin with '{'; the file is damaged or not safetensors");
    if (!text_utf8_valid(&bad, header, size))
        return err_set(E_FORMAT, "header byte %zu: not UTF-8; the file is damaged", bad);
    TRY(scan_object(&c));
    while (c.at < c.end && *c.at == ' ')
        c.at++;
    if (c.at < c.end)
        return fail(&c, "only spaces behind the header's object");
    const char *twice = tensor_table_seal(&s->tensors);
    if (twice)
        return err_set(E_FORMAT, "%s: appears twice in the header; the file is damaged",
                       stored_name_text(&s->memory, twice));
    TRY(check_contiguous(&c));
    tensor_table_seal(&s->tensors);
    return OK;
}
