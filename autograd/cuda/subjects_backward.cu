/* Gradients of multi-subject attention: with P = exp(q k^T / sqrt(D) - lse) over the tokens that a query sees,
 * dP = c_s dy v^T and delta the row sums of P dP:  dv = (c_s P)^T dy,  dS = P (dP - delta) / sqrt(D),  dq = dS k,
 * dk = dS^T q. A warp has 16 queries for delta and dq; a block has 16 tokens for dk or dv, its warps take turns through the
 * covered queries, and the parts of warps and splits are added in a fixed order. */
#include "autograd/cuda/subjects_tile.cuh"

struct gradient_call {
    subjects_call c;
    cuda_heads    dy;
    const float  *lse;   /* (A,H,T) */
    float        *delta; /* (A,H,T) */
};

/* A warp's memory. */
template <class E> struct gradient_memory {
    alignas(32) typename E::element q[GROUP * E::LD];
    alignas(32) typename E::element dy[GROUP * E::LD];
    alignas(32) float s[GROUP * GROUP];
    alignas(32) typename E::weight p[GROUP * GROUP];
};

/* This lane's P and, if asked, dP of a group. */
template <class E, bool SLOPES>
static __device__ __forceinline__ void group_scores(float (&p)[HALF], float (&dp)[HALF], gradient_memory<E> &m,
                                                    const gradient_call &w, const column_scales &scales, int64_t a,
                                                    int64_t h, int64_t token, float lse)
{
    typedef typename E::element T;
    const float *mine = lane_scores(m.s);
    E::scores(m.s, m.q, group_of<T>(w.c.k, w.c, a, h, token), (int)w.c.g.size);
#pragma unroll
    for (int j = 0; j < HALF; j++)
        p[j] = scales.seen[j] ? expf(mine[j] * w.c.root - lse) : 0.0f;
    if (!SLOPES)
        return;
    E::scores(m.s, m.dy, group_of<T>(w.c.v, w.c, a, h, token), (int)w.c.g.size);
#pragma unroll
    for (int j = 0; j < HALF; j++)
        dp[j] = mine[j] * scales.at[j];
}

template <class E>
static __device__ __forceinline__ void write_rows(const E &sum, float *s, const cuda_heads &dq, const subjects_call &c,
                                                  int64_t a, int64_t h, int64_t from, bool add)
{
    typedef typename E::element T;
#pragma unroll
    for (int t = 0; t < E::TILE_COUNT; t++) {
        if (t * GROUP >= c.g.size)
            break;
        sum.write(s, t);
        for (int k = (int)threadIdx.x % WARP; k < GROUP * GROUP; k += WARP) {
            int64_t query = query_of(c, a, from, k / GROUP), i = t * GROUP + k % GROUP;
            if (query < 0 || i >= c.g.size)
                continue;
            T *to = (T *)dq.data + a * dq.batch + query * dq.row + h * dq.head + i;
            narrow(to, (add ? widened(*to) : 0.0f) + s[k]);
        }
    }
}

/* delta and, unless dq.data is NULL, dq of the covered queries. grid (tiles of all queries, H, A) */
template <class E> __global__ void __launch_bounds__(E::WARPS *WARP, 2) write_dq(cuda_heads dq, gradient_call w, bool add)
{
    typedef typename E::element T;
    __shared__ gradient_memory<E> memory[E::WARPS];
    const subjects_call          &c = w.c;
    int     warp = (int)threadIdx.x / WARP, row = (int)threadIdx.x % WARP / 2;
    int64_t a = blockIdx.z, h = blockIdx.y, from = ((int64_t)blockIdx.x * E::WARPS + warp) * GROUP;
    if (from >= covered_count(c, a))
        return;
    gradient_memory<E> &m = memory[warp];
    int64_t             query = query_of(c, a, from, row), at = (a * c.g.heads + h) * c.g.queries + query;
    float               lse = query >= 0 ? w.lse[at] : 0.0f, delta = 0.0f, p[HALF], dp[HALF];
    gather<E>(m.q, c.q, c, a, h, from);
    gather<E>(m.dy, w.dy, c, a, h, from);
    for (int64_t token = 0; token < c.g.subjects * c.g.tokens; token += GROUP) {
        column_scales scales = scales_of(c, a, query, token);
        if (!scales.any)
            continue;
        group_scores<E, true>(p, dp, m, w, scales, a, h, token, lse);
#pragma unroll
        for (int j = 0; j < HALF; j++)
            delta += p[j] * dp[j];
    }
    delta = lanes_sum<2>(delta);
    if (threadIdx.x % 2 == 0 && query >= 0)
        w.delta[at] = delta;
    if (!dq.data)
        return;
    E sum;
    sum.clear();
    for (int64_t token = 0; token < c.g.subjects * c.g.tokens; token += GROUP) {
        column_scales scales = scales_of(c, a, query, token);
        if (!scales.any)
            continue;
        group_scores<E, true>(p, dp, m, w, scales, a, h, token, lse);
#pragma unroll
        for (int j = 0; j < HALF; j++)
            narrow(m.p + (threadIdx.x % WARP) * HALF + j, c.root * p[j] * (dp[j] - delta));
        sum.add(m.p, group_of<T>(c.k, c, a, h, token), (int)c.g.size);
    }
    write_rows(sum, m.s, dq, c, a, h, from, add);
}

