/* Image attention of several subjects (autograd/cpu/multi_subject_attention.c):
 *     p = softmax over the union of the covering subjects' tokens of q k^T / sqrt(D),  y = base + sum of c_s p_s v_s
 * in two walks over the tokens: the first makes each query's log-sum-exp, the second its sum, which so is never rescaled. */
#include "autograd/cuda/subjects_tile.cuh"

/* ---- the covered queries ---- */

static __global__ void __launch_bounds__(BLOCK_THREADS)
    list_covered(int32_t *covered, const uint8_t *mask, int64_t samples, int64_t subjects, int64_t queries)
{
    __shared__ int32_t counts[BLOCK_THREADS];
    int64_t each = (queries + BLOCK_THREADS - 1) / BLOCK_THREADS, a = blockIdx.x, first = threadIdx.x * each;
    int64_t end = first + each < queries ? first + each : queries;
    int32_t count = 0, before = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t t = first; t < end; t++) {
            bool any = false;
            for (int64_t s = 0; s < subjects; s++)
                any = any || mask[(a * subjects + s) * queries + t];
            if (any && pass == 0)
                count++;
            else if (any)
                covered[a * queries + before++] = (int32_t)t;
        }
        if (pass == 0) {
            counts[threadIdx.x] = count;
            __syncthreads();
            for (unsigned i = 0; i < threadIdx.x; i++)
                before += counts[i];
        }
    }
    if (threadIdx.x == BLOCK_THREADS - 1)
        covered[samples * queries + a] = before;
}

cudaError_t cuda_subjects_list(int32_t *covered, const uint8_t *mask, const cuda_subjects_shape *g, cudaStream_t stream)
{
    return launch(list_covered, dim3((unsigned)g->samples), dim3(BLOCK_THREADS), stream, covered, mask, g->samples,
                  g->subjects, g->queries);
}

/* ---- y = base ---- */

template <class T> struct base_rows {
    cuda_heads y, base;
    int64_t    queries, heads, size;

    template <int W> __device__ void run(int64_t i) const
    {
        int64_t at = i % size, h = i / size % heads, t = i / size / heads % queries, b = i / size / heads / queries;
        float   v[W] = {};
        if (base.data)
            load<W>(v, (const T *)base.data + b * base.batch + t * base.row + h * base.head + at);
        store<W>((T *)y.data + b * y.batch + t * y.row + h * y.head + at, v);
    }
};

static bool in_packs(const cuda_heads &x, int W)
{
    return x.batch % W == 0 && x.row % W == 0 && x.head % W == 0 && aligned16(x.data);
}

template <class T>
static cudaError_t start_from(cuda_heads y, cuda_heads base, const cuda_subjects_shape &g, cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    bool          packs = g.size % W == 0 && in_packs(y, W) && (!base.data || in_packs(base, W));
    return each<W>(base_rows<T>{y, base, g.queries, g.heads, g.size}, g.batch * g.queries * g.heads * g.size, packs, stream);
}

/* lse of the queries that nothing covers */
struct zeros {
    float *y;

    template <int W> __device__ void run(int64_t i) const
    {
        float v[W] = {};
        store<W>(y + i, v);
    }
};

/* ---- the covered queries' sums ---- */

template <class E> struct forward_memory {
    alignas(32) typename E::element q[E::WARPS][GROUP * E::LD];
    alignas(32) float s[E::WARPS][GROUP * GROUP];
    alignas(32) typename E::weight p[E::WARPS][GROUP * GROUP];
};

/* The log-sum-exp of this lane's query over all tokens that it sees. */
template <class E>
static __device__ __forceinline__ float log_sum(const subjects_call &c, const typename E::element *q, float *s, int64_t a,
                                                int64_t h, int64_t query)
{
    float most = -INFINITY, sum = 0.0f;
    for (int64_t token = 0; token < c.g.subjects * c.g.tokens; token += GROUP) {
        column_scales scales = scales_of(c, a, query, token);
        if (!scales.any)
            continue;
        E::scores(s, q, group_of<typename E::element>(c.k, c, a, h, token), (int)c.g.size);
        const float *mine = lane_scores(s);
        float        now = most;
#pragma unroll
        for (int j = 0; j < HALF; j++)
            now = scales.seen[j] ? fmaxf(now, mine[j] * c.root) : now;
        now = lanes_max<2>(now);
        if (now != -INFINITY)
            sum *= expf(most - now);
#pragma unroll
        for (int j = 0; j < HALF; j++)
            sum += scales.seen[j] ? expf(mine[j] * c.root - now) : 0.0f;
        most = now;
    }
    sum = lanes_sum<2>(sum);
    return query >= 0 ? most + logf(sum) : 0.0f;
}

