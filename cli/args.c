#include "cli/args.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ARGUMENTS = 64 };

typedef struct parse {
    const command *c;
    char          *options;
    bool           given[MAX_ARGUMENTS];
} parse;

static bool is_positional(const argument *a)
{
    return a->name[0] != '-';
}

static int count_of(const command *c)
{
    int n = 0;
    while (c->arguments[n].name)
        n++;
    return n;
}

/* ---- help ---- */

static void print_usage_line(const command *c, FILE *out)
{
    fprintf(out, "Usage: msd %s", c->name);
    for (const argument *a = c->arguments; a->name; a++)
        if (is_positional(a))
            fprintf(out, " %s%s%s", a->required ? "" : "[", a->name, a->required ? "" : "]");
    for (const argument *a = c->arguments; a->name; a++)
        if (!is_positional(a) && a->required)
            fprintf(out, " %s %s", a->name, a->value);
    fprintf(out, " [OPTIONS]\n");
}

static void print_help(const command *c)
{
    print_usage_line(c, stdout);
    printf("\n%s\n\nArguments and options:\n", c->about);
    for (const argument *a = c->arguments; a->name; a++) {
        char left[64];
        if (is_positional(a))
            snprintf(left, sizeof left, "%s", a->name);
        else if (a->letter)
            snprintf(left, sizeof left, "-%c, %s %s", a->letter, a->name, a->value ? a->value : "");
        else
            snprintf(left, sizeof left, "    %s %s", a->name, a->value ? a->value : "");
        printf("  %-30s %s%s%s\n", left, a->help, a->kind == ARG_LIST ? "; may be repeated" : "",
               a->required && !is_positional(a) ? " (required)" : "");
    }
    printf("  %-30s %s\n\nExamples:\n%s", "-h, --help", "this text", c->examples);
}

/* ---- values ---- */

static int store_whole(const command *c, const argument *a, const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno || text[0] == '+' || text[0] == ' ')
        return msd_usage_error("msd %s: %s: '%s' is not a whole number; give e.g. %s 1", c->name, a->name, text, a->name);
    *out = value;
    return 0;
}

static int store_number(const command *c, const argument *a, const char *text, double *out)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value) || text[0] == '+' || text[0] == ' ' || strpbrk(text, "xXpP"))
        return msd_usage_error("msd %s: %s: '%s' is not a number; give e.g. %s 0.5", c->name, a->name, text, a->name);
    *out = value;
    return 0;
}

static int store_list(msd_list *list, const char *text)
{
    const char **grown = realloc(list->item, (size_t)(list->count + 1) * sizeof *grown);
    if (!grown)
        return msd_usage_error("out of memory for the command line");
    list->item = grown;
    list->item[list->count++] = text;
    return 0;
}

static int store(parse *p, int i, const char *text)
{
    const argument *a = &p->c->arguments[i];
    void *at = p->options + a->at;
    if (p->given[i] && a->kind != ARG_LIST)
        return msd_usage_error("msd %s: %s is given twice; give it once", p->c->name, a->name);
    p->given[i] = true;
    switch (a->kind) {
    case ARG_FLAG:
        *(bool *)at = true;
        return 0;
    case ARG_TEXT:
        *(const char **)at = text;
        return 0;
    case ARG_WHOLE:
        return store_whole(p->c, a, text, at);
    case ARG_NUMBER:
        return store_number(p->c, a, text, at);
    case ARG_LIST:
        return store_list(at, text);
    }
    return 0;
}

/* ---- parsing ---- */

static int unknown(const command *c, const char *word)
{
    const char *names[MAX_ARGUMENTS + 2] = {"--help"};
    int n = 1;
    for (const argument *a = c->arguments; a->name; a++)
        if (!is_positional(a))
            names[n++] = a->name;
    names[n] = NULL;
    const char *nearest = msd_nearest(word, names);
    return msd_usage_error("msd %s: unknown option %s%s%s; msd %s --help lists them all", c->name, word,
                           nearest ? ", did you mean " : "", nearest ? nearest : "", c->name);
}

static int find_option(const command *c, const char *word, size_t length)
{
    for (int i = 0; c->arguments[i].name; i++) {
        const argument *a = &c->arguments[i];
        bool is_long = strlen(a->name) == length && !strncmp(a->name, word, length);
        bool is_short = a->letter && length == 2 && word[0] == '-' && word[1] == a->letter;
        if (!is_positional(a) && (is_long || is_short))
            return i;
    }
    return -1;
}

static int parse_option(parse *p, int *i, int argc, char **argv)
{
    const char *word = argv[*i], *equals = word[1] == '-' ? strchr(word, '=') : NULL;
    int found = find_option(p->c, word, equals ? (size_t)(equals - word) : strlen(word));
    if (found < 0)
        return unknown(p->c, word);
    const argument *a = &p->c->arguments[found];
    if (a->kind == ARG_FLAG)
        return equals ? msd_usage_error("msd %s: %s takes no value", p->c->name, a->name) : store(p, found, NULL);
    if (equals)
        return store(p, found, equals + 1);
    if (*i + 1 >= argc)
        return msd_usage_error("msd %s: %s needs a value: %s %s", p->c->name, a->name, a->name, a->value);
    return store(p, found, argv[++*i]);
}

static int parse_positional(parse *p, const char *word)
{
    for (int i = 0; p->c->arguments[i].name; i++)
        if (is_positional(&p->c->arguments[i]) && !p->given[i])
            return store(p, i, word);
    return msd_usage_error("msd %s: unexpected '%s'; msd %s --help shows the usage", p->c->name, word, p->c->name);
}

static int check_required(const parse *p)
{
    for (int i = 0; p->c->arguments[i].name; i++) {
        const argument *a = &p->c->arguments[i];
        if (a->required && !p->given[i])
            return msd_usage_error("msd %s: %s is missing; msd %s --help shows the usage and an example", p->c->name,
                                   a->name, p->c->name);
    }
    return 0;
}

static int parse_all(parse *p, int argc, char **argv, bool *help)
{
    bool words_only = false;
    for (int i = 0; i < argc; i++) {
        int status;
        if (!words_only && !strcmp(argv[i], "--")) {
            words_only = true;
            continue;
        }
        if (!words_only && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))) {
            *help = true;
            return 0;
        }
        if (!words_only && argv[i][0] == '-' && argv[i][1])
            status = parse_option(p, &i, argc, argv);
        else
            status = parse_positional(p, argv[i]);
        if (status)
            return status;
    }
    return check_required(p);
}

static void free_lists(parse *p)
{
    for (const argument *a = p->c->arguments; a->name; a++)
        if (a->kind == ARG_LIST)
            free(((msd_list *)(void *)(p->options + a->at))->item);
    free(p->options);
}

int command_run(const command *c, int argc, char **argv)
{
    if (count_of(c) >= MAX_ARGUMENTS)
        return msd_usage_error("msd %s: its table of arguments is too long", c->name);
    parse p = {.c = c, .options = calloc(1, c->options_size)};
    if (!p.options)
        return msd_usage_error("out of memory for the command line");
    if (c->defaults)
        c->defaults(p.options);
    bool help = false;
    int status = parse_all(&p, argc, argv, &help);
    if (help)
        print_help(c);
    else if (!status)
        status = c->run(p.options);
    free_lists(&p);
    return status;
}
