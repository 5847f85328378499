/* The curves of a report: what log.jsonl says, by step. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "train/chart.h"
#include "train/report.h"

static void single(html *h, const report_steps *s, const double *y, chart c)
{
    chart_line line = {.name = c.title, .style = "main", .x = s->step, .y = y, .count = s->count};
    c.line = &line;
    c.lines = 1;
    chart_write(h, &c);
}

static void loss(html *h, const report_steps *s)
{
    chart_line lines[] = {{"of each step", "faint", s->step, s->loss, s->count},
                          {"running average", "main", s->step, s->average, s->count}};
    chart_write(
        h, &(chart){.title = "Loss",
                    .unit = "mean squared error",
                    .line = lines,
                    .lines = 2,
                    .caption = "Mean over the samples of a step; the average weighs each new step with 5&nbsp;%."});
}

static void validation(html *h, const report_validations *v)
{
    static const char *const style[VALIDATION_BINS] = {"b0", "b1", "b2", "b3"};
    char name[VALIDATION_BINS][64], caption[160];
    chart_line lines[VALIDATION_BINS + 1];
    if (!v->count)
        return;
    for (int i = 0; i < VALIDATION_BINS; i++) {
        snprintf(name[i], sizeof name[i], "timesteps %" PRId64 "&ndash;%" PRId64, v->edge[i], v->edge[i + 1] - 1);
        lines[i] = (chart_line){name[i], style[i], v->step, v->bin[i], v->count};
    }
    lines[VALIDATION_BINS] = (chart_line){"all", "mean", v->step, v->loss, v->count};
    snprintf(caption, sizeof caption,
             "%" PRId64 " held-out samples with fixed timesteps and noise, by timestep; 0 is nearly without noise.",
             v->samples);
    chart_write(h, &(chart){.title = "Validation loss",
                            .unit = "mean squared error",
                            .line = lines,
                            .lines = VALIDATION_BINS + 1,
                            .caption = caption});
}

static void validation_table(html *h, const report_validations *v)
{
    enum { ROWS = 20 };
    if (!v->count)
        return;
    html_raw(h, "<details><summary>Validation losses as numbers</summary><div "
                "class=\"wide\"><table><tr><th>step</th><th>all</th>");
    for (int i = 0; i < VALIDATION_BINS; i++)
        html_print(h, "<th>%" PRId64 "&ndash;%" PRId64 "</th>", v->edge[i], v->edge[i + 1] - 1);
    html_raw(h, "</tr>");
    int64_t every = (v->count + ROWS - 1) / ROWS;
    for (int64_t at = (v->count - 1) % every; at < v->count; at += every) {
        html_print(h, "<tr><td>%.0f</td><td>%.5f</td>", v->step[at], v->loss[at]);
        for (int i = 0; i < VALIDATION_BINS; i++)
            html_print(h, "<td>%.5f</td>", v->bin[i][at]);
        html_raw(h, "</tr>");
    }
    html_raw(h, "</table></div></details>\n");
}

void report_curves(html *h, const report_data *d)
{
    const report_steps *s = &d->steps;
    if (!s->count)
        return;
    html_raw(h, "<section><h2>Curves</h2><div class=\"curves\">\n");
    loss(h, s);
    validation(h, &d->validations);
    single(h, s, s->grad_norm, (chart){.title = "Gradient norm", .unit = "before clipping", .from_zero = true,
                                       .caption = "Of all trained tensors together."});
    single(h, s, s->lr,
           (chart){.title = "Learning rate",
                   .unit = "",
                   .from_zero = true,
                   .caption = "As the schedule gives it, by optimizer step."});
    single(h, s, s->images_per_second, (chart){.title = "Speed", .unit = "pictures a second", .from_zero = true,
                                               .caption = "Samples of a step by its wall time."});
    single(h, s, s->wait,
           (chart){.title = "Waiting for samples",
                   .unit = "share of the step",
                   .from_zero = true,
                   .percent = true,
                   .caption = "Time in which the device waits for pictures to be read and decoded."});
    html_raw(h, "</div>\n");
    validation_table(h, &d->validations);
    html_raw(h, "</section>\n");
}
