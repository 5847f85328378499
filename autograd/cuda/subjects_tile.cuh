/* Multi-subject attention, tile by tile: a warp has 16 of the covered queries of a sample, in shared memory, and walks the
 * tokens of all subjects in groups of 16. Which queries are covered is data of the device: a kernel lists them, grids are
 * for all queries, and warps beyond the list's end have nothing to do.
 *
 * Two engines multiply: matrix_engine with tensor cores (bf16, whole groups of tokens, heads of a multiple of 16), and
 * plain_engine in f32 for everything else. Both compute 16 by 16 scores into shared memory, and sum 16 rows of head vectors:
 *     scores(s, a, b):          s = a b^T, of 16 rows of shared memory and `count` <= 16 of device memory
 *     add(p, b):                sum += p b, b `count` rows of device memory
 *     add_transposed(p, b):     sum += p^T b, b 16 rows of shared memory
 *     write(s, t):              s = elements 16 t .. 16 t + 15 of sum */
#ifndef MSD_AUTOGRAD_CUDA_SUBJECTS_TILE_CUH
#define MSD_AUTOGRAD_CUDA_SUBJECTS_TILE_CUH

#include <mma.h>

#include "autograd/cuda/element.cuh"
#include "autograd/cuda/launch.cuh"
#include "autograd/cuda/warp.cuh"

enum { GROUP = 16, HALF = GROUP / 2 }; /* a lane has HALF scores of one row, its neighbour the others */

template <class T> struct token_rows {
    const T *at;
    int64_t  row;
    int      count;
};

template <int TILES> struct matrix_engine {
    typedef bfloat element;
    typedef bfloat weight;
    enum { SIZE = TILES * GROUP, TILE_COUNT = TILES, LD = SIZE + 8, WARPS = SIZE <= 64 ? 4 : 2 };
    typedef nvcuda::wmma::fragment<nvcuda::wmma::accumulator, GROUP, GROUP, GROUP, float> accumulator;
    typedef nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, GROUP, GROUP, GROUP, bfloat, nvcuda::wmma::row_major> left;
    typedef nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, GROUP, GROUP, GROUP, bfloat, nvcuda::wmma::col_major> left_turned;
    typedef nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, GROUP, GROUP, GROUP, bfloat, nvcuda::wmma::row_major> right;
    typedef nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, GROUP, GROUP, GROUP, bfloat, nvcuda::wmma::col_major> right_turned;
    accumulator sum[TILES];

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int t = 0; t < TILES; t++)
            nvcuda::wmma::fill_fragment(sum[t], 0.0f);
    }

    static __device__ __forceinline__ void scores(float *s, const bfloat *a, const token_rows<bfloat> &b, int size)
    {
        accumulator all;
        nvcuda::wmma::fill_fragment(all, 0.0f);
        __syncwarp();
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            if (t * GROUP >= size)
                break;
            left         x;
            right_turned y;
            nvcuda::wmma::load_matrix_sync(x, a + t * GROUP, LD);
            nvcuda::wmma::load_matrix_sync(y, b.at + t * GROUP, (unsigned)b.row);
            nvcuda::wmma::mma_sync(all, x, y, all);
        }
        nvcuda::wmma::store_matrix_sync(s, all, GROUP, nvcuda::wmma::mem_row_major);
        __syncwarp();
    }

    __device__ __forceinline__ void add(const bfloat *p, const token_rows<bfloat> &b, int size)
    {
        __syncwarp();
        left x;
        nvcuda::wmma::load_matrix_sync(x, p, GROUP);
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            if (t * GROUP >= size)
                break;
            right y;
            nvcuda::wmma::load_matrix_sync(y, b.at + t * GROUP, (unsigned)b.row);
            nvcuda::wmma::mma_sync(sum[t], x, y, sum[t]);
        }
        __syncwarp();
    }

    __device__ __forceinline__ void add_transposed(const bfloat *p, const bfloat *b, int size)
    {
        __syncwarp();
        left_turned x;
        nvcuda::wmma::load_matrix_sync(x, p, GROUP);
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            if (t * GROUP >= size)
                break;
            right y;
            nvcuda::wmma::load_matrix_sync(y, b + t * GROUP, LD);
            nvcuda::wmma::mma_sync(sum[t], x, y, sum[t]);
        }
        __syncwarp();
    }

    __device__ __forceinline__ void write(float *s, int t) const
    {
        __syncwarp();
        nvcuda::wmma::store_matrix_sync(s, sum[t], GROUP, nvcuda::wmma::mem_row_major);
        __syncwarp();
    }
};

