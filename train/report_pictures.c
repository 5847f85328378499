/* Samples over time: a strip of pictures for every job, scaled down and held in the page. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "data/image.h"
#include "data/resize.h"
#include "train/report.h"

enum { SIDE = 224, MOST_STEPS = 18 };
static const size_t JOBS_LIMIT = (size_t)16 << 20;

/* The prompt of the job in place `wanted`; NULL when the file of jobs is not what it was. The arena's. */
static const char *prompt_of(report_data *d, int wanted)
{
    char *text = NULL;
    size_t size = 0;
    const char *found = NULL;
    int job = 0;
    if (!d->config || !d->config->output.samples ||
        file_read(&text, &size, d->config->output.samples, JOBS_LIMIT) != OK)
        return NULL;
    for (char *at = text, *stop; at < text + size && !found; at = stop + 1) {
        stop = memchr(at, '\n', (size_t)(text + size - at));
        stop = stop ? stop : text + size;
        if (strspn(at, " \t\r") >= (size_t)(stop - at) || job++ != wanted)
            continue;
        json_t *object = NULL;
        if (json_text_parse(&object, at, (size_t)(stop - at), NULL, JSON_KEEP_LAST) == OK)
            found = json_string_value(json_object_get(object, "prompt"));
        found = arena_copy_string(&d->memory, found ? found : "");
        json_decref(object);
        break;
    }
    free(text);
    return found;
}

static err small_png(uint8_t **bytes, size_t *size, int *width, int *height, const char *path)
{
    image picture, small;
    TRY(image_load(&picture, path, NULL));
    int side = picture.width > picture.height ? picture.width : picture.height;
    *width = side > SIDE ? picture.width * SIDE / side : picture.width;
    *height = side > SIDE ? picture.height * SIDE / side : picture.height;
    err e = image_resize(&small, &picture, *width > 0 ? *width : 1, *height > 0 ? *height : 1, RESIZE_LANCZOS);
    image_free(&picture);
    TRY(e);
    e = image_encode_png(bytes, size, &small);
    image_free(&small);
    return e;
}

static void write_picture(html *h, report_data *d, const report_picture *p)
{
    uint8_t *bytes = NULL;
    size_t size;
    int width, height;
    if (small_png(&bytes, &size, &width, &height, p->path) != OK) {
        report_data_note(d, "a sample is left out: %s", err_message());
        return;
    }
    html_print(h,
               "<div><img width=\"%d\" height=\"%d\" style=\"height:auto\" alt=\"sample %d at step %" PRId64
               "\" src=\"data:image/png;base64,",
               width, height, p->job, p->step);
    html_base64(h, bytes, size);
    html_print(h, "\"><span>step %" PRId64 "</span></div>\n", p->step);
    free(bytes);
}

/* Pictures [first, first + count) of one job: all, or evenly chosen, the first and the last among them. */
static void write_job(html *h, report_data *d, int first, int count)
{
    const char *prompt = prompt_of(d, d->picture[first].job);
    int shown = count < MOST_STEPS ? count : MOST_STEPS;
    html_print(h, "<div class=\"card job\"><p><b>%d</b> ", d->picture[first].job);
    html_text(h, prompt ? prompt : "");
    if (shown < count)
        html_print(h, " <span class=\"soft\">(%d of %d steps)</span>", shown, count);
    html_raw(h, "</p><div class=\"strip\">\n");
    for (int i = 0; i < shown; i++)
        write_picture(h, d, &d->picture[first + (shown > 1 ? (int)((int64_t)i * (count - 1) / (shown - 1)) : 0)]);
    html_raw(h, "</div></div>\n");
}

void report_pictures(html *h, report_data *d)
{
    if (!d->pictures)
        return;
    html_raw(h, "<section><h2>Samples over time</h2><p class=\"soft\">As <code>msd generate</code> draws them from the "
                "weights of that step");
    html_raw(h, d->config && d->config->train.ema > 0 ? ", averaged" : "");
    html_raw(h, "; scaled down, the whole pictures lie in samples/.</p>\n");
    for (int first = 0, end; first < d->pictures; first = end) {
        for (end = first; end < d->pictures && d->picture[end].job == d->picture[first].job;)
            end++;
        write_job(h, d, first, end - first);
    }
    html_raw(h, "</section>\n");
}
