/* The libraries' statuses as this program's errors: one line each, with what to do. */
#include <string.h>

#include "autograd/cuda/cuda.h"

/* A call's name in its text, "cudaFree(x)". */
static int name_length(const char *call)
{
    return (int)strcspn(call, "(");
}

static const char *advice(cudaError_t status)
{
    switch (status) {
    case cudaErrorInsufficientDriver:
        return "the driver is older than the CUDA runtime of this build; update the NVIDIA driver, or use --device cpu";
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
        return "no such card is visible to this process; see nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu";
    case cudaErrorNoKernelImageForDevice:
        return "this build has no code for the card; build with -DCMAKE_CUDA_ARCHITECTURES for it";
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorMisalignedAddress:
        return "the card cannot go on in this process; start again from the last checkpoint (--resume auto) and report "
               "it";
    default:
        return "start again from the last checkpoint (--resume auto); see nvidia-smi, or use --device cpu";
    }
}

err cuda_failed(cudaError_t status, const char *call)
{
    cudaGetLastError(); /* one that does not stick is not met again by the next call */
    return err_set(status == cudaErrorMemoryAllocation ? E_MEMORY : E_DEVICE, "cuda: %.*s: %s (%s); %s", name_length(call),
                   call, cudaGetErrorString(status), cudaGetErrorName(status), advice(status));
}

err cuda_blas_failed(cublasStatus_t status, const char *call)
{
    return err_set(E_DEVICE,
                   "cuda: %.*s: %s; start again from the last checkpoint (--resume auto), or use --device cpu",
                   name_length(call), call, cublasLtGetStatusString(status));
}

err cuda_dnn_failed(cudnnStatus_t status, const char *call)
{
    char text[256] = "";
    cudnnGetLastErrorString(text, sizeof text);
    text[strcspn(text, "\n")] = '\0';
    return err_set(E_DEVICE,
                   "cuda: %.*s: %s %s; start again from the last checkpoint (--resume auto), or use --device cpu",
                   name_length(call), call, cudnnGetErrorString(status), text);
}
