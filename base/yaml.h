/* YAML with line numbers, by libfyaml's event parser, as a tree of our own in an arena. Strict: duplicate keys,
 * anchors, aliases, tags, merge keys, several documents, a BOM, NUL bytes and what is not UTF-8 are refused; scalars
 * keep their text, and what they mean is decided by the typed getters below, which collect every mistake in `problems`
 * (class E_CONFIG) with file and line. */
#ifndef MSD_BASE_YAML_H
#define MSD_BASE_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/problems.h"

enum { YAML_LIMIT = 1 << 20, YAML_DEPTH = 32 }; /* bytes of a file; deepest nesting */

typedef enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP } yaml_kind;

typedef struct yaml_node yaml_node;

typedef struct yaml_pair {
    const char *key;
    int         line; /* of the key */
    yaml_node  *value;
} yaml_pair;

struct yaml_node {
    yaml_kind   kind;
    bool        plain; /* a scalar without quotes: 8, true, null; with quotes it is always a string */
    const char *text;  /* of a scalar */
    const char *file;  /* for messages: the file, or "--set a.b=c" */
    int         line;  /* 0 for --set */
    int         count, capacity;
    yaml_node **item;  /* of a list */
    yaml_pair  *pair;  /* of a map, in the order of the file */
};

/* *root is NULL when the text cannot be parsed (the reason is in problems); `name` stands in messages and is kept. An
 * empty document is an empty map. */
void yaml_parse(yaml_node **root, arena *memory, problems *p, const char *text, size_t size, const char *name);
/* The same of a file; E_CONFIG too when it cannot be read. */
void yaml_read(yaml_node **root, arena *memory, problems *p, const char *path);

/* Applies "a.b=value" (the value is YAML: a scalar, [a, b] or {a: b}) to a tree whose top is a map; makes missing
 * maps. */
void yaml_override(yaml_node *root, arena *memory, problems *p, const char *assignment);

/* The pair of `key` in a map, or NULL (also when `map` is NULL or no map). */
const yaml_pair *yaml_find(const yaml_node *map, const char *key);

/* Typed getters. `key` is the full name for messages ("train.steps"). False: a problem was added and *out is
 * untouched. Quoted numbers are strings; a whole number is [-]digits; a number may have a fraction and an exponent and
 * must be finite and within [low, high]. */
bool yaml_int(int64_t *out, problems *p, const yaml_node *n, const char *key, int64_t low, int64_t high);
bool yaml_number(double *out, problems *p, const yaml_node *n, const char *key, double low, double high);
bool yaml_numbers(double *out, problems *p, const yaml_node *n, const char *key, int count, double low, double high);
bool yaml_bool(bool *out, problems *p, const yaml_node *n, const char *key); /* true, false */
bool yaml_choice(int *out, problems *p, const yaml_node *n, const char *key, const char *const *names, int count);
bool yaml_text(const char **out, problems *p, const yaml_node *n, const char *key); /* not empty, of one line */
bool yaml_is_null(const yaml_node *n);                   /* null, ~ or nothing */
bool yaml_is_word(const yaml_node *n, const char *word); /* a plain scalar with this text */
/* "expected ...": adds a problem that says what was found. */
void yaml_mismatch(problems *p, const yaml_node *n, const char *key, const char *expected);
/* Adds a problem for each key of `map` that is none of `names`, naming the nearest; prefix: "train." or "". */
void yaml_unknown(problems *p, const yaml_node *map, const char *prefix, const char *const *names, int count);

/* `text` as a double-quoted YAML scalar; the arena's. */
const char *yaml_quoted(arena *memory, const char *text);

#endif
