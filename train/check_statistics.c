#include "train/check_statistics.h"

#include <stdlib.h>

#include "base/json.h"
#include "data/phrase.h"

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static spread spread_of(double *values, int64_t count)
{
    if (!count)
        return (spread){0};
    qsort(values, (size_t)count, sizeof *values, compare);
    return (spread){values[0], values[count / 2], values[count - 1]};
}

static void count_side(check_statistics *out, int side)
{
    static const int below[] = {256, 512, 768, 1024, 2048};
    int bin = 0;
    while (bin < STATISTICS_BINS - 1 && side >= below[bin])
        bin++;
    out->short_side[bin]++;
}

static void count_phrases(check_statistics *out, const sample *s)
{
    arena memory = {0};
    const char **phrases = ARENA_ARRAY(&memory, const char *, s->subjects + 1);
    bool *found = ARENA_ARRAY(&memory, bool, s->subjects + 1);
    for (int i = 0; i < s->subjects; i++)
        phrases[i] = s->subject[i].phrase;
    if (phrase_present(found, s->text, phrases, s->subjects) == OK)
        for (int i = 0; i < s->subjects; i++)
            if (!found[i] && out->unmatched++ < STATISTICS_LINES)
                out->unmatched_line[out->unmatched - 1] = s->line;
    arena_free(&memory);
}

void check_statistics_gather(check_statistics *out, const manifest *m, const int *size)
{
    int64_t subjects = 0, shares = 0;
    for (int64_t i = 0; i < m->count; i++)
        subjects += m->sample[i].subjects;
    double *sides = heap_get((size_t)(2 * m->count + subjects + 1) * sizeof *sides);
    double *heights = sides + m->count, *share = heights + m->count;
    *out = (check_statistics){0};
    for (int64_t i = 0; i < m->count; i++) {
        const sample *s = &m->sample[i];
        int width = size[2 * i], height = size[2 * i + 1];
        if (!s->valid || !width)
            continue;
        sides[out->sized] = width;
        heights[out->sized++] = height;
        count_side(out, width < height ? width : height);
        out->subjects[s->subjects < STATISTICS_BINS ? s->subjects : STATISTICS_BINS - 1]++;
        for (int j = 0; j < s->subjects; j++) {
            float box[4];
            if (box_fit(box, s->subject[j].box, s->units, width, height) != BOX_OUTSIDE)
                share[shares++] = (double)(box[2] - box[0]) * (double)(box[3] - box[1]);
        }
        count_phrases(out, s);
    }
    out->width = spread_of(sides, out->sized);
    out->height = spread_of(heights, out->sized);
    out->share = spread_of(share, shares);
    free(sides);
}

static void print_bins(FILE *out, const char *title, const char *const *names, const int64_t *bins, int64_t all)
{
    fprintf(out, "  %s\n", title);
    for (int i = 0; i < STATISTICS_BINS; i++)
        if (bins[i])
            fprintf(out, "    %-12s %8lld  %.*s\n", names[i], (long long)bins[i], (int)(40 * bins[i] / all),
                    "########################################");
}

static void print_spread(FILE *out, const char *what, spread s, double unit, const char *suffix)
{
    fprintf(out, "  %-22s %.4g to %.4g%s, median %.4g%s\n", what, unit * s.lowest, unit * s.highest, suffix,
            unit * s.median, suffix);
}

void check_statistics_print(FILE *out, const check_statistics *s)
{
    static const char *const sides[] = {"below 256", "256..511", "512..767", "768..1023", "1024..2047", "from 2048"};
    static const char *const counts[] = {"none", "1", "2", "3", "4", "5 and more"};
    if (!s->sized)
        return;
    print_spread(out, "width of pictures", s->width, 1, "");
    print_spread(out, "height of pictures", s->height, 1, "");
    print_bins(out, "shorter side, samples", sides, s->short_side, s->sized);
    print_bins(out, "subjects, samples", counts, s->subjects, s->sized);
    print_spread(out, "box, of the picture", s->share, 100, " %");
    fprintf(out, "  phrases not in their caption: %lld", (long long)s->unmatched);
    for (int i = 0; i < STATISTICS_LINES && s->unmatched_line[i]; i++)
        fprintf(out, "%s%lld", i ? ", " : " (lines ", (long long)s->unmatched_line[i]);
    fprintf(out, "%s\n", !s->unmatched ? "" : s->unmatched > STATISTICS_LINES ? ", ...)" : ")");
    fprintf(out, "  files with the content of another: %lld\n", (long long)s->same_content);
    fflush(out); /* an error, which comes last, goes to another stream */
}

static json_t *spread_json(spread s)
{
    return json_pack("{s:f, s:f, s:f}", "min", s.lowest, "median", s.median, "max", s.highest);
}

static json_t *bins_json(const int64_t *bins, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count && (count != STATISTICS_LINES || bins[i]); i++)
        json_array_append_new(list, json_integer(bins[i]));
    return list;
}

void check_statistics_print_json(FILE *out, const check_statistics *s, int64_t samples, int64_t subjects,
                                 int64_t pictures)
{
    json_t *all = json_pack("{s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:I}", "samples", (json_int_t)samples,
                            "subjects", (json_int_t)subjects, "pictures", (json_int_t)pictures, "width",
                            spread_json(s->width), "height", spread_json(s->height), "box_share",
                            spread_json(s->share), "shorter_side", bins_json(s->short_side, STATISTICS_BINS),
                            "subjects_per_sample", bins_json(s->subjects, STATISTICS_BINS), "phrases_not_in_caption",
                            (json_int_t)s->unmatched, "their_lines", bins_json(s->unmatched_line, STATISTICS_LINES),
                            "files_with_content_of_another", (json_int_t)s->same_content);
    json_dumpf(all, out, JSON_INDENT(2));
    fprintf(out, "\n");
    json_decref(all);
}
