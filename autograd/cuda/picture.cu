/* Sample by sample one of two tensors, and nearest-neighbour sizes of pictures. */
#include "autograd/cuda/element.cuh"
#include "autograd/cuda/launch.cuh"

template <class T> struct selected {
    T             *y;
    const int32_t *pick;
    const T       *a, *b;
    int64_t        size;
    bool           one;

    template <int W> __device__ void run(int64_t i) const
    {
        int64_t  sample = i / size;
        const T *from = !pick[sample] ? b + i : a + i - (one ? sample * size : 0);
        *reinterpret_cast<pack<T, W> *>(y + i) = *reinterpret_cast<const pack<T, W> *>(from);
    }
};

template <class T>
static cudaError_t select_of(void *y, const int32_t *pick, const void *a, const void *b, int64_t samples, int64_t size,
                             bool one, cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    selected<T>   f = {(T *)y, pick, (const T *)a, (const T *)b, size, one};
    return each<W>(f, samples * size, size % W == 0 && aligned16(y, a, b), stream);
}

cudaError_t cuda_select_launch(void *y, const int32_t *pick, const void *a, const void *b, int64_t samples, int64_t size,
                               bool one, bool bf16, cudaStream_t stream)
{
    return bf16 ? select_of<bfloat>(y, pick, a, b, samples, size, one, stream)
                : select_of<float>(y, pick, a, b, samples, size, one, stream);
}

/* With one row the samples are summed in order. */
template <class Y, class T> struct selected_slopes {
    Y             *dx;
    const T       *dy;
    const int32_t *pick;
    int64_t        samples, size;
    bool           one, chosen, add;

    template <int W> __device__ void run(int64_t i) const
    {
        float   sum[W] = {}, v[W];
        int64_t first = one ? 0 : i / size, end = one ? samples : first + 1, at = i % size;
        for (int64_t s = first; s < end; s++) {
            if ((pick[s] != 0) != chosen)
                continue;
            load<W>(v, dy + s * size + at);
#pragma unroll
            for (int j = 0; j < W; j++)
                sum[j] += v[j];
        }
        store_or_add<W>(dx + i, sum, add);
    }
};

template <class Y, class T>
static cudaError_t select_backward_of(void *dx, const void *dy, const int32_t *pick, int64_t samples, int64_t size,
                                      bool one, bool chosen, bool add, cudaStream_t stream)
{
    constexpr int         W = packed<T>::WIDTH;
    selected_slopes<Y, T> f = {(Y *)dx, (const T *)dy, pick, samples, size, one, chosen, add};
    return each<W>(f, (one ? 1 : samples) * size, size % W == 0 && aligned16(dx, dy), stream);
}

cudaError_t cuda_select_backward_launch(void *dx, const void *dy, const int32_t *pick, int64_t samples, int64_t size,
                                        bool one, bool chosen, bool add, bool wide, bool bf16, cudaStream_t stream)
{
    if (!bf16)
        return select_backward_of<float, float>(dx, dy, pick, samples, size, one, chosen, add, stream);
    if (wide)
        return select_backward_of<float, bfloat>(dx, dy, pick, samples, size, one, chosen, add, stream);
    return select_backward_of<bfloat, bfloat>(dx, dy, pick, samples, size, one, chosen, add, stream);
}

/* ---- nearest neighbour: the source of row i is floor(i h / rows) ---- */

struct picture_sizes {
    int64_t h, w, rows, columns, channels;
};

template <class T> struct enlarged {
    T            *y;
    const T      *x;
    picture_sizes s;

    template <int W> __device__ void run(int64_t i) const
    {
        int64_t c = i % s.channels, column = i / s.channels % s.columns, row = i / s.channels / s.columns;
        int64_t b = row / s.rows, from = (b * s.h + row % s.rows * s.h / s.rows) * s.w + column * s.w / s.columns;
        *reinterpret_cast<pack<T, W> *>(y + i) = *reinterpret_cast<const pack<T, W> *>(x + from * s.channels + c);
    }
};

/* The first of `large` places whose source among `small` is at least i. */
static __device__ __forceinline__ int64_t first_place(int64_t i, int64_t small, int64_t large)
{
    return (i * large + small - 1) / small;
}

template <class T> struct enlarged_slopes {
    T            *dx;
    const T      *dy;
    picture_sizes s;
    bool          add;

    template <int W> __device__ void run(int64_t i) const
    {
        int64_t c = i % s.channels, column = i / s.channels % s.w, at = i / s.channels / s.w, row = at % s.h, b = at / s.h;
        int64_t left = first_place(column, s.w, s.columns), right = first_place(column + 1, s.w, s.columns);
        float   sum[W] = {}, v[W];
        for (int64_t r = first_place(row, s.h, s.rows); r < first_place(row + 1, s.h, s.rows); r++) {
            for (int64_t k = left; k < right; k++) {
                load<W>(v, dy + ((b * s.rows + r) * s.columns + k) * s.channels + c);
#pragma unroll
                for (int j = 0; j < W; j++)
                    sum[j] += v[j];
            }
        }
        store_or_add<W>(dx + i, sum, add);
    }
};

template <class T> static cudaError_t upsample_of(void *y, const void *x, int64_t batch, picture_sizes s, cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    return each<W>(enlarged<T>{(T *)y, (const T *)x, s}, batch * s.rows * s.columns * s.channels,
                   s.channels % W == 0 && aligned16(y, x), stream);
}

template <class T>
static cudaError_t upsample_dx_of(void *dx, const void *dy, int64_t batch, picture_sizes s, bool add, cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    return each<W>(enlarged_slopes<T>{(T *)dx, (const T *)dy, s, add}, batch * s.h * s.w * s.channels,
                   s.channels % W == 0 && aligned16(dx, dy), stream);
}

cudaError_t cuda_upsample_launch(void *y, const void *x, int64_t batch, int64_t h, int64_t w, int64_t rows,
                                 int64_t columns, int64_t channels, bool bf16, cudaStream_t stream)
{
    picture_sizes s = {h, w, rows, columns, channels};
    return bf16 ? upsample_of<bfloat>(y, x, batch, s, stream) : upsample_of<float>(y, x, batch, s, stream);
}

cudaError_t cuda_upsample_dx_launch(void *dx, const void *dy, int64_t batch, int64_t h, int64_t w, int64_t rows,
                                    int64_t columns, int64_t channels, bool add, bool bf16, cudaStream_t stream)
{
    picture_sizes s = {h, w, rows, columns, channels};
    return bf16 ? upsample_dx_of<bfloat>(dx, dy, batch, s, add, stream)
                : upsample_dx_of<float>(dx, dy, batch, s, add, stream);
}
