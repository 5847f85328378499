/* The host layer's own checks, seen failing: what CUDA code may not do is refused with the error that it has on a GPU and a
 * line that says what. Each mistake is made in a process of its own, since a fault stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <cublasLt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "autograd/cuda/kernels.h"
#include "faulty_kernels.h"

enum { COUNT = 64, BYTES = COUNT * sizeof(float), SAID = 1 << 16, FOUND = 7 };
#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* Ends the child unless `is`; it says so to the parent. */
static void need(int is, const char *what)
{
    if (is)
        return;
    fprintf(stderr, "test: not so: %s\n", what);
    fflush(stderr);
    _exit(1);
}
#define NEED(condition) need(condition, #condition)

static float *on_device(size_t bytes)
{
    void *memory = NULL;
    NEED(cudaMalloc(&memory, bytes) == cudaSuccess);
    return memory;
}

/* Runs `mistake` in a child, which exits with `code` and says `line`. */
static void ends_with(int code, void (*mistake)(void), const char *line)
{
    static char said[SAID];
    int   pipes[2], status = 0;
    FILE *from;
    assert_int_equal(pipe(pipes), 0);
    fflush(stdout);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(pipes[1], 2);
        close(pipes[0]);
        close(pipes[1]);
        mistake();
        fflush(stderr);
        _exit(FOUND);
    }
    close(pipes[1]);
    from = fdopen(pipes[0], "r");
    assert_non_null(from);
    size_t length = fread(said, 1, sizeof said - 1, from);
    said[length] = '\0';
    fclose(from);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != code || !strstr(said, line))
        fail_msg("status %x, expected \"%s\" in: %s", (unsigned)status, line, said);
}

/* It exits with FOUND where it met the error that it expects. */
static void found(void (*mistake)(void), const char *line)
{
    ends_with(FOUND, mistake, line);
}

/* The same, of what the sanitizers, where there are some, see first: they end the process. */
static void found_or_sanitized(void (*mistake)(void), const char *line, const char *sanitizer)
{
    ends_with(SANITIZED ? 1 : FOUND, mistake, SANITIZED ? sanitizer : line);
}

/* ---- pointers of the wrong side ---- */

static void copy_from_host_as_device(void)
{
    float *y = on_device(BYTES), x[COUNT] = {0};
    NEED(cudaMemcpy(y, x, BYTES, cudaMemcpyDeviceToDevice) == cudaErrorIllegalAddress);
    NEED(cudaDeviceSynchronize() == cudaErrorIllegalAddress); /* it stays */
}

static void copy_to_device_as_host(void)
{
    float *y = on_device(BYTES), *x = on_device(BYTES);
    NEED(cudaMemcpy(y, x, BYTES, cudaMemcpyDeviceToHost) == cudaErrorIllegalAddress);
}

static void kernel_of_host_memory(void)
{
    float *x = calloc(COUNT, sizeof *x), *y = on_device(BYTES);
    NEED(cuda_scale_launch(y, x, 2.0f, COUNT, false, false, NULL) == cudaErrorIllegalAddress);
}

static void fill_of_host_memory(void)
{
    float x[COUNT];
    NEED(cudaMemset(x, 0, BYTES) == cudaErrorIllegalAddress);
}

static void copy_behind_the_end(void)
{
    float *y = on_device(BYTES), x[COUNT + 1] = {0};
    NEED(cudaMemcpy(y, x, sizeof x, cudaMemcpyHostToDevice) == cudaErrorIllegalAddress);
}

static void test_sides(void **state)
{
    (void)state;
    found(copy_from_host_as_device, "is not 256 bytes of device memory");
    found(copy_to_device_as_host, "of host memory");
    found(kernel_of_host_memory, "an argument points to memory of the host");
    found(fill_of_host_memory, "is not 256 bytes of device memory");
    found(copy_behind_the_end, "is not 260 bytes of device memory");
}

/* ---- memory that was not written, or is not there any more ---- */

static void read_fresh(void)
{
    float *x = on_device(BYTES), *y = on_device(BYTES), host[COUNT];
    NEED(cuda_scale_launch(y, x, 2.0f, COUNT, false, false, NULL) == cudaSuccess);
    NEED(cudaMemcpy(host, y, BYTES, cudaMemcpyDeviceToHost) == cudaSuccess);
    for (int i = 0; i < COUNT; i++)
        NEED(isnan(host[i]));
}

