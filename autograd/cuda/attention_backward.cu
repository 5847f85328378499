/* Attention's gradients without the score matrix: with P = exp(scale q k^T - lse), dP = dy v^T and delta the row sums of
 * P dP,  dv = P^T dy,  dS = scale P (dP - delta),  dq = dS k,  dk = dS^T q. One kernel makes delta, one dq (a block has 32
 * queries and walks the keys), one dk and dv (32 keys, and walks the queries): each sum is one thread's, in rising order. */
#include "autograd/cuda/attention_tile.cuh"

struct backward_call {
    cuda_heads           q, k, v, dy;
    const float         *lse;   /* (B,H,T) */
    float               *delta; /* (B,H,T) */
    cuda_attention_shape g;
};

/* p = P and s = dP of a tile whose rows are queries (or keys, if KEYS) and whose columns are the other. */
template <bool KEYS, class T>
static __device__ __forceinline__ void tile_scores(float (&p)[ROWS_EACH][COLUMNS_EACH], float (&s)[ROWS_EACH][COLUMNS_EACH],
                                                   tile_memory &memory, const backward_call &c, int64_t b, int64_t h,
                                                   int64_t from, int64_t other)
{
    int        tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE, size = (int)c.g.size;
    int64_t    rows = KEYS ? c.g.keys : c.g.queries, columns = KEYS ? c.g.queries : c.g.keys;
    int        count = tile_count(rows, from, ROWS), width = tile_count(columns, other, COLUMNS);
    vectors<T> q = {rows_of<T>(c.q, b, h), KEYS ? other : from, KEYS ? width : count};
    vectors<T> dy = {rows_of<T>(c.dy, b, h), q.first, q.count};
    vectors<T> k = {rows_of<T>(c.k, b, h), KEYS ? from : other, KEYS ? count : width};
    vectors<T> v = {rows_of<T>(c.v, b, h), k.first, k.count};
    score_product(p, memory, KEYS ? k : q, KEYS ? q : k, size);
    score_product(s, memory, KEYS ? v : dy, KEYS ? dy : v, size);
    const float *lse = c.lse + (b * c.g.heads + h) * c.g.queries;
#pragma unroll
    for (int r = 0; r < ROWS_EACH; r++) {
#pragma unroll
        for (int j = 0; j < COLUMNS_EACH; j++) {
            int64_t row = from + ty * ROWS_EACH + r, column = other + tx + SIDE * j;
            int64_t query = KEYS ? column : row, key = KEYS ? row : column;
            bool    seen = query < c.g.queries && key < c.g.keys && (!c.g.causal || key <= query);
            p[r][j] = seen ? expf(c.g.scale * p[r][j] - lse[query]) : 0.0f;
            s[r][j] = seen ? s[r][j] : 0.0f;
        }
    }
}

/* s = dS from p = P and s = dP */
template <bool KEYS>
static __device__ __forceinline__ void score_gradients(const float (&p)[ROWS_EACH][COLUMNS_EACH],
                                                       float (&s)[ROWS_EACH][COLUMNS_EACH], const backward_call &c,
                                                       int64_t bh, int64_t from, int64_t other)
{
    int tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE;
#pragma unroll
    for (int r = 0; r < ROWS_EACH; r++) {
#pragma unroll
        for (int j = 0; j < COLUMNS_EACH; j++) {
            int64_t query = KEYS ? other + tx + SIDE * j : from + ty * ROWS_EACH + r;
            float   delta = query < c.g.queries ? c.delta[bh * c.g.queries + query] : 0.0f;
            s[r][j] = c.g.scale * p[r][j] * (s[r][j] - delta);
        }
    }
}

/* The keys that a tile of queries from `from` on sees end here. */
static __device__ __forceinline__ int64_t keys_end(const backward_call &c, int64_t from)
{
    return c.g.causal && from + ROWS < c.g.keys ? from + ROWS : c.g.keys;
}

template <class T> __global__ void __launch_bounds__(BLOCK_THREADS) write_delta(backward_call c)
{
    __shared__ tile_memory memory;
    int     tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE;
    int64_t b = blockIdx.y / c.g.heads, h = blockIdx.y % c.g.heads, from = (int64_t)blockIdx.x * ROWS;
    float   sum[ROWS_EACH] = {};
    for (int64_t key = 0; key < keys_end(c, from); key += COLUMNS) {
        float p[ROWS_EACH][COLUMNS_EACH], s[ROWS_EACH][COLUMNS_EACH];
        tile_scores<false, T>(p, s, memory, c, b, h, from, key);
#pragma unroll
        for (int r = 0; r < ROWS_EACH; r++)
#pragma unroll
            for (int j = 0; j < COLUMNS_EACH; j++)
                sum[r] += p[r][j] * s[r][j];
    }
#pragma unroll
    for (int r = 0; r < ROWS_EACH; r++) {
        int64_t query = from + ty * ROWS_EACH + r;
        float   all = lanes_sum<SIDE>(sum[r]);
        if (tx == 0 && query < c.g.queries)
            c.delta[(int64_t)blockIdx.y * c.g.queries + query] = all;
    }
}

