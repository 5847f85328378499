#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_BYTES = 8192 };

static _Thread_local char message[MESSAGE_BYTES];

static const struct {
    const char *name;
    int exit_code;
} classes[] = {
    [OK] = {"OK", 0},
    [E_USAGE] = {"E_USAGE", 2},
    [E_CONFIG] = {"E_CONFIG", 2},
    [E_DATASET] = {"E_DATASET", 3},
    [E_MODEL] = {"E_MODEL", 4},
    [E_SHAPE] = {"E_SHAPE", 4},
    [E_FORMAT] = {"E_FORMAT", 4},
    [E_CHECKPOINT] = {"E_CHECKPOINT", 5},
    [E_CACHE] = {"E_CACHE", 5},
    [E_DEVICE] = {"E_DEVICE", 6},
    [E_MEMORY] = {"E_MEMORY", 6},
    [E_IO] = {"E_IO", 7},
    [E_DISK_FULL] = {"E_DISK_FULL", 7},
    [E_NUMERIC] = {"E_NUMERIC", 8},
    [E_DISTRIBUTED] = {"E_DISTRIBUTED", 9},
    [E_INTERRUPTED] = {"E_INTERRUPTED", 130},
    [E_TERMINATED] = {"E_TERMINATED", 143},
};

err err_set(err code, const char *format, ...)
{
    char text[MESSAGE_BYTES]; /* the arguments may point into the old message */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    memcpy(message, text, sizeof message);
    return code;
}

err err_prefix(err code, const char *format, ...)
{
    char text[MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t used = length < 0 ? 0 : (size_t)length < sizeof text ? (size_t)length : sizeof text - 1;
    const char *parts[] = {": ", message};
    for (int i = 0; i < 2; i++) {
        size_t room = sizeof text - 1 - used, size = strlen(parts[i]);
        size = size < room ? size : room;
        memcpy(text + used, parts[i], size);
        used += size;
    }
    text[used] = 0;
    memcpy(message, text, sizeof message);
    return code;
}

err err_as(err code, err as)
{
    return code == E_IO || code == E_FORMAT || code == E_SHAPE ? as : code;
}

const char *err_message(void)
{
    return message;
}

const char *err_name(err code)
{
    return classes[code].name;
}

int err_exit_code(err code)
{
    return classes[code].exit_code;
}

void check_failed(const char *file, int line, const char *condition, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: CHECK(%s) failed: ", file, line, condition);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}
