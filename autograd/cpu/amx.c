#include "autograd/cpu/amx.h"

#include <dnnl.h>
#include <string.h>

#include "base/error.h"

#if defined(__x86_64__) && defined(__linux__) && ((defined(__GNUC__) && __GNUC__ >= 11) || defined(__clang__))
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AMX_TARGET __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512bf16")))

enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* arch_prctl: ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */

/* oneDNN has asked the processor once, and keeps the answer: cpuid is slow in virtual machines. */
bool amx_ready(void)
{
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

/* Palette 1, eight tiles of 16 rows of 64 bytes. In static memory: compilers see no more than its first bytes read. */
static const struct {
    uint8_t  palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t  rows[16];
} tiles = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

AMX_TARGET void amx_begin(void)
{
    _tile_loadconfig(&tiles);
}

AMX_TARGET void amx_end(void)
{
    _tile_release();
}

/* Tiles 0 to 2 are sums, 3 the left factor, 4 to 6 the right one. */
AMX_TARGET static void multiply_row(const amx_product *p, int64_t row, int64_t vector, int64_t vectors)
{
    float          *out = p->out + row * p->out_step + vector * AMX_ROWS;
    const uint16_t *a = p->a + row * p->a_step;
    const uint32_t *b = p->b + vector * AMX_ROWS;
    size_t out_bytes = (size_t)p->out_step * 4u, a_bytes = (size_t)p->a_step * 2u, b_bytes = (size_t)p->b_step * 4u;
    if (p->add) {
        _tile_loadd(0, out, out_bytes);
        if (vectors > 1)
            _tile_loadd(1, out + 16, out_bytes);
        if (vectors > 2)
            _tile_loadd(2, out + 32, out_bytes);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
    }
    for (int64_t k = 0; k < p->depth; k += AMX_DEPTH, b += AMX_DEPTH / 2 * p->b_step) {
        _tile_loadd(3, a + k, a_bytes);
        _tile_loadd(4, b, b_bytes);
        _tile_dpbf16ps(0, 3, 4);
        if (vectors > 1) {
            _tile_loadd(5, b + 16, b_bytes);
            _tile_dpbf16ps(1, 3, 5);
        }
        if (vectors > 2) {
            _tile_loadd(6, b + 32, b_bytes);
            _tile_dpbf16ps(2, 3, 6);
        }
    }
    _tile_stored(0, out, out_bytes);
    if (vectors > 1)
        _tile_stored(1, out + 16, out_bytes);
    if (vectors > 2)
        _tile_stored(2, out + 32, out_bytes);
}

void amx_multiply(const amx_product *p)
{
    for (int64_t v = 0; v < p->vectors; v += 3)
        for (int64_t row = 0; row < p->rows; row += AMX_ROWS)
            multiply_row(p, row, v, p->vectors - v < 3 ? p->vectors - v : 3);
}

AMX_TARGET void amx_pairs(uint32_t *pairs, const float *x, int64_t step, int64_t count, int64_t vectors, int64_t depth)
{
    uint16_t order[32];
    for (int i = 0; i < 32; i++)
        order[i] = (uint16_t)(i / 2 + i % 2 * 16);
    __m512i interleave = _mm512_loadu_si512(order);
    for (int64_t k = 0; k < depth; k += 2) {
        for (int64_t v = 0; v < vectors; v++) {
            const float *at = x + k * step + v * 16;
            __m512       low = k < count ? _mm512_loadu_ps(at) : _mm512_setzero_ps();
            __m512       high = k + 1 < count ? _mm512_loadu_ps(at + step) : _mm512_setzero_ps();
            __m512i      both = (__m512i)_mm512_cvtne2ps_pbh(high, low);
            _mm512_storeu_si512(pairs + k / 2 * step + v * 16, _mm512_permutexvar_epi16(interleave, both));
        }
    }
}

AMX_TARGET void amx_round(uint16_t *rows, const float *x, int64_t x_step, int64_t count, int64_t columns, int64_t step)
{
    for (int64_t r = 0; r < count; r++) {
        for (int64_t i = 0; i < columns; i += 32) {
            const float *at = x + r * x_step + i;
            __m512       low = _mm512_loadu_ps(at);
            __m512       high = i + 16 < columns ? _mm512_loadu_ps(at + 16) : _mm512_setzero_ps();
            _mm512_storeu_si512(rows + r * step + i, (__m512i)_mm512_cvtne2ps_pbh(high, low));
        }
    }
    for (int64_t r = count; r % AMX_ROWS; r++)
        memset(rows + r * step, 0, (size_t)((columns + 31) / 32 * 32) * sizeof *rows);
}

/* Scattered stores: words of one row of x go down a column. */
AMX_TARGET void amx_turned_rows(uint16_t *turned, const uint16_t *x, int64_t row, int64_t count, int64_t size,
                                int64_t step)
{
    memset(turned, 0, (size_t)((size + AMX_ROWS - 1) / AMX_ROWS * AMX_ROWS * step) * sizeof *turned);
    __m512i down = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                      _mm512_set1_epi32((int)step * 2));
    for (int64_t c = 0; c < count; c += 2) {
        const uint16_t *low = x + c * row, *high = low + row;
        bool            two = c + 1 < count;
        int64_t         i = 0;
        for (; i + 16 <= size; i += 16) {
            __m512i word = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(low + i)));
            if (two) {
                __m512i above = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(high + i)));
                word = _mm512_or_si512(word, _mm512_slli_epi32(above, 16));
            }
