#include "infer/probe.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "infer/probe_inputs.h"

typedef struct output {
    const char *name;
    int         ndim;
    int64_t     dim[TENSOR_MAX_DIM], count;
    float      *value; /* heap */
} output;

struct probe {
    const probe_options *options;
    const probe_module  *module;
    safetensors         *in; /* NULL: none */
    ag                  *g;
    arena                memory;
    probe_sizes          sizes;
    output              *out;
    int                  outs, room;
};

const probe_options *probe_given(const probe *p)
{
    return p->options;
}

ag *probe_graph(const probe *p)
{
    return p->g;
}

arena *probe_memory(probe *p)
{
    return &p->memory;
}

int64_t probe_size(const probe *p, const char *letter)
{
    return probe_sizes_find(&p->sizes, letter, strlen(letter));
}

/* ---- --set ---- */

const char *probe_text(const probe *p, const char *key, const char *fallback)
{
    size_t      length = strlen(key);
    const char *found = fallback;
    for (int i = 0; i < p->options->sets; i++) /* the last one counts */
        if (!strncmp(p->options->set[i], key, length) && p->options->set[i][length] == '=')
            found = p->options->set[i] + length + 1;
    return found;
}

err probe_number(double *out, const probe *p, const char *key, double fallback)
{
    const char *text = probe_text(p, key, NULL);
    char       *end;
    *out = fallback;
    if (!text)
        return OK;
    errno = 0;
    *out = strtod(text, &end);
    if (end == text || *end || errno || !isfinite(*out))
        return err_set(E_USAGE, "--set %s=%.60s: expected a number", key, text);
    return OK;
}

err probe_whole(int64_t *out, const probe *p, const char *key, int64_t fallback, int64_t low, int64_t high)
{
    const char *text = probe_text(p, key, NULL);
    char       *end;
    *out = fallback;
    if (!text)
        return OK;
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (end == text || *end || errno || *out < low || *out > high)
        return err_set(E_USAGE, "--set %s=%.60s: expected a whole number from %" PRId64 " to %" PRId64, key, text, low,
                       high);
    return OK;
}

static err check_settings(const probe_module *m, const probe_options *o)
{
    size_t known = 0;
    while (m->settings && m->settings[known])
        known++;
    for (int i = 0; i < o->sets; i++) {
        size_t length = strcspn(o->set[i], "=");
        bool   found = false;
        for (size_t k = 0; k < known && !found; k++)
            found =
                strlen(m->settings[k]) == length && !strncmp(m->settings[k], o->set[i], length) && o->set[i][length];
        if (found)
            continue;
        char        key[64];
        snprintf(key, sizeof key, "%.*s", length < sizeof key ? (int)length : 0, o->set[i]);
        const char *near = known ? text_nearest(key, m->settings, known) : NULL;
        if (near && !o->set[i][length])
            return err_set(E_USAGE, "--set %.60s: expected %s=VALUE", o->set[i], near);
        return err_set(E_USAGE, "--set %.60s: %s has no such setting%s%s", o->set[i], m->name,
                       near ? ", did you mean " : "", near ? near : "");
    }
    return OK;
}

/* ---- what is given ---- */

static err find_module(const probe_module **out, const char *name, const probe_module *const *modules, int count)
{
    arena text = {0};
    char *names = arena_copy_string(&text, "");
    *out = NULL;
    for (int i = 0; i < count && !*out; i++) {
        if (!strcmp(modules[i]->name, name))
            *out = modules[i];
        names = arena_print(&text, "%s%s%s", names, i ? ", " : "", modules[i]->name);
    }
    err e = *out ? OK : err_set(E_USAGE, "probe: unknown module %.60s; there are %s", name, names);
    arena_free(&text);
    return e;
}

