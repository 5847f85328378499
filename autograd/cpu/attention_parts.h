/* What attention's forward and backward have in common: heads of strided (B,T,H,D) tensors of either type, and sizes of
 * tiles. For autograd/cpu/attention*.c only. */
#ifndef MSD_AUTOGRAD_CPU_ATTENTION_PARTS_H
#define MSD_AUTOGRAD_CPU_ATTENTION_PARTS_H

#include <math.h>
#include <string.h>

#include "autograd/cpu/cpu.h"
#include "autograd/cpu/element.h"
#include "autograd/cpu/panel.h"
#include "autograd/cpu/tile.h"

enum { ATTENTION_KEYS = 64, ATTENTION_PANELS = 4 };

static inline int64_t attention_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t attention_padded(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* Queries of a block, a multiple of PANEL: many, so that each load of a tile of keys serves many, but few enough for
 * the caches where the head is large. */
static inline int64_t attention_block(int64_t queries, int64_t size)
{
    int64_t most = size <= 128 ? ATTENTION_PANELS * PANEL : 2 * PANEL;
    return attention_least(most, attention_padded(queries, PANEL));
}

/* The (T,D) matrix of one batch entry and head; rows are `row` elements apart. */
typedef struct head_view {
    void   *at;
    int64_t row;
    bool    bf16;
} head_view;

static inline head_view head_view_of(const tensor *x, int64_t b, int64_t h)
{
    bool bf16 = x->type == DT_BF16;
    return (head_view){cpu_at(x->data, b * x->stride[0] + h * x->stride[2], bf16),
                       x->dim[1] > 1 ? x->stride[1] : x->dim[3], bf16};
}

static inline void *head_at(head_view x, int64_t t)
{
    return cpu_at(x.at, t * x.row, x.bf16);
}

/* Rows must be whole and in rising order. */
static inline void attention_need_rows(const char *primitive, int count, const tensor *const *t)
{
    for (int i = 0; i < count; i++)
        CHECK(!t[i] || ((t[i]->dim[3] == 1 || t[i]->stride[3] == 1) &&
                        (t[i]->dim[1] == 1 || t[i]->stride[1] >= t[i]->dim[3])),
              "cpu %s: %s has rows of stride %lld and elements of stride %lld", primitive, t[i]->name,
              (long long)t[i]->stride[1], (long long)t[i]->stride[3]);
}

/* Scores (columns,PANEL) of keys from `key` on that come after their query become `hidden`. */
static inline void attention_hide(float *scores, int64_t query, int64_t key, int64_t columns, float hidden)
{
    for (int64_t c = query + 1 > key ? query + 1 - key : 0; c < columns; c++)
        for (int64_t r = 0; r < attention_least(PANEL, key + c - query); r++)
            scores[c * PANEL + r] = hidden;
}

#endif