#pragma GCC diagnostic push
// Without optimisation it is a macro, whose mask of ones changes its sign.
#pragma GCC diagnostic ignored "-Wsign-conversion"
            _mm512_i32scatter_epi32(turned + i * step + c, down, word, 1);
#pragma GCC diagnostic pop
        }
        for (; i < size; i++) {
            turned[i * step + c] = low[i];
            if (two)
                turned[i * step + c + 1] = high[i];
        }
    }
}
#else
static void missing(void)
{
    CHECK(false, "this machine has no matrix unit");
}

bool amx_ready(void)
{
    return false;
}

void amx_begin(void)
{
    missing();
}

void amx_end(void)
{
    missing();
}

void amx_multiply(const amx_product *p)
{
    (void)p;
    missing();
}

void amx_pairs(uint32_t *pairs, const float *x, int64_t step, int64_t count, int64_t vectors, int64_t depth)
{
    (void)pairs, (void)x, (void)step, (void)count, (void)vectors, (void)depth;
    missing();
}

void amx_round(uint16_t *rows, const float *x, int64_t x_step, int64_t count, int64_t columns, int64_t step)
{
    (void)rows, (void)x, (void)x_step, (void)count, (void)columns, (void)step;
    missing();
}

void amx_turned_rows(uint16_t *turned, const uint16_t *x, int64_t row, int64_t count, int64_t size, int64_t step)
{
    (void)turned, (void)x, (void)row, (void)count, (void)size, (void)step;
    missing();
}
#endif

void amx_rows(uint16_t *rows, const uint16_t *x, int64_t row, int64_t count, int64_t size, int64_t step)
{
    int64_t r = 0;
    for (; r < count; r++) {
        memcpy(rows + r * step, x + r * row, (size_t)size * sizeof *rows);
        memset(rows + r * step + size, 0, (size_t)(step - size) * sizeof *rows);
    }
    for (; r % AMX_ROWS; r++)
        memset(rows + r * step, 0, (size_t)step * sizeof *rows);
}

void amx_row_pairs(uint32_t *pairs, const uint16_t *x, int64_t row, int64_t count, int64_t size, int64_t step,
                   int64_t depth)
{
    memset(pairs, 0, (size_t)(depth / 2 * step) * sizeof *pairs);
    for (int64_t r = 0; r < count; r += 2) {
        uint32_t       *to = pairs + r / 2 * step;
        const uint16_t *low = x + r * row, *high = low + row;
        bool            two = r + 1 < count;
        for (int64_t i = 0; two && i < size; i++)
            to[i] = low[i] | (uint32_t)high[i] << 16;
        for (int64_t i = 0; !two && i < size; i++)
            to[i] = low[i];
    }
}

void amx_turned_pairs(uint32_t *words, const uint16_t *x, int64_t row, int64_t count, int64_t size, int64_t step,
                      int64_t words_step, int64_t columns)
{
    for (int64_t k = 0; k < step; k += 2) {
        uint32_t *to = words + k / 2 * words_step;
        for (int64_t r = 0; r < columns; r++) {
            uint32_t low = r < count && k < size ? x[r * row + k] : 0;
            uint32_t high = r < count && k + 1 < size ? x[r * row + k + 1] : 0;
            to[r] = low | high << 16;
        }
    }
}
