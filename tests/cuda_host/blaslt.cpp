/* cuBLASLt's product, from the descriptors that the caller sets: column-major layouts, transposes, alpha, beta, the bias
 * along D's rows. Sums in f32. */
#include <cublasLt.h>

#include "host.h"

#include <algorithm>
#include <cstring>
#include <vector>

using namespace cuda_host;

struct cublasLtContext {
    bool open;
};
struct cublasLtMatmulDescription {
    cublasComputeType_t compute;
    cudaDataType_t      scale, bias_type;
    bool                bias_type_set;
    cublasOperation_t   a, b;
    cublasLtEpilogue_t  epilogue;
    const void         *bias;
};
struct cublasLtMatrixLayoutOf {
    cudaDataType_t type;
    uint64_t       rows, columns;
    int64_t        stride;
};
struct cublasLtMatmulPreferenceOf {
    uint64_t workspace;
    uint32_t alignment[4]; /* of A, B, C, D */
};

namespace {

const uint64_t ALGORITHM = 0x616c676f, WORKSPACE = 1024;
const int      PROPOSALS = 3;

size_t size_of(cudaDataType_t type)
{
    return type == CUDA_R_16BF ? 2 : 4;
}

float read(const void *at, cudaDataType_t type, size_t i)
{
    float x;
    if (type == CUDA_R_32F)
        return ((const float *)at)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)at)[i] << 16;
    memcpy(&x, &bits, sizeof x);
    return x;
}

