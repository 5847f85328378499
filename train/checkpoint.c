#include "train/checkpoint.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"

enum { FORMAT = 1, MANIFEST_LIMIT = 1 << 20 };
static const size_t SPARE_BYTES = (size_t)16 << 20; /* beyond the tensors: headers, config, the file system's own */

static const char *const files[] = {"adapter.safetensors", "optimizer.safetensors", "config.yaml", "ema.safetensors"};
enum { FILE_ADAPTER, FILE_OPTIMIZER, FILE_CONFIG, FILE_AVERAGE, FILE_COUNT };
enum { ALWAYS = FILE_AVERAGE }; /* so many are in every checkpoint */

/* ---- writing ---- */

static err download_finite(float **values, const parameter *p)
{
    int64_t n = tensor_count(p->t);
    *values = heap_get((size_t)n * sizeof(float));
    err e = tensor_download(*values, DT_F32, p->t);
    for (int64_t i = 0; i < n && e == OK; i++)
        if (!isfinite((*values)[i]))
            e = err_set(E_NUMERIC, "%s: element %" PRId64 " is %g; nothing is saved, the last checkpoint stays; lower the "
                                   "learning rate or look at the data", p->name, i, (double)(*values)[i]);
    if (e != OK) {
        free(*values);
        *values = NULL;
    }
    return e;
}

static err write_tensor(safetensors_writer *w, const char *name, tensor *t)
{
    float *values = NULL;
    TRY(download_finite(&values, &(parameter){.name = name, .t = t}));
    err e = safetensors_write_f32(w, values);
    free(values);
    return e;
}

/* The adapter's tensors, or with `mean` their averages. */
static err write_tensors(const char *path, const checkpoint *c, const average *mean)
{
    safetensors_writer *w = NULL;
    TRY(safetensors_create(&w, path));
    for (size_t i = 0; i < c->metadata_count; i++)
        safetensors_note(w, c->metadata[i].key, c->metadata[i].value);
    for (int i = 0; i < c->tensors; i++)
        safetensors_declare(w, c->tensor[i].name, STORED_F32, c->tensor[i].t->ndim, c->tensor[i].t->dim);
    for (int i = 0; i < c->tensors; i++) {
        tensor *t = c->tensor[i].t;
        err e = write_tensor(w, c->tensor[i].name, mean ? average_of(mean, t) : t);
        if (e != OK) {
            safetensors_discard(w);
            return e;
        }
    }
    return safetensors_publish(w);
}

err checkpoint_write_adapter(const char *path, const checkpoint *c)
{
    return write_tensors(path, c, NULL);
}

/* The optimizer's tensors in the order of the file: what is f32 first, so that every tensor is aligned. `visit` gets
 * NULL for none. */
typedef err visit_moment(void *user, const char *kind, const char *name, tensor *t);

static err each_moment(const optimizer *o, visit_moment *visit, void *user)
{
    static const char *const kind[] = {"m", "v", "m_absmax", "v_absmax"};
    tensor *const *const list[] = {o->m, o->v, o->m_absmax, o->v_absmax};
    for (int codes = 0; codes < 2; codes++)
        for (int k = 0; k < 4; k++)
            for (int i = 0; i < o->count; i++)
                if (list[k][i] && (list[k][i]->type == DT_U8) == (codes == 1))
                    TRY(visit(user, kind[k], o->param[i].name, list[k][i]));
    return OK;
}

typedef struct moment_writer {
    safetensors_writer *w;
    arena              *text;
} moment_writer;

static err declare_moment(void *user, const char *kind, const char *name, tensor *t)
{
    moment_writer *m = user;
    safetensors_declare(m->w, arena_print(m->text, "%s.%s", kind, name), t->type == DT_U8 ? STORED_U8 : STORED_F32, t->ndim, t->dim);
    return OK;
}

static err write_moment(void *user, const char *kind, const char *name, tensor *t)
{
    moment_writer *m = user;
    (void)kind;
    if (t->type == DT_F32)
        return write_tensor(m->w, name, t);
    size_t count = (size_t)tensor_count(t);
    uint8_t *codes = heap_get(count);
    err e = tensor_download(codes, DT_U8, t);
    if (e == OK)
        e = safetensors_write(m->w, codes, count);
    free(codes);
    return e;
}

