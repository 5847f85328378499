#include "train/config.h"

#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "base/yaml.h"
#include "train/config_keys.h"

typedef struct reading {
    run_config      *c;
    arena           *memory;
    problems        *p;
    const yaml_node *root;
    const char      *file; /* RUN.yaml as given, for messages */
    const char      *base; /* the same, absolute */
} reading;

/* "/a//b/./c/" -> "/a/b/c": one spelling, so that configs can be compared. ".." stays: links may make it mean
 * something else. */
static char *cleaned(arena *memory, const char *path)
{
    char *out = arena_get(memory, strlen(path) + 2), *to = out;
    for (const char *from = path; *from;) {
        size_t length = strcspn(from, "/");
        if (length && !(length == 1 && from[0] == '.')) {
            *to++ = '/';
            memcpy(to, from, length);
            to += length;
        }
        from += length + (from[length] == '/');
    }
    if (to == out)
        *to++ = '/';
    *to = 0;
    return out;
}

static const char *absolute(arena *memory, const char *path)
{
    char here[PATH_MAX];
    if (path[0] == '/' || !getcwd(here, sizeof here))
        return cleaned(memory, path);
    return cleaned(memory, arena_print(memory, "%s/%s", here, path));
}

static bool read_path(const char **out, const reading *r, const yaml_node *n, const char *key)
{
    const char *text;
    if (!yaml_text(&text, r->p, n, key))
        return false;
    char *joined = path_beside(r->base, text);
    size_t length = strlen(joined);
    if (length < PATH_MAX)
        *out = cleaned(r->memory, joined);
    else
        problems_add(r->p, E_CONFIG, n->file, n->line, "%s: a path of %zu bytes, expected fewer than %d", key, length,
                     PATH_MAX);
    free(joined);
    return length < PATH_MAX;
}

static bool read_whole(int64_t *out, const reading *r, const config_key *k, const yaml_node *n)
{
    int64_t high = k->high >= (double)INT64_MAX ? INT64_MAX : (int64_t)k->high;
    return yaml_int(out, r->p, n, k->name, (int64_t)k->low, high);
}

/* [low, high) of whole numbers, at least one of them. */
static bool read_span(int64_t out[2], const reading *r, const config_key *k, const yaml_node *n)
{
    double ends[2];
    if (yaml_is_word(n, "all")) {
        out[0] = out[1] = 0;
        return true;
    }
    if (!yaml_numbers(ends, r->p, n, k->name, 2, k->low, k->high))
        return false;
    if (ends[0] != floor(ends[0]) || ends[1] != floor(ends[1]) || ends[0] >= ends[1]) {
        problems_add(r->p, E_CONFIG, n->file, n->line, "%s: found [%g, %g], expected two whole numbers, the first below the second, "
                     "which is not drawn itself; or all", k->name, ends[0], ends[1]);
        return false;
    }
    out[0] = (int64_t)ends[0];
    out[1] = (int64_t)ends[1];
    return true;
}

/* A path, or the word that stands for none. */
static bool read_optional(const char **out, const reading *r, const config_key *k, const yaml_node *n)
{
    if (k->kind == KEY_PATH_OR_OFF ? yaml_is_word(n, "off") : yaml_is_null(n)) {
        *out = NULL;
        return true;
    }
    return k->kind == KEY_TEXT_OR_NULL ? yaml_text(out, r->p, n, k->name) : read_path(out, r, n, k->name);
}

static bool read_bytes(int64_t *out, const reading *r, const config_key *k, const yaml_node *n)
{
    const char *text = NULL;
    uint64_t    bytes = 0;
    *out = 0;
    if (yaml_is_null(n))
        return true;
    if (!yaml_text(&text, r->p, n, k->name))
        return false;
    if (!text_bytes_read(&bytes, text)) {
        problems_add(r->p, E_CONFIG, n->file, n->line, "%s: found %s, expected bytes as 20GiB or 512MB, or null", k->name, text);
        return false;
    }
    *out = (int64_t)bytes;
    return true;
}