/* part (splits,A,H,S*N,D): dk of 16 tokens, or dv if VALUES. grid (groups of tokens, H, A * splits) */
template <class E, bool VALUES>
__global__ void __launch_bounds__(E::WARPS *WARP, 2) token_parts(float *part, gradient_call w, int splits)
{
    __shared__ gradient_memory<E> memory[E::WARPS];
    const subjects_call          &c = w.c;
    int     lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    int64_t a = blockIdx.z / (unsigned)splits, split = blockIdx.z % (unsigned)splits, h = blockIdx.y;
    int64_t token = (int64_t)blockIdx.x * GROUP, count = covered_count(c, a), columns = c.g.subjects * c.g.tokens;
    gradient_memory<E> &m = memory[warp];
    E                   sum;
    sum.clear();
    for (int64_t from = (split * E::WARPS + warp) * GROUP; from < count; from += (int64_t)splits * E::WARPS * GROUP) {
        int64_t       query = query_of(c, a, from, lane / 2), at = (a * c.g.heads + h) * c.g.queries + query;
        column_scales scales = scales_of(c, a, query, token);
        if (!scales.any)
            continue;
        float lse = query >= 0 ? w.lse[at] : 0.0f, delta = query >= 0 && !VALUES ? w.delta[at] : 0.0f, p[HALF], dp[HALF];
        gather<E>(m.q, c.q, c, a, h, from);
        gather<E>(m.dy, w.dy, c, a, h, from);
        group_scores<E, !VALUES>(p, dp, m, w, scales, a, h, token, lse);
#pragma unroll
        for (int j = 0; j < HALF; j++)
            narrow(m.p + lane * HALF + j, VALUES ? scales.at[j] * p[j] : c.root * p[j] * (dp[j] - delta));
        sum.add_transposed(m.p, VALUES ? m.dy : m.q, (int)c.g.size);
    }
    float *to = part + (((split * c.g.samples + a) * c.g.heads + h) * columns + token) * c.g.size;
#pragma unroll
    for (int t = 0; t < E::TILE_COUNT; t++) {
        if (t * GROUP >= c.g.size)
            break;
        sum.write(m.s, t);
        __syncthreads();
        for (int k = (int)threadIdx.x; k < GROUP * GROUP; k += E::WARPS * WARP) {
            int64_t r = k / GROUP, i = t * GROUP + k % GROUP;
            float   all = 0.0f;
            for (int j = 0; j < E::WARPS; j++)
                all += memory[j].s[k];
            if (token + r < columns && i < c.g.size)
                to[r * c.g.size + i] = all;
        }
        __syncthreads();
    }
}

/* dx (+)= sum of the splits' parts in order */
template <class T> struct token_sums {
    cuda_heads   dx;
    const float *part;
    int64_t      tokens, heads, size, count; /* count: elements of a split */
    int          splits;
    bool         add;

    template <int W> __device__ void run(int64_t i) const
    {
        float sum[W] = {}, v[W];
        for (int k = 0; k < splits; k++) {
            load<W>(v, part + k * count + i);
#pragma unroll
            for (int j = 0; j < W; j++)
                sum[j] += v[j];
        }
        int64_t at = i % size, token = i / size % tokens, h = i / size / tokens % heads, a = i / size / tokens / heads;
        store_or_add<W>((T *)dx.data + a * dx.batch + token * dx.row + h * dx.head + at, sum, add);
    }
};

template <class T> struct zero_rows {
    cuda_heads dq;
    int64_t    queries, heads, size;

    template <int W> __device__ void run(int64_t i) const
    {
        int64_t at = i % size, h = i / size % heads, t = i / size / heads % queries, b = i / size / heads / queries;
        float   v[W] = {};
        store<W>((T *)dq.data + b * dq.batch + t * dq.row + h * dq.head + at, v);
    }
};

/* ---- launchers ---- */

enum { MOST_TOKEN_SPLITS = 8, TILES_PER_SPLIT = 16 };

static int64_t token_splits(const cuda_subjects_shape *g)
{
    int64_t splits = divide_up(g->queries, GROUP * TILES_PER_SPLIT);
    return splits < 1 ? 1 : least(splits, MOST_TOKEN_SPLITS);
}

