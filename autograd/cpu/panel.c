/* Compiled with -ffp-contract=fast (CMakeLists.txt): each a * b + c here is meant as one fused operation where the
 * machine has it. */
#include "autograd/cpu/panel.h"

#include <math.h>
#include <string.h>

#include "autograd/cpu/element.h"

typedef float   lanes __attribute__((vector_size(4 * PANEL_LANES), may_alias));
typedef int32_t masks __attribute__((vector_size(4 * PANEL_LANES), may_alias));
typedef uint32_t words __attribute__((vector_size(4 * PANEL_LANES), may_alias)); /* that may wrap */

enum { PANEL_DEPTH = 128 };

/* ---- product ---- */

/* The sums stay in registers only where every index of theirs is a constant. */
#if defined(__clang__)
#define UNROLLED _Pragma("unroll 8")
#elif defined(__GNUC__)
#define UNROLLED _Pragma("GCC unroll 8")
#else
#define UNROLLED
#endif

/* rows x vectors sums; both are constants where it is called. */
CPU_INLINE void sums(const panel_product *p, int64_t row, int64_t vector, int64_t a_row, const int rows,
                     const int vectors)
{
    lanes        sum[PANEL_ROWS][PANEL_VECTORS], w[PANEL_VECTORS];
    const float *a = p->a + row * a_row, *b = p->b + vector * PANEL_LANES;
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            sum[r][v] = (lanes){0};
    for (int64_t k = 0; k < p->depth; k++, a += p->a_step, b += p->b_step) {
        for (int v = 0; v < vectors; v++)
            w[v] = *(const lanes *)(b + v * PANEL_LANES);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++)
                sum[r][v] += a[r * a_row] * w[v];
    }
    float *out = p->out + row * p->out_step + vector * PANEL_LANES;
    if (p->mode == PANEL_RESCALE) {
        for (int v = 0; v < vectors; v++)
            w[v] = *(const lanes *)(p->factor + (vector + v) * PANEL_LANES);
        UNROLLED for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++)
                *(lanes *)(out + r * p->out_step + v * PANEL_LANES) =
                    sum[r][v] + w[v] * *(const lanes *)(out + r * p->out_step + v * PANEL_LANES);
    } else if (p->mode == PANEL_ADD) {
        UNROLLED for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++)
                *(lanes *)(out + r * p->out_step + v * PANEL_LANES) += sum[r][v];
    } else {
        UNROLLED for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++)
                *(lanes *)(out + r * p->out_step + v * PANEL_LANES) = sum[r][v];
    }
}

CPU_INLINE void multiply_wide(const panel_product *p, int64_t a_row)
{
    for (int64_t row = 0; row < p->rows; row += PANEL_ROWS) {
        for (int64_t v = 0, left; v < p->vectors; v += left >= 3 && left != 4 ? 3 : left >= 2 ? 2 : 1) {
            left = p->vectors - v;
            if (left >= 3 && left != 4)
                sums(p, row, v, a_row, PANEL_ROWS, 3);
            else if (left >= 2)
                sums(p, row, v, a_row, PANEL_ROWS, 2);
            else
                sums(p, row, v, a_row, PANEL_ROWS, 1);
        }
    }
}

/* 16 registers: of eight floats, 4 x 2 sums; of four, 2 x 4. */
CPU_INLINE void multiply_rows(const panel_product *p, const int most)
{
    for (int64_t row = 0; row < p->rows; row += most)
        for (int64_t v = 0; v < p->vectors; v++)
            sums(p, row, v, p->a_row, most, 1);
}

/* ---- softmax ---- */

/* a where the mask says so, elsewhere b */
#define PICK(where, a, b) ((lanes)(((where) & (masks)(a)) | (~(where) & (masks)(b))))

/* x = cpu_exp(x) for a register, without infinity for x > 88: such x stay away. */
CPU_INLINE void lanes_exp(lanes *at)
{
    lanes       x = *at;
    const float round_to_integer = 0x1.8p23f;
    lanes shifted = x * 0x1.715476p+0f + round_to_integer, n = shifted - round_to_integer;
    lanes r = x - n * 0x1.63p-1f + n * 0x1.bd0106p-13f;
    lanes p = 0x1.6a2352p-10f * r + 0x1.123a6cp-7f;
    p = p * r + 0x1.5558f4p-5f;
    p = p * r + 0x1.555490p-3f;
    p = p * r + 0x1.fffffcp-2f;
    lanes y = 1.0f + (r + r * r * p);
    words power = ((words)shifted << 23) + 0x3f800000u;
    y = y * (lanes)power;
    *at = PICK(x < -0x1.5d4p6f, (lanes){0}, y);
}

