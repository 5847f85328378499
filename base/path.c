#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"

static char *joined(const char *folder, size_t length, const char *name)
{
    size_t name_length = strlen(name);
    bool slash = length && folder[length - 1] != '/';
    char *path = heap_get(length + slash + name_length + 1);
    memcpy(path, folder, length);
    if (slash)
        path[length] = '/';
    memcpy(path + length + slash, name, name_length + 1);
    return path;
}

char *path_join(const char *folder, const char *name)
{
    return joined(folder, strlen(folder), name);
}

char *path_beside(const char *base_file, const char *relative)
{
    const char *slash = strrchr(base_file, '/');
    if (relative[0] == '/' || !slash)
        return joined("", 0, relative);
    return joined(base_file, (size_t)(slash - base_file) + 1, relative);
}
