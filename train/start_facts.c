#include "train/start_facts.h"

#include <dnnl.h>
#include <hdf5.h>
#include <png.h>
#include <stdio.h>
#include <string.h>

#include "autograd/device.h"
#include "base/file.h"
#include "data/adapter_file.h"
#include "data/fingerprint.h"
#include "train/parameters.h"
#include "train/ranks_mpi.h"

enum { MOST_FACTS = CONFIG_KEYS + 16 };

typedef struct facts {
    arena      *memory;
    ranks_fact  fact[MOST_FACTS];
    int         count;
} facts;

static void add(facts *f, const char *name, const char *value)
{
    CHECK(f->count < MOST_FACTS, "%d facts", f->count);
    f->fact[f->count++] = (ranks_fact){name, value};
}

/* ---- program ---- */

static err add_program(facts *f, const run_config *c)
{
    char hex[65], mpi[160], cuda[256];
    const dnnl_version_t *dnn = dnnl_version();
    const char *kind = parameters_device(c);
    unsigned hdf5[3] = {0};
    TRY(file_sha256(hex, "/proc/self/exe"));
    H5get_libversion(&hdf5[0], &hdf5[1], &hdf5[2]);
    ranks_mpi_describe(mpi, sizeof mpi);
    device_describe_cuda(cuda, sizeof cuda);
    add(f, "the program (SHA-256 of msd)", arena_copy_string(f->memory, hex));
    add(f, "oneDNN", arena_print(f->memory, "%d.%d.%d", dnn->major, dnn->minor, dnn->patch));
    add(f, "libpng", png_get_libpng_ver(NULL));
    add(f, "HDF5", arena_print(f->memory, "%u.%u.%u", hdf5[0], hdf5[1], hdf5[2]));
    add(f, "MPI", arena_copy_string(f->memory, mpi));
    add(f, "the device", kind);
    if (!strcmp(kind, "cuda"))
        add(f, "the card", arena_copy_string(f->memory, cuda));
    return OK;
}

static void add_settings(facts *f, const run_config *c)
{
    for (int i = 0; i < CONFIG_KEYS; i++) {
        const char *name, *value;
        if (run_config_setting(&name, &value, f->memory, c, i))
            add(f, name, value);
    }
    add(f, "data.cache", c->data.cache ? "a folder" : "off");
}

/* ---- files ---- */

static err add_file(facts *f, const char *name, const char *path)
{
    char hex[65];
    if (!path) {
        add(f, name, "null");
        return OK;
    }
    TRY(file_sha256(hex, path));
    add(f, name, arena_print(f->memory, "a file of SHA-256 %.16s", hex));
    return OK;
}

static err add_component(facts *f, const char *folder, const char *component, const char *name)
{
    char hex[65];
    weights *w = NULL;
    if (!weights_present(folder, component)) {
        add(f, name, "absent");
        return OK;
    }
    TRY(weights_open_component(&w, folder, component));
    fingerprint(hex, &w->all);
    weights_close(w);
    add(f, name, arena_print(f->memory, "weights %.16s", hex));
    return OK;
}

static err add_adapter(facts *f, const char *path)
{
    char hex[65];
    adapter_file *a = NULL;
    if (!path) {
        add(f, "model.adapter", "null");
        return OK;
    }
    TRY(adapter_file_open(&a, path));
    fingerprint(hex, &a->tensors);
    adapter_file_close(a);
    add(f, "model.adapter", arena_print(f->memory, "weights %.16s", hex));
    return OK;
}

static err add_files(facts *f, const run_config *c)
{
    const char *base = c->model.base;
    TRY(add_file(f, "data.manifest", c->data.manifest));
    TRY(add_file(f, "data.validation", c->data.validation));
    TRY(add_adapter(f, c->model.adapter));
    TRY(add_component(f, base, "unet", "model.base, unet"));
    if (c->data.cache)
        return OK;
    TRY(add_component(f, base, "vae", "model.base, vae"));
    TRY(add_component(f, base, "text_encoder", "model.base, text_encoder"));
    TRY(add_component(f, base, "text_encoder_2", "model.base, text_encoder_2"));
    return add_component(f, c->model.image_encoder, NULL, "model.image_encoder");
}

err start_compare(ranks *all, const run_config *c)
{
    if (!all)
        return OK;
    arena memory = {0};
    facts f = {.memory = &memory};
    err e = add_program(&f, c);
    if (e == OK) {
        add_settings(&f, c);
        e = add_files(&f, c);
    }
    if (e == OK)
        e = ranks_compare(all, f.fact, f.count);
    arena_free(&memory);
    return e;
}
