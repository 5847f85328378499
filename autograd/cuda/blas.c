/* Products of linear layers through cuBLASLt. A row-major (r,c) matrix is to it a column-major (c,r) one, so that every
 * product is computed transposed: y^T = w x^T. Sums in f32 whatever the type; no TF32. */
#include <stdlib.h>
#include <string.h>

#include "autograd/cuda/tune.h"

enum { MOST_PROPOSALS = 8 };
enum { MOST_ALIGNMENT = 16 }; /* what kernels gain from; plans give every tensor at least this */

/* D (m,n) = op(A) op(B) [+ C] [+ bias (m)], column-major as the library has it. */
typedef struct product {
    int64_t     m, n, k;
    bool        a_transposed, b_transposed;
    const void *a, *b, *c, *bias; /* c NULL: none; bias too */
    void       *d;
    bool        bf16, d_bf16;
} product;

static int64_t alignment_of(const void *p)
{
    int64_t low = (int64_t)((uintptr_t)p & (~(uintptr_t)p + 1));
    return !p || low > MOST_ALIGNMENT ? MOST_ALIGNMENT : low;
}

static cudaDataType_t type_of(bool bf16)
{
    return bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* ---- what the library is told ---- */

typedef struct descriptors {
    cublasLtMatmulDesc_t   operation;
    cublasLtMatrixLayout_t a, b, d; /* C lies as D */
} descriptors;

static void close_descriptors(descriptors *t)
{
    if (t->operation)
        cublasLtMatmulDescDestroy(t->operation);
    cublasLtMatrixLayout_t layouts[] = {t->a, t->b, t->d};
    for (int i = 0; i < 3; i++)
        if (layouts[i])
            cublasLtMatrixLayoutDestroy(layouts[i]);
    *t = (descriptors){0};
}

static err set_operation(descriptors *t, const product *p)
{
    cublasOperation_t a = p->a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N, b = p->b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = p->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    BLAS_TRY(cublasLtMatmulDescCreate(&t->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    BLAS_TRY(cublasLtMatmulDescSetAttribute(t->operation, CUBLASLT_MATMUL_DESC_TRANSA, &a, sizeof a));
    BLAS_TRY(cublasLtMatmulDescSetAttribute(t->operation, CUBLASLT_MATMUL_DESC_TRANSB, &b, sizeof b));
    BLAS_TRY(cublasLtMatmulDescSetAttribute(t->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
    if (!p->bias)
        return OK;
    cudaDataType_t type = type_of(p->d_bf16);
    BLAS_TRY(cublasLtMatmulDescSetAttribute(t->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias));
    BLAS_TRY(cublasLtMatmulDescSetAttribute(t->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type));
    return OK;
}

static err set_layouts(descriptors *t, const product *p)
{
    int64_t rows_a = p->a_transposed ? p->k : p->m, columns_a = p->a_transposed ? p->m : p->k;
    int64_t rows_b = p->b_transposed ? p->n : p->k, columns_b = p->b_transposed ? p->k : p->n;
    cudaDataType_t in = type_of(p->bf16), out = type_of(p->d_bf16);
    BLAS_TRY(cublasLtMatrixLayoutCreate(&t->a, in, (uint64_t)rows_a, (uint64_t)columns_a, rows_a));
    BLAS_TRY(cublasLtMatrixLayoutCreate(&t->b, in, (uint64_t)rows_b, (uint64_t)columns_b, rows_b));
    BLAS_TRY(cublasLtMatrixLayoutCreate(&t->d, out, (uint64_t)p->m, (uint64_t)p->n, p->m));
    return OK;
}

static err open_descriptors(descriptors *t, const product *p)
{
    *t = (descriptors){0};
    err e = set_operation(t, p);
    if (e == OK)
        e = set_layouts(t, p);
    if (e != OK)
        close_descriptors(t);
    return e;
}

/* ---- which of the library's algorithms: found once per key, and kept (store.h) ---- */

static const char KIND[] = "cublaslt algorithm";

static err set_preference(cublasLtMatmulPreference_t preference, const cuda_state *s, const product *p)
{
    uint32_t a = (uint32_t)alignment_of(p->a), b = (uint32_t)alignment_of(p->b), d = (uint32_t)alignment_of(p->d);
    uint32_t c = p->c ? (uint32_t)alignment_of(p->c) : d;
    BLAS_TRY(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &s->workspace_bytes, sizeof s->workspace_bytes));
    BLAS_TRY(
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a, sizeof a));
    BLAS_TRY(
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &b, sizeof b));
    BLAS_TRY(
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &c, sizeof c));
    BLAS_TRY(
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &d, sizeof d));
    return OK;
}