template <class E>
static __device__ __forceinline__ void write_sums(const E &sum, float *s, const cuda_heads &y, const cuda_heads &base,
                                                  const subjects_call &c, int64_t a, int64_t h, int64_t from)
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
            float start = 0.0f;
            if (base.data)
                start = widened(((const T *)base.data)[a * base.batch + query * base.row + h * base.head + i]);
            narrow((T *)y.data + a * y.batch + query * y.row + h * y.head + i, start + s[k]);
        }
    }
}

/* grid (tiles of all queries, H, A) */
template <class E>
__global__ void __launch_bounds__(E::WARPS *WARP, 2) attend_subjects(cuda_heads y, float *lse, cuda_heads base, subjects_call c)
{
    __shared__ forward_memory<E> memory;
    int     warp = (int)threadIdx.x / WARP, row = (int)threadIdx.x % WARP / 2;
    int64_t a = blockIdx.z, h = blockIdx.y, from = ((int64_t)blockIdx.x * E::WARPS + warp) * GROUP;
    if (from >= covered_count(c, a))
        return;
    typename E::element *q = memory.q[warp];
    typename E::weight  *p = memory.p[warp];
    float               *s = memory.s[warp];
    int64_t              query = query_of(c, a, from, row);
    gather<E>(q, c.q, c, a, h, from);
    float all = log_sum<E>(c, q, s, a, h, query);
    if (lse && threadIdx.x % 2 == 0 && query >= 0)
        lse[(a * c.g.heads + h) * c.g.queries + query] = all;
    E sum;
    sum.clear();
    for (int64_t token = 0; token < c.g.subjects * c.g.tokens; token += GROUP) {
        column_scales scales = scales_of(c, a, query, token);
        if (!scales.any)
            continue;
        E::scores(s, q, group_of<typename E::element>(c.k, c, a, h, token), (int)c.g.size);
        const float *mine = lane_scores(s);
#pragma unroll
        for (int j = 0; j < HALF; j++)
            narrow(p + (threadIdx.x % WARP) * HALF + j, scales.seen[j] ? scales.at[j] * expf(mine[j] * c.root - all) : 0.0f);
        sum.add(p, group_of<typename E::element>(c.v, c, a, h, token), (int)c.g.size);
    }
    write_sums(sum, s, y, base, c, a, h, from);
}

/* ---- launchers ---- */

size_t cuda_subjects_scratch_bytes(const cuda_subjects_shape *shape)
{
    return covered_bytes(shape);
}

cudaError_t cuda_subjects_launch(cuda_heads y, float *lse, cuda_heads base, cuda_heads q, cuda_heads k, cuda_heads v,
                                 const uint8_t *mask, const float *subject_scales, const cuda_subjects_shape *shape,
                                 void *scratch, cudaStream_t stream)
{
    const cuda_subjects_shape &g = *shape;
    if (g.size > CUDA_SUBJECTS_MAX_SIZE || g.samples > 65535 || g.heads > 65535)
        return cudaErrorInvalidValue;
    cudaError_t   e = cudaSuccess;
    subjects_call c = call_of(q, k, v, mask, subject_scales, scratch, shape);
    if (y.data != base.data)
        e = g.bf16 ? start_from<bfloat>(y, base, g, stream) : start_from<float>(y, base, g, stream);
    if (e == cudaSuccess && lse)
        e = each<4>(zeros{lse}, g.samples * g.heads * g.queries, aligned16(lse), stream);
    if (e != cudaSuccess || g.samples * g.heads * g.queries == 0)
        return e;
    e = cuda_subjects_list((int32_t *)scratch, mask, shape, stream);
#define ATTEND(...)                                                                                                \
    e = launch(attend_subjects<__VA_ARGS__>,                                                                       \
               dim3((unsigned)divide_up(g.queries, GROUP *__VA_ARGS__::WARPS), (unsigned)g.heads, (unsigned)g.samples), \
               dim3(WARP *__VA_ARGS__::WARPS), stream, y, lse, base, c)
    if (e == cudaSuccess)
        SUBJECTS_FOR_ENGINE(c, ATTEND);
#undef ATTEND
    return e;
}
