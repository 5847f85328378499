#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/io.h"
#include "data/importer.h"

enum { DEPTH = 32 };

static void append(import_list *l, const char *path)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 64;
        l->item = heap_grow(l->item, (size_t)l->capacity * sizeof *l->item);
    }
    l->item[l->count++] = path;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sort(import_list *l)
{
    if (l->count)
        qsort(l->item, (size_t)l->count, sizeof *l->item, compare);
}

static bool one_of(const char *ending, const char *const *names)
{
    while (*names && strcasecmp(ending, *names) != 0)
        names++;
    return *names;
}

static void take_file(importer *im, import_list *out, const char *path)
{
    static const char *const ours[] = {".jpg", ".jpeg", ".png", ".webp", NULL};
    static const char *const others[] = {".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif",
                                         ".jxl", ".jp2", ".svg", ".ppm",  NULL};
    const char *name = strrchr(path, '/'), *dot = strrchr(name ? name : path, '.');
    if (dot && one_of(dot, ours))
        append(out, path);
    else if (dot && one_of(dot, others))
        import_skip(im, "a picture that is not PNG, JPEG or WebP", "%s", path);
}

/* Names in `folder`, hidden ones not, sorted. */
static err read_folder(importer *im, import_list *out, const char *folder)
{
    DIR *d = opendir(folder);
    if (!d)
        return io_error(errno, folder, "list the folder");
    for (struct dirent *entry; (entry = readdir(d));) {
        if (entry->d_name[0] == '.')
            continue;
        char *path = path_join(folder, entry->d_name);
        append(out, arena_copy_string(&im->memory, path));
        free(path);
    }
    closedir(d);
    sort(out);
    return OK;
}

/* Folders behind links are not entered: a circle of them would have no end. */
static bool is_folder(const char *path)
{
    struct stat found;
    return io_lstat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

static err list_pictures(importer *im, import_list *out, const char *folder, int depth)
{
    import_list all = {0};
    TRY(read_folder(im, &all, folder));
    for (int64_t i = 0; i < all.count; i++) {
        if (!is_folder(all.item[i]))
            take_file(im, out, all.item[i]);
        else if (depth == 0)
            continue;
        else if (list_pictures(im, out, all.item[i], depth - 1) != OK)
            import_skip(im, "a folder that cannot be read", "%s", err_message());
    }
    free(all.item);
    return OK;
}

err import_list_pictures(importer *im, import_list *out, const char *folder, bool recursive)
{
    *out = (import_list){0};
    err e = list_pictures(im, out, folder, recursive ? DEPTH : 0);
    sort(out);
    return err_as(e, E_DATASET);
}

err import_list_folders(importer *im, import_list *out, const char *folder)
{
    import_list all = {0};
    *out = (import_list){0};
    err e = read_folder(im, &all, folder);
    for (int64_t i = 0; i < all.count; i++)
        if (is_folder(all.item[i]))
            append(out, all.item[i]);
    free(all.item);
    return err_as(e, E_DATASET);
}
