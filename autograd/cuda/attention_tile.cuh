/* Products of one tile of attention by a block of 256 threads: ROWS rows against COLUMNS columns, sums in f32 registers.
 * Thread (ty,tx) of 16 by 16 has rows ty * 2 + {0,1}, columns tx + 16 j of scores and elements tx + 16 j of head vectors,
 * so that the 16 threads of a row are half a warp. Operands pass through shared memory in slabs. */
#ifndef MSD_AUTOGRAD_CUDA_ATTENTION_TILE_CUH
#define MSD_AUTOGRAD_CUDA_ATTENTION_TILE_CUH

#include "autograd/cuda/element.cuh"
#include "autograd/cuda/launch.cuh"
#include "autograd/cuda/warp.cuh"

enum { ROWS = 32, COLUMNS = 64, SIDE = 16, ROWS_EACH = ROWS / SIDE, COLUMNS_EACH = COLUMNS / SIDE, SLAB = 32 };

/* Vectors of one head of one sample, `row` elements apart. */
template <class T> struct head_rows {
    T      *at;
    int64_t row;
};

template <class T> static __device__ __forceinline__ head_rows<T> rows_of(const cuda_heads &x, int64_t b, int64_t h)
{
    return head_rows<T>{(T *)x.data + b * x.batch + h * x.head, x.row};
}

/* A tile's operand: `count` vectors from `first` on. */
template <class T> struct vectors {
    head_rows<T> x;
    int64_t      first;
    int          count;
};

union tile_memory {
    struct {
        float a[ROWS][SLAB + 1], b[COLUMNS][SLAB + 1]; /* slabs of a score product */
    } scores;
    float values[COLUMNS][COLUMNS]; /* 64 elements of each column's vector */
};

/* slab[i][j] = element from + j of vector i, 0 outside */
template <int COUNT, class T>
static __device__ __forceinline__ void load_slab(float (*slab)[SLAB + 1], const vectors<T> &v, int from, int size)
{
    for (int k = (int)threadIdx.x; k < COUNT * SLAB; k += BLOCK_THREADS) {
        int i = k / SLAB, j = k % SLAB;
        bool inside = i < v.count && from + j < size;
        slab[i][j] = inside ? widened(v.x.at[(v.first + i) * v.x.row + from + j]) : 0.0f;
    }
}

/* s = a b^T; each slab is summed by itself first, whose error grows less with the size of a head */
template <class T>
static __device__ __forceinline__ void score_product(float (&s)[ROWS_EACH][COLUMNS_EACH], tile_memory &memory,
                                                     const vectors<T> &a, const vectors<T> &b, int size)
{
    int tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE;
#pragma unroll
    for (int r = 0; r < ROWS_EACH; r++)
#pragma unroll
        for (int c = 0; c < COLUMNS_EACH; c++)
            s[r][c] = 0.0f;
    for (int from = 0; from < size; from += SLAB) {
        __syncthreads();
        load_slab<ROWS>(memory.scores.a, a, from, size);
        load_slab<COLUMNS>(memory.scores.b, b, from, size);
        __syncthreads();
        float part[ROWS_EACH][COLUMNS_EACH] = {};
#pragma unroll 8
        for (int k = 0; k < SLAB; k++) {
            float left[ROWS_EACH], right[COLUMNS_EACH];
#pragma unroll
            for (int r = 0; r < ROWS_EACH; r++)
                left[r] = memory.scores.a[ty * ROWS_EACH + r][k];
#pragma unroll
            for (int c = 0; c < COLUMNS_EACH; c++)
                right[c] = memory.scores.b[tx + SIDE * c][k];
#pragma unroll
            for (int r = 0; r < ROWS_EACH; r++)
#pragma unroll
                for (int c = 0; c < COLUMNS_EACH; c++)
                    part[r][c] += left[r] * right[c];
        }
#pragma unroll
        for (int r = 0; r < ROWS_EACH; r++)
#pragma unroll
            for (int c = 0; c < COLUMNS_EACH; c++)
                s[r][c] += part[r][c];
    }
}

/* sum (ROWS, 16 EACH) += p (ROWS,COLUMNS) times the columns' vectors; elements beyond `size` stay as they are. */
template <int EACH, class T>
static __device__ __forceinline__ void value_product(float (&sum)[ROWS_EACH][EACH], const float (*p)[COLUMNS + 1],
                                                     tile_memory &memory, const vectors<T> &b, int size)
{
    int tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE;
#pragma unroll
    for (int part = 0; part < EACH; part += 4) {
        int from = part * SIDE;
        if (from >= size)
            break;
        __syncthreads();
        for (int k = (int)threadIdx.x; k < COLUMNS * COLUMNS; k += BLOCK_THREADS) {
            int i = k / COLUMNS, j = k % COLUMNS;
            bool inside = i < b.count && from + j < size;
            memory.values[i][j] = inside ? widened(b.x.at[(b.first + i) * b.x.row + from + j]) : 0.0f;
        }
        __syncthreads();
#pragma unroll 4
        for (int k = 0; k < b.count; k++) {
            float left[ROWS_EACH];
#pragma unroll
            for (int r = 0; r < ROWS_EACH; r++)
                left[r] = p[ty * ROWS_EACH + r][k];
#pragma unroll
            for (int c = 0; c < 4; c++) {
                float right = memory.values[k][tx + SIDE * c];
#pragma unroll
                for (int r = 0; r < ROWS_EACH; r++)
                    sum[r][part + c] += left[r] * right;
            }
        }
    }
}

/* p = s, for the other threads */
static __device__ __forceinline__ void share_scores(float (*p)[COLUMNS + 1], const float (&s)[ROWS_EACH][COLUMNS_EACH])
{
    int tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE;
#pragma unroll
    for (int r = 0; r < ROWS_EACH; r++)
#pragma unroll
        for (int c = 0; c < COLUMNS_EACH; c++)
            p[ty * ROWS_EACH + r][tx + SIDE * c] = s[r][c];
}

/* The tile's rows of y (+)= factor[row] * sum */
template <int EACH, class T>
static __device__ __forceinline__ void write_rows(const vectors<T> &y, const float (&sum)[ROWS_EACH][EACH],
                                                  const float (&factor)[ROWS_EACH], int size, bool add)
{
    int tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE;
#pragma unroll
    for (int r = 0; r < ROWS_EACH; r++) {
        int row = ty * ROWS_EACH + r;
        if (row >= y.count)
            continue;
        T *to = y.x.at + (y.first + row) * y.x.row;
#pragma unroll
        for (int c = 0; c < EACH; c++) {
            int i = tx + SIDE * c;
            if (i < size)
                narrow(to + i, (add ? widened(to[i]) : 0.0f) + sum[r][c] * factor[r]);
        }
    }
}

/* How many of `count` vectors a tile from `first` has, at most `most`. */
static __device__ __forceinline__ int tile_count(int64_t count, int64_t first, int most)
{
    return (int)(count - first < most ? count - first : most);
}

/* Calls what(elements per thread as a constant) for the smallest that holds heads of `size`. */
#define ATTENTION_FOR_SIZE(size, call)                                                                             \
    ((size) <= 64    ? call(4)                                                                                     \
     : (size) <= 128 ? call(8)                                                                                     \
     : (size) <= 256 ? call(16)                                                                                    \
                     : call(32))

#endif