void write(void *at, cudaDataType_t type, size_t i, float x)
{
    if (type == CUDA_R_32F) {
        ((float *)at)[i] = x;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    ((uint16_t *)at)[i] = x != x ? 0x7fff : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

cublasStatus_t bad(const char *format, const char *what)
{
    refuse(cudaErrorInvalidValue, format, what);
    return CUBLAS_STATUS_INVALID_VALUE;
}

struct sizes {
    int64_t m, n, k;
};

cublasStatus_t shape_of(sizes *s, const cublasLtMatmulDescription &d, const cublasLtMatrixLayoutOf &a,
                        const cublasLtMatrixLayoutOf &b, const cublasLtMatrixLayoutOf &c, const cublasLtMatrixLayoutOf &y)
{
    bool at = d.a == CUBLAS_OP_T, bt = d.b == CUBLAS_OP_T;
    *s = {(int64_t)(at ? a.columns : a.rows), (int64_t)(bt ? b.rows : b.columns), (int64_t)(at ? a.rows : a.columns)};
    if ((int64_t)(bt ? b.columns : b.rows) != s->k || (int64_t)y.rows != s->m || (int64_t)y.columns != s->n ||
        c.rows != y.rows || c.columns != y.columns)
        return bad("cublasLtMatmul: %s", "the layouts' rows and columns do not fit each other");
    for (const cublasLtMatrixLayoutOf *l : {&a, &b, &c, &y})
        if (l->stride < (int64_t)l->rows)
            return bad("cublasLtMatmul: %s", "a leading dimension is less than the rows");
    if (a.type != b.type || c.type != y.type || (a.type == CUDA_R_32F && y.type != CUDA_R_32F) || d.compute != CUBLAS_COMPUTE_32F || d.scale != CUDA_R_32F) {
        refuse(cudaErrorNotSupported, "cublasLtMatmul: this combination of types is not supported");
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (d.epilogue == CUBLASLT_EPILOGUE_BIAS && (!d.bias || (d.bias_type_set && d.bias_type != y.type)))
        return bad("cublasLtMatmul: %s", "the bias is missing or of another type than D");
    return CUBLAS_STATUS_SUCCESS;
}

struct matrix {
    const void            *at;
    cublasLtMatrixLayoutOf l;
};

size_t extent(const cublasLtMatrixLayoutOf &l)
{
    return l.columns && l.rows ? ((size_t)(l.columns - 1) * (size_t)l.stride + l.rows) * size_of(l.type) : 0;
}

cudaError_t multiply(const cublasLtMatmulDescription &d, sizes s, matrix a, matrix b, matrix c, matrix y, float alpha, float beta)
{
    for (const matrix *m : {&a, &b, &c, &y})
        if (!on_device(m->at, extent(m->l)) && !(m == &c && beta == 0))
            return fault(cudaErrorIllegalAddress, "cublasLtMatmul: %zu bytes at %p: %s", extent(m->l), m->at, describe(m->at).c_str());
    if (d.epilogue == CUBLASLT_EPILOGUE_BIAS && !on_device(d.bias, (size_t)s.m * size_of(y.l.type)))
        return fault(cudaErrorIllegalAddress, "cublasLtMatmul: bias at %p: %s", d.bias, describe(d.bias).c_str());
    device_access      access;
    std::vector<float> left((size_t)(s.m * s.k)), sum((size_t)s.m);
    for (int64_t k = 0; k < s.k; k++)
        for (int64_t i = 0; i < s.m; i++)
            left[(size_t)(k * s.m + i)] = read(a.at, a.l.type, (size_t)(d.a == CUBLAS_OP_T ? i * a.l.stride + k : k * a.l.stride + i));
    for (int64_t j = 0; j < s.n; j++) {
        std::fill(sum.begin(), sum.end(), 0.0f);
        for (int64_t k = 0; k < s.k; k++) {
            float        v = read(b.at, b.l.type, (size_t)(d.b == CUBLAS_OP_T ? k * b.l.stride + j : j * b.l.stride + k));
            const float *column = &left[(size_t)(k * s.m)];
            for (int64_t i = 0; i < s.m; i++)
                sum[(size_t)i] += column[i] * v;
        }
        for (int64_t i = 0; i < s.m; i++) {
            float x = alpha * sum[(size_t)i];
            if (beta != 0)
                x += beta * read(c.at, c.l.type, (size_t)(j * c.l.stride + i));
            if (d.epilogue == CUBLASLT_EPILOGUE_BIAS)
                x += read(d.bias, y.l.type, (size_t)i);
            write((void *)y.at, y.l.type, (size_t)(j * y.l.stride + i), x);
        }
    }
    return cudaSuccess;
}

} // namespace

size_t cublasLtGetVersion(void)
{
    return 130100;
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
    default: return "CUBLAS_STATUS_EXECUTION_FAILED";
    }
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    if (begin_call("cublasLtCreate"))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *out = new cublasLtContext{true};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType_t scale)
{
    if (begin_call("cublasLtMatmulDescCreate"))
        return CUBLAS_STATUS_ALLOC_FAILED;
    *out = new cublasLtMatmulDescription{compute, scale, CUDA_R_32F, false, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete d;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name, const void *value, size_t bytes)
{
    if (begin_call("cublasLtMatmulDescSetAttribute"))
        return CUBLAS_STATUS_INTERNAL_ERROR;
    void  *to = nullptr;
    size_t size = 4;
    switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA: to = &d->a; break;
    case CUBLASLT_MATMUL_DESC_TRANSB: to = &d->b; break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: to = &d->epilogue; break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: to = &d->bias; size = sizeof(void *); break;
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: to = &d->bias_type; d->bias_type_set = true; break;
    default: break;
    }
    if (!to || bytes != size)
        return bad("cublasLtMatmulDescSetAttribute: %s", "an attribute not known here, or of another size");
    memcpy(to, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType_t type, uint64_t rows, uint64_t columns, int64_t stride)
{
    if (begin_call("cublasLtMatrixLayoutCreate"))
        return CUBLAS_STATUS_ALLOC_FAILED;
    *out = new cublasLtMatrixLayoutOf{type, rows, columns, stride};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    if (begin_call("cublasLtMatmulPreferenceCreate"))
        return CUBLAS_STATUS_ALLOC_FAILED;
    *out = new cublasLtMatmulPreferenceOf{0, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t name, const void *value, size_t bytes)
{
    if (begin_call("cublasLtMatmulPreferenceSetAttribute"))
        return CUBLAS_STATUS_INTERNAL_ERROR;
    bool workspace = name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
    int  which = (int)name - (int)CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    if (bytes != (workspace ? 8u : 4u) || (!workspace && (which < 0 || which > 3)))
        return bad("cublasLtMatmulPreferenceSetAttribute: %s", "an attribute not known here, or of another size");
    memcpy(workspace ? (void *)&p->workspace : (void *)&p->alignment[which], value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

/* The algorithm holds the alignment that it was found for: a product of pointers with less is refused. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t y, cublasLtMatmulPreference_t p, int asked, cublasLtMatmulHeuristicResult_t *out, int *found)
{
    *found = 0;
    if (begin_call("cublasLtMatmulAlgoGetHeuristic"))
        return CUBLAS_STATUS_INTERNAL_ERROR;
    sizes s;
    if (cublasStatus_t e = shape_of(&s, *d, *a, *b, *c, *y))
        return e;
    if (asked < 1)
        return bad("cublasLtMatmulAlgoGetHeuristic: %s", "no result asked for");
    for (; *found < asked && *found < PROPOSALS; ++*found) {
        cublasLtMatmulHeuristicResult_t &r = out[*found];
        r = {};
        r.workspaceSize = p->workspace >= WORKSPACE ? WORKSPACE : 0;
        r.algo.data[0] = ALGORITHM;
        r.algo.data[1] = r.workspaceSize;
        for (int i = 0; i < 4; i++)
            r.algo.data[2 + i] = p->alignment[i];
        r.algo.data[6] = (uint64_t)*found; /* which of them: all compute the same */
    }
    count("algorithms asked for");
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                       cublasLtMatrixLayout_t y, const cublasLtMatmulAlgo_t *algorithm, cublasLtMatmulHeuristicResult_t *out)
{
    sizes           s;
    const uint64_t *data = algorithm->data;
    if (begin_call("cublasLtMatmulAlgoCheck"))
        return CUBLAS_STATUS_INTERNAL_ERROR;
    if (cublasStatus_t e = shape_of(&s, *d, *a, *b, *c, *y))
        return e;
    bool known = data[0] == ALGORITHM && (data[1] == 0 || data[1] == WORKSPACE) && data[6] < PROPOSALS && data[7] == 0;
    for (int i = 0; i < 4; i++)
        known = known && data[2 + i] && data[2 + i] <= 256 && !(data[2 + i] & (data[2 + i] - 1));
    if (!known)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    *out = {};
    out->algo = *algorithm;
    out->workspaceSize = data[1];
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha, const void *a, cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb,
                              const void *beta, const void *c, cublasLtMatrixLayout_t lc, void *y, cublasLtMatrixLayout_t ly, const cublasLtMatmulAlgo_t *algorithm,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    if (begin_call("cublasLtMatmul"))
        return CUBLAS_STATUS_EXECUTION_FAILED;
    sizes s;
    if (cublasStatus_t e = shape_of(&s, *d, *la, *lb, *lc, *ly))
        return e;
    if (algorithm && algorithm->data[0] != ALGORITHM)
        return bad("cublasLtMatmul: %s", "an algorithm that the heuristics did not give");
    const void *all[] = {a, b, c, y};
    for (int i = 0; algorithm && i < 4; i++)
        if ((uintptr_t)all[i] % algorithm->data[2 + i] != 0)
            return bad("cublasLtMatmul: %s", "a matrix lies on fewer bytes than the algorithm was asked for");
    if (algorithm && (workspace_bytes < algorithm->data[1] || (algorithm->data[1] && !on_device(workspace, workspace_bytes))))
        return bad("cublasLtMatmul: %s", "the workspace is too small or not on the device");
    if (workspace && (uintptr_t)workspace % 16 != 0)
        return bad("cublasLtMatmul: %s", "the workspace lies on fewer than 16 bytes");
    count("products");
    cublasLtMatmulDescription of = *d;
    matrix ma = {a, *la}, mb = {b, *lb}, mc = {c, *lc}, my = {y, *ly};
    float  alpha_value = *(const float *)alpha, beta_value = *(const float *)beta;
    size_t used = algorithm ? algorithm->data[1] : 0;
    cudaError_t e = enqueue(stream, "cublasLtMatmul", [=] {
        if (used) { /* what the library leaves there is nobody's */
            if (!on_device(workspace, used))
                return fault(cudaErrorIllegalAddress, "cublasLtMatmul: the workspace was freed");
            device_access access;
            memset(workspace, POISON, used);
        }
        count("ran product");
        return multiply(of, s, ma, mb, mc, my, alpha_value, beta_value);
    });
    return e ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}
