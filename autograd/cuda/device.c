/* Opening a card: what it has to be, and what is made once on it. */
#include <stdio.h>
#include <stdlib.h>

#include "autograd/cuda/dnn.h"

enum { LEAST_CAPABILITY = 8 }; /* bf16 products */
static const size_t WORKSPACE_BYTES = (size_t)32 << 20; /* what cuBLASLt is advised to have on compute capability 9 */

static const primitives cuda_primitives = {
    .upload = cuda_upload,
    .download = cuda_download,
    .fill = cuda_fill,
    .copy = cuda_copy,
    .lay_out = cuda_lay_out,
    .linear = cuda_linear,
    .linear_dx = cuda_linear_dx,
    .linear_dw = cuda_linear_dw,
    .sum_rows = cuda_sum_rows,
    .conv2d = cuda_conv2d,
    .conv2d_dx = cuda_conv2d_dx,
    .group_norm = cuda_group_norm,
    .group_norm_dx = cuda_group_norm_dx,
    .layer_norm = cuda_layer_norm,
    .layer_norm_dx = cuda_layer_norm_dx,
    .layer_norm_dwb = cuda_layer_norm_dwb,
    .unary = cuda_unary,
    .unary_dx = cuda_unary_dx,
    .geglu = cuda_geglu,
    .geglu_dx = cuda_geglu_dx,
    .add = cuda_add,
    .mul = cuda_mul,
    .reduce_to = cuda_reduce_to,
    .scale = cuda_scale,
    .attention = cuda_attention,
    .attention_backward = cuda_attention_backward,
    .box_mask = cuda_box_mask,
    .multi_subject_attention = cuda_multi_subject_attention,
    .multi_subject_attention_backward = cuda_multi_subject_attention_backward,
    .embedding = cuda_embedding,
    .embedding_dtable = cuda_embedding_dtable,
    .time_embedding = cuda_time_embedding,
    .box_embedding = cuda_box_embedding,
    .select = cuda_select,
    .select_backward = cuda_select_backward,
    .upsample = cuda_upsample,
    .upsample_dx = cuda_upsample_dx,
    .mse = cuda_mse,
    .mse_backward = cuda_mse_backward,
    .sum_squares = cuda_sum_squares,
    .adamw = cuda_adamw,
    .adamw8 = cuda_adamw8,
};

const primitives cuda_dry = {
    .conv2d = cuda_conv2d,
    .conv2d_dx = cuda_conv2d_dx,
    .sum_rows = cuda_sum_rows,
    .reduce_to = cuda_reduce_to,
    .group_norm = cuda_group_norm,
    .group_norm_dx = cuda_group_norm_dx,
    .layer_norm_dwb = cuda_layer_norm_dwb,
    .mse = cuda_mse,
    .sum_squares = cuda_sum_squares,
    .attention = cuda_attention,
    .attention_backward = cuda_attention_backward,
    .multi_subject_attention = cuda_multi_subject_attention,
    .multi_subject_attention_backward = cuda_multi_subject_attention_backward,
};

static err finish_cuda(device *d)
{
    CUDA_TRY(cudaStreamSynchronize(cuda_stream_of(d)));
    return OK;
}

/* ---- closing ---- */

static void close_algorithm(void *value)
{
    free(value);
}

/* Also half-opened ones; what a broken card answers is of no more use. */
static void close_cuda(device *d)
{
    cuda_state *s = d->state;
    if (s->stream)
        cudaStreamSynchronize(s->stream);
    keyed_clear(&s->products, close_algorithm);
    keyed_clear(&s->plans, dnn_plan_close);
    cuda_store_close(s->store);
    if (s->dnn)
        cudnnDestroy(s->dnn);
    if (s->blas)
        cublasLtDestroy(s->blas);
    void *const memory[] = {s->workspace, s->staging, s->bad_id, s->sum, s->maps};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        if (memory[i])
            cudaFree(memory[i]);
    for (int i = 0; i < 2; i++) {
        if (s->pinned[i])
            cudaFreeHost(s->pinned[i]);
        if (s->free[i])
            cudaEventDestroy(s->free[i]);
    }
    cuda_allocator_free(d->memory);
    if (s->stream)
        cudaStreamDestroy(s->stream);
    free(s);
    free(d);
}

/* ---- opening ---- */

static err read_capability(int *major, int *minor, int index)
{
    CUDA_TRY(cudaDeviceGetAttribute(major, cudaDevAttrComputeCapabilityMajor, index));
    CUDA_TRY(cudaDeviceGetAttribute(minor, cudaDevAttrComputeCapabilityMinor, index));
    return OK;
}