static err write_optimizer(const char *path, const checkpoint *c)
{
    const optimizer *o = c->optimizer;
    arena text = {0};
    safetensors_writer *w = NULL;
    TRY(safetensors_create(&w, path));
    safetensors_note(w, "format", "msd-optimizer-1");
    safetensors_note(w, "updates", arena_print(&text, "%" PRId64, o->updates));
    safetensors_note(w, "skipped", arena_print(&text, "%" PRId64, c->skips.all));
    safetensors_note(w, "skipped_in_a_row", arena_print(&text, "%" PRId64, c->skips.in_a_row));
    moment_writer m = {w, &text};
    each_moment(o, declare_moment, &m);
    err e = each_moment(o, write_moment, &m);
    if (e == OK)
        e = safetensors_publish(w);
    else
        safetensors_discard(w);
    arena_free(&text);
    return e;
}

static err write_text(const char *path, const char *text)
{
    file_writer *w = NULL;
    TRY(file_create(&w, path));
    file_write(w, text, strlen(text));
    return file_publish(w);
}

static err describe_file(arena *a, char **line, const char *folder, const char *name, bool last)
{
    char *path = path_join(folder, name), hex[65];
    file_map map;
    err e = file_map_open(&map, path);
    if (e == OK) {
        file_map_hash(hex, &map);
        *line = arena_print(a, "    \"%s\": {\"bytes\": %zu, \"sha256\": \"%s\"}%s\n", name, map.size, hex, last ? "" : ",");
        file_map_close(&map);
    }
    free(path);
    return e;
}

static err write_manifest(const char *folder, const checkpoint *c, int count)
{
    arena a = {0};
    char *line[FILE_COUNT] = {"", "", "", ""}, *shared = c->ranks > 1 ? arena_print(&a, "  \"ranks\": %d,\n", c->ranks) : "";
    err e = OK;
    for (int i = 0; i < count && e == OK; i++)
        e = describe_file(&a, &line[i], folder, files[i], i + 1 == count);
    if (e == OK) {
        char *path = path_join(folder, "manifest.json");
        e = write_text(path, arena_print(&a, "{\n  \"format\": %d,\n  \"step\": %" PRId64 ",\n%s  \"files\": {\n%s%s%s%s  }\n}\n",
                                         FORMAT, c->step, shared, line[0], line[1], line[2], line[3]));
        free(path);
    }
    arena_free(&a);
    return e;
}

static err write_all(const char *folder, const checkpoint *c)
{
    char *path[FILE_COUNT];
    for (int i = 0; i < FILE_COUNT; i++)
        path[i] = path_join(folder, files[i]);
    err e = checkpoint_write_adapter(path[FILE_ADAPTER], c);
    if (e == OK)
        e = write_optimizer(path[FILE_OPTIMIZER], c);
    if (e == OK)
        e = write_text(path[FILE_CONFIG], c->config);
    if (e == OK && c->average)
        e = write_tensors(path[FILE_AVERAGE], c, c->average);
    if (e == OK)
        e = write_manifest(folder, c, c->average ? FILE_COUNT : ALWAYS);
    for (int i = 0; i < FILE_COUNT; i++)
        free(path[i]);
    return e;
}

static err add_bytes(void *user, const char *kind, const char *name, tensor *t)
{
    (void)kind, (void)name;
    *(uint64_t *)user += (uint64_t)tensor_count(t) * dtype_bytes(t->type);
    return OK;
}

static err check_space(const char *run, const checkpoint *c)
{
    uint64_t need = SPARE_BYTES, have = 0;
    for (int i = 0; i < c->tensors; i++)
        need += (uint64_t)tensor_count(c->tensor[i].t) * (c->average ? 8 : 4);
    each_moment(c->optimizer, add_bytes, &need);
    if (file_free_space(&have, run) != OK || have >= need)
        return OK; /* unknown: the write itself will tell */
    return err_set(E_DISK_FULL, "%s: a checkpoint needs %" PRIu64 " MiB, the disk has %" PRIu64 " MiB free; make room and "
                                "resume with --resume auto", run, need >> 20, have >> 20);
}

static char *step_folder(const char *run, int64_t step)
{
    char name[32];
    snprintf(name, sizeof name, "step-%06" PRId64, step);
    return path_join(run, name);
}

