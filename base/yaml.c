#include "base/yaml.h"

#include <libfyaml.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

typedef struct builder {
    arena      *memory;
    problems   *p;
    const char *name;
    int         documents, depth;
    yaml_node  *root;
    struct {
        yaml_node  *node;
        const char *key; /* of a map: the key whose value comes next */
        int         key_line;
    } open[YAML_DEPTH];
} builder;

static yaml_node *new_node(arena *memory, const char *file, yaml_kind kind, int line)
{
    yaml_node *n = ARENA_NEW(memory, yaml_node);
    *n = (yaml_node){.kind = kind, .file = file, .line = line};
    return n;
}

/* Doubles the room of a list or map. */
static void *grown(arena *memory, const void *old, int count, int *capacity, size_t bytes)
{
    *capacity = *capacity ? 2 * *capacity : 8;
    void *item = arena_get(memory, bytes * (size_t)*capacity);
    if (count)
        memcpy(item, old, bytes * (size_t)count);
    return item;
}

static void add_item(arena *memory, yaml_node *list, yaml_node *value)
{
    if (list->count == list->capacity)
        list->item = grown(memory, list->item, list->count, &list->capacity, sizeof *list->item);
    list->item[list->count++] = value;
}

static void add_pair(arena *memory, yaml_node *map, const char *key, int line, yaml_node *value)
{
    if (map->count == map->capacity)
        map->pair = grown(memory, map->pair, map->count, &map->capacity, sizeof *map->pair);
    map->pair[map->count++] = (yaml_pair){.key = key, .line = line, .value = value};
}

const yaml_pair *yaml_find(const yaml_node *map, const char *key)
{
    for (int i = 0; map && map->kind == YAML_MAP && i < map->count; i++)
        if (!strcmp(map->pair[i].key, key))
            return &map->pair[i];
    return NULL;
}

static void put_in_map(builder *b, yaml_node *map, yaml_node *value)
{
    const char *key = b->open[b->depth - 1].key;
    int line = b->open[b->depth - 1].key_line;
    const yaml_pair *before = yaml_find(map, key);
    b->open[b->depth - 1].key = NULL;
    if (before)
        problems_add(b->p, E_CONFIG, b->name, line, "%s: given twice, first on line %d; remove one", key, before->line);
    else
        add_pair(b->memory, map, key, line, value);
}

/* Puts a node where the text has it; false when it stands where only a key can. */
static bool place_node(builder *b, yaml_node *n)
{
    if (b->depth == 0) {
        b->root = n;
        return true;
    }
    yaml_node *parent = b->open[b->depth - 1].node;
    if (parent->kind == YAML_LIST) {
        add_item(b->memory, parent, n);
    } else if (b->open[b->depth - 1].key) {
        put_in_map(b, parent, n);
    } else if (n->kind == YAML_SCALAR) {
        b->open[b->depth - 1].key = n->text;
        b->open[b->depth - 1].key_line = n->line;
    } else {
        problems_add(b->p, E_CONFIG, b->name, n->line, "a key must be a word, found a %s",
                     n->kind == YAML_MAP ? "map" : "list");
        return false;
    }
    return true;
}

static bool open_node(builder *b, yaml_node *n)
{
    if (!place_node(b, n))
        return false;
    if (b->depth == YAML_DEPTH) {
        problems_add(b->p, E_CONFIG, b->name, n->line, "nested deeper than %d levels", (int)YAML_DEPTH);
        return false;
    }
    b->open[b->depth].node = n;
    b->open[b->depth].key = NULL;
    b->depth++;
    return true;
}

static bool take_scalar(builder *b, struct fy_event *event, int line)
{
    size_t size = 0;
    struct fy_token *token = event->scalar.value;
    const char *text = token ? fy_token_get_text(token, &size) : "";
    char *copy = arena_get(b->memory, size + 1);
    if (text && size)
        memcpy(copy, text, size);
    if (strlen(copy) != size)
        problems_add(b->p, E_CONFIG, b->name, line, "a string with a NUL byte in it");
    yaml_node *n = new_node(b->memory, b->name, YAML_SCALAR, line);
    n->text = copy;
    n->plain = !token || fy_scalar_token_get_style(token) == FYSS_PLAIN;
    return place_node(b, n);
}

