#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "train/config_keys.h"

/* Depth of the sections that two neighbouring keys share. */
static int shared_sections(const char *a, const char *b)
{
    int depth = 0;
    for (; *a && *a == *b; a++, b++)
        depth += *a == '.';
    return depth;
}

char *run_config_text(arena *memory, const run_config *c)
{
    char *text = arena_print(memory, "# Every key of this run, with its defaults.\n");
    const char *last = "";
    for (int i = 0; i < CONFIG_KEYS; i++) {
        const config_key *k = &config_keys[i];
        int open = shared_sections(last, k->name), depth = 0;
        const char *at = k->name;
        for (const char *dot = strchr(at, '.'); dot; at = dot + 1, dot = strchr(at, '.'), depth++)
            if (depth >= open)
                text = arena_print(memory, "%s%*s%.*s:\n", text, 2 * depth, "", (int)(dot - at), at);
        text = arena_print(memory, "%s%*s%s: %s\n", text, 2 * depth, "", at, config_key_text(memory, k, c));
        last = k->name;
    }
    return text;
}

bool run_config_setting(const char **name, const char **value, arena *memory, const run_config *c, int key)
{
    const config_key *k = &config_keys[key];
    *name = k->name;
    *value = config_key_text(memory, k, c);
    return k->kind != KEY_PATH && k->kind != KEY_PATH_OR_NULL && k->kind != KEY_PATH_OR_OFF;
}

static bool depends_on_steps(const run_config *c)
{
    return c->optimizer.schedule != SCHEDULE_CONSTANT;
}

static bool may_change(const config_key *k, const run_config *before, const run_config *now, const char *const *allowed,
                       int allowed_count)
{
    for (int i = 0; i < allowed_count; i++)
        if (!strcmp(k->name, allowed[i]))
            return true;
    if (!strcmp(k->name, "train.steps"))
        return !depends_on_steps(before) && !depends_on_steps(now);
    return k->free;
}

static err check_allowed(const char *const *allowed, int allowed_count)
{
    const char *names[CONFIG_KEYS];
    for (int i = 0; i < CONFIG_KEYS; i++)
        names[i] = config_keys[i].name;
    for (int i = 0; i < allowed_count; i++) {
        if (config_key_find(allowed[i]))
            continue;
        const char *near = text_nearest(allowed[i], names, CONFIG_KEYS);
        return err_set(E_USAGE, "--allow-change %s: no such key%s%s%s", allowed[i], near ? "; did you mean " : "",
                       near ? near : "", near ? "?" : "");
    }
    return OK;
}

err run_config_resumes(const run_config *before, const run_config *now, const char *const *allowed, int allowed_count)
{
    TRY(check_allowed(allowed, allowed_count));
    arena memory = {0};
    const char *list = "";
    for (int i = 0; i < CONFIG_KEYS; i++) {
        const config_key *k = &config_keys[i];
        const char *was = config_key_text(&memory, k, before), *is = config_key_text(&memory, k, now);
        if (strcmp(was, is) && !may_change(k, before, now, allowed, allowed_count))
            list = arena_print(&memory, "%s%s%s (%s, now %s)", list, list[0] ? ", " : "", k->name, was, is);
    }
    err result = OK;
    if (list[0])
        result = err_set(E_CONFIG,
                         "differs from the checkpoint's config: %s; go back to the old value or add --allow-change KEY "
                         "for each",
                         list);
    arena_free(&memory);
    return result;
}