/* Moves an existing folder to a temporary name (caller frees *aside; NULL when there is none). */
static err set_aside(char **aside, const char *folder)
{
    *aside = NULL;
    if (!folder_exists(folder))
        return OK;
    TRY(folder_create_temporary(aside, folder));
    return folder_publish(folder, *aside);
}

void checkpoint_remove(const char *folder)
{
    char *aside = NULL;
    set_aside(&aside, folder);
    if (aside)
        folder_remove(aside);
    free(aside);
}

/* An existing folder is left by a run that was resumed from an earlier step; it comes back when publishing fails. */
static err publish_over(const char *temporary, const char *final)
{
    char *aside = NULL;
    err e = set_aside(&aside, final);
    if (e == OK)
        e = folder_publish(temporary, final);
    if (e != OK && aside && !folder_exists(final))
        folder_publish(aside, final);
    if (aside)
        folder_remove(aside);
    free(aside);
    return e;
}

err checkpoint_save(const char *run, const checkpoint *c)
{
    TRY(check_space(run, c));
    char *final = step_folder(run, c->step), *temporary = NULL;
    err e = folder_create_temporary(&temporary, final);
    if (e == OK)
        e = write_all(temporary, c);
    if (e == OK)
        e = publish_over(temporary, final);
    if (e != OK && temporary)
        folder_remove(temporary);
    free(temporary);
    free(final);
    return e;
}

/* ---- reading ---- */

static err verify_file(const char *folder, const char *name, const json_t *entry, const char *manifest)
{
    int64_t bytes = 0;
    const char *wanted = NULL;
    TRY(err_as(json_get_int(&bytes, entry, "bytes", manifest, 0, INT64_MAX), E_CHECKPOINT));
    TRY(err_as(json_get_text(&wanted, entry, "sha256", manifest), E_CHECKPOINT));
    char *path = path_join(folder, name), hex[65];
    file_map map;
    err e = err_as(file_map_open(&map, path), E_CHECKPOINT);
    if (e == OK) {
        if (map.size != (uint64_t)bytes) {
            e = err_set(E_CHECKPOINT, "%s: %zu bytes, manifest.json says %" PRId64 "; use another step folder", path,
                        map.size, bytes);
        } else {
            file_map_hash(hex, &map);
            if (strcmp(hex, wanted))
                e = err_set(E_CHECKPOINT, "%s: its SHA-256 differs from manifest.json's: the file was changed or damaged; "
                                          "use another step folder", path);
        }
        file_map_close(&map);
    }
    free(path);
    return e;
}

static err verify_manifest(int64_t *step, const char *folder, const char *path, const json_t *manifest)
{
    int64_t format = 0;
    TRY(err_as(json_get_int(&format, manifest, "format", path, 0, INT64_MAX), E_CHECKPOINT));
    if (format != FORMAT)
        return err_set(E_CHECKPOINT, "%s: format: %" PRId64 ", this version reads %d; use a newer msd", path, format, FORMAT);
    TRY(err_as(json_get_int(step, manifest, "step", path, 0, INT64_MAX), E_CHECKPOINT));
    const json_t *list = NULL;
    TRY(err_as(json_get_object(&list, manifest, "files", path), E_CHECKPOINT));
    for (int i = 0; i < FILE_COUNT; i++) {
        const json_t *entry = NULL;
        if (i >= ALWAYS && !json_object_get(list, files[i]))
            continue;
        TRY(err_as(json_get_object(&entry, list, files[i], path), E_CHECKPOINT));
        TRY(verify_file(folder, files[i], entry, path));
    }
    return OK;
}

err checkpoint_verify(int64_t *step, const char *folder)
{
    if (!folder_exists(folder))
        return err_set(E_CHECKPOINT, "%s: no such folder; give a step folder such as runs/one/step-000500", folder);
    char *path = path_join(folder, "manifest.json");
    json_t *manifest = NULL;
    err e = err_as(json_file_parse(&manifest, path, MANIFEST_LIMIT, JSON_REFUSE_DUPLICATES), E_CHECKPOINT);
    if (e == OK)
        e = verify_manifest(step, folder, path, manifest);
    json_decref(manifest);
    free(path);
    return e;
}