/* One event of the parser; false: no use to go on (a problem was added). */
static bool take_event(builder *b, struct fy_event *event)
{
    const struct fy_mark *mark = fy_event_start_mark(event);
    int line = mark ? mark->line + 1 : 0;
    if (fy_event_get_anchor_token(event) && event->type != FYET_ALIAS)
        problems_add(b->p, E_CONFIG, b->name, line, "anchors (&name) are not accepted here; write the value out");
    if (fy_event_get_tag_token(event))
        problems_add(b->p, E_CONFIG, b->name, line, "tags (!type) are not accepted here; write the plain value");
    switch (event->type) {
    case FYET_DOCUMENT_START:
        if (b->documents++ == 0)
            return true;
        problems_add(b->p, E_CONFIG, b->name, line, "a second document begins here, expected one; remove the ---");
        return false;
    case FYET_ALIAS: {
        problems_add(b->p, E_CONFIG, b->name, line, "aliases (*name) are not accepted here; write the value out");
        yaml_node *n = new_node(b->memory, b->name, YAML_SCALAR, line);
        n->text = "";
        n->plain = true;
        return place_node(b, n);
    }
    case FYET_SCALAR:
        return take_scalar(b, event, line);
    case FYET_SEQUENCE_START:
        return open_node(b, new_node(b->memory, b->name, YAML_LIST, line));
    case FYET_MAPPING_START:
        return open_node(b, new_node(b->memory, b->name, YAML_MAP, line));
    case FYET_SEQUENCE_END:
    case FYET_MAPPING_END:
        b->depth--;
        return true;
    default:
        return true;
    }
}

static int line_of(const char *text, size_t offset)
{
    int line = 1;
    for (size_t i = 0; i < offset; i++)
        line += text[i] == '\n';
    return line;
}

/* What never ends is found behind the last line; the message names the last line itself. */
static bool report_syntax(builder *b, struct fy_diag *diag, int last_line)
{
    void *iterator = NULL;
    struct fy_diag_error *first = fy_diag_errors_iterate(diag, &iterator);
    char reason[256];
    if (!first)
        return false;
    int line = first->line < 1 ? 1 : first->line > last_line ? last_line : first->line;
    problems_add(b->p, E_CONFIG, b->name, line, "not YAML: %s", text_escaped(reason, sizeof reason, first->msg));
    return true;
}

/* Runs libfyaml over the text; its own output is kept silent and collected. */
static bool build(builder *b, const char *text, size_t size)
{
    struct fy_diag_cfg diag_options;
    fy_diag_cfg_default(&diag_options);
    diag_options.fp = NULL;
    struct fy_diag *diag = fy_diag_create(&diag_options);
    CHECK(diag, "libfyaml gives no diagnostics");
    fy_diag_set_collect_errors(diag, true);
    struct fy_parse_cfg options = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_JSON_NONE, .diag = diag};
    struct fy_parser *parser = fy_parser_create(&options);
    CHECK(parser, "libfyaml gives no parser");
    bool good = fy_parser_set_string(parser, text, size) == 0, ended = false;
    while (good && !ended) {
        struct fy_event *event = fy_parser_parse(parser);
        if (!event)
            break;
        ended = event->type == FYET_STREAM_END;
        good = take_event(b, event);
        fy_parser_event_free(parser, event);
    }
    if (good && !ended && !report_syntax(b, diag, size ? line_of(text, size - 1) : 1))
        problems_add(b->p, E_CONFIG, b->name, 0, "not YAML: the text ends too early");
    fy_parser_destroy(parser);
    fy_diag_destroy(diag);
    return good && ended;
}

