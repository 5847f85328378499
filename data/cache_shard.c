#include "data/cache_shard.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "data/cache_shard_hdf5.h"

enum { MAX_TABLES = 4096 };

static err broken(const cache_shard *s, const char *what)
{
    return err_set(E_CACHE, "%s: %s; run `msd prepare` to encode again what it held", s->path, what);
}

static err open_file(cache_shard *s)
{
    shard_library();
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 && H5Pset_fapl_sec2(access) >= 0)
        s->file = H5Fopen(s->path, H5F_ACC_RDONLY, access);
    shard_release(access, -1, -1);
    return s->file >= 0 ? OK : broken(s, "not a file of the cache (HDF5 cannot open it)");
}

/* Exactly what cache_shard_write makes: (rows, dims...), chunks of one row, fletcher32 and nothing else. */
static bool layout_good(hid_t dataset, hid_t type, int64_t *rows, int ndim, const int64_t *dim)
{
    hsize_t whole[CACHE_MAX_DIM + 1], chunk[CACHE_MAX_DIM + 1];
    hid_t space = H5Dget_space(dataset), how = H5Dget_create_plist(dataset), found = H5Dget_type(dataset);
    unsigned flags = 0, values[8];
    size_t value_count = 8;
    char name[8];
    bool good = space >= 0 && how >= 0 && found >= 0 && H5Tequal(found, type) > 0 &&
                H5Sget_simple_extent_ndims(space) == ndim + 1 && H5Sget_simple_extent_dims(space, whole, NULL) == ndim + 1 &&
                H5Pget_layout(how) == H5D_CHUNKED && H5Pget_chunk(how, ndim + 1, chunk) == ndim + 1 &&
                H5Pget_external_count(how) == 0 && H5Pget_nfilters(how) == 1 &&
                H5Pget_filter2(how, 0, &flags, &value_count, values, sizeof name, name, NULL) == H5Z_FILTER_FLETCHER32;
    good = good && chunk[0] == 1 && whole[0] >= 1 && whole[0] <= (hsize_t)1 << 40;
    for (int i = 0; i < ndim && good; i++)
        good = whole[i + 1] == (hsize_t)dim[i] && chunk[i + 1] == (hsize_t)dim[i];
    *rows = good ? (int64_t)whole[0] : 0;
    if (found >= 0)
        H5Tclose(found);
    shard_release(space, how, -1);
    return good;
}

static hid_t open_dataset(hid_t file, const char *name, hid_t type, int64_t *rows, int ndim, const int64_t *dim)
{
    H5L_info_t link;
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS), out = -1;
    if (access >= 0 && H5Pset_chunk_cache(access, 0, 0, 1.0) >= 0 && H5Lget_info(file, name, &link, H5P_DEFAULT) >= 0 &&
        link.type == H5L_TYPE_HARD)
        out = H5Dopen2(file, name, access);
    shard_release(access, -1, -1);
    if (out >= 0 && !layout_good(out, type, rows, ndim, dim)) {
        H5Dclose(out);
        out = -1;
    }
    return out;
}

static err read_keys(cache_shard *s, cache_table *t, const char *name)
{
    static const int64_t key_dim[1] = {CACHE_KEY_LENGTH};
    char keys[SHARD_NAME];
    int64_t rows = 0;
    snprintf(keys, sizeof keys, "%.80s" SHARD_KEYS, name);
    hid_t dataset = open_dataset(s->file, keys, H5T_STD_U8LE, &rows, 1, key_dim);
    bool good = dataset >= 0 && rows == t->rows;
    t->keys = good ? malloc((size_t)rows * CACHE_KEY_LENGTH) : NULL;
    good = t->keys && H5Dread(dataset, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, t->keys) >= 0;
    if (dataset >= 0)
        H5Dclose(dataset);
    return good ? OK : broken(s, "the keys of a table cannot be read");
}

