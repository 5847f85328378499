/* torch.optim.AdamW over flat buffers, with f32 moments and with moments of 8 bits (autograd/moment_code.h). */
#include "autograd/cuda/element.cuh"
#include "autograd/cuda/launch.cuh"
#include "autograd/cuda/warp.cuh"

struct adamw_factors {
    float clip, keep, beta1, rest1, beta2, rest2, eps, step_size, root_correction;
};

static adamw_factors factors_of(float clip, double lr, double beta1, double beta2, double eps, double decay, int64_t step)
{
    adamw_factors f = {clip, (float)(1.0 - lr * decay), (float)beta1, (float)(1.0 - beta1), (float)beta2,
                       (float)(1.0 - beta2), (float)eps, (float)(lr / (1.0 - pow(beta1, (double)step))),
                       (float)sqrt(1.0 - pow(beta2, (double)step))};
    return f;
}

/* p -= lr decay p; p -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps) */
static __device__ __forceinline__ void update(float *p, float *m, float *v, float g, const adamw_factors &f)
{
    float slope = g * f.clip;
    *m = *m * f.beta1 + slope * f.rest1;
    *v = *v * f.beta2 + slope * slope * f.rest2;
    *p = *p * f.keep - f.step_size * *m / (sqrtf(*v) / f.root_correction + f.eps);
}

struct adamw {
    float        *p, *m, *v;
    bfloat       *copy;
    const float  *g;
    adamw_factors f;

    template <int W> __device__ void run(int64_t i) const
    {
        float value[W], first[W], second[W], slope[W] = {};
        load<W>(value, p + i);
        load<W>(first, m + i);
        load<W>(second, v + i);
        if (g)
            load<W>(slope, g + i);
#pragma unroll
        for (int j = 0; j < W; j++)
            update(&value[j], &first[j], &second[j], slope[j], f);
        store<W>(p + i, value);
        store<W>(m + i, first);
        store<W>(v + i, second);
        if (copy)
            store<W>(copy + i, value);
    }
};

cudaError_t cuda_adamw_launch(float *p, float *m, float *v, void *copy, const float *g, int64_t n, float clip, double lr,
                              double beta1, double beta2, double eps, double decay, int64_t step, cudaStream_t stream)
{
    adamw a = {p, m, v, (bfloat *)copy, g, factors_of(clip, lr, beta1, beta2, eps, decay, step)};
    return each<4>(a, n, aligned16(p, m, v, copy, g), stream);
}

/* ---- moments of 8 bits ---- */

enum { CODES = 256 }; /* and numbers to a block: a thread has one of each */

struct adamw8_state {
    float         *p;
    uint8_t       *m, *v;
    float         *m_absmax, *v_absmax;
    bfloat        *copy;
    const float   *g, *maps;
    int64_t        n;
    adamw_factors  f;
};

/* The code of x / absmax by halving: the first middle that is not below it, at least `lowest` unless x is 0. */
static __device__ __forceinline__ uint8_t code_of(float x, float absmax, const float *middle, int lowest)
{
    float unit = absmax > 0 ? x / absmax : 0.0f;
    int   at = 0;
#pragma unroll
    for (int half = CODES / 2; half > 0; half /= 2)
        at += middle[at + half - 1] < unit ? half : 0;
    return (uint8_t)(at < lowest && x != 0 ? lowest : at);
}

static __global__ void __launch_bounds__(CODES) adamw8_blocks(adamw8_state s)
{
    __shared__ float maps[4][CODES], most[CODES / WARP];
    for (int k = 0; k < 4; k++)
        maps[k][threadIdx.x] = s.maps[k * CODES + threadIdx.x];
    __syncthreads();
    int64_t blocks = (s.n + CODES - 1) / CODES;
    for (int64_t block = blockIdx.x; block < blocks; block += gridDim.x) {
        int64_t i = block * CODES + threadIdx.x;
        bool    inside = i < s.n;
        float   p = 0, m = 0, v = 0;
        if (inside) {
            p = s.p[i];
            m = maps[0][s.m[i]] * s.m_absmax[block];
            v = maps[2][s.v[i]] * s.v_absmax[block];
            update(&p, &m, &v, s.g ? s.g[i] : 0.0f, s.f);
            s.p[i] = p;
            if (s.copy)
                narrow(s.copy + i, p);
        }
        float m_most = block_max<CODES>(fabsf(m), most), v_most = block_max<CODES>(fabsf(v), most);
        if (inside) {
            s.m[i] = code_of(m, m_most, maps[1], 0);
            s.v[i] = code_of(v, v_most, maps[3], 1);
        }
        if (threadIdx.x == 0) {
            s.m_absmax[block] = m_most;
            s.v_absmax[block] = v_most;
        }
    }
}

cudaError_t cuda_adamw8_launch(float *p, uint8_t *m, float *m_absmax, uint8_t *v, float *v_absmax, void *copy,
                               const float *g, const float *maps, int64_t n, float clip, double lr, double beta1,
                               double beta2, double eps, double decay, int64_t step, cudaStream_t stream)
{
    if (n == 0)
        return cudaSuccess;
    adamw8_state s = {p, m, v, m_absmax, v_absmax, (bfloat *)copy, g, maps, n,
                      factors_of(clip, lr, beta1, beta2, eps, decay, step)};
    return launch(adamw8_blocks, dim3((unsigned)least(divide_up(n, CODES), MOST_BLOCKS)), dim3(CODES), stream, s);
}