static err check_card(int index)
{
    int count = 0, major = 0, minor = 0, driver = 0, runtime = 0;
    CUDA_TRY(cudaDriverGetVersion(&driver));
    CUDA_TRY(cudaRuntimeGetVersion(&runtime));
    if (!driver)
        return err_set(E_DEVICE, "cuda:%d: no NVIDIA driver is installed; install one for CUDA %d.%d or newer, or use "
                                 "--device cpu", index, runtime / 1000, runtime % 1000 / 10);
    if (driver / 1000 < runtime / 1000)
        return err_set(E_DEVICE,
                       "cuda:%d: the NVIDIA driver knows CUDA up to %d.%d, this build needs %d.0; update the "
                       "driver, or use --device cpu",
                       index, driver / 1000, driver % 1000 / 10, runtime / 1000);
    cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess && status != cudaErrorNoDevice)
        return cuda_failed(status, "cudaGetDeviceCount");
    if (index >= count)
        return err_set(E_DEVICE,
                       "cuda:%d: this process sees %d cards, expected at least %d; see nvidia-smi and "
                       "CUDA_VISIBLE_DEVICES, or use --device cpu",
                       index, count, index + 1);
    TRY(read_capability(&major, &minor, index));
    if (major < LEAST_CAPABILITY)
        return err_set(E_DEVICE,
                       "cuda:%d: the card has compute capability %d.%d, expected %d.0 or newer; use another card "
                       "or --device cpu",
                       index, major, minor, LEAST_CAPABILITY);
    return OK;
}

static err make_buffers(cuda_state *s)
{
    void *memory = NULL;
    s->workspace_bytes = WORKSPACE_BYTES;
    TRY(cuda_card_get(&s->workspace, s->workspace_bytes));
    TRY(cuda_card_get(&s->staging, CUDA_STAGING_BYTES));
    TRY(cuda_card_get(&memory, sizeof *s->sum));
    s->sum = memory;
    TRY(cuda_card_get(&memory, sizeof *s->bad_id));
    s->bad_id = memory;
    CUDA_TRY(cudaMemsetAsync(s->bad_id, 0, sizeof *s->bad_id, s->stream));
    for (int i = 0; i < 2; i++) {
        TRY(cuda_pinned_get(&s->pinned[i], CUDA_STAGING_BYTES));
        CUDA_TRY(cudaEventCreateWithFlags(&s->free[i], cudaEventDisableTiming));
    }
    return OK;
}

static err make_handles(cuda_state *s)
{
    CUDA_TRY(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
    BLAS_TRY(cublasLtCreate(&s->blas));
    cudnnStatus_t status = cudnnCreate(&s->dnn);
    if (status != CUDNN_STATUS_SUCCESS)
        return cuda_dnn_failed(status, "cudnnCreate");
    status = cudnnSetStream(s->dnn, s->stream);
    return status == CUDNN_STATUS_SUCCESS ? OK : cuda_dnn_failed(status, "cudnnSetStream");
}

/* What algorithms and plans belong to. */
static err open_store(cuda_state *s)
{
    struct cudaDeviceProp card;
    char                  identity[512];
    CUDA_TRY(cudaGetDeviceProperties(&card, s->index));
    snprintf(identity, sizeof identity, "%.256s, capability %d.%d; cuBLASLt %zu, cuDNN %zu", card.name, card.major, card.minor,
             cublasLtGetVersion(), cudnnGetVersion());
    s->store = cuda_store_open(identity);
    return OK;
}

err device_open_cuda(device **out, int index)
{
    *out = NULL;
    TRY(check_card(index));
    CUDA_TRY(cudaSetDevice(index));
    cuda_state *s = heap_get(sizeof *s);
    *s = (cuda_state){.index = index};
    device *d = heap_get(sizeof *d);
    *d = (device){.kind = "cuda", .p = &cuda_primitives, .dry = &cuda_dry, .memory = cuda_allocator_new(index),
                  .threads = 1, .finish = finish_cuda, .capture = &cuda_capture, .close = close_cuda, .state = s};
    err e = make_handles(s);
    if (e == OK)
        e = make_buffers(s);
    if (e == OK)
        e = open_store(s);
    if (e != OK) {
        close_cuda(d);
        return e;
    }
    *out = d;
    return OK;
}

/* ---- looking ---- */

int device_cuda_cards(void)
{
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess)
        return count;
    cudaGetLastError();
    return 0;
}

bool device_has_cuda(void)
{
    int driver = 0, runtime = 0, count = 0, major = 0, minor = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || cudaRuntimeGetVersion(&runtime) != cudaSuccess ||
        driver / 1000 < runtime / 1000)
        return false;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count < 1) {
        cudaGetLastError();
        return false;
    }
    return read_capability(&major, &minor, 0) == OK && major >= LEAST_CAPABILITY;
}

void device_describe_cuda(char *text, size_t bytes)
{
    int driver = 0, runtime = 0;
    if (check_card(0) != OK) {
        snprintf(text, bytes, "%s", err_message());
        return;
    }
    struct cudaDeviceProp card;
    if (cudaGetDeviceProperties(&card, 0) != cudaSuccess) {
        snprintf(text, bytes, "cuda:0 says nothing about itself; see nvidia-smi");
        return;
    }
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    snprintf(text, bytes,
             "%s, %zu MiB, capability %d.%d; driver for CUDA %d.%d, runtime %d.%d, cuBLASLt %zu, cuDNN %zu", card.name,
             card.totalGlobalMem >> 20, card.major, card.minor, driver / 1000, driver % 1000 / 10, runtime / 1000,
             runtime % 1000 / 10, cublasLtGetVersion(), cudnnGetVersion());
}
