#include "data/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "data/file_kind.h"
#include "data/safetensors_header.h"

static err parse(safetensors *s, const uint8_t *bytes, size_t size)
{
    file_kind kind = file_kind_of(bytes, size);
    if (kind != FILE_SAFETENSORS && kind != FILE_UNKNOWN)
        return file_kind_refuse(kind, "a safetensors file");
    if (size < 8)
        return err_set(E_FORMAT, "%zu bytes are too few for a safetensors file; download it again", size);
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | bytes[i];
    if (length > SAFETENSORS_MAX_HEADER)
        return err_set(E_FORMAT, "header length %llu, at most %d is allowed; the file is damaged or not safetensors",
                       (unsigned long long)length, SAFETENSORS_MAX_HEADER);
    if (length > size - 8)
        return err_set(E_FORMAT,
                       "header length %llu, but only %zu bytes follow; the file is cut off, download it again",
                       (unsigned long long)length, size - 8);
    const uint8_t *data = bytes + 8 + length;
    return safetensors_scan_header(s, (const char *)bytes + 8, (size_t)length, data, size - 8 - length);
}

err safetensors_parse(safetensors **out, const void *bytes, size_t size, const char *label)
{
    safetensors *s = heap_get(sizeof *s);
    *s = (safetensors){0};
    err e = parse(s, bytes, size);
    if (e) {
        safetensors_close(s);
        return err_prefix(e, "%s", label);
    }
    *out = s;
    return OK;
}

err safetensors_open(safetensors **out, const char *path)
{
    file_map map;
    TRY(file_map_open(&map, path));
    err e = safetensors_parse(out, map.bytes, map.size, path);
    if (e)
        file_map_close(&map);
    else
        (*out)->map = map;
    return e;
}

void safetensors_close(safetensors *s)
{
    if (!s)
        return;
    tensor_table_free(&s->tensors);
    free(s->metadata);
    arena_free(&s->memory);
    if (s->map.bytes)
        file_map_close(&s->map);
    free(s);
}

const char *safetensors_metadata(const safetensors *s, const char *key)
{
    for (size_t i = 0; i < s->metadata_count; i++) {
        if (strcmp(s->metadata[i].key, key) == 0)
            return s->metadata[i].value;
    }
    return NULL;
}
