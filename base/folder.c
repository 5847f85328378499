#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/io.h"
#include "base/temporary.h"

err folder_make(const char *path)
{
    if (!path[0])
        return err_set(E_IO, "cannot make a folder with an empty name");
    char *part = path_join("", path);
    err result = OK;
    size_t length = strlen(part);
    for (size_t i = 1; i <= length && result == OK; i++) {
        if (part[i] != '/' && part[i] != 0)
            continue;
        char kept = part[i];
        part[i] = 0;
        if (io_mkdir(part, 0777) < 0 && !folder_exists(part))
            result = io_error(errno == EEXIST ? ENOTDIR : errno, part, "make this folder");
        part[i] = kept;
    }
    free(part);
    return result;
}

err folder_create_temporary(char **temporary, const char *path)
{
    *temporary = NULL;
    for (unsigned attempt = 0;; attempt++) {
        char *name = temporary_name(path, attempt);
        if (io_mkdir(name, 0777) == 0) {
            *temporary = name;
            return OK;
        }
        int number = errno;
        free(name);
        if (number != EEXIST || attempt >= TEMPORARY_ATTEMPTS)
            return io_error(number, path, "make a temporary folder beside it");
    }
}

err folder_publish(const char *temporary, const char *path)
{
    TRY(temporary_sync_folder(temporary));
    if (io_rename(temporary, path) < 0)
        return io_error(errno, path, "rename its temporary folder to it");
    return temporary_sync_parent(path);
}

typedef struct entry {
    char *path;
    bool  listed; /* its own entries were put on the list behind it */
} entry;

typedef struct entry_list {
    entry *item;
    size_t count, capacity;
} entry_list;

static void entry_list_add(entry_list *l, const char *folder, const char *name)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 16;
        l->item = heap_grow(l->item, l->capacity * sizeof *l->item);
    }
    l->item[l->count++] = (entry){.path = path_join(folder, name)};
}

/* The folder is closed before anything else is opened, so that deep trees do not run out of descriptors. */
static void list_entries(entry_list *l, const char *folder)
{
    DIR *directory = opendir(folder);
    if (!directory)
        return;
    for (struct dirent *e = readdir(directory); e; e = readdir(directory))
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            entry_list_add(l, folder, e->d_name);
    closedir(directory);
}

bool folder_empty(const char *path)
{
    entry_list l = {0};
    bool       empty = folder_exists(path);
    if (empty)
        list_entries(&l, path);
    empty = empty && l.count == 0;
    for (size_t i = 0; i < l.count; i++)
        free(l.item[i].path);
    free(l.item);
    return empty;
}

static bool is_true_folder(const char *path)
{
    struct stat about;
    return io_lstat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

void folder_remove(const char *path)
{
    entry_list todo = {0};
    entry_list_add(&todo, "", path);
    while (todo.count) {
        entry *last = &todo.item[todo.count - 1];
        bool folder = is_true_folder(last->path);
        if (folder && !last->listed) {
            char *name = last->path;
            last->listed = true;
            list_entries(&todo, name); /* may move the list */
            continue;
        }
        if (folder)
            io_rmdir(last->path);
        else
            io_unlink(last->path);
        free(last->path);
        todo.count--;
    }
    free(todo.item);
}
