#include "data/cache_shard_hdf5.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    stored_type type;
} types[] = {{"f32", STORED_F32}, {"f16", STORED_F16}, {"bf16", STORED_BF16}};
enum { TYPES = sizeof types / sizeof *types };

void shard_library(void)
{
    H5dont_atexit(); /* its handler would wait for files that a full disk left open; fails harmlessly once started */
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0);
}

void shard_table_name(char out[SHARD_NAME], const cache_form *f)
{
    const char *type = "";
    for (int i = 0; i < TYPES; i++)
        if (types[i].type == f->type)
            type = types[i].name;
    int length = snprintf(out, SHARD_NAME, "%s_%s_", cache_kind_name(f->kind), type);
    for (int i = 0; i < f->ndim && length < SHARD_NAME; i++)
        length += snprintf(out + length, (size_t)(SHARD_NAME - length), "%s%" PRId64, i ? "x" : "", f->dim[i]);
}

/* By writing every name that fits the beginning and comparing: one spelling for each form. */
bool shard_table_parse(cache_form *out, const char *name)
{
    char kind[32], type[32], rest[64], again[SHARD_NAME];
    *out = (cache_form){.kind = CACHE_KIND_COUNT, .type = STORED_TYPE_COUNT};
    if (sscanf(name, "%31[a-z]_%31[a-z0-9]_%63[0-9x]", kind, type, rest) != 3)
        return false;
    for (int k = 0; k < CACHE_KIND_COUNT; k++)
        if (!strcmp(kind, cache_kind_name((cache_kind)k)))
            out->kind = (cache_kind)k;
    for (int i = 0; i < TYPES; i++)
        if (!strcmp(type, types[i].name))
            out->type = types[i].type;
    out->ndim = sscanf(rest, "%" SCNd64 "x%" SCNd64 "x%" SCNd64 "x%" SCNd64, &out->dim[0], &out->dim[1], &out->dim[2],
                       &out->dim[3]);
    if (out->kind == CACHE_KIND_COUNT || out->type == STORED_TYPE_COUNT || cache_form_count(out) <= 0)
        return false;
    shard_table_name(again, out);
    return !strcmp(again, name);
}

hid_t shard_type(stored_type type, bool in_file)
{
    if (type == STORED_F32)
        return in_file ? H5T_IEEE_F32LE : H5T_NATIVE_FLOAT;
    return in_file ? H5T_STD_U16LE : H5T_NATIVE_UINT16;
}

void shard_release(hid_t a, hid_t b, hid_t c)
{
    const hid_t all[] = {a, b, c};
    for (int i = 0; i < 3; i++) {
        if (all[i] < 0)
            continue;
        if (H5Iget_type(all[i]) == H5I_DATASPACE)
            H5Sclose(all[i]);
        else
            H5Pclose(all[i]);
    }
}
