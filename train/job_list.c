#include "train/job_list.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

static const size_t JOBS_LIMIT = (size_t)16 << 20;

static err read_line(job *out, arena *memory, const char *text, size_t size, const char *path, const char *where)
{
    json_t *object = NULL;
    err e = json_text_parse(&object, text, size, NULL, JSON_REFUSE_DUPLICATES);
    if (e != OK)
        return err_prefix(err_as(e, E_CONFIG), "%s", where);
    e = job_from_json(out, memory, object, where, path);
    if (e == OK) {
        e = job_check(out);
        if (e == OK)
            e = job_check_pictures(out);
        if (e != OK)
            e = err_prefix(e, "%s", where);
    }
    json_decref(object);
    return e;
}

static bool is_blank(const char *text, size_t size)
{
    return strspn(text, " \t\r") >= size;
}

/* false: there were too many, the rest is of no interest. */
static bool take_line(job_list *out, arena *memory, problems *p, const char *text, size_t size, const char *path, int line)
{
    const char *where = arena_print(memory, "%s:%d", path, line);
    if (out->count == JOB_LIST_MOST) {
        problems_add(p, E_CONFIG, path, line, "more than %d jobs; keep a few that tell you most", JOB_LIST_MOST);
        return false;
    }
    err e = read_line(&out->item[out->count], memory, text, size, path, where);
    if (e != OK)
        problems_add_error(p, e, NULL, 0); /* its text begins with `where` */
    out->count++;
    return true;
}

void job_list_load(job_list *out, arena *memory, problems *p, const char *path)
{
    char *text = NULL;
    size_t size = 0;
    int line = 1;
    out->count = 0;
    if (file_read(&text, &size, path, JOBS_LIMIT) != OK) {
        problems_add_error(p, E_CONFIG, NULL, 0);
        return;
    }
    for (const char *at = text, *end = text + size; at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((stop ? stop : end) - at);
        if (!is_blank(at, length) && !take_line(out, memory, p, at, length, path, line))
            break;
        at += length + 1;
    }
    free(text);
    if (!out->count)
        problems_add(p, E_CONFIG, path, 0, "no jobs in it; give one JSON object a line, e.g. {\"prompt\": \"a dog\", \"seed\": 1}");
}
