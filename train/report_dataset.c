/* The dataset in a report: how many subjects, which phrases, how large pictures and boxes are. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "data/image.h"
#include "train/report.h"

enum { MOST_PHRASES = 16, MOST_SUBJECTS = 65, SIZES = 5, BOXES = 4, MOST_PROBED = 20000 };

typedef struct statistics {
    int64_t subjects, with[MOST_SUBJECTS]; /* samples with so many subjects */
    int64_t probed, unreadable, side[SIZES], shape[3]; /* short sides; upright, square, lying */
    int64_t box[BOXES];                    /* share of the picture */
    const char **phrase;                   /* (subjects) */
} statistics;

static const int     side_limit[SIZES] = {256, 512, 768, 1024, 1 << 30};
static const char *const side_name[SIZES] = {"below 256", "256 to 511", "512 to 767", "768 to 1023", "1024 and more"};
static const double  box_limit[BOXES] = {0.05, 0.2, 0.5, 2};
static const char *const box_name[BOXES] = {"below 5 %", "5 to 20 %", "20 to 50 %", "50 % and more"};
static const char *const shape_name[3] = {"upright", "square", "lying"};

static void count_boxes(statistics *s, const sample *m, int width, int height)
{
    for (int j = 0; j < m->subjects; j++) {
        float fit[4];
        int bin = 0;
        box_fit(fit, m->subject[j].box, m->units, width, height);
        double share = (double)(fit[2] - fit[0]) * (double)(fit[3] - fit[1]);
        while (share >= box_limit[bin])
            bin++;
        s->box[bin]++;
    }
}

static void count_picture(statistics *s, const sample *m)
{
    image_header h;
    int bin = 0;
    if (image_probe(&h, m->image, NULL) != OK) {
        s->unreadable++;
        return;
    }
    int width = image_header_width(&h), height = image_header_height(&h), side = width < height ? width : height;
    while (side >= side_limit[bin])
        bin++;
    s->probed++;
    s->side[bin]++;
    s->shape[width < height ? 0 : width == height ? 1 : 2]++;
    count_boxes(s, m, width, height);
}

static void count_all(statistics *s, report_data *d)
{
    const manifest *m = &d->dataset;
    int64_t at = 0;
    for (int64_t i = 0; i < m->count; i++) {
        s->subjects += m->sample[i].subjects;
        s->with[m->sample[i].subjects < MOST_SUBJECTS ? m->sample[i].subjects : MOST_SUBJECTS - 1]++;
        if (i < MOST_PROBED)
            count_picture(s, &m->sample[i]);
    }
    s->phrase = ARENA_ARRAY(&d->memory, const char *, s->subjects + 1);
    for (int64_t i = 0; i < m->count; i++)
        for (int j = 0; j < m->sample[i].subjects; j++)
            s->phrase[at++] = m->sample[i].subject[j].phrase;
}

/* ---- phrases ---- */

typedef struct phrase_count {
    const char *text;
    int64_t     count;
} phrase_count;

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int by_count(const void *a, const void *b)
{
    const phrase_count *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1) : strcmp(x->text, y->text);
}

static void bar(html *h, const char *name, int64_t count, int64_t most)
{
    html_raw(h, "<div class=\"bar\"><span>");
    html_text(h, name);
    html_raw(h, "</span><span>");
    if (count > 0)
        html_print(h, "<i style=\"width:%.1f%%\"></i>", 100 * (double)count / (double)most);
    html_print(h, "</span><b>%" PRId64 "</b></div>\n", count);
}

static void write_phrases(html *h, report_data *d, statistics *s)
{
    if (!s->subjects)
        return;
    phrase_count *p = ARENA_ARRAY(&d->memory, phrase_count, s->subjects);
    int64_t kinds = 0;
    qsort(s->phrase, (size_t)s->subjects, sizeof *s->phrase, by_text);
    for (int64_t i = 0; i < s->subjects; i++) {
        if (!i || strcmp(s->phrase[i], s->phrase[i - 1]))
            p[kinds++].text = s->phrase[i];
        p[kinds - 1].count++;
    }
    qsort(p, (size_t)kinds, sizeof *p, by_count);
    html_print(h, "<div class=\"card\"><h3>Phrases <small>%" PRId64 " different%s</small></h3>\n", kinds,
               kinds > MOST_PHRASES ? ", the most frequent" : "");
    for (int64_t i = 0; i < kinds && i < MOST_PHRASES; i++)
        bar(h, p[i].text, p[i].count, p[0].count);
    html_raw(h, "</div>\n");
}

static void write_bins(html *h, const char *title, const char *const *name, const int64_t *count, int bins)
{
    int64_t most = 0;
    for (int i = 0; i < bins; i++)
        most = count[i] > most ? count[i] : most;
    if (!most)
        return;
    html_print(h, "<div class=\"card\"><h3>%s</h3>\n", title);
    for (int i = 0; i < bins; i++)
        bar(h, name[i], count[i], most);
    html_raw(h, "</div>\n");
}

static void write_subjects(html *h, const statistics *s)
{
    int64_t most = 0, last = 0;
    for (int i = 0; i < MOST_SUBJECTS; i++) {
        most = s->with[i] > most ? s->with[i] : most;
        last = s->with[i] ? i : last;
    }
    html_raw(h, "<div class=\"card\"><h3>Subjects <small>a picture</small></h3>\n");
    for (int64_t i = 0; i <= last; i++) {
        arena words = {0};
        bar(h, arena_print(&words, "%" PRId64 "%s", i, i == MOST_SUBJECTS - 1 ? " and more" : ""), s->with[i], most);
        arena_free(&words);
    }
    html_raw(h, "</div>\n");
}

void report_dataset(html *h, report_data *d)
{
    statistics s = {0};
    if (!d->dataset.count)
        return;
    count_all(&s, d);
    html_print(h, "<section><h2>Dataset</h2><p class=\"soft\">%" PRId64 " samples, %" PRId64 " subjects, of ",
               d->dataset.count, s.subjects);
    html_text(h, d->dataset.path);
    html_raw(h, ", as it is now.");
    if (s.probed + s.unreadable < d->dataset.count)
        html_print(h, " Sizes are those of the first %" PRId64 " pictures.", s.probed + s.unreadable);
    if (s.unreadable)
        html_print(h, " <span class=\"warn\">%" PRId64 " pictures cannot be read.</span>", s.unreadable);
    html_raw(h, "</p><div class=\"cards\">\n");
    write_subjects(h, &s);
    write_phrases(h, d, &s);
    write_bins(h, "Pictures <small>short side in pixels</small>", side_name, s.side, SIZES);
    write_bins(h, "Pictures <small>shape</small>", shape_name, s.shape, 3);
    write_bins(h, "Boxes <small>share of the picture</small>", box_name, s.box, BOXES);
    html_raw(h, "</div></section>\n");
}