/* At most MOST_PROPOSALS, best first; at least one. */
static err propose(cublasLtMatmulHeuristicResult_t *out, int *found, const cuda_state *s, const descriptors *t, const product *p)
{
    cublasLtMatmulPreference_t preference = NULL;
    *found = 0;
    BLAS_TRY(cublasLtMatmulPreferenceCreate(&preference));
    err e = set_preference(preference, s, p);
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    if (e == OK)
        status = cublasLtMatmulAlgoGetHeuristic(s->blas, t->operation, t->a, t->b, t->d, t->d, preference, MOST_PROPOSALS, out,
                                                found);
    cublasLtMatmulPreferenceDestroy(preference);
    TRY(e);
    if (status != CUBLAS_STATUS_SUCCESS || !*found)
        return err_set(E_DEVICE,
                       "cuda: cublasLtMatmulAlgoGetHeuristic: no algorithm for a product of %lld x %lld x %lld in "
                       "%s (%s); update cuBLAS, or use --device cpu",
                       (long long)p->m, (long long)p->n, (long long)p->k, p->bf16 ? "bf16" : "f32",
                       cublasLtGetStatusString(status));
    return OK;
}

static cublasStatus_t run(cuda_state *s, const descriptors *t, const product *p, const cublasLtMatmulAlgo_t *algorithm, void *d)
{
    const float one = 1.0f, zero = 0.0f;
    return cublasLtMatmul(s->blas, t->operation, &one, p->a, t->a, p->b, t->b, p->c ? &one : &zero, p->c ? p->c : d, t->d, d, t->d,
                          algorithm, s->workspace, s->workspace_bytes, s->stream);
}

typedef struct proposals {
    cuda_state        *s;
    const descriptors *t;
    const product     *p;
    cublasLtMatmulHeuristicResult_t found[MOST_PROPOSALS];
    int                             count;
} proposals;

static int run_proposal(const void *user, int i, void *scratch)
{
    const proposals *of = user;
    return run(of->s, of->t, of->p, &of->found[i].algo, scratch) != CUBLAS_STATUS_SUCCESS;
}

/* An algorithm that an earlier process has kept, if the library still takes it for this product. */
static bool take_kept(cublasLtMatmulAlgo_t *out, cuda_state *s, const descriptors *t, const int64_t *key, int words)
{
    void  *kept;
    size_t bytes;
    if (!cuda_store_get(&kept, &bytes, s->store, KIND, key, words))
        return false;
    cublasLtMatmulHeuristicResult_t checked = {0};
    cublasLtMatmulAlgo_t            algorithm;
    bool fits = bytes == sizeof algorithm;
    if (fits) {
        memcpy(&algorithm, kept, sizeof algorithm);
        fits = cublasLtMatmulAlgoCheck(s->blas, t->operation, t->a, t->b, t->d, t->d, &algorithm, &checked) ==
                   CUBLAS_STATUS_SUCCESS && checked.workspaceSize <= s->workspace_bytes;
    }
    free(kept);
    if (fits)
        *out = algorithm;
    else if (cudaPeekAtLastError() == cudaSuccess) /* a broken card's word on it is none */
        cuda_store_refuse(s->store, KIND, key, words);
    return fits;
}

/* The fastest of the library's proposals where the choice can be kept, so that the next run computes the same bits; else
 * the first of them. */
