/* Host memory for small things that live and die together: configs, names, graph nodes, lists.
 * Blocks grow as needed and are freed at once. Running out of host memory for such small things
 * ends the process with exit code 6; files, pictures and tensors report E_MEMORY instead. */
#ifndef MSD_BASE_ARENA_H
#define MSD_BASE_ARENA_H

#include <stddef.h>

typedef struct arena_block arena_block;
typedef struct arena {
    arena_block *first, *last;
} arena;

void *arena_get(arena *a, size_t bytes);                /* zeroed, aligned to 16; never NULL */
char *arena_copy_string(arena *a, const char *text);
char *arena_print(arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
void  arena_reset(arena *a); /* forgets everything, keeps the blocks for reuse */
void  arena_free(arena *a);  /* an arena is empty when zeroed and after this */

#define ARENA_NEW(a, type)          ((type *)arena_get((a), sizeof(type)))
#define ARENA_ARRAY(a, type, count) ((type *)arena_get((a), sizeof(type) * (size_t)(count)))

/* Growable arrays and scratch buffers on the heap: as malloc/realloc, but never NULL (exit 6). */
void *heap_get(size_t bytes);
void *heap_grow(void *old, size_t bytes);

#endif