template <class T, int MOST> struct plain_engine {
    typedef T     element;
    typedef float weight;
    enum { SIZE = MOST, TILE_COUNT = MOST / GROUP, LD = SIZE + 4, EACH = MOST / WARP, WARPS = MOST <= 64 ? 4 : MOST <= 128 ? 2 : 1 };
    float sum[GROUP][EACH]; /* a lane has the elements lane + 32 j */

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int r = 0; r < GROUP; r++)
#pragma unroll
            for (int j = 0; j < EACH; j++)
                sum[r][j] = 0.0f;
    }

    static __device__ __forceinline__ void scores(float *s, const T *a, const token_rows<T> &b, int size)
    {
        int lane = (int)threadIdx.x % WARP, r = lane / 2, first = lane % 2 * HALF;
        __syncwarp();
        for (int c = first; c < first + HALF; c++) {
            float all = 0.0f;
            for (int i = 0; i < size && c < b.count; i++)
                all += widened(a[r * LD + i]) * widened(b.at[c * b.row + i]);
            s[r * GROUP + c] = all;
        }
        __syncwarp();
    }

    __device__ __forceinline__ void add(const float *p, const token_rows<T> &b, int size)
    {
        int lane = (int)threadIdx.x % WARP;
        __syncwarp();
        for (int k = 0; k < b.count; k++) {
#pragma unroll
            for (int j = 0; j < EACH; j++) {
                int   i = lane + WARP * j;
                float right = i < size ? widened(b.at[k * b.row + i]) : 0.0f;
#pragma unroll
                for (int r = 0; r < GROUP; r++)
                    sum[r][j] += p[r * GROUP + k] * right;
            }
        }
        __syncwarp();
    }

    __device__ __forceinline__ void add_transposed(const float *p, const T *b, int)
    {
        int lane = (int)threadIdx.x % WARP;
        __syncwarp();
        for (int k = 0; k < GROUP; k++) {
#pragma unroll
            for (int j = 0; j < EACH; j++) {
                float right = widened(b[k * LD + lane + WARP * j]);
#pragma unroll
                for (int r = 0; r < GROUP; r++)
                    sum[r][j] += p[k * GROUP + r] * right;
            }
        }
        __syncwarp();
    }

    __device__ __forceinline__ void write(float *s, int t) const
    {
        int lane = (int)threadIdx.x % WARP;
        __syncwarp();
#pragma unroll
        for (int j = 0; j < EACH; j++)
            if (t == 2 * j + lane / GROUP)
#pragma unroll
                for (int r = 0; r < GROUP; r++)
                    s[r * GROUP + lane % GROUP] = sum[r][j];
        __syncwarp();
    }
};

/* ---- a call, and what a warp has of it ---- */

struct subjects_call {
    cuda_heads          q, k, v;
    const uint8_t      *mask;           /* (A,S,T) */
    const float        *subject_scales; /* (S) or NULL */
    const int32_t      *covered;        /* (A,T): the covered queries of each sample in rising order, then (A): how many */
    float               root;           /* 1 / sqrt(D) */
    cuda_subjects_shape g;
};

static __device__ __forceinline__ int64_t covered_count(const subjects_call &c, int64_t a)
{
    return c.covered[c.g.samples * c.g.queries + a];
}

/* Of 16 covered queries from `from` on, the one of row r; -1 beyond the list's end. */
static __device__ __forceinline__ int64_t query_of(const subjects_call &c, int64_t a, int64_t from, int r)
{
    return from + r < covered_count(c, a) ? c.covered[a * c.g.queries + from + r] : -1;
}

template <class T>
static __device__ __forceinline__ token_rows<T> group_of(const cuda_heads &x, const subjects_call &c, int64_t a, int64_t h,
                                                         int64_t token)
{
    int64_t left = c.g.subjects * c.g.tokens - token;
    return token_rows<T>{(const T *)x.data + a * x.batch + token * x.row + h * x.head, x.row,
                         left < GROUP ? (int)left : (int)GROUP};
}

