/* Rows of a table, the sinusoidal embeddings of time and of boxes, and which queries a box covers. */
#include "autograd/cuda/element.cuh"
#include "autograd/cuda/launch.cuh"

template <class T> struct table_rows {
    T             *y;
    int32_t       *bad;
    const T       *table;
    const int32_t *ids;
    int64_t        rows, width;

    template <int W> __device__ void run(int64_t i) const
    {
        int32_t id = ids[i / width];
        float   v[W];
        if (id >= 0 && id < rows) {
            load<W>(v, table + id * width + i % width);
        } else {
            for (int j = 0; j < W; j++)
                v[j] = NAN;
            if (bad)
                *bad = 1; /* whoever writes it writes the same */
        }
        store<W>(y + i, v);
    }
};

template <class T>
static cudaError_t rows_of(void *y, int32_t *bad, const void *table, const int32_t *ids, int64_t count, int64_t rows,
                           int64_t width, cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    table_rows<T> f = {(T *)y, bad, (const T *)table, ids, rows, width};
    return each<W>(f, count * width, width % W == 0 && aligned16(y, table), stream);
}

cudaError_t cuda_embedding_launch(void *y, int32_t *bad, const void *table, const int32_t *ids, int64_t count,
                                  int64_t rows, int64_t width, bool bf16, cudaStream_t stream)
{
    return bf16 ? rows_of<bfloat>(y, bad, table, ids, count, rows, width, stream)
                : rows_of<float>(y, bad, table, ids, count, rows, width, stream);
}

/* A column is one thread's, which adds the rows in the order of the ids: rows that occur twice need no atomics. */
template <class T> struct table_columns {
    float         *dtable;
    const T       *dy;
    const int32_t *ids;
    int64_t        count, rows, width;
    bool           add;

    template <int W> __device__ void run(int64_t column) const
    {
        for (int64_t r = 0; r < rows && !add; r++)
            dtable[r * width + column] = 0.0f;
        for (int64_t i = 0; i < count; i++)
            if (ids[i] >= 0 && ids[i] < rows)
                dtable[ids[i] * width + column] += widened(dy[i * width + column]);
    }
};

cudaError_t cuda_embedding_dtable_launch(float *dtable, const void *dy, const int32_t *ids, int64_t count, int64_t rows,
                                         int64_t width, bool add, bool bf16, cudaStream_t stream)
{
    if (bf16)
        return each<1>(table_columns<bfloat>{dtable, (const bfloat *)dy, ids, count, rows, width, add}, width, false, stream);
    return each<1>(table_columns<float>{dtable, (const float *)dy, ids, count, rows, width, add}, width, false, stream);
}

/* The roundings of autograd/cpu/embedding.c: the f32 functions there are exact to half an ulp, as f64 rounded is; a
 * frequency that is half an ulp off moves the sine at t = 999 by 6e-5. */
struct time_angles {
    float       *y;
    const float *t;
    int64_t      half;

    template <int W> __device__ void run(int64_t i) const
    {
        int64_t row = i / half, k = i % half;
        float   exponent = -9.210340371976184f * (float)k / (float)half; /* -ln 10000 */
        float   angle = t[row] * (float)exp((double)exponent);
        y[row * 2 * half + k] = (float)cos((double)angle);
        y[row * 2 * half + half + k] = (float)sin((double)angle);
    }
};

cudaError_t cuda_time_embedding_launch(float *y, const float *t, int64_t n, int64_t dim, cudaStream_t stream)
{
    return each<1>(time_angles{y, t, dim / 2}, n * (dim / 2), false, stream);
}

/* Frequency-major, then sine and cosine, then coordinate; frequencies 100^(k/freqs) as f32. */
struct box_angles {
    float       *y;
    const float *boxes;
    int          freqs;

    template <int W> __device__ void run(int64_t i) const
    {
        int64_t box = i / (4 * freqs);
        int     k = (int)(i / 4 % freqs), j = (int)(i % 4);
        float   angle = (float)pow(100.0, (double)((float)k / (float)freqs)) * boxes[box * 4 + j];
        float  *to = y + box * 8 * freqs + 8 * k + j;
        to[0] = (float)sin((double)angle);
        to[4] = (float)cos((double)angle);
    }
};

cudaError_t cuda_box_embedding_launch(float *y, const float *boxes, int64_t n, int freqs, cudaStream_t stream)
{
    return each<1>(box_angles{y, boxes, freqs}, n * 4 * freqs, false, stream);
}

/* Products in f32, as the reference does it. A NaN covers nothing, since it compares false. */
struct box_cover {
    uint8_t     *mask;
    const float *boxes;
    int64_t      h, w;

    template <int W> __device__ void run(int64_t i) const
    {
        const float *box = boxes + i / (h * w) * 4;
        float        y = (float)(i / w % h), x = (float)(i % w);
        float        left = floorf(box[0] * (float)w), right = ceilf(box[2] * (float)w);
        float        top = floorf(box[1] * (float)h), bottom = ceilf(box[3] * (float)h);
        mask[i] = y >= top && y < bottom && x >= left && x < right;
    }
};

cudaError_t cuda_box_mask_launch(uint8_t *mask, const float *boxes, int64_t count, int64_t h, int64_t w,
                                 cudaStream_t stream)
{
    return each<1>(box_cover{mask, boxes, h, w}, count * h * w, false, stream);
}