static void launch_after_free(void)
{
    float *x = on_device(BYTES), *y = on_device(BYTES);
    NEED(cudaFree(x) == cudaSuccess);
    NEED(cuda_scale_launch(y, x, 2.0f, COUNT, false, false, NULL) == cudaSuccess);
    NEED(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
}

static void free_twice(void)
{
    float *x = on_device(BYTES);
    NEED(cudaFree(x) == cudaSuccess && cudaFree(x) == cudaErrorInvalidValue);
}

static void write_behind_the_end(void)
{
    float *y = on_device(BYTES - sizeof *y);
    NEED(faulty_launch(FAULTY_WRITE, y, COUNT - 1, NULL) == cudaSuccess);
    NEED(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
}

static void write_far_behind_the_end(void)
{
    float *y = on_device(BYTES);
    NEED(faulty_launch(FAULTY_WRITE, y, COUNT, NULL) == cudaSuccess);
    NEED(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
}

static void test_memory(void **state)
{
    (void)state;
    found(read_fresh, "");
    found(launch_after_free, "of an allocation of 256 that was freed");
    found(free_twice, "is free already");
    found_or_sanitized(write_behind_the_end, "something wrote outside an allocation of 252 bytes", "AddressSanitizer: ");
    found(write_far_behind_the_end, "0 bytes behind the end of an allocation of 256");
}

/* ---- order ---- */

static void two_streams(cudaStream_t s[2], float **x, float **y)
{
    for (int i = 0; i < 2; i++)
        NEED(cudaStreamCreateWithFlags(&s[i], cudaStreamNonBlocking) == cudaSuccess);
    *x = on_device(BYTES);
    *y = on_device(BYTES);
    NEED(cudaMemset(*x, 0, BYTES) == cudaSuccess && cudaDeviceSynchronize() == cudaSuccess);
}

/* The second stream reads what the first writes, with and without waiting for an event of it. */
static void read_across(int waits, float expected)
{
    cudaStream_t s[2];
    cudaEvent_t  written;
    float       *x, *y, host[COUNT];
    two_streams(s, &x, &y);
    NEED(faulty_launch(FAULTY_NONE, x, 0, s[0]) == cudaSuccess);
    NEED(cudaEventCreateWithFlags(&written, cudaEventDisableTiming) == cudaSuccess);
    NEED(cudaEventRecord(written, s[0]) == cudaSuccess);
    if (waits)
        NEED(cudaStreamWaitEvent(s[1], written, 0) == cudaSuccess);
    NEED(cuda_scale_launch(y, x, 1.0f, COUNT, false, false, s[1]) == cudaSuccess);
    NEED(cudaStreamSynchronize(s[1]) == cudaSuccess);
    NEED(cudaMemcpy(host, y, BYTES, cudaMemcpyDeviceToHost) == cudaSuccess);
    NEED(host[0] == expected);
}

static void read_before_event(void)
{
    read_across(0, 0.0f);
}

static void read_after_event(void)
{
    read_across(1, 63.0f);
}

/* A host that does not wait has what was there. */
static void read_before_synchronising(void)
{
    cudaStream_t s[2];
    float       *x, *y;
    void        *host;
    two_streams(s, &x, &y);
    NEED(cudaMallocHost(&host, BYTES) == cudaSuccess);
    NEED(cudaMemcpyAsync(host, x, BYTES, cudaMemcpyDeviceToHost, s[0]) == cudaSuccess);
    NEED(isnan(*(float *)host));
    NEED(cudaStreamSynchronize(s[0]) == cudaSuccess && *(float *)host == 0.0f);
}

static void test_order(void **state)
{
    (void)state;
    found(read_before_event, "");
    found(read_after_event, "");
    found(read_before_synchronising, "");
}

/* ---- blocks ---- */

static void block_of(faulty which, cudaError_t expected)
{
    float *y = on_device(BYTES);
    NEED(faulty_launch(which, y, 0, NULL) == cudaSuccess);
    NEED(cudaDeviceSynchronize() == expected);
}

static void no_barrier(void)
{
    float host[COUNT], *y = on_device(BYTES);
    int   wrong = 0;
    NEED(faulty_launch(FAULTY_NO_BARRIER, y, 0, NULL) == cudaSuccess);
    NEED(cudaMemcpy(host, y, BYTES, cudaMemcpyDeviceToHost) == cudaSuccess);
    for (int i = 0; i < COUNT; i++)
        wrong += host[i] != (float)(COUNT - 1 - i);
    NEED(wrong > 0);
}

static void half_a_barrier(void)
{
    block_of(FAULTY_HALF_A_BARRIER, cudaErrorLaunchFailure);
}

static void return_before_barrier(void)
{
    block_of(FAULTY_RETURN, cudaErrorLaunchFailure);
}

static void shuffle_of_half(void)
{
    block_of(FAULTY_SHUFFLE, cudaErrorLaunchFailure);
}

static void load_across(void)
{
    block_of(FAULTY_ALIGNMENT, cudaErrorMisalignedAddress);
}

static void test_blocks(void **state)
{
    (void)state;
    found(no_barrier, "");
    found(half_a_barrier, "__syncthreads");
    found(return_before_barrier, "__syncthreads");
    found(shuffle_of_half, "lane");
    found_or_sanitized(load_across, "not on as many bytes as its type needs", "misaligned address");
}

/* ---- products ---- */

typedef struct product {
    cublasLtHandle_t                handle;
    cublasLtMatmulDesc_t            operation;
    cublasLtMatrixLayout_t          layout; /* 8 by 8, of all three */
    cublasLtMatmulHeuristicResult_t found;
    float                          *a, *b, *d;
    void                           *workspace;
} product;

static product product_open(void)
{
    product                    p = {0};
    cublasLtMatmulPreference_t preference;
    size_t                     bytes = 1 << 20;
    int                        count = 0;
    NEED(cublasLtCreate(&p.handle) == CUBLAS_STATUS_SUCCESS);
    NEED(cublasLtMatmulDescCreate(&p.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS);
    NEED(cublasLtMatrixLayoutCreate(&p.layout, CUDA_R_32F, 8, 8, 8) == CUBLAS_STATUS_SUCCESS);
    NEED(cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS);
    NEED(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes) ==
         CUBLAS_STATUS_SUCCESS);
    NEED(cublasLtMatmulAlgoGetHeuristic(p.handle, p.operation, p.layout, p.layout, p.layout, p.layout, preference, 1, &p.found,
                                        &count) == CUBLAS_STATUS_SUCCESS && count == 1 && p.found.workspaceSize > 0);
    p.a = on_device(BYTES + 16);
    p.b = on_device(BYTES + 16);
    p.d = on_device(BYTES + 16);
    p.workspace = on_device(p.found.workspaceSize);
    return p;
}

static cublasStatus_t multiply(const product *p, const float *a, cublasLtMatrixLayout_t layout, size_t workspace_bytes)
{
    const float one = 1.0f, zero = 0.0f;
    return cublasLtMatmul(p->handle, p->operation, &one, a, layout, p->b, p->layout, &zero, p->d, p->layout, p->d, p->layout,
                          &p->found.algo, p->workspace, workspace_bytes, NULL);
}

static void product_of_fresh(void)
{
    product p = product_open();
    float   host;
    NEED(multiply(&p, p.a, p.layout, p.found.workspaceSize) == CUBLAS_STATUS_SUCCESS);
    NEED(cudaMemcpy(&host, p.d, sizeof host, cudaMemcpyDeviceToHost) == cudaSuccess && isnan(host));
}

static void little_workspace(void)
{
    product p = product_open();
    NEED(multiply(&p, p.a, p.layout, p.found.workspaceSize - 1) == CUBLAS_STATUS_INVALID_VALUE);
}

static void misaligned_matrix(void)
{
    product p = product_open();
    NEED(multiply(&p, p.a + 1, p.layout, p.found.workspaceSize) == CUBLAS_STATUS_INVALID_VALUE);
}

static void matrix_of_host(void)
{
    product p = product_open();
    float  *a = NULL;
    NEED(posix_memalign((void **)&a, 256, BYTES) == 0);
    memset(a, 0, BYTES);
    NEED(multiply(&p, a, p.layout, p.found.workspaceSize) != CUBLAS_STATUS_SUCCESS || cudaDeviceSynchronize() == cudaErrorIllegalAddress);
}

static void short_leading_dimension(void)
{
    product                p = product_open();
    cublasLtMatrixLayout_t narrow;
    NEED(cublasLtMatrixLayoutCreate(&narrow, CUDA_R_32F, 8, 8, 7) == CUBLAS_STATUS_SUCCESS);
    NEED(multiply(&p, p.a, narrow, p.found.workspaceSize) == CUBLAS_STATUS_INVALID_VALUE);
}

static void long_leading_dimension(void)
{
    product                p = product_open();
    cublasLtMatrixLayout_t wide;
    NEED(cublasLtMatrixLayoutCreate(&wide, CUDA_R_32F, 8, 8, 10) == CUBLAS_STATUS_SUCCESS);
    NEED(multiply(&p, p.a, wide, p.found.workspaceSize) == CUBLAS_STATUS_SUCCESS);
    NEED(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
}

static void test_products(void **state)
{
    (void)state;
    found(product_of_fresh, "");
    found(little_workspace, "the workspace is too small");
    found(misaligned_matrix, "lies on fewer bytes");
    found(matrix_of_host, "host memory");
    found(short_leading_dimension, "a leading dimension is less than the rows");
    found(long_leading_dimension, "of an allocation of 272");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sides),  cmocka_unit_test(test_memory),   cmocka_unit_test(test_order),
        cmocka_unit_test(test_blocks), cmocka_unit_test(test_products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
