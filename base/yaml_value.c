#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/yaml.h"

bool yaml_is_null(const yaml_node *n)
{
    return n->kind == YAML_SCALAR && n->plain && (!n->text[0] || !strcmp(n->text, "null") || !strcmp(n->text, "~"));
}

bool yaml_is_word(const yaml_node *n, const char *word)
{
    return n->kind == YAML_SCALAR && n->plain && !strcmp(n->text, word);
}

/* The value in a few words: `8`, `"8" (a string)`, `a list of 2`, `nothing`. */
static const char *describe(char out[128], const yaml_node *n)
{
    char text[80];
    if (n->kind != YAML_SCALAR)
        snprintf(out, 128, n->kind == YAML_MAP ? "a map" : "a list of %d", n->count);
    else if (yaml_is_null(n))
        snprintf(out, 128, "%s", n->text[0] ? n->text : "nothing");
    else
        snprintf(out, 128, n->plain ? "%s" : "\"%s\" (a string)", text_escaped(text, sizeof text, n->text));
    return out;
}

void yaml_mismatch(problems *p, const yaml_node *n, const char *key, const char *expected)
{
    char found[128];
    problems_add(p, E_CONFIG, n->file, n->line, "%s: found %s, expected %s", key, describe(found, n), expected);
}

static size_t digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* [-]digits without needless zeros */
static bool is_whole(const char *text)
{
    text += *text == '-';
    size_t n = digits(text);
    return n && !text[n] && (n == 1 || text[0] != '0');
}

/* [-](digits[.digits] | .digits)[e[+-]digits] */
static bool is_number(const char *text)
{
    text += *text == '-';
    size_t before = digits(text), after = 0;
    text += before;
    if (*text == '.') {
        after = digits(++text);
        text += after;
    }
    if (before + after == 0)
        return false;
    if (*text == 'e' || *text == 'E') {
        text++;
        text += *text == '+' || *text == '-';
        size_t exponent = digits(text);
        if (!exponent)
            return false;
        text += exponent;
    }
    return !*text;
}

bool yaml_int(int64_t *out, problems *p, const yaml_node *n, const char *key, int64_t low, int64_t high)
{
    if (n->kind == YAML_SCALAR && n->plain && is_whole(n->text)) {
        errno = 0;
        int64_t value = strtoll(n->text, NULL, 10);
        if (errno == 0 && value >= low && value <= high) {
            *out = value;
            return true;
        }
    }
    char expected[96];
    if (high >= INT32_MAX && low <= 1 && low >= 0)
        snprintf(expected, sizeof expected, "a whole number, at least %lld and below %lld", (long long)low,
                 high == INT64_MAX ? (long long)high : (long long)high + 1);
    else
        snprintf(expected, sizeof expected, "a whole number from %lld to %lld", (long long)low, (long long)high);
    yaml_mismatch(p, n, key, expected);
    return false;
}

static bool number_of(double *out, const yaml_node *n, double low, double high)
{
    if (n->kind != YAML_SCALAR || !n->plain || !is_number(n->text))
        return false;
    double value = strtod(n->text, NULL);
    if (!isfinite(value) || value < low || value > high)
        return false;
    *out = value;
    return true;
}

bool yaml_number(double *out, problems *p, const yaml_node *n, const char *key, double low, double high)
{
    if (number_of(out, n, low, high))
        return true;
    char expected[128], from[32], to[32];
    snprintf(expected, sizeof expected, "a number from %s to %s", text_number(from, low), text_number(to, high));
    yaml_mismatch(p, n, key, expected);
    return false;
}

bool yaml_numbers(double *out, problems *p, const yaml_node *n, const char *key, int count, double low, double high)
{
    char expected[128], from[32], to[32];
    snprintf(expected, sizeof expected, "a list of %d numbers from %s to %s", count, text_number(from, low),
             text_number(to, high));
    if (n->kind != YAML_LIST || n->count != count) {
        yaml_mismatch(p, n, key, expected);
        return false;
    }
    double unused;
    for (int i = 0; i < count; i++)
        if (!number_of(&unused, n->item[i], low, high)) {
            yaml_mismatch(p, n->item[i], key, expected);
            return false;
        }
    for (int i = 0; i < count; i++)
        number_of(&out[i], n->item[i], low, high);
    return true;
}

bool yaml_bool(bool *out, problems *p, const yaml_node *n, const char *key)
{
    if (!yaml_is_word(n, "true") && !yaml_is_word(n, "false")) {
        yaml_mismatch(p, n, key, "true or false");
        return false;
    }
    *out = n->text[0] == 't';
    return true;
}

bool yaml_choice(int *out, problems *p, const yaml_node *n, const char *key, const char *const *names, int count)
{
    for (int i = 0; n->kind == YAML_SCALAR && i < count; i++)
        if (!strcmp(n->text, names[i])) {
            *out = i;
            return true;
        }
    char expected[256];
    size_t used = 0;
    for (int i = 0; i < count && used < sizeof expected; i++)
        used += (size_t)snprintf(expected + used, sizeof expected - used, "%s%s",
                                 i == 0 ? "" : i + 1 < count ? ", " : " or ", names[i]);
    const char *near = n->kind == YAML_SCALAR ? text_nearest(n->text, names, (size_t)count) : NULL;
    if (near && used < sizeof expected)
        snprintf(expected + used, sizeof expected - used, "; did you mean %s?", near);
    yaml_mismatch(p, n, key, expected);
    return false;
}

bool yaml_text(const char **out, problems *p, const yaml_node *n, const char *key)
{
    bool good = n->kind == YAML_SCALAR && !yaml_is_null(n) && n->text[0];
    for (const char *c = good ? n->text : ""; *c; c++)
        good = good && (unsigned char)*c >= 0x20 && *c != 0x7F;
    if (!good) {
        yaml_mismatch(p, n, key, "a string of one line that is not empty");
        return false;
    }
    *out = n->text;
    return true;
}

void yaml_unknown(problems *p, const yaml_node *map, const char *prefix, const char *const *names, int count)
{
    for (int i = 0; map->kind == YAML_MAP && i < map->count; i++) {
        const yaml_pair *pair = &map->pair[i];
        bool known = false;
        for (int j = 0; j < count && !known; j++)
            known = !strcmp(pair->key, names[j]);
        if (known)
            continue;
        char shown[96];
        text_escaped(shown, sizeof shown, pair->key);
        const char *near = text_nearest(pair->key, names, (size_t)count);
        if (near)
            problems_add(p, E_CONFIG, pair->value->file, pair->line, "%s%s: unknown key; did you mean %s%s?", prefix,
                         shown, prefix, near);
        else
            problems_add(p, E_CONFIG, pair->value->file, pair->line, "%s%s: unknown key", prefix, shown);
    }
}

const char *yaml_quoted(arena *memory, const char *text)
{
    char *out = arena_get(memory, 4 * strlen(text) + 3), *at = out;
    *at++ = '"';
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\') {
            *at++ = '\\';
            *at++ = (char)*c;
        } else if (*c < 0x20 || *c == 0x7F) {
            at += sprintf(at, "\\x%02X", *c);
        } else {
            *at++ = (char)*c;
        }
    }
    *at++ = '"';
    *at = 0;
    return out;
}
