#include "train/run_log.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t LOG_LIMIT = (size_t)1 << 31;

/* The step of a whole line, or 0 when it is none of ours. */
static int64_t step_of(const char *line)
{
    int64_t step;
    return sscanf(line, "{\"step\": %" SCNd64, &step) == 1 ? step : 0;
}

/* How many bytes of text are whole lines of steps 1..last_step. */
static size_t kept_bytes(const char *text, int64_t last_step)
{
    const char *at = text;
    for (const char *end; (end = strchr(at, '\n')); at = end + 1) {
        int64_t step = step_of(at);
        if (step < 1 || step > last_step)
            break;
    }
    return (size_t)(at - text);
}

static err cut(const char *path, int64_t last_step)
{
    char *text = NULL;
    size_t size = 0;
    TRY(file_read(&text, &size, path, LOG_LIMIT));
    size_t kept = kept_bytes(text, last_step);
    err e = OK;
    if (kept < size) {
        file_writer *w = NULL;
        e = file_create(&w, path);
        if (e == OK) {
            file_write(w, text, kept); /* sticky: publish reports it */
            e = file_publish(w);
        }
    }
    free(text);
    return e;
}

err run_log_open(file_log **out, const char *path, int64_t last_step)
{
    if (file_exists(path))
        TRY(cut(path, last_step));
    return file_log_open(out, path);
}

static const char *number(char text[32], double value)
{
    if (!isfinite(value))
        return "null";
    snprintf(text, 32, "%.12g", value);
    return text;
}

/* "" without a validation. */
static const char *validation_text(char *text, size_t room, const validation_loss *v)
{
    char value[32];
    size_t at = 0;
    text[0] = 0;
    if (!v->samples)
        return text;
    at += (size_t)snprintf(text, room, ", \"validation\": {\"loss\": %s, \"samples\": %" PRId64 ", \"timesteps\": [",
                           number(value, v->mean), v->samples);
    for (int i = 0; i <= VALIDATION_BINS; i++)
        at += (size_t)snprintf(text + at, room - at, "%s%" PRId64, i ? ", " : "", v->edge[i]);
    at += (size_t)snprintf(text + at, room - at, "], \"bins\": [");
    for (int i = 0; i < VALIDATION_BINS; i++)
        at += (size_t)snprintf(text + at, room - at, "%s%s", i ? ", " : "", number(value, v->bin[i]));
    snprintf(text + at, room - at, "]}");
    return text;
}

err run_log_write(file_log *log, const step_record *r)
{
    char loss[32], norm[32], lr[32], wait[32], seconds[32], rate[32], validation[512], line[1024];
    snprintf(line, sizeof line, "{\"step\": %" PRId64 ", \"loss\": %s, \"grad_norm\": %s, \"lr\": %s, \"skipped\": %" PRId64
             ", \"seconds\": %s, \"wait\": %s, \"images_per_second\": %s%s}", r->step, number(loss, r->loss),
             number(norm, r->grad_norm), number(lr, r->lr), r->skipped, number(seconds, r->seconds), number(wait, r->wait),
             number(rate, r->images_per_second), validation_text(validation, sizeof validation, &r->validation));
    return file_log_line(log, line);
}
