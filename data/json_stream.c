#include "data/json_stream.h"

#include <string.h>

enum { ELEMENT_BYTES = 16 << 20 };

typedef struct scan {
    const char *text;
    size_t      size, at;
    const char *name;
} scan;

static err broken(const scan *s, const char *what)
{
    if (s->at >= s->size)
        return err_set(E_FORMAT, "%s: ends in the middle, at byte %zu; is it a part of a download?", s->name, s->size);
    return err_set(E_FORMAT, "%s: byte %zu: expected %s", s->name, s->at, what);
}

static void skip_space(scan *s)
{
    while (s->at < s->size && strchr(" \t\r\n", s->text[s->at]) && s->text[s->at])
        s->at++;
}

static bool take_char(scan *s, char c)
{
    skip_space(s);
    if (s->at >= s->size || s->text[s->at] != c)
        return false;
    s->at++;
    return true;
}

/* From its first quote to behind its last. */
static err skip_string(scan *s)
{
    for (s->at++; s->at < s->size; s->at++) {
        if (s->text[s->at] == '\\') {
            s->at++;
        } else if (s->text[s->at] == '"') {
            s->at++;
            return OK;
        }
    }
    s->at = s->size;
    return broken(s, "a quote");
}

/* Brackets are counted without telling one kind from the other: what is used is parsed again as a whole. */
static err skip_value(scan *s)
{
    int64_t depth = 0;
    skip_space(s);
    size_t from = s->at;
    while (s->at < s->size) {
        char c = s->text[s->at];
        if (c == '"') {
            TRY(skip_string(s));
        } else if (c == '[' || c == '{') {
            depth++;
            s->at++;
        } else if (depth && (c == ']' || c == '}')) {
            depth--;
            s->at++;
        } else if (!depth && strchr(",]} \t\r\n", c)) {
            return s->at > from ? OK : broken(s, "a value");
        } else {
            s->at++;
            continue;
        }
        if (!depth)
            return OK;
    }
    return broken(s, "a value");
}

static err take_element(scan *s, json_element *element, err (*take)(void *user, const json_element *element),
                        void *user)
{
    skip_space(s);
    element->text = s->text + s->at;
    size_t from = s->at;
    TRY(skip_value(s));
    element->size = s->at - from;
    element->value = NULL;
    if (element->size > ELEMENT_BYTES)
        err_set(E_FORMAT, "larger than %d bytes", (int)ELEMENT_BYTES);
    else
        json_text_parse(&element->value, element->text, element->size, NULL, JSON_KEEP_LAST);
    err e = take(user, element);
    json_decref(element->value);
    element->index++;
    return e;
}

static err take_list(scan *s, int list, err (*take)(void *user, const json_element *element), void *user)
{
    json_element element = {.list = list};
    s->at++;
    if (take_char(s, ']'))
        return OK;
    do
        TRY(take_element(s, &element, take, user));
    while (take_char(s, ','));
    return take_char(s, ']') ? OK : broken(s, "',' or ']' behind an element of a list");
}

static int find_key(const char *key, size_t size, const char *const *keys)
{
    for (int i = 0; keys[i]; i++)
        if (strlen(keys[i]) == size && !memcmp(keys[i], key, size))
            return i;
    return -1;
}

err json_stream(bool *present, const char *text, size_t size, const char *name, const char *const *keys,
                err (*take)(void *user, const json_element *element), void *user)
{
    scan s = {.text = text, .size = size, .name = name};
    for (int i = 0; keys[i]; i++)
        present[i] = false;
    if (!take_char(&s, '{'))
        return broken(&s, "'{': an object at the top");
    if (take_char(&s, '}'))
        return OK;
    do {
        skip_space(&s);
        size_t from = s.at;
        if (s.at >= s.size || s.text[s.at] != '"')
            return broken(&s, "a key in quotes");
        TRY(skip_string(&s));
        int list = find_key(text + from + 1, s.at - from - 2, keys);
        if (!take_char(&s, ':'))
            return broken(&s, "':' behind a key");
        skip_space(&s);
        if (list < 0 || s.at >= s.size || s.text[s.at] != '[') {
            TRY(skip_value(&s));
            continue;
        }
        present[list] = true;
        TRY(take_list(&s, list, take, user));
    } while (take_char(&s, ','));
    return take_char(&s, '}') ? OK : broken(&s, "',' or '}' behind a value");
}