CPU_INLINE void softmax(float *s, panel_state *state, int64_t rows, int64_t vectors, float scale)
{
    for (int64_t v = 0; v < vectors * PANEL_LANES; v += PANEL_LANES) {
        lanes *most = (lanes *)(state->most + v), before = *most, now = before, sum = {0}, other = {0};
        for (int64_t r = 0; r < rows; r++) {
            lanes x = *(const lanes *)(s + r * PANEL + v) * scale;
            now = PICK(x > now, x, now);
        }
        *most = now;
        before -= now;
        lanes_exp(&before);
        *(lanes *)(state->factor + v) = before;
        for (int64_t r = 0; r + 1 < rows; r += 2) {
            lanes *x = (lanes *)(s + r * PANEL + v), *z = (lanes *)(s + (r + 1) * PANEL + v);
            lanes  one = *x * scale - now, two = *z * scale - now;
            lanes_exp(&one);
            lanes_exp(&two);
            sum += *x = one;
            other += *z = two;
        }
        if (rows & 1) {
            lanes *x = (lanes *)(s + (rows - 1) * PANEL + v);
            lanes  last = *x * scale - now;
            lanes_exp(&last);
            sum += *x = last;
        }
        sum += other;
        for (int j = 0; j < PANEL_LANES; j++)
            state->sum[v + j] = state->sum[v + j] * (double)state->factor[v + j] + (double)sum[j];
    }
}

CPU_INLINE void gradients(float *s, float *dp, const float *lse, const float *delta, int64_t rows, int64_t vectors,
                          float times, float scale)
{
    for (int64_t v = 0; v < vectors * PANEL_LANES; v += PANEL_LANES) {
        lanes shift = *(const lanes *)(lse + v), mean = *(const lanes *)(delta + v);
        for (int64_t r = 0; r < rows; r++) {
            lanes *x = (lanes *)(s + r * PANEL + v), *g = (lanes *)(dp + r * PANEL + v);
            lanes  p = *x * times - shift;
            lanes_exp(&p);
            *x = p;
            *g = scale * p * (*g - mean);
        }
    }
}

CPU_INLINE void delta_sum(double *sum, const float *s, const float *dp, const float *lse, int64_t rows,
                          int64_t vectors, float times)
{
    for (int64_t v = 0; v < vectors * PANEL_LANES; v += PANEL_LANES) {
        lanes shift = *(const lanes *)(lse + v), part = {0};
        for (int64_t r = 0; r < rows; r++) {
            lanes p = *(const lanes *)(s + r * PANEL + v) * times - shift;
            lanes_exp(&p);
            part += p * *(const lanes *)(dp + r * PANEL + v);
        }
        for (int j = 0; j < PANEL_LANES; j++)
            sum[v + j] += (double)part[j];
    }
}

/* ---- the same bodies for several instruction sets ---- */

#define DEFINE_SET(set, attribute, product)                                                                           \
    attribute static void multiply_##set(const panel_product *p)                                                      \
    {                                                                                                                 \
        product;                                                                                                      \
    }                                                                                                                 \
    attribute static void softmax_##set(float *s, panel_state *state, int64_t rows, int64_t vectors, float scale)     \
    {                                                                                                                 \
        softmax(s, state, rows, vectors, scale);                                                                      \
    }                                                                                                                 \
    attribute static void gradients_##set(float *s, float *dp, const float *lse, const float *delta, int64_t rows,    \
                                          int64_t vectors, float times, float scale)                                  \
    {                                                                                                                 \
        gradients(s, dp, lse, delta, rows, vectors, times, scale);                                                    \
    }                                                                                                                 \
    attribute static void delta_##set(double *sum, const float *s, const float *dp, const float *lse, int64_t rows,   \
                                      int64_t vectors, float times)                                                   \
    {                                                                                                                 \
        delta_sum(sum, s, dp, lse, rows, vectors, times);                                                             \
    }

DEFINE_SET(plain, , multiply_rows(p, 2))
#if defined(__x86_64__) && defined(__GNUC__)
DEFINE_SET(avx512, __attribute__((target("avx512f,fma"))),
           p->a_row == 1 ? multiply_wide(p, 1) : multiply_wide(p, p->a_row))
DEFINE_SET(avx2, __attribute__((target("avx2,fma"))), multiply_rows(p, 4))
#define RUN(name, ...)                                                              \
    (__builtin_cpu_supports("avx512f") ? name##_avx512(__VA_ARGS__)                 \
     : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? name##_avx2(__VA_ARGS__) \
                                                                       : name##_plain(__VA_ARGS__))
#else
#define RUN(name, ...) name##_plain(__VA_ARGS__)
#endif

/* Long sums are cut into pieces, whose roundings add up to less. */
void panel_multiply(const panel_product *p)
{
    panel_product part = *p;
    for (int64_t k = 0; k == 0 || k < p->depth; k += PANEL_DEPTH) {
        part.depth = p->depth - k < PANEL_DEPTH ? p->depth - k : PANEL_DEPTH;
        RUN(multiply, &part);
        part.a += PANEL_DEPTH * p->a_step;
        part.b += PANEL_DEPTH * p->b_step;
        part.mode = PANEL_ADD;
    }
}

void panel_softmax(float *s, panel_state *state, int64_t rows, int64_t vectors, float scale)
{
    RUN(softmax, s, state, rows, vectors, scale);
}

void panel_gradients(float *s, float *dp, const float *lse, const float *delta, int64_t rows, int64_t vectors,
                     float times, float scale)
{
    RUN(gradients, s, dp, lse, delta, rows, vectors, times, scale);
}

void panel_delta(double *sum, const float *s, const float *dp, const float *lse, int64_t rows, int64_t vectors,
                 float times)
{
    RUN(delta, sum, s, dp, lse, rows, vectors, times);
}
