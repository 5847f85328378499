#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

/* Nesting is checked before jansson sees the text: its parser calls itself. */
static bool too_deep(int *line, const char *text, size_t size)
{
    int depth = 0;
    bool quoted = false;
    *line = 1;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        *line += c == '\n';
        if (quoted) {
            if (c == '\\')
                i++;
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '[' || c == '{') {
            if (++depth > JSON_DEPTH)
                return true;
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return false;
}

/* "name:LINE:COLUMN: text", or "text (column N)" for a value without a name. */
static err refuse(const char *name, int line, int column, const char *text)
{
    if (!name)
        return err_set(E_FORMAT, "%s (column %d)", text, column);
    return err_set(E_FORMAT, "%s:%d:%d: %s", name, line, column, text);
}

err json_text_parse(json_t **out, const char *text, size_t size, const char *name, json_duplicates duplicates)
{
    *out = NULL;
    int line;
    if (size == 0)
        return refuse(name, 1, 1, "empty, expected JSON");
    if (size >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3))
        return refuse(name, 1, 1, "begins with a byte order mark; save it as UTF-8 without BOM");
    if (too_deep(&line, text, size))
        return refuse(name, line, 1, "nested too deep for a file of this kind");
    json_error_t error;
    size_t flags = JSON_DECODE_ANY | (duplicates == JSON_REFUSE_DUPLICATES ? JSON_REJECT_DUPLICATES : 0);
    json_t *value = json_loadb(text, size, flags, &error);
    if (!value) {
        char reason[2 * JSON_ERROR_TEXT_LENGTH], whole[2 * JSON_ERROR_TEXT_LENGTH + 16];
        snprintf(whole, sizeof whole, "not JSON: %s", text_escaped(reason, sizeof reason, error.text));
        return refuse(name, error.line > 0 ? error.line : 1, error.column > 0 ? error.column : 1, whole);
    }
    *out = value;
    return OK;
}

err json_file_parse(json_t **out, const char *path, size_t limit, json_duplicates duplicates)
{
    *out = NULL;
    char *text;
    size_t size;
    TRY(file_read(&text, &size, path, limit));
    err result = json_text_parse(out, text, size, path, duplicates);
    free(text);
    return result;
}

const char *json_text_describe(char out[96], const json_t *value)
{
    char text[64];
    switch (json_typeof(value)) {
    case JSON_OBJECT: snprintf(out, 96, "an object"); break;
    case JSON_ARRAY: snprintf(out, 96, "a list of %zu", json_array_size(value)); break;
    case JSON_STRING:
        snprintf(out, 96, "\"%s\" (a string)", text_escaped(text, sizeof text, json_string_value(value)));
        break;
    case JSON_INTEGER: snprintf(out, 96, "%" JSON_INTEGER_FORMAT, json_integer_value(value)); break;
    case JSON_REAL: snprintf(out, 96, "%s", text_number(text, json_real_value(value))); break;
    case JSON_TRUE: snprintf(out, 96, "true"); break;
    case JSON_FALSE: snprintf(out, 96, "false"); break;
    case JSON_NULL: snprintf(out, 96, "null"); break;
    }
    return out;
}

static err mismatch(const json_t *value, const char *key, const char *where, const char *expected)
{
    char found[96];
    if (!value)
        return err_set(E_FORMAT, "%s: %s: missing, expected %s", where, key, expected);
    return err_set(E_FORMAT, "%s: %s: found %s, expected %s", where, key, json_text_describe(found, value), expected);
}

err json_get_int(int64_t *out, const json_t *object, const char *key, const char *where, int64_t low, int64_t high)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_integer(value) && json_integer_value(value) >= low && json_integer_value(value) <= high) {
        *out = json_integer_value(value);
        return OK;
    }
    char expected[96];
    snprintf(expected, sizeof expected, "a whole number from %lld to %lld", (long long)low, (long long)high);
    return mismatch(value, key, where, expected);
}

err json_get_number(double *out, const json_t *object, const char *key, const char *where)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        return mismatch(value, key, where, "a number");
    *out = json_number_value(value);
    return OK;
}

err json_get_bool(bool *out, const json_t *object, const char *key, const char *where)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_boolean(value))
        return mismatch(value, key, where, "true or false");
    *out = json_is_true(value);
    return OK;
}

err json_get_text(const char **out, const json_t *object, const char *key, const char *where)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value))
        return mismatch(value, key, where, "a string");
    *out = json_string_value(value);
    return OK;
}

err json_get_list(const json_t **out, const json_t *object, const char *key, const char *where)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_array(value))
        return mismatch(value, key, where, "a list");
    *out = value;
    return OK;
}

err json_get_object(const json_t **out, const json_t *object, const char *key, const char *where)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_object(value))
        return mismatch(value, key, where, "an object");
    *out = value;
    return OK;
}

bool json_get_present(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value && !json_is_null(value);
}