static size_t delta_bytes(const cuda_subjects_shape *g)
{
    return ((size_t)(g->samples * g->heads * g->queries) * sizeof(float) + 255) / 256 * 256;
}

static int64_t token_elements(const cuda_subjects_shape *g)
{
    return g->samples * g->heads * g->subjects * g->tokens * g->size;
}

size_t cuda_subjects_backward_scratch_bytes(const cuda_subjects_shape *shape)
{
    return covered_bytes(shape) + delta_bytes(shape) +
           (size_t)(token_splits(shape) * token_elements(shape)) * sizeof(float);
}

template <class T> static cudaError_t clear_rows(cuda_heads dq, const cuda_subjects_shape &g, cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    bool packs = g.size % W == 0 && dq.batch % W == 0 && dq.row % W == 0 && dq.head % W == 0 && aligned16(dq.data);
    return each<W>(zero_rows<T>{dq, g.queries, g.heads, g.size}, g.batch * g.queries * g.heads * g.size, packs, stream);
}

template <class T>
static cudaError_t add_parts(cuda_heads dx, const float *part, const cuda_subjects_shape &g, bool add, cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    bool          packs = g.size % W == 0 && dx.batch % W == 0 && dx.row % W == 0 && dx.head % W == 0 && aligned16(dx.data);
    int64_t       n = token_elements(&g);
    token_sums<T> f = {dx, part, g.subjects * g.tokens, g.heads, g.size, n, (int)token_splits(&g), add};
    return each<W>(f, n, packs, stream);
}

/* dk or, if VALUES, dv */
template <bool VALUES>
static cudaError_t token_gradient(cuda_heads dx, float *part, const gradient_call &w, bool add, cudaStream_t stream)
{
    const cuda_subjects_shape &g = w.c.g;
    int                        splits = (int)token_splits(&g);
    dim3        grid((unsigned)divide_up(g.subjects * g.tokens, GROUP), (unsigned)g.heads, (unsigned)(g.samples * splits));
    cudaError_t e = cudaSuccess;
#define TOKEN_PARTS(...)                                                                                           \
    e = launch(token_parts<__VA_ARGS__, VALUES>, grid, dim3(WARP *__VA_ARGS__::WARPS), stream, part, w, splits)
    SUBJECTS_FOR_ENGINE(w.c, TOKEN_PARTS);
#undef TOKEN_PARTS
    if (e != cudaSuccess)
        return e;
    return g.bf16 ? add_parts<bfloat>(dx, part, g, add, stream) : add_parts<float>(dx, part, g, add, stream);
}

cudaError_t cuda_subjects_backward_launch(cuda_heads dq, cuda_heads dk, cuda_heads dv, cuda_heads dy, const float *lse,
                                          cuda_heads q, cuda_heads k, cuda_heads v, const uint8_t *mask,
                                          const float *subject_scales, const cuda_subjects_shape *shape, bool add_q,
                                          bool add_k, bool add_v, void *scratch, cudaStream_t stream)
{
    const cuda_subjects_shape &g = *shape;
    if (g.size > CUDA_SUBJECTS_MAX_SIZE || g.samples * MOST_TOKEN_SPLITS > 65535 || g.heads > 65535)
        return cudaErrorInvalidValue;
    float        *delta = (float *)((char *)scratch + covered_bytes(shape));
    float        *part = (float *)((char *)delta + delta_bytes(shape));
    gradient_call w = {call_of(q, k, v, mask, subject_scales, scratch, shape), dy, lse, delta};
    cudaError_t   e = cudaSuccess;
    if (dq.data && !add_q)
        e = g.bf16 ? clear_rows<bfloat>(dq, g, stream) : clear_rows<float>(dq, g, stream);
    if (e != cudaSuccess || g.samples * g.heads * g.queries == 0)
        return e;
    e = cuda_subjects_list((int32_t *)scratch, mask, shape, stream);
#define WRITE_DQ(...)                                                                                              \
    e = launch(write_dq<__VA_ARGS__>,                                                                              \
               dim3((unsigned)divide_up(g.queries, GROUP *__VA_ARGS__::WARPS), (unsigned)g.heads, (unsigned)g.samples), \
               dim3(WARP *__VA_ARGS__::WARPS), stream, dq, w, add_q)
    if (e == cudaSuccess && (dq.data || dk.data))
        SUBJECTS_FOR_ENGINE(w.c, WRITE_DQ);
#undef WRITE_DQ
    if (e == cudaSuccess && dk.data)
        e = token_gradient<false>(dk, part, w, add_k, stream);
    if (e == cudaSuccess && dv.data)
        e = token_gradient<true>(dv, part, w, add_v, stream);
    return e;
}
