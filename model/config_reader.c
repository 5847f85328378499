#include "model/config_reader.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

config_reader config_read(const json_t *object, const char *where)
{
    config_reader r = {.object = object, .where = where};
    if (!json_is_object(object))
        config_problem(&r, "found no JSON object");
    return r;
}

void config_problem(config_reader *r, const char *format, ...)
{
    char    text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    r->problems = r->count++ ? arena_print(&r->text, "%s; %s", r->problems, text) : arena_copy_string(&r->text, text);
}

err config_end(config_reader *r)
{
    err e = r->count ? err_set(E_MODEL, "%s: %s", r->where, r->problems) : OK;
    arena_free(&r->text);
    return e;
}

static bool integer_in(int64_t *out, const json_t *value, int64_t low, int64_t high)
{
    if (json_is_integer(value))
        *out = json_integer_value(value);
    else if (json_is_real(value) && json_real_value(value) >= (double)low && json_real_value(value) <= (double)high &&
             json_real_value(value) == (double)(int64_t)json_real_value(value))
        *out = (int64_t)json_real_value(value); /* "2.0": Python compares it equal to 2 */
    else
        return false;
    return *out >= low && *out <= high;
}

static void bad_value(config_reader *r, const char *key, const json_t *value, const char *expected)
{
    char found[96];
    config_problem(r, "%s: found %s, expected %s", key, json_text_describe(found, value), expected);
}

int64_t config_int(config_reader *r, const char *key, int64_t fallback, int64_t low, int64_t high)
{
    int64_t       found = low;
    const json_t *value = json_object_get(r->object, key);
    if (!value || json_is_null(value)) {
        if (fallback == CONFIG_REQUIRED)
            config_problem(r, "%s: missing, expected a whole number from %" PRId64 " to %" PRId64, key, low, high);
        return fallback == CONFIG_REQUIRED ? low : fallback;
    }
    if (integer_in(&found, value, low, high))
        return found;
    bad_value(r, key, value, arena_print(&r->text, "a whole number from %" PRId64 " to %" PRId64, low, high));
    return low;
}

double config_number(config_reader *r, const char *key, double fallback)
{
    const json_t *value = json_object_get(r->object, key);
    if (!value || json_is_null(value))
        return fallback;
    if (json_is_number(value) && json_number_value(value) >= 0)
        return json_number_value(value);
    bad_value(r, key, value, "a number that is not negative");
    return fallback;
}

bool config_bool(config_reader *r, const char *key, bool fallback)
{
    const json_t *value = json_object_get(r->object, key);
    if (!value || json_is_null(value))
        return fallback;
    if (!json_is_boolean(value))
        bad_value(r, key, value, "true or false");
    return json_is_true(value);
}

void config_ints(int64_t *out, config_reader *r, const char *key, int count, int64_t fallback, int64_t low,
                 int64_t high)
{
    const json_t *value = json_object_get(r->object, key);
    bool          good = true;
    if (json_is_array(value)) {
        good = json_array_size(value) == (size_t)count;
        for (int i = 0; i < count; i++)
            if (!good || !integer_in(&out[i], json_array_get(value, (size_t)i), low, high))
                good = false;
    } else {
        int64_t all = config_int(r, key, fallback, low, high);
        for (int i = 0; i < count; i++)
            out[i] = all;
    }
    if (good)
        return;
    char *found = json_dumps(value, JSON_COMPACT);
    config_problem(r, "%s: found %.120s, expected %d whole numbers from %" PRId64 " to %" PRId64, key,
                   found ? found : "?", count, low, high);
    free(found);
    for (int i = 0; i < count; i++)
        out[i] = low;
}

int config_texts(const char **out, config_reader *r, const char *key, int room)
{
    const json_t *value = json_object_get(r->object, key);
    size_t        count = json_array_size(value);
    if (!json_is_array(value) || count < 1 || count > (size_t)room) {
        config_problem(r, "%s: %s, expected a list of 1 to %d names", key, value ? "found something else" : "missing",
                       room);
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        out[i] = json_string_value(json_array_get(value, i));
        if (!out[i]) {
            config_problem(r, "%s: entry %zu is no text", key, i);
            return 0;
        }
    }
    return (int)count;
}

static bool listed(const char *allowed, const char *text)
{
    size_t length = strlen(text);
    for (const char *at = allowed; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
        size_t entry = strcspn(at, "|");
        if (entry == length && !memcmp(at, text, length))
            return true;
    }
    return false;
}

void config_check_fixed(config_reader *r, const config_fixed *fixed, int count)
{
    for (int i = 0; i < count; i++) {
        const json_t *value = json_object_get(r->object, fixed[i].key);
        char         *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
        if (text && !listed(fixed[i].allowed, text))
            config_problem(r, "%s: found %.120s, supported: %s", fixed[i].key, text, fixed[i].allowed);
        free(text);
    }
}