/* Opens every table's dataset; on the first opening also lists the tables. */
static err open_tables(cache_shard *s)
{
    for (int i = 0; i < s->tables; i++) {
        char name[SHARD_NAME];
        cache_table *t = &s->table[i];
        int64_t rows = 0;
        shard_table_name(name, &t->form);
        s->dataset[i] = open_dataset(s->file, name, shard_type(t->form.type, true), &rows, t->form.ndim, t->form.dim);
        if (s->dataset[i] < 0 || (t->keys && rows != t->rows))
            return broken(s, "a table has another form than its name says");
        t->rows = rows;
        if (!t->keys)
            TRY(read_keys(s, t, name));
    }
    return OK;
}

static err list_tables(cache_shard *s)
{
    H5G_info_t group;
    if (H5Gget_info(s->file, &group) < 0 || group.nlinks % 2 || group.nlinks > 2 * MAX_TABLES)
        return broken(s, "its list of tables cannot be read");
    s->table = heap_get(((size_t)group.nlinks / 2 + 1) * sizeof *s->table);
    s->dataset = heap_get(((size_t)group.nlinks / 2 + 1) * sizeof *s->dataset);
    for (hsize_t i = 0; i < group.nlinks; i++) {
        char name[SHARD_NAME];
        ssize_t length = H5Lget_name_by_idx(s->file, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT);
        if (length < 1 || length >= SHARD_NAME)
            return broken(s, "its list of tables cannot be read");
        size_t suffix = strlen(SHARD_KEYS), size = (size_t)length;
        if (size > suffix && !strcmp(name + size - suffix, SHARD_KEYS))
            continue;
        if ((hsize_t)s->tables == group.nlinks / 2)
            return broken(s, "a table has no keys");
        s->dataset[s->tables] = -1;
        cache_table *t = &s->table[s->tables];
        *t = (cache_table){0};
        if (!shard_table_parse(&t->form, name))
            return broken(s, "it holds something that is no table of the cache");
        s->tables++;
    }
    return OK;
}

err cache_shard_open(cache_shard *out, const char *path)
{
    *out = (cache_shard){.path = path_join("", path), .file = -1};
    err e = open_file(out);
    if (e == OK)
        e = list_tables(out);
    if (e == OK)
        e = open_tables(out);
    if (e != OK)
        cache_shard_close(out);
    return e;
}

err cache_shard_read(void *bytes, cache_shard *s, int table, int64_t row)
{
    CHECK(table >= 0 && table < s->tables && row >= 0 && row < s->table[table].rows, "row %lld of table %d", (long long)row,
          table);
    shard_library();
    if (s->file < 0) {
        TRY(open_file(s));
        err e = open_tables(s);
        if (e != OK) {
            cache_shard_rest(s);
            return e;
        }
    }
    const cache_form *f = &s->table[table].form;
    hsize_t start[CACHE_MAX_DIM + 1] = {(hsize_t)row}, count[CACHE_MAX_DIM + 1] = {1};
    for (int i = 0; i < f->ndim; i++)
        count[i + 1] = (hsize_t)f->dim[i];
    hid_t space = H5Dget_space(s->dataset[table]), memory = H5Screate_simple(f->ndim + 1, count, NULL);
    bool good = space >= 0 && memory >= 0 && H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                H5Dread(s->dataset[table], shard_type(f->type, false), memory, space, H5P_DEFAULT, bytes) >= 0;
    shard_release(space, memory, -1);
    return good ? OK : broken(s, "an entry cannot be read, or its checksum is wrong");
}

void cache_shard_rest(cache_shard *s)
{
    for (int i = 0; i < s->tables; i++) {
        if (s->dataset[i] >= 0)
            H5Dclose(s->dataset[i]);
        s->dataset[i] = -1;
    }
    if (s->file >= 0)
        H5Fclose(s->file);
    s->file = -1;
}

void cache_shard_close(cache_shard *s)
{
    cache_shard_rest(s);
    for (int i = 0; i < s->tables; i++)
        free(s->table[i].keys);
    free(s->table);
    free(s->dataset);
    free(s->path);
    *s = (cache_shard){.file = -1};
}