static err check_options(const probe_module *m, const probe_options *o)
{
    if (m->needs & PROBE_MODEL && !o->model)
        return err_set(E_USAGE, "probe %s needs --model DIR, a pipeline folder", m->name);
    if (m->needs & PROBE_IMAGE_ENCODER && !o->image_encoder)
        return err_set(E_USAGE, "probe %s needs --image-encoder DIR", m->name);
    if (m->needs & PROBE_ADAPTER && !o->adapter)
        return err_set(E_USAGE, "probe %s needs --adapter FILE", m->name);
    if (!o->out)
        return err_set(E_USAGE, "probe %s needs --out FILE", m->name);
    bool reads = false;
    for (const probe_input *i = m->inputs; i && i->name; i++)
        reads = reads || i->need == PROBE_REQUIRED;
    if (reads && !o->in)
        return err_set(E_USAGE, "probe %s needs --in FILE, a safetensors file with its inputs", m->name);
    return check_settings(m, o);
}

/* ---- inputs ---- */

static const stored_tensor *stored(const probe *p, const char *name)
{
    return p->in ? tensor_table_find(&p->in->tensors, name) : NULL;
}

bool probe_has(const probe *p, const char *name)
{
    return stored(p, name) != NULL;
}

err probe_f32(float **out, probe *p, const char *name)
{
    const stored_tensor *t = stored(p, name);
    CHECK(t, "probe %s reads '%s', which is not there", p->module->name, name);
    *out = ARENA_ARRAY(&p->memory, float, t->count);
    stored_to_f32(*out, t->type, t->data, t->count);
    return OK;
}

err probe_i32(int32_t **out, probe *p, const char *name)
{
    const stored_tensor *t = stored(p, name);
    int64_t             *wide = NULL;
    CHECK(t, "probe %s reads '%s', which is not there", p->module->name, name);
    TRY(stored_read_i64(&wide, t));
    *out = ARENA_ARRAY(&p->memory, int32_t, t->count);
    err e = OK;
    for (int64_t i = 0; i < t->count && e == OK; i++) {
        if (wide[i] < INT32_MIN || wide[i] > INT32_MAX)
            e = err_set(E_FORMAT, "%s: number %" PRId64 " is %" PRId64 ", too large", name, i, wide[i]);
        (*out)[i] = (int32_t)wide[i];
    }
    free(wide);
    return e;
}

/* to (outer,columns,rows) from (outer,rows,columns) */
static void swap_inner(float *to, const float *from, int64_t outer, int64_t rows, int64_t columns)
{
    for (int64_t o = 0; o < outer; o++, from += rows * columns)
        for (int64_t c = 0; c < columns; c++)
            for (int64_t r = 0; r < rows; r++)
                *to++ = from[r * columns + c];
}

float *probe_nhwc(probe *p, const char *name)
{
    const stored_tensor *t = stored(p, name);
    float               *plain;
    if (!t)
        return NULL;
    CHECK(t->ndim == 4, "'%s' is no image", name);
    probe_f32(&plain, p, name);
    float *out = ARENA_ARRAY(&p->memory, float, t->count);
    swap_inner(out, plain, t->dim[0], t->dim[1], t->dim[2] * t->dim[3]);
    return out;
}

static const probe_input *row(const probe *p, const char *name)
{
    const probe_input *i = p->module->inputs;
    while (i->name && strcmp(i->name, name))
        i++;
    CHECK(i->name, "probe %s has no input '%s'", p->module->name, name);
    return i;
}

tensor *probe_tensor(probe *p, const char *name)
{
    const stored_tensor *t = stored(p, name);
    const probe_input   *input = row(p, name);
    float               *value;
    int32_t             *ids;
    if (!t)
        return NULL;
    if (input->kind == PROBE_IDS)
        return ag_fail(p->g, probe_i32(&ids, p, name)) == OK
                   ? ag_input(p->g, input->name, DT_I32, t->ndim, t->dim, ids, DT_I32)
                   : NULL;
    if (input->kind == PROBE_IMAGE)
        return ag_input(p->g, input->name, p->options->type, DIMS(t->dim[0], t->dim[2], t->dim[3], t->dim[1]),
                        probe_nhwc(p, name), DT_F32);
    if (ag_fail(p->g, probe_f32(&value, p, name)) != OK)
        return NULL;
    return ag_input(p->g, input->name, input->kind == PROBE_F32 ? DT_F32 : p->options->type, t->ndim, t->dim, value,
                    DT_F32);
}

