#include "autograd/cpu/softmax.h"

#include "autograd/cpu/exp.h"

#define BODY static inline __attribute__((always_inline))
enum { LANES = 16 };

BODY float max_body(const float *s, int64_t n, float so_far)
{
    float lane[LANES], most = so_far;
    int64_t whole = n - n % LANES;
    for (int j = 0; j < LANES; j++)
        lane[j] = so_far;
    for (int64_t i = 0; i < whole; i += LANES) {
#pragma omp simd
        for (int j = 0; j < LANES; j++)
            lane[j] = s[i + j] > lane[j] ? s[i + j] : lane[j];
    }
    for (int j = 0; j < LANES; j++)
        most = lane[j] > most ? lane[j] : most;
    for (int64_t i = whole; i < n; i++)
        most = s[i] > most ? s[i] : most;
    return most;
}

BODY float exp_body(float *s, int64_t n, float shift)
{
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        s[i] = cpu_exp(s[i] - shift);
        sum += s[i];
    }
    return sum;
}

BODY void backward_body(float *s, float *dp, int64_t n, float lse, float delta, float scale)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        s[i] = cpu_exp(s[i] - lse);
        dp[i] = scale * s[i] * (dp[i] - delta);
    }
}

/* The same bodies compiled for several instruction sets; PICK takes the widest that the machine has. */
#define DEFINE_SET(set, attribute)                                                                                 \
    attribute static float max_##set(const float *s, int64_t n, float so_far)                                      \
    {                                                                                                              \
        return max_body(s, n, so_far);                                                                             \
    }                                                                                                              \
    attribute static float exp_##set(float *s, int64_t n, float shift)                                             \
    {                                                                                                              \
        return exp_body(s, n, shift);                                                                              \
    }                                                                                                              \
    attribute static void backward_##set(float *s, float *dp, int64_t n, float lse, float delta, float scale)      \
    {                                                                                                              \
        backward_body(s, dp, n, lse, delta, scale);                                                                \
    }

DEFINE_SET(generic, )
#if defined(__x86_64__)
DEFINE_SET(avx512, __attribute__((target("avx512f"))))
DEFINE_SET(avx2, __attribute__((target("avx2"))))
#define PICK(name)                                                                                                 \
    (__builtin_cpu_supports("avx512f") ? name##_avx512 : __builtin_cpu_supports("avx2") ? name##_avx2 : name##_generic)
#else
#define PICK(name) name##_generic
#endif

float softmax_row_max(const float *s, int64_t n, float so_far)
{
    return PICK(max)(s, n, so_far);
}

float softmax_row_exp(float *s, int64_t n, float shift)
{
    return PICK(exp)(s, n, shift);
}

void softmax_row_backward(float *s, float *dp, int64_t n, float lse, float delta, float scale)
{
    PICK(backward)(s, dp, n, lse, delta, scale);
}
