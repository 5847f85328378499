/* Compiled with -ffp-contract=fast (CMakeLists.txt): each a * b + c here is meant as one fused operation where the
 * machine has it. Rows are tiles, broadcast one by one; vectors are outputs. A sum runs over the inputs in rising
 * order, whatever the number of rows taken at a time. */
#include "autograd/cpu/winograd_parts.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define X86 1
#else
#define X86 0
#endif

typedef float lanes __attribute__((vector_size(4 * WINO_LANES)));

/* rows x blocks sums; both are constants where it is called. */
static inline __attribute__((always_inline)) void sums(const wino_product *p, int64_t row, int64_t block,
                                                       const int rows, const int blocks)
{
    lanes        sum[14][2];
    float       *m = p->m + block * p->m_step + row * WINO_LANES;
    const float *v = p->v + row * WINO_LANES, *u = p->u + block * p->u_step;
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < blocks; b++)
            sum[r][b] = p->add ? *(const wino_vector *)(m + b * p->m_step + r * WINO_LANES) : (wino_vector){0};
    /* what the next rows need, or the next point: it would come from beyond this core's cache */
    const float *next = row + rows < p->tiles ? v + rows * WINO_LANES : p->next_v;
    for (int64_t i = 0; i < p->inputs; i++, v += p->v_step, next += p->v_step) {
        for (int k = 0; k < WINO_LANES; k++, u += WINO_LANES) {
            if (blocks > 1 && k < rows)
                __builtin_prefetch(next + k * WINO_LANES);
            lanes w0 = *(const wino_vector *)u, w1 = w0;
            if (blocks > 1)
                w1 = *(const wino_vector *)(u + p->u_step);
            for (int r = 0; r < rows; r++) {
                float a = v[r * WINO_LANES + k];
                sum[r][0] += a * w0;
                if (blocks > 1)
                    sum[r][1] += a * w1;
            }
        }
    }
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < blocks; b++)
            *(wino_vector *)(m + b * p->m_step + r * WINO_LANES) = sum[r][b];
}

#if X86
/* 28 sums, two vectors of weights and one number fill the 32 registers. Single rows wait for each sum: what is left
 * over after 14 rows at a time is cut into 8 and 4 as far as it goes, where need be after one time 14 less. */
static __attribute__((target("avx512f,fma"))) void multiply_avx512(const wino_product *p)
{
    for (int64_t row = 0, rows; row < p->tiles; row += rows) {
        int64_t left = p->tiles - row;
        rows = left >= 14 && !(left % 14 & 2) ? 14 : left >= 8 ? 8 : left >= 4 ? 4 : 1;
        for (int64_t b = 0; b < p->outputs; b += 2) {
            bool two = b + 1 < p->outputs;
            if (rows == 14)
                two ? sums(p, row, b, 14, 2) : sums(p, row, b, 14, 1);
            else if (rows == 8)
                two ? sums(p, row, b, 8, 2) : sums(p, row, b, 8, 1);
            else if (rows == 4)
                two ? sums(p, row, b, 4, 2) : sums(p, row, b, 4, 1);
            else
                two ? sums(p, row, b, 1, 2) : sums(p, row, b, 1, 1);
        }
    }
}
#endif

/* 16 registers: of eight floats, 6 x 2 sums; of four, 3 x 4. */
static inline __attribute__((always_inline)) void multiply_rows(const wino_product *p, const int most)
{
    for (int64_t row = 0, rows; row < p->tiles; row += rows) {
        rows = p->tiles - row >= most ? most : 1;
        for (int64_t b = 0; b < p->outputs; b++) {
            if (rows == most)
                sums(p, row, b, most, 1);
            else
                sums(p, row, b, 1, 1);
        }
    }
}

#if X86
static __attribute__((target("avx2,fma"))) void multiply_avx2(const wino_product *p)
{
    multiply_rows(p, 6);
}
#endif

static void multiply_plain(const wino_product *p)
{
    multiply_rows(p, 3);
}

void wino_multiply(const wino_product *p)
{
#if X86
    if (__builtin_cpu_supports("avx512f")) {
        multiply_avx512(p);
        return;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        multiply_avx2(p);
        return;
    }
#endif
    multiply_plain(p);
}
