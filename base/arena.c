#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { BLOCK_BYTES = 64 * 1024, ALIGNMENT = 16 };

struct arena_block {
    arena_block *next;
    size_t used, capacity;
    _Alignas(ALIGNMENT) unsigned char bytes[];
};

static _Noreturn void out_of_memory(size_t bytes)
{
    fprintf(stderr, "error[E_MEMORY] cannot get %zu bytes of host memory; close other programs or lower the sizes\n",
            bytes);
    exit(err_exit_code(E_MEMORY));
}

void *heap_get(size_t bytes)
{
    return heap_grow(NULL, bytes);
}

void *heap_grow(void *old, size_t bytes)
{
    void *memory = realloc(old, bytes ? bytes : 1);
    if (!memory)
        out_of_memory(bytes);
    return memory;
}

static arena_block *block_with_room(arena *a, size_t bytes)
{
    for (arena_block *b = a->last; b; b = b->next) {
        if (b->capacity - b->used >= bytes)
            return b;
        a->last = b;
    }
    size_t capacity = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
    arena_block *b = heap_get(sizeof *b + capacity);
    *b = (arena_block){.capacity = capacity};
    if (a->last)
        a->last->next = b;
    else
        a->first = b;
    a->last = b;
    return b;
}

void *arena_get(arena *a, size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        out_of_memory(bytes);
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    arena_block *b = block_with_room(a, rounded);
    void *memory = b->bytes + b->used;
    b->used += rounded;
    return memset(memory, 0, rounded);
}

char *arena_copy_string(arena *a, const char *text)
{
    size_t bytes = strlen(text) + 1;
    return memcpy(arena_get(a, bytes), text, bytes);
}

char *arena_print(arena *a, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    CHECK(length >= 0, "format '%s'", format);
    char *text = arena_get(a, (size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

void arena_reset(arena *a)
{
    for (arena_block *b = a->first; b; b = b->next)
        b->used = 0;
    a->last = a->first;
}

void arena_free(arena *a)
{
    for (arena_block *b = a->first, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    *a = (arena){0};
}