static err find_algorithm(cublasLtMatmulAlgo_t *out, cuda_state *s, const descriptors *t, const product *p, const int64_t *key,
                          int words)
{
    proposals of = {.s = s, .t = t, .p = p};
    int       best = 0;
    if (take_kept(out, s, t, key, words))
        return OK;
    TRY(propose(of.found, &of.count, s, t, p));
    if (s->store)
        TRY(cuda_fastest(&best, s, run_proposal, &of, of.count, (size_t)(p->m * p->n) * (p->d_bf16 ? 2 : 4)));
    *out = of.found[best].algo;
    cuda_store_put(s->store, KIND, key, words, out, sizeof *out);
    take_kept(out, s, t, key, words); /* another process may have been first */
    return OK;
}

static err choose(const cublasLtMatmulAlgo_t **out, cuda_state *s, const descriptors *t, const product *p)
{
    int64_t key[] = {p->m,
                     p->n,
                     p->k,
                     p->a_transposed,
                     p->b_transposed,
                     p->bf16,
                     p->d_bf16,
                     p->c != NULL,
                     p->bias != NULL,
                     alignment_of(p->a),
                     alignment_of(p->b),
                     p->c ? alignment_of(p->c) : 0,
                     alignment_of(p->d)};
    int words = (int)(sizeof key / sizeof *key);
    keyed_entry *entry = keyed_at(&s->products, key, words);
    if (!entry->value) {
        cublasLtMatmulAlgo_t found;
        TRY(find_algorithm(&found, s, t, p, key, words));
        cublasLtMatmulAlgo_t *kept = heap_get(sizeof *kept);
        *kept = found;
        entry->value = kept;
    }
    *out = entry->value;
    return OK;
}

static err multiply(device *d, const product *p)
{
    cuda_state *s = cuda_state_of(d);
    descriptors t;
    const cublasLtMatmulAlgo_t *algorithm;
    if (!p->m || !p->n)
        return OK;
    TRY(open_descriptors(&t, p));
    err e = choose(&algorithm, s, &t, p);
    cublasStatus_t status = e == OK ? run(s, &t, p, algorithm, p->d) : CUBLAS_STATUS_SUCCESS;
    close_descriptors(&t);
    TRY(e);
    return status == CUBLAS_STATUS_SUCCESS ? OK : cuda_blas_failed(status, "cublasLtMatmul");
}

/* ---- the primitives ---- */

err cuda_linear(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "linear", CUDA_TENSORS(x, y, w, bias, residual)));
    return multiply(d, &(product){.m = w->dim[0], .n = x->dim[0], .k = x->dim[1], .a_transposed = true, .a = w->data,
                                  .b = x->data, .c = residual ? residual->data : NULL, .bias = bias ? bias->data : NULL,
                                  .d = y->data, .bf16 = bf16, .d_bf16 = bf16});
}

err cuda_linear_dx(device *d, tensor *dx, const tensor *dy, const tensor *w, bool add)
{
    bool bf16, wide;
    TRY(cuda_one_type(&bf16, "linear_dx", CUDA_TENSORS(dy, w)));
    TRY(cuda_gradient_type(&wide, "linear_dx", dx, bf16));
    return multiply(d, &(product){.m = w->dim[1], .n = dy->dim[0], .k = w->dim[0], .a = w->data, .b = dy->data,
                                  .c = add ? dx->data : NULL, .d = dx->data, .bf16 = bf16, .d_bf16 = !wide});
}

err cuda_linear_dw(device *d, tensor *dw, const tensor *dy, const tensor *x, bool add)
{
    bool bf16, wide;
    TRY(cuda_one_type(&bf16, "linear_dw", CUDA_TENSORS(dy, x)));
    TRY(cuda_gradient_type(&wide, "linear_dw", dw, bf16));
    return multiply(d, &(product){.m = x->dim[1],
                                  .n = dy->dim[1],
                                  .k = dy->dim[0],
                                  .b_transposed = true,
                                  .a = x->data,
                                  .b = dy->data,
                                  .c = add ? dw->data : NULL,
                                  .d = dw->data,
                                  .bf16 = bf16,
                                  .d_bf16 = !wide});
}