/* Reads one value into the config; false: a problem was added and the config is untouched. */
static bool read_value(const reading *r, const config_key *k, const yaml_node *n)
{
    static const char *const off_on[] = {"off", "on"};
    void *to = (char *)r->c + k->at;
    int   index = 0;
    switch (k->kind) {
    case KEY_PATH: return read_path(to, r, n, k->name);
    case KEY_PATH_OR_NULL:
    case KEY_PATH_OR_OFF:
    case KEY_TEXT_OR_NULL: return read_optional(to, r, k, n);
    case KEY_BYTES_OR_NULL: return read_bytes(to, r, k, n);
    case KEY_WHOLE: return read_whole(to, r, k, n);
    case KEY_NUMBER: return yaml_number(to, r->p, n, k->name, k->low, k->high);
    case KEY_NUMBER_OR_OFF:
        if (!yaml_is_word(n, "off"))
            return yaml_number(to, r->p, n, k->name, k->low, k->high);
        *(double *)to = 0;
        return true;
    case KEY_NUMBER_OR_NULL:
        if (!yaml_is_null(n))
            return yaml_number(to, r->p, n, k->name, k->low, k->high);
        *(double *)to = 0;
        return true;
    case KEY_SPAN_OR_ALL: return read_span(to, r, k, n);
    case KEY_PAIR: return yaml_numbers(to, r->p, n, k->name, 2, k->low, k->high);
    case KEY_CHOICE: return yaml_choice(to, r->p, n, k->name, k->names, config_key_names(k));
    case KEY_SWITCH:
        if (yaml_is_word(n, "true") || yaml_is_word(n, "false")) { /* what YAML 1.1 tools write for on and off */
            *(bool *)to = n->text[0] == 't';
            return true;
        }
        if (!yaml_choice(&index, r->p, n, k->name, off_on, 2))
            return false;
        *(bool *)to = index == 1;
        return true;
    }
    return false;
}

/* The value of "a.b.c" in the tree, or NULL. *section: the innermost map that is there. */
static const yaml_pair *find_pair(const yaml_node **section, const yaml_node *root, const char *name)
{
    char part[64];
    *section = root;
    for (const char *at = name;;) {
        size_t length = strcspn(at, ".");
        snprintf(part, sizeof part, "%.*s", (int)length, at);
        const yaml_pair *pair = yaml_find(*section, part);
        if (!pair || !at[length])
            return pair;
        *section = pair->value;
        at += length + 1;
    }
}

/* A choice beyond what this version has, or anything but the default of a key whose feature is not there at all. */
static bool is_later(const config_key *k, const run_config *c, const char *fallback)
{
    if (!k->later)
        return false;
    if (k->kind == KEY_CHOICE)
        return *(const int *)(const void *)((const char *)c + k->at) >= k->have;
    arena text = {0};
    bool differs = strcmp(config_key_text(&text, k, c), fallback) != 0;
    arena_free(&text);
    return differs;
}

static void read_fallback(const reading *r, const config_key *k)
{
    yaml_node *value;
    if (!k->fallback)
        return;
    yaml_parse(&value, r->memory, r->p, k->fallback, strlen(k->fallback), k->name);
    bool good = value && read_value(r, k, value);
    CHECK(good, "the default of %s: %s", k->name, k->fallback);
}

static void read_key(const reading *r, const config_key *k)
{
    const yaml_node *section;
    const yaml_pair *pair = find_pair(&section, r->root, k->name);
    config_place *place = &r->c->place[k - config_keys];
    read_fallback(r, k);
    if (!pair) {
        if (!k->fallback)
            problems_add(r->p, E_CONFIG, r->file, section->line, "%s: missing; this key has no default", k->name);
        return;
    }
    *place = (config_place){.file = pair->value->file, .line = pair->value->line};
    if (!read_value(r, k, pair->value) || !is_later(k, r->c, k->fallback))
        return;
    arena text = {0};
    problems_add(r->p, E_CONFIG, place->file, place->line,
                 "%s: %s: this version of msd does not have %s; leave it at %s", k->name,
                 config_key_text(&text, k, r->c), k->later, k->fallback);
    arena_free(&text);
}

/* The children that the table has below `prefix` ("", "data.", "data.drop."), each once. */
static int children(char names[CONFIG_KEYS][32], const char *prefix)
{
    int count = 0;
    size_t skip = strlen(prefix);
    for (int i = 0; i < CONFIG_KEYS; i++) {
        if (strncmp(config_keys[i].name, prefix, skip))
            continue;
        const char *rest = config_keys[i].name + skip;
        int length = (int)strcspn(rest, ".");
        bool known = false;
        for (int j = 0; j < count && !known; j++)
            known = !strncmp(names[j], rest, (size_t)length) && !names[j][length];
        if (!known)
            snprintf(names[count++], sizeof names[0], "%.*s", length, rest);
    }
    return count;
}

/* Unknown keys and sections that are no maps, at every level. */
static void check_section(const reading *r, yaml_node *map, const char *prefix)
{
    char names[CONFIG_KEYS][32];
    const char *pointers[CONFIG_KEYS];
    int count = children(names, prefix);
    for (int i = 0; i < count; i++)
        pointers[i] = names[i];
    yaml_unknown(r->p, map, prefix, pointers, count);
    for (int i = 0; i < count; i++) {
        char below[64], inner[CONFIG_KEYS][32];
        snprintf(below, sizeof below, "%.30s%.30s.", prefix, names[i]);
        const yaml_pair *pair = yaml_find(map, names[i]);
        if (!pair || children(inner, below) == 0 || yaml_is_null(pair->value))
            continue;
        if (pair->value->kind == YAML_MAP)
            check_section(r, pair->value, below);
        else {
            below[strlen(below) - 1] = 0;
            yaml_mismatch(r->p, pair->value, below, "a map of keys");
        }
    }
}