void yaml_parse(yaml_node **root, arena *memory, problems *p, const char *text, size_t size, const char *name)
{
    *root = NULL;
    builder b = {.memory = memory, .p = p, .name = arena_copy_string(memory, name)};
    size_t bad;
    const char *nul = memchr(text, 0, size);
    if (size > YAML_LIMIT) {
        problems_add(p, E_CONFIG, name, 0, "%zu bytes, expected at most %d; is it the right file?", size,
                     (int)YAML_LIMIT);
        return;
    }
    if (size >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) {
        problems_add(p, E_CONFIG, name, 1, "begins with a byte order mark; save it as UTF-8 without BOM");
        return;
    }
    if (nul) {
        problems_add(p, E_CONFIG, name, line_of(text, (size_t)(nul - text)), "a NUL byte; is it a text file?");
        return;
    }
    if (!text_utf8_valid(&bad, text, size)) {
        problems_add(p, E_CONFIG, name, line_of(text, bad), "byte 0x%02X is not UTF-8; save the file as UTF-8",
                     (unsigned)(unsigned char)text[bad]);
        return;
    }
    if (build(&b, text, size))
        *root = b.root ? b.root : new_node(memory, b.name, YAML_MAP, 1);
}

void yaml_read(yaml_node **root, arena *memory, problems *p, const char *path)
{
    *root = NULL;
    char *text;
    size_t size;
    err failed = file_read(&text, &size, path, YAML_LIMIT);
    if (failed) {
        problems_add_error(p, err_as(failed, E_CONFIG), NULL, 0);
        return;
    }
    yaml_parse(root, memory, p, text, size, path);
    free(text);
}

static void forget_lines(yaml_node *n)
{
    n->line = 0;
    for (int i = 0; i < n->count; i++) {
        if (n->kind == YAML_MAP)
            n->pair[i].line = 0;
        forget_lines(n->kind == YAML_MAP ? n->pair[i].value : n->item[i]);
    }
}

/* The place of `key` in a map, made when it is missing. */
static yaml_node **slot(arena *memory, yaml_node *map, const char *key)
{
    for (int i = 0; i < map->count; i++)
        if (!strcmp(map->pair[i].key, key)) {
            map->pair[i].line = 0;
            return &map->pair[i].value;
        }
    add_pair(memory, map, key, 0, NULL);
    return &map->pair[map->count - 1].value;
}

void yaml_override(yaml_node *root, arena *memory, problems *p, const char *assignment)
{
    CHECK(root->kind == YAML_MAP, "override of a tree that is no map");
    char shown[200];
    const char *name = arena_print(memory, "--set %s", text_escaped(shown, sizeof shown, assignment));
    const char *equals = strchr(assignment, '=');
    const char *dots = strstr(assignment, "..");
    if (!equals || equals == assignment || assignment[0] == '.' || equals[-1] == '.' || (dots && dots < equals)) {
        problems_add(p, E_USAGE, name, 0, "expected KEY=VALUE, as in --set train.steps=100");
        return;
    }
    yaml_node *value;
    yaml_parse(&value, memory, p, equals + 1, strlen(equals + 1), name);
    if (!value)
        return;
    if (value->kind == YAML_MAP && value->count == 0 && !strchr(equals, '{')) /* nothing behind the = */
        *value = (yaml_node){.kind = YAML_SCALAR, .plain = true, .text = "", .file = value->file};
    forget_lines(value);
    char *path = arena_print(memory, "%.*s", (int)(equals - assignment), assignment);
    yaml_node *map = root;
    for (char *dot = strchr(path, '.'); dot; dot = strchr(path, '.')) {
        *dot = 0;
        yaml_node **child = slot(memory, map, path);
        if (!*child || (*child)->kind != YAML_MAP)
            *child = new_node(memory, name, YAML_MAP, 0);
        map = *child;
        path = dot + 1;
    }
    *slot(memory, map, path) = value;
}
