/* Matrix fragments of warps (nvcuda::wmma), 16 by 16 by 16 of bf16 with f32 sums. An element's place among the lanes is
 * unspecified, and is here one that no hardware has, so that code that relies on one fails. */
#ifndef CUDA_HOST_MMA_H
#define CUDA_HOST_MMA_H

#include "cuda_bf16.h"

namespace nvcuda {
namespace wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
    static_assert(M == 16 && N == 16 && K == 16, "fragments here are 16 by 16 by 16");
    enum { num_elements = 8 };
    typedef T element_type;
    T x[num_elements];
};

/* Element e of 256 is lane owner(e)'s, its place(e)-th. */
static inline int owner(int e) { return (e * 5 + e / 32 * 11 + 3) % 32; }
static inline int place(int e) { return e / 32; }

struct access {
    void       *fragment;
    const void *from;
    void       *to;
    unsigned    stride;
    bool        rows;
};

static inline void access_act(void *const operands[32], unsigned)
{
    const access &a = *(const access *)operands[0];
    for (int lane = 1; lane < 32; lane++) {
        const access &b = *(const access *)operands[lane];
        if (b.from != a.from || b.to != a.to || b.stride != a.stride)
            cuda_host::kernel_error("wmma: lanes 0 and %d give different matrices", lane);
    }
}

/* This lane's elements, from the matrix into x or from x into the matrix. */
template <class T> void touch(T *x, const access &a)
{
    const void *memory = a.from ? a.from : a.to;
    if ((uintptr_t)memory % 32 != 0)
        cuda_host::kernel_error("wmma: matrix at %p: must lie on 32 bytes", memory);
    if (a.stride * sizeof(T) % 16 != 0)
        cuda_host::kernel_error("wmma: rows are %u elements apart: must be a multiple of 16 bytes", a.stride);
    for (int e = 0; e < 256; e++) {
        if (owner(e) != (int)cuda_host::lane())
            continue;
        int    r = e / 16, c = e % 16;
        size_t at = a.rows ? (size_t)r * a.stride + (size_t)c : (size_t)c * a.stride + (size_t)r;
        if (a.from)
            x[place(e)] = ((const T *)a.from)[at];
        else
            ((T *)a.to)[at] = x[place(e)];
    }
}

/* The lanes wait for each other, but nothing orders what they read and write: that is __syncwarp's. So a lane reads both
 * before and after, and half of the lanes write before, half after. */
template <class T> void load_lane(access &a)
{
    T before[8], *after = (T *)a.fragment;
    touch(before, a);
    cuda_host::warp_meet(cuda_host::WARP_MATRIX, 0xffffffffu, &a, access_act);
    touch(after, a);
    if (memcmp(before, after, sizeof before) != 0)
        cuda_host::kernel_error("wmma: the matrix at %p is written while lanes load it: a barrier is missing", a.from);
}

template <class Use, class T, class Layout>
void load_matrix_sync(fragment<Use, 16, 16, 16, T, Layout> &f, const T *from, unsigned stride)
{
    access a = {f.x, from, nullptr, stride, std::is_same<Layout, row_major>::value};
    load_lane<T>(a);
}
template <class T>
void load_matrix_sync(fragment<accumulator, 16, 16, 16, T> &f, const T *from, unsigned stride, layout_t layout)
{
    access a = {f.x, from, nullptr, stride, layout == mem_row_major};
    load_lane<T>(a);
}
template <class T>
void store_matrix_sync(T *to, const fragment<accumulator, 16, 16, 16, T> &f, unsigned stride, layout_t layout)
{
    access a = {(void *)f.x, nullptr, to, stride, layout == mem_row_major};
    bool   early = cuda_host::lane() & 1;
    if (early)
        touch((T *)a.fragment, a);
    cuda_host::warp_meet(cuda_host::WARP_MATRIX, 0xffffffffu, &a, access_act);
    if (!early)
        touch((T *)a.fragment, a);
}

template <class Use, class T, class Layout> void fill_fragment(fragment<Use, 16, 16, 16, T, Layout> &f, T value)
{
    for (T &x : f.x)
        x = value;
}

struct product {
    float               *d;
    const __nv_bfloat16 *a, *b;
    const float         *c;
};

static inline void product_act(void *const operands[32], unsigned)
{
    float a[256], b[256], d[256];
    for (int e = 0; e < 256; e++) {
        const product &p = *(const product *)operands[owner(e)];
        a[e] = __bfloat162float(p.a[place(e)]);
        b[e] = __bfloat162float(p.b[place(e)]);
        d[e] = p.c[place(e)];
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 16; j++)
                d[i * 16 + j] += a[i * 16 + k] * b[k * 16 + j];
    for (int e = 0; e < 256; e++)
        (*(const product *)operands[owner(e)]).d[place(e)] = d[e];
}

template <class A, class B>
void mma_sync(fragment<accumulator, 16, 16, 16, float> &d, const fragment<matrix_a, 16, 16, 16, __nv_bfloat16, A> &a,
              const fragment<matrix_b, 16, 16, 16, __nv_bfloat16, B> &b, const fragment<accumulator, 16, 16, 16, float> &c)
{
    product p = {d.x, a.x, b.x, c.x};
    cuda_host::warp_meet(cuda_host::WARP_MATRIX, 0xffffffffu, &p, product_act);
}

} // namespace wmma
} // namespace nvcuda

#endif
