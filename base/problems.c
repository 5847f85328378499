#include "base/problems.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT = 1000, TEXT_BYTES = 2048 };

static void keep(problems *p, err code, const char *file, int64_t line, const char *text)
{
    if (code == OK)
        p->warnings++;
    else
        p->errors++;
    if (code != OK && (p->worst == OK || err_exit_code(code) < err_exit_code(p->worst)))
        p->worst = code;
    if (p->count == KEPT)
        return;
    if (p->count == p->capacity) {
        int capacity = p->capacity ? 2 * p->capacity : 16;
        problem *item = ARENA_ARRAY(p->memory, problem, capacity);
        if (p->count)
            memcpy(item, p->item, sizeof *item * (size_t)p->count);
        p->item = item;
        p->capacity = capacity;
    }
    p->item[p->count++] = (problem){.code = code, .file = file ? arena_copy_string(p->memory, file) : NULL,
                                    .line = line, .text = arena_copy_string(p->memory, text)};
}

void problems_add(problems *p, err code, const char *file, int64_t line, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    CHECK(code != OK, "a problem without a class: %s", text);
    keep(p, code, file, line, text);
}

void problems_warn(problems *p, const char *file, int64_t line, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    keep(p, OK, file, line, text);
}

void problems_add_error(problems *p, err code, const char *file, int64_t line)
{
    problems_add(p, code, file, line, "%s", err_message());
}

typedef struct place { /* of a problem in the printed order */
    int     file;      /* number of the first problem of its file */
    int64_t line;
    int     index;
} place;

static int compare_places(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

static bool same_file(const problem *a, const problem *b)
{
    return a->file && b->file ? !strcmp(a->file, b->file) : a->file == b->file;
}

static place *sorted(const problems *p)
{
    place *order = heap_get(sizeof *order * (size_t)p->count);
    for (int i = 0; i < p->count; i++) {
        int first = i ? order[i - 1].file : 0; /* neighbours are mostly of one file */
        if (!same_file(&p->item[first], &p->item[i]))
            for (first = 0; !same_file(&p->item[first], &p->item[i]); first++)
                continue;
        order[i] = (place){.file = first, .line = p->item[i].line, .index = i};
    }
    qsort(order, (size_t)p->count, sizeof *order, compare_places);
    return order;
}

/* "RUN.yaml:3: text" */
static void compose(char *out, size_t room, const problem *item)
{
    if (item->file && item->line > 0)
        snprintf(out, room, "%s:%lld: %s", item->file, (long long)item->line, item->text);
    else if (item->file)
        snprintf(out, room, "%s: %s", item->file, item->text);
    else
        snprintf(out, room, "%s", item->text);
}

err problems_report(const problems *p, FILE *out, int limit)
{
    char line[2 * TEXT_BYTES], single[2 * TEXT_BYTES] = "";
    place *order = sorted(p);
    int printed = 0;
    for (int i = 0; i < p->count; i++) {
        const problem *item = &p->item[order[i].index];
        compose(line, sizeof line, item);
        if (item->code && p->errors == 1) {
            memcpy(single, line, sizeof single);
            continue;
        }
        if (printed++ >= limit)
            continue;
        if (item->code)
            fprintf(out, "error[%s] %s\n", err_name(item->code), line);
        else
            fprintf(out, "warning: %s\n", line);
    }
    free(order);
    int64_t left = p->errors + p->warnings - (p->errors == 1) - (printed < limit ? printed : limit);
    if (left > 0)
        fprintf(out, "... and %lld more\n", (long long)left);
    if (p->errors == 0)
        return OK;
    if (p->errors == 1 && single[0])
        return err_set(p->worst, "%s", single);
    return err_set(p->worst, "%lld problems, listed above; mend them and run again", (long long)p->errors);
}
