#include "train/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

static const char *name_of(arena *memory, const char *run)
{
    size_t end = strlen(run);
    while (end > 1 && run[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && run[start - 1] != '/')
        start--;
    const char *name = arena_print(memory, "%.*s", (int)(end - start), run + start);
    return strcmp(name, ".") && strcmp(name, "..") ? name : "run";
}

/* ---- the top ---- */

static void tile(html *h, const char *name, const char *value)
{
    html_print(h, "<div><b>%s</b><span>%s</span></div>\n", value, name);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* NAN without a finite value. */
static double median(const double *value, int64_t count)
{
    double *kept = heap_get((size_t)(count + 1) * sizeof *kept);
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++)
        if (isfinite(value[i]))
            kept[n++] = value[i];
    qsort(kept, (size_t)n, sizeof *kept, by_value);
    double found = n ? kept[n / 2] : NAN;
    free(kept);
    return found;
}

static void loss_tiles(html *h, report_data *d)
{
    const report_steps *s = &d->steps;
    const report_validations *v = &d->validations;
    int64_t best = -1;
    if (s->count && isfinite(s->average[s->count - 1]))
        tile(h, "loss, running average", arena_print(&d->memory, "%.4f", s->average[s->count - 1]));
    for (int64_t i = 0; i < v->count; i++)
        if (isfinite(v->loss[i]) && (best < 0 || v->loss[i] < v->loss[best]))
            best = i;
    if (best >= 0)
        tile(h, arena_print(&d->memory, "least validation loss, at step %.0f", v->step[best]),
             arena_print(&d->memory, "%.4f", v->loss[best]));
}

static void tiles(html *h, report_data *d)
{
    const report_steps *s = &d->steps;
    char text[32];
    html_raw(h, "<div class=\"tiles\">\n");
    if (s->count) {
        const char *of = d->config ? arena_print(&d->memory, "steps of %" PRId64, d->config->train.steps) : "steps";
        tile(h, of, arena_print(&d->memory, "%.0f", s->step[s->count - 1]));
        loss_tiles(h, d);
        tile(h, "pictures a second, median", arena_print(&d->memory, "%.3g", median(s->images_per_second, s->count)));
        tile(h, "waiting for samples, median", arena_print(&d->memory, "%.2g %%", 100 * median(s->wait, s->count)));
        tile(h, "in steps", text_duration(text, s->seconds));
        tile(h, "skipped steps",
             arena_print(&d->memory, "%s%" PRId64 "%s", s->skipped ? "<span class=\"warn\">" : "", s->skipped,
                         s->skipped ? "</span>" : ""));
    }
    tile(h, d->checkpoints == 1 ? "checkpoint" : "checkpoints", arena_print(&d->memory, "%d", d->checkpoints));
    html_raw(h, "</div>\n");
}

/* ---- the bottom ---- */

static void checkpoints(html *h, const report_data *d)
{
    char text[32];
    if (!d->checkpoints)
        return;
    html_raw(h, "<section><h2>Checkpoints</h2><div class=\"card "
                "wide\"><table><tr><th>step</th><th>size</th><th>averaged weights</th></tr>\n");
    for (int i = 0; i < d->checkpoints; i++) {
        const report_checkpoint *c = &d->checkpoint[i];
        html_print(h, "<tr><td>%" PRId64 "</td><td>%s</td><td>%s</td>%s</tr>\n", c->step, text_bytes(text, c->bytes),
                   c->averaged ? "yes" : "no", c->whole ? "" : "<td class=\"warn\">not whole: no manifest.json</td>");
    }
    html_raw(h, "</table></div></section>\n");
}

static void config(html *h, const report_data *d)
{
    if (!d->config_text)
        return;
    html_raw(
        h,
        "<section><h2>Config</h2><div class=\"card\"><details><summary>config.yaml, with every default</summary><pre>");
    html_text(h, d->config_text);
    html_raw(h, "</pre></details></div></section>\n");
}

static void notes(html *h, const report_data *d)
{
    if (!d->notes)
        return;
    html_raw(h, "<section><h2>Left out</h2><ul>\n");
    for (int i = 0; i < d->notes; i++) {
        html_raw(h, "<li class=\"warn\">");
        html_text(h, d->note[i]);
        html_raw(h, "</li>\n");
    }
    html_raw(h, "</ul></section>\n");
}

static void page(html *h, report_data *d)
{
    const char *name = name_of(&d->memory, d->run);
    html_raw(h, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
                "content=\"width=device-width, initial-scale=1\">"
                "<title>");
    html_text(h, name);
    html_raw(h, " &middot; msd report</title><style>\n");
    html_raw(h, report_style);
    html_raw(h, "</style></head><body><main>\n<h1>");
    html_text(h, name);
    html_raw(h, "</h1><p class=\"soft\">");
    if (d->config) {
        html_print(h, "MS-Diffusion adapter, %" PRId64 " pixels, batch %" PRId64 " &times; %" PRId64 ", base model ",
                   d->config->data.resolution, d->config->train.batch_size, d->config->train.accumulation);
        html_text(h, name_of(&d->memory, d->config->model.base));
    }
    html_raw(h, "</p>\n");
    tiles(h, d);
    report_curves(h, d);
    report_pictures(h, d);
    report_dataset(h, d);
    checkpoints(h, d);
    config(h, d);
    notes(h, d);
    html_raw(h,
             "<footer>Made by msd " MSD_VERSION " from the files of the run folder.</footer>\n</main></body></html>\n");
}

static err publish(const char *path, const html *h)
{
    file_writer *w = NULL;
    TRY(file_create(&w, path));
    file_write(w, h->text, h->size); /* sticky: publish reports it */
    return file_publish(w);
}

err report_write(const char *path, const char *run, logger *log)
{
    report_data d;
    html h = {0};
    err e = report_data_read(&d, run);
    if (e == OK) {
        char text[32], *own = path ? NULL : path_join(run, "report.html");
        page(&h, &d);
        e = publish(path ? path : own, &h);
        if (e == OK)
            log_info(log, "wrote %s (%s)", path ? path : own, text_bytes(text, h.size));
        free(own);
    }
    free(h.text);
    report_data_free(&d);
    return e;
}
