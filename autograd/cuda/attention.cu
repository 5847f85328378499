/* Attention without the score matrix, for what cuDNN's does not know (f32, small or odd heads): a block walks the keys tile
 * by tile for 32 queries of one head, with a running maximum and sum per query (Milakov and Gimelshein, "Online normalizer
 * calculation for softmax"; Dao et al., "FlashAttention"). */
#include "autograd/cuda/attention_tile.cuh"

/* Scores of a tile as probabilities relative to the maximum so far; `factor` brings older sums to it. */
static __device__ __forceinline__ void row_update(float (&s)[COLUMNS_EACH], float *most, float *sum, float *factor)
{
    float now = *most;
#pragma unroll
    for (int c = 0; c < COLUMNS_EACH; c++)
        now = fmaxf(now, s[c]);
    now = lanes_max<SIDE>(now);
    float shift = now == -INFINITY ? 0.0f : now, all = 0.0f;
#pragma unroll
    for (int c = 0; c < COLUMNS_EACH; c++) {
        s[c] = expf(s[c] - shift);
        all += s[c];
    }
    *factor = expf(*most - shift);
    *sum = *sum * *factor + lanes_sum<SIDE>(all);
    *most = now;
}

template <int EACH, class T>
__global__ void __launch_bounds__(BLOCK_THREADS, EACH <= 16 ? 2 : 1)
    attend(cuda_heads y, float *lse, cuda_heads q, cuda_heads k, cuda_heads v, cuda_attention_shape g)
{
    __shared__ tile_memory memory;
    __shared__ float       p[ROWS][COLUMNS + 1];
    int        tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE, size = (int)g.size;
    int64_t    b = blockIdx.y / g.heads, h = blockIdx.y % g.heads, from = (int64_t)blockIdx.x * ROWS;
    int        rows = tile_count(g.queries, from, ROWS);
    int64_t    end = g.causal && from + rows < g.keys ? from + rows : g.keys;
    vectors<T> mine = {rows_of<T>(q, b, h), from, rows};
    float      values[ROWS_EACH][EACH] = {}, most[ROWS_EACH], sum[ROWS_EACH], factor[ROWS_EACH];
#pragma unroll
    for (int r = 0; r < ROWS_EACH; r++) {
        most[r] = -INFINITY;
        sum[r] = 0.0f;
    }
    for (int64_t key = 0; key < end; key += COLUMNS) {
        vectors<T> keys = {rows_of<T>(k, b, h), key, tile_count(end, key, COLUMNS)};
        vectors<T> their = {rows_of<T>(v, b, h), key, keys.count};
        float      s[ROWS_EACH][COLUMNS_EACH];
        score_product(s, memory, mine, keys, size);
#pragma unroll
        for (int r = 0; r < ROWS_EACH; r++) {
#pragma unroll
            for (int c = 0; c < COLUMNS_EACH; c++) {
                int64_t column = key + tx + SIDE * c;
                bool    seen = column < end && (!g.causal || column <= from + ty * ROWS_EACH + r);
                s[r][c] = seen ? s[r][c] * g.scale : -INFINITY;
            }
            row_update(s[r], &most[r], &sum[r], &factor[r]);
#pragma unroll
            for (int c = 0; c < EACH; c++)
                values[r][c] *= factor[r];
        }
        share_scores(p, s);
        value_product<EACH>(values, p, memory, their, size);
    }
#pragma unroll
    for (int r = 0; r < ROWS_EACH; r++) {
        int row = ty * ROWS_EACH + r;
        factor[r] = 1.0f / sum[r];
        if (lse && tx == 0 && row < rows)
            lse[(int64_t)blockIdx.y * g.queries + from + row] = most[r] + logf(sum[r]);
    }
    write_rows<EACH>(vectors<T>{rows_of<T>(y, b, h), from, rows}, values, factor, size, false);
}

template <class T>
static cudaError_t attention_of(cuda_heads y, float *lse, cuda_heads q, cuda_heads k, cuda_heads v,
                                const cuda_attention_shape *g, cudaStream_t stream)
{
    dim3 grid((unsigned)divide_up(g->queries, ROWS), (unsigned)(g->batch * g->heads));
#define ATTEND(each) launch(attend<each, T>, grid, dim3(BLOCK_THREADS), stream, y, lse, q, k, v, *g)
    return ATTENTION_FOR_SIZE(g->size, ATTEND);
#undef ATTEND
}

cudaError_t cuda_attention_launch(cuda_heads y, float *lse, cuda_heads q, cuda_heads k, cuda_heads v,
                                  const cuda_attention_shape *shape, cudaStream_t stream)
{
    if (shape->size > CUDA_ATTENTION_MAX_SIZE || shape->batch * shape->heads > 65535)
        return cudaErrorInvalidValue;
    if (shape->batch * shape->heads * shape->queries == 0)
        return cudaSuccess;
    return shape->bf16 ? attention_of<bfloat>(y, lse, q, k, v, shape, stream)
                       : attention_of<float>(y, lse, q, k, v, shape, stream);
}