/* ---- outputs ---- */

static err add_output(output **out, probe *p, const char *name, int ndim, const int64_t *dim)
{
    output o = {.name = arena_copy_string(&p->memory, name), .ndim = ndim, .count = 1};
    for (int i = 0; i < ndim; i++)
        o.count *= o.dim[i] = dim[i];
    o.value = malloc((size_t)(o.count ? o.count : 1) * sizeof(float));
    if (!o.value)
        return err_set(E_MEMORY, "%s: no memory for %" PRId64 " numbers", name, o.count);
    if (p->outs == p->room) {
        p->room = p->room ? 2 * p->room : 16;
        p->out = heap_grow(p->out, (size_t)p->room * sizeof *p->out);
    }
    p->out[p->outs] = o;
    *out = &p->out[p->outs++];
    return OK;
}

err probe_put(probe *p, const char *name, const tensor *t)
{
    output *o = NULL;
    TRY(ag_status(p->g));
    TRY(add_output(&o, p, name, t->ndim, t->dim));
    return tensor_download(o->value, DT_F32, t);
}

err probe_put_image(probe *p, const char *name, const tensor *t)
{
    output *o = NULL;
    TRY(ag_status(p->g));
    CHECK(t->ndim == 4, "'%s' is no image", name);
    TRY(add_output(&o, p, name, DIMS(t->dim[0], t->dim[3], t->dim[1], t->dim[2])));
    float *nhwc = malloc((size_t)o->count * sizeof(float));
    if (!nhwc)
        return err_set(E_MEMORY, "%s: no memory for %" PRId64 " numbers", name, o->count);
    err e = tensor_download(nhwc, DT_F32, t);
    if (e == OK)
        swap_inner(o->value, nhwc, t->dim[0], t->dim[1] * t->dim[2], t->dim[3]);
    free(nhwc);
    return e;
}

err probe_put_f32(probe *p, const char *name, const float *values, int ndim, const int64_t *dim)
{
    output *o = NULL;
    TRY(add_output(&o, p, name, ndim, dim));
    memcpy(o->value, values, (size_t)o->count * sizeof(float));
    return OK;
}

static err write_outputs(const probe *p)
{
    safetensors_writer *w = NULL;
    TRY(safetensors_create(&w, p->options->out));
    for (int i = 0; i < p->outs; i++)
        safetensors_declare(w, p->out[i].name, STORED_F32, p->out[i].ndim, p->out[i].dim);
    err e = OK;
    for (int i = 0; i < p->outs && e == OK; i++)
        e = safetensors_write_f32(w, p->out[i].value);
    if (e == OK)
        return safetensors_publish(w);
    safetensors_discard(w);
    return e;
}

/* ---- the run ---- */

static err open_inputs(probe *p)
{
    if (!p->options->in)
        return OK;
    TRY(safetensors_open(&p->in, p->options->in));
    return probe_inputs_check(&p->sizes, &p->memory, p->module, &p->in->tensors, p->options);
}

err probe_run(const probe_options *options, const probe_module *const *modules, int count)
{
    probe p = {.options = options};
    TRY(find_module(&p.module, options->module, modules, count));
    TRY(check_options(p.module, options));
    p.g = ag_new(options->dev);
    err e = open_inputs(&p);
    if (e == OK)
        e = p.module->run(&p);
    if (e == OK)
        e = write_outputs(&p);
    ag_free(p.g);
    for (int i = 0; i < p.outs; i++)
        free(p.out[i].value);
    free(p.out);
    safetensors_close(p.in);
    arena_free(&p.memory);
    return e;
}
