/* What has to be the same on all ranks. Rank 0 gets every rank's facts and says what is odd. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/hash.h"
#include "base/text.h"
#include "train/ranks_state.h"

enum { VERDICT_BYTES = 4096, MOST_ODD = 8, MOST_SHOWN = 160 };

/* All facts as one text: name NUL value NUL ... */
static char *pack(size_t *bytes, const ranks_fact *facts, int count)
{
    *bytes = 0;
    for (int i = 0; i < count; i++)
        *bytes += strlen(facts[i].name) + strlen(facts[i].value) + 2;
    char *text = heap_get(*bytes + 1), *at = text;
    for (int i = 0; i < count; i++) {
        at = stpcpy(at, facts[i].name) + 1;
        at = stpcpy(at, facts[i].value) + 1;
    }
    return text;
}

/* False: not `count` facts of these names. */
static bool unpack(const char **values, const char *text, size_t bytes, const ranks_fact *facts, int count)
{
    const char *end = text + bytes;
    for (int i = 0; i < 2 * count; i++) {
        const char *stop = text < end ? memchr(text, 0, (size_t)(end - text)) : NULL;
        if (!stop || (i % 2 == 0 && strcmp(text, facts[i / 2].name)))
            return false;
        if (i % 2)
            values[i / 2] = text;
        text = stop + 1;
    }
    return text == end;
}

typedef struct comparison {
    ranks            *r;
    const ranks_fact *facts;
    int               count;
    const char      **value; /* (ranks, count); the first of a rank is NULL where its facts are others */
    char             *verdict;
    size_t            used;
    int               odd;
} comparison;

/* The value that most ranks have; rank 0's where none has more. */
static const char *usual_value(const comparison *c, int fact)
{
    const char *best = c->facts[fact].value;
    int n = c->r->count, most = 0;
    uint64_t *key = heap_get((size_t)n * sizeof *key);
    for (int i = 0; i < n; i++) {
        const char *v = c->value[i * c->count] ? c->value[i * c->count + fact] : "";
        key[i] = hash_fnv1a(v, strlen(v));
    }
    for (int i = 0; i < n; i++) {
        int same = 0;
        for (int j = 0; j < n; j++)
            same += key[j] == key[i];
        if (same > most && c->value[i * c->count]) {
            most = same;
            best = c->value[i * c->count + fact];
        }
    }
    free(key);
    return best;
}

/* The first line of `a` that is not that of `b`, fit for a message. */
static void odd_line(char out[MOST_SHOWN], const char *a, const char *b)
{
    char line[1024];
    size_t start = 0;
    for (size_t i = 0; a[i] && a[i] == b[i]; i++)
        if (a[i] == '\n')
            start = i + 1;
    snprintf(line, sizeof line, "%.*s", (int)strcspn(a + start, "\n"), a + start);
    text_escaped(out, MOST_SHOWN, line);
}

__attribute__((format(printf, 2, 3))) static void say(comparison *c, const char *format, ...)
{
    va_list arguments;
    size_t room = VERDICT_BYTES - c->used;
    if (c->odd++ >= MOST_ODD)
        return;
    if (c->used && room > 3)
        c->used += (size_t)snprintf(c->verdict + c->used, room, "; ");
    va_start(arguments, format);
    int more = vsnprintf(c->verdict + c->used, VERDICT_BYTES - c->used, format, arguments);
    va_end(arguments);
    c->used += more > 0 ? (size_t)more : 0;
    c->used = c->used < VERDICT_BYTES ? c->used : VERDICT_BYTES - 1;
}

static void judge_fact(comparison *c, int fact)
{
    const char *usual = usual_value(c, fact);
    for (int i = 0; i < c->r->count; i++) {
        char found[MOST_SHOWN], expected[MOST_SHOWN];
        const char *host = i == 0 ? c->r->host : c->r->peer[i].host, *v = c->value[i * c->count + fact];
        if (!c->value[i * c->count] || !strcmp(v, usual))
            continue;
        odd_line(found, v, usual);
        odd_line(expected, usual, v);
        say(c, "rank %d (%s): %s is %s, the others have %s", i, host, c->facts[fact].name, found, expected);
    }
}

static void judge(comparison *c)
{
    for (int i = 1; i < c->r->count; i++)
        if (!c->value[i * c->count])
            say(c, "rank %d (%s) is another program: it compares other things", i, c->r->peer[i].host);
    for (int fact = 0; fact < c->count; fact++)
        judge_fact(c, fact);
}

static void read_all(comparison *c, parcel **parcels)
{
    for (int i = 0; i < c->r->count; i++) {
        const char **row = c->value + (ptrdiff_t)i * c->count;
        for (int f = 0; f < c->count; f++)
            row[f] = i == 0 ? c->facts[f].value : NULL;
        if (i > 0 && !unpack(row, (const char *)parcels[i]->data, parcels[i]->bytes, c->facts, c->count))
            row[0] = NULL;
    }
}

static void judge_all(char verdict[VERDICT_BYTES], ranks *r, parcel **parcels, const ranks_fact *facts, int count)
{
    comparison c = {.r = r, .facts = facts, .count = count, .verdict = verdict};
    c.value = heap_get((size_t)(r->count * count) * sizeof *c.value);
    read_all(&c, parcels);
    judge(&c);
    free(c.value);
}

err ranks_compare(ranks *r, const ranks_fact *facts, int count)
{
    if (!r || count == 0)
        return OK;
    char verdict[VERDICT_BYTES] = "";
    parcel **parcels = heap_get((size_t)r->count * sizeof *parcels);
    size_t bytes;
    char *mine = pack(&bytes, facts, count);
    err e = ranks_collect(r, parcels, mine, bytes);
    if (e == OK && r->rank == 0)
        judge_all(verdict, r, parcels, facts, count);
    if (e == OK)
        e = ranks_broadcast(r, verdict, sizeof verdict);
    for (int i = 1; i < r->count && r->rank == 0; i++)
        free(parcels[i]);
    free(parcels);
    free(mine);
    TRY(e);
    verdict[VERDICT_BYTES - 1] = 0;
    return verdict[0] ? err_set(E_DISTRIBUTED, "the ranks do not agree: %s", verdict) : OK;
}
