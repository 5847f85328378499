#include "infer/generate.h"

#include <inttypes.h>
#include <string.h>

#include "base/file.h"
#include "infer/png_metadata.h"

/* "out.png" and 3: "out_3.png". */
static char *numbered(arena *memory, const char *path, int64_t number)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    if (!dot || (slash && dot < slash))
        dot = path + strlen(path);
    return arena_print(memory, "%.*s_%" PRId64 "%s", (int)(dot - path), path, number, dot);
}

static err write_picture(const pipeline *p, const image *picture, const job *j, uint64_t seed, const char *path)
{
    arena memory = {0};
    image_text texts[PNG_METADATA_TEXTS];
    int count = png_metadata(texts, &memory, j, seed, pipeline_model_name(p), pipeline_adapter_hash(p));
    err e = image_save_png(path, picture, texts, count);
    arena_free(&memory);
    return e;
}

static err draw_one(pipeline *p, const job *j, int64_t number, int64_t count, logger *log)
{
    arena memory = {0};
    image picture;
    uint64_t seed = j->seed + (uint64_t)number;
    const char *path = count > 1 ? numbered(&memory, j->output, number) : j->output;
    err e = pipeline_draw(&picture, p, j, seed);
    if (e == OK) {
        e = write_picture(p, &picture, j, seed, path);
        image_free(&picture);
    }
    if (e == OK)
        log_info(log, "wrote %s (seed %" PRIu64 ", %" PRId64 " x %" PRId64 ")", path, seed, j->width, j->height);
    arena_free(&memory);
    return e;
}

/* A folder that is not there is told before the work, not after. */
static err check_output(const char *path)
{
    arena       memory = {0};
    const char *slash = strrchr(path, '/');
    const char *folder = !slash ? "." : slash == path ? "/" : arena_print(&memory, "%.*s", (int)(slash - path), path);
    err         e = OK;
    if (!folder_exists(folder))
        e = err_set(E_IO, "%s: there is no folder %s; make it first", path, folder);
    else if (folder_exists(path))
        e = err_set(E_IO, "%s: is a folder; give a file name such as picture.png", path);
    arena_free(&memory);
    return e;
}

err generate_pictures(pipeline *p, const job *j, logger *log)
{
    job whole = *j;
    if (!whole.output)
        return err_set(E_USAGE, "output: missing; give the name of the picture");
    job_warn(&whole, log);
    TRY(job_check(&whole));
    TRY(pipeline_complete(p, &whole));
    TRY(check_output(whole.output));
    TRY(job_check_pictures(&whole));
    TRY(pipeline_encode(p, &whole));
    for (int64_t i = 0; i < whole.batch_count; i++)
        TRY(draw_one(p, &whole, i, whole.batch_count, log));
    return OK;
}
