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

static const char *const files[] = {"adapter.safetensors", "optimizer.safetensors", "config.yaml"};
enum { FILE_COUNT = sizeof files / sizeof *files };

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

err checkpoint_write_adapter(const char *path, const checkpoint *c)
{
    safetensors_writer *w = NULL;
    TRY(safetensors_create(&w, path));
    for (size_t i = 0; i < c->metadata_count; i++)
        safetensors_note(w, c->metadata[i].key, c->metadata[i].value);
    for (int i = 0; i < c->tensors; i++)
        safetensors_declare(w, c->tensor[i].name, STORED_F32, c->tensor[i].t->ndim, c->tensor[i].t->dim);
    for (int i = 0; i < c->tensors; i++) {
        err e = write_tensor(w, c->tensor[i].name, c->tensor[i].t);
        if (e != OK) {
            safetensors_discard(w);
            return e;
        }
    }
    return safetensors_publish(w);
}

static err write_moments(safetensors_writer *w, const optimizer *o)
{
    for (int i = 0; i < o->count; i++)
        TRY(write_tensor(w, o->param[i].name, o->m[i]));
    for (int i = 0; i < o->count; i++)
        TRY(write_tensor(w, o->param[i].name, o->v[i]));
    return OK;
}

static err write_optimizer(const char *path, const checkpoint *c)
{
    const optimizer *o = c->optimizer;
    arena text = {0};
    safetensors_writer *w = NULL;
    TRY(safetensors_create(&w, path));
    safetensors_note(w, "format", "msd-optimizer-1");
    safetensors_note(w, "updates", arena_print(&text, "%" PRId64, o->updates));
    for (int moment = 0; moment < 2; moment++)
        for (int i = 0; i < o->count; i++)
            safetensors_declare(w, arena_print(&text, "%s.%s", moment ? "v" : "m", o->param[i].name), STORED_F32,
                                o->param[i].t->ndim, o->param[i].t->dim);
    err e = write_moments(w, o);
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
        hash_memory(hex, map.bytes, map.size);
        *line = arena_print(a, "    \"%s\": {\"bytes\": %zu, \"sha256\": \"%s\"}%s\n", name, map.size, hex, last ? "" : ",");
        file_map_close(&map);
    }
    free(path);
    return e;
}

static err write_manifest(const char *folder, int64_t step)
{
    arena a = {0};
    char *line[FILE_COUNT] = {0};
    err e = OK;
    for (int i = 0; i < FILE_COUNT && e == OK; i++)
        e = describe_file(&a, &line[i], folder, files[i], i + 1 == FILE_COUNT);
    if (e == OK) {
        char *path = path_join(folder, "manifest.json");
        e = write_text(path, arena_print(&a, "{\n  \"format\": %d,\n  \"step\": %" PRId64 ",\n  \"files\": {\n%s%s%s  }\n}\n",
                                         FORMAT, step, line[0], line[1], line[2]));
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
    err e = checkpoint_write_adapter(path[0], c);
    if (e == OK)
        e = write_optimizer(path[1], c);
    if (e == OK)
        e = write_text(path[2], c->config);
    if (e == OK)
        e = write_manifest(folder, c->step);
    for (int i = 0; i < FILE_COUNT; i++)
        free(path[i]);
    return e;
}

static err check_space(const char *run, const checkpoint *c)
{
    uint64_t need = SPARE_BYTES, have = 0;
    for (int i = 0; i < c->tensors; i++)
        need += (uint64_t)tensor_count(c->tensor[i].t) * 4;
    for (int i = 0; i < c->optimizer->count; i++)
        need += (uint64_t)tensor_count(c->optimizer->param[i].t) * 8;
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
            hash_memory(hex, map.bytes, map.size);
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

static err load_tensor(const safetensors *s, const char *file, const char *name, tensor *t)
{
    const stored_tensor *found = tensor_table_find(&s->tensors, name);
    if (!found)
        return err_set(E_CHECKPOINT, "%s: %s is missing", file, name);
    bool fits = found->type == STORED_F32 && found->ndim == t->ndim;
    for (int i = 0; fits && i < t->ndim; i++)
        fits = found->dim[i] == t->dim[i];
    if (!fits) {
        arena text = {0};
        err e = err_set(E_CHECKPOINT, "%s: %s: found %s %s, this run needs F32 %s; is `adapter:` in the config another one?",
                        file, name, stored_type_name(found->type), stored_shape_text(&text, found->ndim, found->dim),
                        tensor_shape_text(&text, t));
        arena_free(&text);
        return e;
    }
    return tensor_upload(t, found->data, DT_F32);
}

static err load_adapter(const checkpoint *c, const char *path)
{
    safetensors *s = NULL;
    TRY(err_as(safetensors_open(&s, path), E_CHECKPOINT));
    err e = OK;
    for (int i = 0; i < c->tensors && e == OK; i++)
        e = load_tensor(s, path, c->tensor[i].name, c->tensor[i].t);
    safetensors_close(s);
    return e;
}

static err load_moments(optimizer *o, const safetensors *s, const char *path)
{
    const char *updates = safetensors_metadata(s, "updates");
    char *end = NULL;
    o->updates = updates ? strtoll(updates, &end, 10) : -1;
    if (o->updates < 0 || *end)
        return err_set(E_CHECKPOINT, "%s: metadata updates: found '%s', expected a count", path, updates ? updates : "nothing");
    arena text = {0};
    err e = OK;
    for (int i = 0; i < o->count && e == OK; i++) {
        e = load_tensor(s, path, arena_print(&text, "m.%s", o->param[i].name), o->m[i]);
        if (e == OK)
            e = load_tensor(s, path, arena_print(&text, "v.%s", o->param[i].name), o->v[i]);
    }
    arena_free(&text);
    return e;
}

static err load_optimizer(optimizer *o, const char *path)
{
    safetensors *s = NULL;
    TRY(err_as(safetensors_open(&s, path), E_CHECKPOINT));
    err e = load_moments(o, s, path);
    safetensors_close(s);
    return e;
}

err checkpoint_load(checkpoint *c, const char *folder)
{
    TRY(checkpoint_verify(&c->step, folder));
    char *adapter = path_join(folder, files[0]), *moments = path_join(folder, files[1]);
    err e = load_adapter(c, adapter);
    if (e == OK)
        e = load_optimizer(c->optimizer, moments);
    free(adapter);
    free(moments);
    return e;
}
