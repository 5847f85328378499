/* Sums over rows of functions of (row, column), in two stages: each block sums a split of the rows for 64 columns, the
 * threads of a column in rising order; then one thread adds up a column's splits in order. f64 throughout. */
#ifndef MSD_AUTOGRAD_CUDA_COLUMNS_CUH
#define MSD_AUTOGRAD_CUDA_COLUMNS_CUH

#include "autograd/cuda/launch.cuh"

enum { COLUMN_TILE = 64, COLUMN_ROWS = BLOCK_THREADS / COLUMN_TILE, SPLIT_ROWS = 64, MOST_SPLITS = 64 };

/* How many splits so many rows are summed in. */
static inline int64_t splits_of(int64_t rows)
{
    int64_t splits = divide_up(rows, SPLIT_ROWS);
    return splits < 1 ? 1 : least(splits, MOST_SPLITS);
}

/* part (outputs,splits,SUMS,width); f.values(v, output, row, column) sets v[SUMS] */
template <int SUMS, class F>
__global__ void __launch_bounds__(BLOCK_THREADS)
    column_parts(double *part, F f, int64_t rows, int64_t split_rows, int64_t width)
{
    __shared__ double shared[COLUMN_ROWS][SUMS][COLUMN_TILE];
    int     lane = (int)threadIdx.x % COLUMN_TILE, step = (int)threadIdx.x / COLUMN_TILE;
    int64_t column = (int64_t)blockIdx.x * COLUMN_TILE + lane, first = (int64_t)blockIdx.y * split_rows;
    int64_t end = first + split_rows < rows ? first + split_rows : rows, output = (int64_t)blockIdx.z;
    double  sum[SUMS] = {};
    if (column < width) {
        for (int64_t r = first + step; r < end; r += COLUMN_ROWS) {
            double v[SUMS];
            f.values(v, output, r, column);
#pragma unroll
            for (int s = 0; s < SUMS; s++)
                sum[s] += v[s];
        }
    }
#pragma unroll
    for (int s = 0; s < SUMS; s++)
        shared[step][s][lane] = sum[s];
    __syncthreads();
    if (step != 0 || column >= width)
        return;
#pragma unroll
    for (int s = 0; s < SUMS; s++) {
        for (int k = 1; k < COLUMN_ROWS; k++)
            sum[s] += shared[k][s][lane];
        part[((output * gridDim.y + blockIdx.y) * SUMS + s) * width + column] = sum[s];
    }
}

/* f.finish(output, column, sums) with the sums of all splits. */
template <int SUMS, class F>
__global__ void __launch_bounds__(BLOCK_THREADS)
    column_finish(F f, const double *part, int64_t outputs, int64_t splits, int64_t width)
{
    for (int64_t i = thread_index(); i < outputs * width; i += thread_count()) {
        int64_t output = i / width, column = i % width;
        double  sum[SUMS] = {};
        for (int64_t k = 0; k < splits; k++)
#pragma unroll
            for (int s = 0; s < SUMS; s++)
                sum[s] += part[((output * splits + k) * SUMS + s) * width + column];
        f.finish(output, column, sum);
    }
}

static inline size_t column_sums_bytes(int64_t outputs, int64_t rows, int64_t width, int sums)
{
    return (size_t)(outputs * splits_of(rows) * sums * width) * sizeof(double);
}

template <int SUMS, class F>
static cudaError_t column_sums(F f, int64_t outputs, int64_t rows, int64_t width, void *scratch, cudaStream_t stream)
{
    if (outputs * width == 0)
        return cudaSuccess;
    int64_t splits = splits_of(rows), split_rows = divide_up(rows, splits), most = 65535; /* of a grid's y and z */
    double *part = (double *)scratch;
    for (int64_t o = 0; o < outputs; o += most) {
        int64_t count = least(outputs - o, most);
        F       from = f.skipped(o);
        double *to = part + o * splits * SUMS * width;
        dim3    grid((unsigned)divide_up(width, COLUMN_TILE), (unsigned)splits, (unsigned)count);
        cudaError_t e = launch(column_parts<SUMS, F>, grid, dim3(BLOCK_THREADS), stream, to, from, rows, split_rows, width);
        if (e != cudaSuccess)
            return e;
    }
    return launch(column_finish<SUMS, F>, dim3(blocks_for(outputs * width)), dim3(BLOCK_THREADS), stream, f, part, outputs,
                  splits, width);
}

#endif
