/* Shards are composed in memory by HDF5's core driver and written by base/file.h like every other file: libhdf5 itself
 * never fsyncs, and may report success for a file that the disk had no room for. */
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "data/cache_shard.h"
#include "data/cache_shard_hdf5.h"

enum { GROW_BYTES = 4 << 20 };

static err failed(const char *path, const char *what)
{
    return err_set(E_MEMORY, "%s: HDF5 cannot compose it (%s); is there enough memory?", path, what);
}

/* (rows, dims...) with one chunk a row, or (rows, 64) keys. */
static hid_t create_dataset(hid_t file, const char *name, hid_t type, int64_t rows, int ndim, const int64_t *dim)
{
    hsize_t whole[CACHE_MAX_DIM + 1] = {(hsize_t)rows}, chunk[CACHE_MAX_DIM + 1] = {1};
    for (int i = 0; i < ndim; i++)
        whole[i + 1] = chunk[i + 1] = (hsize_t)dim[i];
    hid_t space = H5Screate_simple(ndim + 1, whole, NULL), how = H5Pcreate(H5P_DATASET_CREATE);
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS), out = -1;
    if (space >= 0 && how >= 0 && access >= 0 && H5Pset_chunk(how, ndim + 1, chunk) >= 0 && H5Pset_fletcher32(how) >= 0 &&
        H5Pset_fill_time(how, H5D_FILL_TIME_NEVER) >= 0 && H5Pset_obj_track_times(how, false) >= 0 &&
        H5Pset_chunk_cache(access, 0, 0, 1.0) >= 0)
        out = H5Dcreate2(file, name, type, space, H5P_DEFAULT, how, access);
    shard_release(space, how, access);
    return out;
}

static bool write_row(hid_t dataset, hid_t type, int64_t row, int ndim, const int64_t *dim, const void *bytes)
{
    hsize_t start[CACHE_MAX_DIM + 1] = {(hsize_t)row}, count[CACHE_MAX_DIM + 1] = {1};
    for (int i = 0; i < ndim; i++)
        count[i + 1] = (hsize_t)dim[i];
    hid_t space = H5Dget_space(dataset), memory = H5Screate_simple(ndim + 1, count, NULL);
    bool good = space >= 0 && memory >= 0 && H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                H5Dwrite(dataset, type, memory, space, H5P_DEFAULT, bytes) >= 0;
    shard_release(space, memory, -1);
    return good;
}

/* All entries of the form of entry[first], in their order. */
static bool write_table(hid_t file, const cache_entry *entry, size_t first, size_t count)
{
    static const int64_t key_dim[1] = {CACHE_KEY_LENGTH};
    const cache_form *f = &entry[first].form;
    char name[SHARD_NAME], keys[SHARD_NAME];
    int64_t rows = 0, row = 0;
    for (size_t i = first; i < count; i++)
        rows += cache_form_equal(&entry[i].form, f);
    shard_table_name(name, f);
    snprintf(keys, sizeof keys, "%.80s" SHARD_KEYS, name);
    hid_t type = shard_type(f->type, true), memory = shard_type(f->type, false);
    hid_t values = create_dataset(file, name, type, rows, f->ndim, f->dim);
    hid_t names = create_dataset(file, keys, H5T_STD_U8LE, rows, 1, key_dim);
    bool good = values >= 0 && names >= 0;
    for (size_t i = first; i < count && good; i++) {
        if (!cache_form_equal(&entry[i].form, f))
            continue;
        good = write_row(values, memory, row, f->ndim, f->dim, entry[i].bytes) &&
               write_row(names, H5T_NATIVE_UINT8, row, 1, key_dim, entry[i].key.hex);
        row++;
    }
    good = (values < 0 || H5Dclose(values) >= 0) && good;
    return (names < 0 || H5Dclose(names) >= 0) && good;
}

static bool write_tables(hid_t file, const cache_entry *entry, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool earlier = false;
        for (size_t k = 0; k < i && !earlier; k++)
            earlier = cache_form_equal(&entry[k].form, &entry[i].form);
        if (!earlier && !write_table(file, entry, i, count))
            return false;
    }
    return true;
}

/* *bytes: the file as it would lie on a disk; caller frees. */
static err compose(void **bytes, size_t *size, const char *path, const cache_entry *entry, size_t count)
{
    shard_library();
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), file = -1;
    *bytes = NULL;
    if (access >= 0 && H5Pset_fapl_core(access, GROW_BYTES, false) >= 0 &&
        H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_V18) >= 0) /* of later ones the image is broken in 1.10 */
        file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    shard_release(access, -1, -1);
    if (file < 0)
        return failed(path, "H5Fcreate");
    bool good = write_tables(file, entry, count) && H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0;
    ssize_t length = good ? H5Fget_file_image(file, NULL, 0) : -1;
    *bytes = length > 0 ? malloc((size_t)length) : NULL;
    good = *bytes && H5Fget_file_image(file, *bytes, (size_t)length) == length;
    good = H5Fclose(file) >= 0 && good;
    *size = good ? (size_t)length : 0;
    if (good)
        return OK;
    free(*bytes);
    *bytes = NULL;
    return failed(path, "H5Dwrite");
}

err cache_shard_write(size_t *size, char hex[65], const char *path, const cache_entry *entry, size_t count)
{
    void *bytes;
    TRY(compose(&bytes, size, path, entry, count));
    hash_memory(hex, bytes, *size);
    file_writer *w = NULL;
    err e = file_create(&w, path);
    if (e == OK) {
        file_write(w, bytes, *size); /* its failure is kept for file_publish */
        e = file_publish(w);
    }
    free(bytes);
    return e;
}