static bool same_folder(const char *a, const char *b)
{
    char *x = realpath(a, NULL), *y = realpath(b, NULL);
    bool same = x && y && !strcmp(x, y);
    free(x);
    free(y);
    return same;
}

static void check_output(problems *p, const run_config *c)
{
    if (!c->output.dir)
        return;
    char *manifest_folder = c->data.manifest ? path_beside(c->data.manifest, ".") : NULL;
    const char *inputs[] = {manifest_folder, c->model.base, c->model.image_encoder};
    static const char *const keys[] = {"data.manifest's folder", "model.base", "model.image_encoder"};
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++)
        if (inputs[i] && same_folder(inputs[i], c->output.dir))
            run_config_problem(p, c, E_CONFIG, "output.dir", "%s is also %s; give the run a folder of its own",
                               c->output.dir, keys[i]);
    free(manifest_folder);
}

/* A cache has each reference encoded once, as it is. */
static void check_augment(problems *p, const run_config *c)
{
    const augment_rates *r = &c->data.augment;
    const struct {
        const char *key;
        double      rate;
    } row[] = {{"data.augment.flip", r->flip}, {"data.augment.rotate", r->rotate}, {"data.augment.crop", r->crop},
               {"data.augment.colour", r->colour}};
    for (size_t i = 0; c->data.cache && i < sizeof row / sizeof *row; i++)
        if (row[i].rate > 0)
            run_config_problem(p, c, E_CONFIG, row[i].key, "%g together with data.cache: the cache holds references as they are; "
                               "set data.cache: off, or data.augment to 0", row[i].rate);
}

/* What concerns more than one key, or more than a range. */
static void check_together(problems *p, const run_config *c)
{
    if (c->data.resolution % 8)
        run_config_problem(p, c, E_CONFIG, "data.resolution",
                           "found %lld, expected a multiple of 8; %lld is the nearest below",
                           (long long)c->data.resolution, (long long)(c->data.resolution / 8 * 8));
    double dropped = c->data.drop.text + c->data.drop.image + c->data.drop.both;
    if (dropped > 1 + 1e-12)
        run_config_problem(p, c, E_CONFIG, "data.drop.both",
                           "text + image + both is %g, expected at most 1: each drops a part of "
                           "its own",
                           dropped);
    if (c->optimizer.schedule != SCHEDULE_CONSTANT && c->optimizer.warmup >= c->train.steps)
        run_config_problem(p, c, E_CONFIG, "optimizer.warmup",
                           "found %lld, expected fewer than the %lld of train.steps, else "
                           "nothing is left for the schedule",
                           (long long)c->optimizer.warmup, (long long)c->train.steps);
    check_augment(p, c);
    check_output(p, c);
}

void run_config_problem(problems *p, const run_config *c, err code, const char *key, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const config_key *k = config_key_find(key);
    CHECK(k, "no such key: %s", key);
    const config_place *place = &c->place[k - config_keys];
    problems_add(p, code, place->file, place->line, "%s: %s", key, text);
}

err run_config_load(run_config **out, arena *memory, problems *p, const char *path, const char *const *sets,
                    int set_count)
{
    *out = NULL;
    int64_t before = p->errors;
    yaml_node *root;
    yaml_read(&root, memory, p, path);
    if (root && root->kind != YAML_MAP) {
        yaml_mismatch(p, root, "RUN.yaml", "sections such as model: and train:");
        root = NULL;
    }
    if (!root)
        return E_CONFIG;
    for (int i = 0; i < set_count; i++)
        yaml_override(root, memory, p, sets[i]);
    reading r = {.c = ARENA_NEW(memory, run_config), .memory = memory, .p = p, .root = root,
                 .file = arena_copy_string(memory, path), .base = absolute(memory, path)};
    check_section(&r, root, "");
    for (int i = 0; i < CONFIG_KEYS; i++)
        read_key(&r, &config_keys[i]);
    check_together(p, r.c);
    *out = r.c;
    return p->errors > before ? p->worst : OK;
}

schedule run_config_schedule(const run_config *c)
{
    return (schedule){.kind = (schedule_kind)c->optimizer.schedule,
                      .lr = c->optimizer.lr,
                      .warmup = c->optimizer.warmup,
                      .steps = c->train.steps};
}
