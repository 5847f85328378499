#ifndef MSD_TESTS_CUDA_HOST_FAULTY_KERNELS_H
#define MSD_TESTS_CUDA_HOST_FAULTY_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdint.h>

typedef enum faulty {
    FAULTY_NONE, /* y[0..64) = 63 .. 0 */
    FAULTY_NO_BARRIER,
    FAULTY_HALF_A_BARRIER,
    FAULTY_RETURN,
    FAULTY_SHUFFLE,
    FAULTY_ALIGNMENT,
    FAULTY_WRITE /* y[i] = 1 */
} faulty;

#ifdef __cplusplus
extern "C"
#endif
cudaError_t faulty_launch(faulty which, float *y, int64_t i, cudaStream_t stream);

#endif