err checkpoint_ranks(int64_t *count, const char *folder)
{
    char *path = path_join(folder, "manifest.json");
    json_t *manifest = NULL;
    *count = 1;
    err e = err_as(json_file_parse(&manifest, path, MANIFEST_LIMIT, JSON_REFUSE_DUPLICATES), E_CHECKPOINT);
    if (e == OK && json_object_get(manifest, "ranks"))
        e = err_as(json_get_int(count, manifest, "ranks", path, 1, INT32_MAX), E_CHECKPOINT);
    json_decref(manifest);
    free(path);
    return e;
}

static err load_tensor(const safetensors *s, const char *file, const char *name, tensor *t)
{
    const stored_tensor *found = tensor_table_find(&s->tensors, name);
    if (!found)
        return err_set(E_CHECKPOINT, "%s: %s is missing", file, name);
    stored_type wanted = t->type == DT_U8 ? STORED_U8 : STORED_F32;
    bool fits = found->type == wanted && found->ndim == t->ndim;
    for (int i = 0; fits && i < t->ndim; i++)
        fits = found->dim[i] == t->dim[i];
    if (!fits) {
        arena text = {0};
        err e = err_set(E_CHECKPOINT, "%s: %s: found %s %s, this run needs %s %s; is `adapter:` or optimizer.kind in the config "
                                          "another one?", file, name, stored_type_name(found->type),
                        stored_shape_text(&text, found->ndim, found->dim), stored_type_name(wanted), tensor_shape_text(&text, t));
        arena_free(&text);
        return e;
    }
    return tensor_upload(t, found->data, t->type);
}

static err load_tensors(const checkpoint *c, const char *path, const average *mean)
{
    safetensors *s = NULL;
    TRY(err_as(safetensors_open(&s, path), E_CHECKPOINT));
    err e = OK;
    for (int i = 0; i < c->tensors && e == OK; i++) {
        tensor *t = mean ? average_of(mean, c->tensor[i].t) : c->tensor[i].t;
        if (!mean || t != c->tensor[i].t)
            e = load_tensor(s, path, c->tensor[i].name, t);
    }
    safetensors_close(s);
    return e;
}

typedef struct moment_reader {
    const safetensors *file;
    const char        *path;
    arena             *text;
} moment_reader;

static err load_moment(void *user, const char *kind, const char *name, tensor *t)
{
    moment_reader *m = user;
    return load_tensor(m->file, m->path, arena_print(m->text, "%s.%s", kind, name), t);
}

/* A count in the metadata; absent: `fallback`, which may be -1 for "it has to be there". */
static err load_count(int64_t *out, const safetensors *s, const char *path, const char *key, int64_t fallback)
{
    const char *text = safetensors_metadata(s, key);
    char *end = NULL;
    *out = text ? strtoll(text, &end, 10) : fallback;
    if (*out < 0 || (text && (end == text || *end)))
        return err_set(E_CHECKPOINT, "%s: metadata %s: found '%s', expected a count", path, key, text ? text : "nothing");
    return OK;
}

static err load_optimizer(checkpoint *c, const char *path)
{
    safetensors *s = NULL;
    arena text = {0};
    TRY(err_as(safetensors_open(&s, path), E_CHECKPOINT));
    err e = load_count(&c->optimizer->updates, s, path, "updates", -1);
    if (e == OK)
        e = load_count(&c->skips.all, s, path, "skipped", 0);
    if (e == OK)
        e = load_count(&c->skips.in_a_row, s, path, "skipped_in_a_row", 0);
    if (e == OK)
        e = each_moment(c->optimizer, load_moment, &(moment_reader){s, path, &text});
    arena_free(&text);
    safetensors_close(s);
    return e;
}

static err load_average(checkpoint *c, const char *path)
{
    if (!c->average)
        return OK;
    return file_exists(path) ? load_tensors(c, path, c->average) : average_start(c->average);
}

err checkpoint_load(checkpoint *c, const char *folder)
{
    TRY(checkpoint_verify(&c->step, folder));
    char *path[FILE_COUNT];
    for (int i = 0; i < FILE_COUNT; i++)
        path[i] = path_join(folder, files[i]);
    err e = load_tensors(c, path[FILE_ADAPTER], NULL);
    if (e == OK)
        e = load_optimizer(c, path[FILE_OPTIMIZER]);
    if (e == OK)
        e = load_average(c, path[FILE_AVERAGE]);
    for (int i = 0; i < FILE_COUNT; i++)
        free(path[i]);
    return e;
}