template <int EACH, class T>
__global__ void __launch_bounds__(BLOCK_THREADS, EACH <= 16 ? 2 : 1) write_dq(cuda_heads dq, backward_call c, bool add)
{
    __shared__ tile_memory memory;
    __shared__ float       shared[ROWS][COLUMNS + 1];
    int64_t b = blockIdx.y / c.g.heads, h = blockIdx.y % c.g.heads, from = (int64_t)blockIdx.x * ROWS;
    float   sum[ROWS_EACH][EACH] = {}, one[ROWS_EACH] = {1.0f, 1.0f};
    for (int64_t key = 0; key < keys_end(c, from); key += COLUMNS) {
        float p[ROWS_EACH][COLUMNS_EACH], s[ROWS_EACH][COLUMNS_EACH];
        tile_scores<false, T>(p, s, memory, c, b, h, from, key);
        score_gradients<false>(p, s, c, blockIdx.y, from, key);
        share_scores(shared, s);
        vectors<T> k = {rows_of<T>(c.k, b, h), key, tile_count(c.g.keys, key, COLUMNS)};
        value_product<EACH>(sum, shared, memory, k, (int)c.g.size);
    }
    vectors<T> to = {rows_of<T>(dq, b, h), from, tile_count(c.g.queries, from, ROWS)};
    write_rows<EACH>(to, sum, one, (int)c.g.size, add);
}

/* dk of 32 keys, or dv if VALUES: each in its own pass, so that heads of 512 fit the registers. */
template <int EACH, bool VALUES, class T>
__global__ void __launch_bounds__(BLOCK_THREADS, EACH <= 16 ? 2 : 1) write_columns(cuda_heads dx, backward_call c, bool add)
{
    __shared__ tile_memory memory;
    __shared__ float       shared[ROWS][COLUMNS + 1];
    int64_t b = blockIdx.y / c.g.heads, h = blockIdx.y % c.g.heads, from = (int64_t)blockIdx.x * ROWS;
    int64_t first = c.g.causal ? from / COLUMNS * COLUMNS : 0; /* no earlier query sees these keys */
    float   sum[ROWS_EACH][EACH] = {}, one[ROWS_EACH] = {1.0f, 1.0f};
    for (int64_t query = first; query < c.g.queries; query += COLUMNS) {
        float p[ROWS_EACH][COLUMNS_EACH], s[ROWS_EACH][COLUMNS_EACH];
        tile_scores<true, T>(p, s, memory, c, b, h, from, query);
        if (!VALUES)
            score_gradients<true>(p, s, c, blockIdx.y, from, query);
        share_scores(shared, VALUES ? p : s);
        vectors<T> their = {rows_of<T>(VALUES ? c.dy : c.q, b, h), query, tile_count(c.g.queries, query, COLUMNS)};
        value_product<EACH>(sum, shared, memory, their, (int)c.g.size);
    }
    vectors<T> to = {rows_of<T>(dx, b, h), from, tile_count(c.g.keys, from, ROWS)};
    write_rows<EACH>(to, sum, one, (int)c.g.size, add);
}

size_t cuda_attention_backward_scratch_bytes(const cuda_attention_shape *shape)
{
    return (size_t)(shape->batch * shape->heads * shape->queries) * sizeof(float);
}

template <class T>
static cudaError_t backward_of(cuda_heads dq, cuda_heads dk, cuda_heads dv, const backward_call &c, bool add_q,
                               bool add_k, bool add_v, cudaStream_t stream)
{
    unsigned    heads = (unsigned)(c.g.batch * c.g.heads);
    dim3        queries((unsigned)divide_up(c.g.queries, ROWS), heads), keys((unsigned)divide_up(c.g.keys, ROWS), heads);
    dim3        block(BLOCK_THREADS);
    cudaError_t e = cudaSuccess;
#define WRITE_DQ(each) launch(write_dq<each, T>, queries, block, stream, dq, c, add_q)
#define WRITE_DK(each) launch(write_columns<each, false, T>, keys, block, stream, dk, c, add_k)
#define WRITE_DV(each) launch(write_columns<each, true, T>, keys, block, stream, dv, c, add_v)
    if (queries.x && (dq.data || dk.data))
        e = launch(write_delta<T>, queries, block, stream, c);
    if (e == cudaSuccess && queries.x && dq.data)
        e = ATTENTION_FOR_SIZE(c.g.size, WRITE_DQ);
    if (e == cudaSuccess && keys.x && dk.data)
        e = ATTENTION_FOR_SIZE(c.g.size, WRITE_DK);
    if (e == cudaSuccess && keys.x && dv.data)
        e = ATTENTION_FOR_SIZE(c.g.size, WRITE_DV);
#undef WRITE_DQ
#undef WRITE_DK
#undef WRITE_DV
    return e;
}

cudaError_t cuda_attention_backward_launch(cuda_heads dq, cuda_heads dk, cuda_heads dv, cuda_heads dy, const float *lse,
                                           cuda_heads q, cuda_heads k, cuda_heads v, const cuda_attention_shape *shape,
                                           bool add_q, bool add_k, bool add_v, void *scratch, cudaStream_t stream)
{
    if (shape->size > CUDA_ATTENTION_MAX_SIZE || shape->batch * shape->heads > 65535)
        return cudaErrorInvalidValue;
    if (shape->batch * shape->heads == 0)
        return cudaSuccess;
    backward_call c = {q, k, v, dy, lse, (float *)scratch, *shape};
    return shape->bf16 ? backward_of<bfloat>(dq, dk, dv, c, add_q, add_k, add_v, stream)
                       : backward_of<float>(dq, dk, dv, c, add_q, add_k, add_v, stream);
}