/* Rows of x of the 16 queries into shared memory, 0 where there is none. */
template <class E>
static __device__ __forceinline__ void gather(typename E::element *to, const cuda_heads &x, const subjects_call &c,
                                              int64_t a, int64_t h, int64_t from)
{
    typedef typename E::element T;
    __syncwarp();
    for (int r = 0; r < GROUP; r++) {
        int64_t  query = query_of(c, a, from, r);
        const T *row = (const T *)x.data + a * x.batch + query * x.row + h * x.head;
        for (int i = (int)threadIdx.x % WARP; i < E::SIZE; i += WARP) {
            if (query >= 0 && i < c.g.size)
                to[r * E::LD + i] = row[i];
            else
                narrow(to + r * E::LD + i, 0.0f);
        }
    }
    __syncwarp();
}

/* The subjects' scales of this lane's HALF columns of a group, 0 where the subject does not cover the query; `any` tells
 * whether the query of any lane sees the group at all. */
struct column_scales {
    float at[HALF];
    bool  seen[HALF], any;
};

static __device__ __forceinline__ column_scales scales_of(const subjects_call &c, int64_t a, int64_t query, int64_t token)
{
    column_scales s;
    int64_t       first = token + (int64_t)(threadIdx.x % 2) * HALF, end = c.g.subjects * c.g.tokens;
    int           count = 0;
#pragma unroll
    for (int j = 0; j < HALF; j++) {
        int64_t subject = (first + j) / c.g.tokens;
        s.seen[j] = query >= 0 && first + j < end && c.mask[(a * c.g.subjects + subject) * c.g.queries + query];
        s.at[j] = !s.seen[j] ? 0.0f : c.subject_scales ? c.subject_scales[subject] : c.g.scale;
        count += s.seen[j];
    }
    s.any = warp_sum(count) > 0;
    return s;
}

/* The lane's scores of a group. */
static __device__ __forceinline__ const float *lane_scores(const float *s)
{
    return s + (threadIdx.x % WARP) * HALF;
}

/* ---- on the host ---- */

static inline size_t covered_bytes(const cuda_subjects_shape *g)
{
    size_t bytes = (size_t)(g->samples * (g->queries + 1)) * sizeof(int32_t);
    return (bytes + 255) / 256 * 256;
}

/* Writes the list of covered queries (subjects.cu). */
cudaError_t cuda_subjects_list(int32_t *covered, const uint8_t *mask, const cuda_subjects_shape *g, cudaStream_t stream);

static inline subjects_call call_of(cuda_heads q, cuda_heads k, cuda_heads v, const uint8_t *mask,
                                    const float *subject_scales, void *scratch, const cuda_subjects_shape *g)
{
    return subjects_call{q, k, v, mask, subject_scales, (const int32_t *)scratch, (float)(1.0 / sqrt((double)g->size)), *g};
}

/* Whether tensor cores may read x in place: groups and elements on 32 bytes, rows on 16. */
static inline bool fits_matrix(const cuda_heads &x)
{
    return (uintptr_t)x.data % 32 == 0 && x.batch % GROUP == 0 && x.head % GROUP == 0 && x.row % 8 == 0;
}

static inline bool takes_matrix_engine(const subjects_call &c)
{
    return c.g.bf16 && c.g.size % GROUP == 0 && c.g.size <= 128 && c.g.subjects * c.g.tokens % GROUP == 0 &&
           fits_matrix(c.k) && fits_matrix(c.v);
}

/* call(engine), a macro, for the engine that this shape takes. */
#define SUBJECTS_FOR_ENGINE(c, call)                                                                               \
    do {                                                                                                           \
        if (takes_matrix_engine(c) && (c).g.size <= 64)                                                            \
            call(matrix_engine<4>);                                                                                \
        else if (takes_matrix_engine(c))                                                                           \
            call(matrix_engine<8>);                                                                                \
        else if ((c).g.bf16)                                                                                       \
            SUBJECTS_FOR_SIZE(c, bfloat, call);                                                                    \
        else                                                                                                       \
            SUBJECTS_FOR_SIZE(c, float, call);                                                                     \
    } while (0)
#define PLAIN_64(T) plain_engine<T, 64>
#define PLAIN_128(T) plain_engine<T, 128>
#define PLAIN_192(T) plain_engine<T, 192>
#define SUBJECTS_FOR_SIZE(c, T, call)                                                                              \
    do {                                                                                                           \
        if ((c).g.size <= 64)                                                                                      \
            call(PLAIN_64(T));                                                                                     \
        else if ((c).g.size <= 128)                                                                                \
            call(PLAIN_128(T));                                                                                    \
        else                                                                                                       \
            call(PLAIN_192(T));                                                                                    \
    } while (0)

#endif
