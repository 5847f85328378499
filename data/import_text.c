#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "data/importer.h"

enum { CAPTION_BYTES = 64 << 10 };

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f' || c == '\v';
}

const char *import_trimmed(importer *im, const char *text, size_t size)
{
    while (size && blank(text[0]))
        text++, size--;
    while (size && blank(text[size - 1]))
        size--;
    if (!size || !text_utf8_valid(NULL, text, size))
        return NULL;
    char *out = arena_get(&im->memory, size + 1);
    for (size_t i = 0; i < size; i++)
        out[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7F ? ' ' : text[i];
    return out;
}

const char *import_with_ending(importer *im, const char *picture, const char *ending)
{
    const char *slash = strrchr(picture, '/'), *dot = strrchr(picture, '.');
    size_t size = dot && (!slash || dot > slash) ? (size_t)(dot - picture) : strlen(picture);
    return arena_print(&im->memory, "%.*s%s", (int)size, picture, ending);
}

static const char *first_line(importer *im, const char *text, size_t size)
{
    if (size >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) {
        text += 3;
        size -= 3;
    }
    for (const char *at = text, *end = text + size; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        const char *line = import_trimmed(im, at, (size_t)(stop - at));
        if (line)
            return line;
        at = stop + 1;
    }
    return NULL;
}

const char *import_caption_beside(importer *im, const char *picture)
{
    static const char *const endings[] = {".txt", ".caption"};
    for (int i = 0; i < 2; i++) {
        const char *path = import_with_ending(im, picture, endings[i]), *line;
        char *text;
        size_t size;
        if (!file_exists(path))
            continue;
        if (file_read(&text, &size, path, CAPTION_BYTES) != OK) {
            import_skip(im, "a caption that cannot be read", "%s", err_message());
            continue;
        }
        line = first_line(im, text, size);
        if (!line && size)
            import_skip(im, "a caption without text, or not UTF-8", "%s", path);
        free(text);
        if (line)
            return line;
    }
    return im->o->caption;
}

const char *import_class_name(importer *im, const json_t *value)
{
    if (json_is_string(value))
        return json_string_value(value);
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) >= im->class_count)
        return NULL;
    return im->class_name[json_integer_value(value)];
}

bool import_box(double out[4], const json_t *value, bool xywh)
{
    if (!json_is_array(value) || json_array_size(value) != 4)
        return false;
    for (size_t i = 0; i < 4; i++) {
        if (!json_is_number(json_array_get(value, i)))
            return false;
        out[i] = json_number_value(json_array_get(value, i));
    }
    for (int i = 2; xywh && i < 4; i++)
        out[i] += out[i - 2];
    return true;
}

err import_box_option(double out[4], const import_options *o)
{
    memcpy(out, (double[4]){0, 0, 1, 1}, 4 * sizeof *out);
    if (!o->box)
        return OK;
    const char *at = o->box;
    bool good = true;
    for (int i = 0; i < 4 && good; i++) {
        char *end;
        out[i] = strtod(at, &end);
        good = end > at && isfinite(out[i]) && out[i] >= 0 && out[i] <= 1 && *end == (i < 3 ? ',' : 0);
        at = end + 1;
    }
    if (!good || !(out[2] > out[0] && out[3] > out[1]))
        return err_set(E_USAGE, "--box: '%s' is no box; give x0,y0,x1,y1 from 0 to 1, e.g. 0.1,0.1,0.9,1", o->box);
    return OK;
}

err import_json_lines(importer *im, const char *path, err (*line)(void *user, json_t *object, int64_t number),
                      void *user)
{
    file_map map;
    err e = err_as(file_map_open(&map, path), E_DATASET);
    TRY(e);
    int64_t number = 0;
    const char *at = (const char *)map.bytes, *end = at + map.size;
    while (e == OK && map.size && at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        number++;
        json_t *value = NULL;
        size_t size = (size_t)(stop - at);
        while (size && blank(at[size - 1]))
            size--;
        if (size > MANIFEST_LINE)
            import_skip(im, "a line longer than 1 MiB", "%s:%lld", path, (long long)number);
        else if (size && json_text_parse(&value, at, size, NULL, JSON_KEEP_LAST) != OK)
            import_skip(im, "a line that is not JSON", "%s:%lld: %s", path, (long long)number, err_message());
        else if (size && !json_is_object(value))
            import_skip(im, "a line that is no object", "%s:%lld", path, (long long)number);
        else if (size)
            e = line(user, value, number);
        json_decref(value);
        at = stop + 1;
    }
    file_map_close(&map);
    return e;
}
