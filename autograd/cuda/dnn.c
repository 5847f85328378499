#include "autograd/cuda/dnn.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

enum { FIRST_VIRTUAL = 1000, MOST_ENGINES = 32 };

void dnn_open(dnn_graph *g, const cuda_state *s, bool exact)
{
    *g = (dnn_graph){.handle = s->dnn, .card = s->described, .exact = exact, .next = FIRST_VIRTUAL, .status = CUDNN_STATUS_SUCCESS};
}

static void keep(dnn_graph *g, cudnnStatus_t status, const char *call)
{
    if (g->status == CUDNN_STATUS_SUCCESS && status != CUDNN_STATUS_SUCCESS) {
        g->status = status;
        g->failed = call;
    }
}

/* ---- descriptors ---- */

static void print_in(dnn_graph *g, const void *bytes, size_t size)
{
    uint64_t part[2] = {g->print, hash_fnv1a(bytes, size)};
    g->print = hash_fnv1a(part, sizeof part);
}

static size_t bytes_of(cudnnBackendAttributeType_t type)
{
    return type == CUDNN_TYPE_BOOLEAN ? sizeof(bool) : type == CUDNN_TYPE_INT64 ? sizeof(int64_t) : sizeof(int32_t);
}

/* Values as they are; descriptors by their number in the graph; the handle is this process's. */
static void print_attribute(dnn_graph *g, descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                            int64_t count, const void *values)
{
    int32_t about[3] = {-1, (int32_t)name, (int32_t)type};
    if (type == CUDNN_TYPE_HANDLE)
        return;
    for (int i = 0; i < g->owns; i++)
        if (g->owned[i] == d)
            about[0] = i;
    print_in(g, about, sizeof about);
    if (type != CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        print_in(g, values, (size_t)count * bytes_of(type));
        return;
    }
    for (int64_t k = 0; k < count; k++)
        for (int i = 0; i < g->owns; i++)
            if (g->owned[i] == ((const descriptor *)values)[k])
                print_in(g, &i, sizeof i);
}

descriptor dnn_make(dnn_graph *g, cudnnBackendDescriptorType_t type)
{
    descriptor d = NULL;
    CHECK(g->owns < DNN_MOST_DESCRIPTORS, "a graph of more than %d descriptors", g->owns);
    if (g->status != CUDNN_STATUS_SUCCESS)
        return NULL;
    keep(g, cudnnBackendCreateDescriptor(type, &d), "cudnnBackendCreateDescriptor");
    if (d)
        g->owned[g->owns++] = d;
    print_in(g, &type, sizeof type);
    return d;
}

void dnn_set(dnn_graph *g, descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
             int64_t count, const void *values)
{
    print_attribute(g, d, name, type, count, values);
    if (g->status == CUDNN_STATUS_SUCCESS)
        keep(g, cudnnBackendSetAttribute(d, name, type, count, values), "cudnnBackendSetAttribute");
}

void dnn_link(dnn_graph *g, descriptor d, cudnnBackendAttributeName_t name, descriptor other)
{
    dnn_set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &other);
}

descriptor dnn_finish(dnn_graph *g, descriptor d)
{
    if (g->status == CUDNN_STATUS_SUCCESS)
        keep(g, cudnnBackendFinalize(d), "cudnnBackendFinalize");
    return d;
}

void dnn_operation(dnn_graph *g, descriptor d)
{
    CHECK(g->operations < DNN_MOST_OPERATIONS, "a graph of more than %d operations", g->operations);
    g->operation[g->operations++] = dnn_finish(g, d);
}

descriptor dnn_tensor(dnn_graph *g, int64_t id, const dnn_shape *shape, cudnnDataType_t type, dnn_place place)
{
    const int64_t alignment = 16;
    const bool    yes = true;
    descriptor d = dnn_make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    dnn_set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    dnn_set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, DNN_DIMS, shape->dim);
    dnn_set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, DNN_DIMS, shape->stride);
    dnn_set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    dnn_set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (place == DNN_VIRTUAL)
        dnn_set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &yes);
    if (place == DNN_NUMBER)
        dnn_set(g, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &yes);
    return dnn_finish(g, d);
}

descriptor dnn_between(dnn_graph *g, const dnn_shape *shape, cudnnDataType_t type)
{
    return dnn_tensor(g, g->next++, shape, type, DNN_VIRTUAL);
}

descriptor dnn_number(dnn_graph *g, int64_t id)
{
    return dnn_tensor(g, id, &(dnn_shape){{1, 1, 1, 1}, {1, 1, 1, 1}}, CUDNN_DATA_FLOAT, DNN_NUMBER);
}

/* ---- operations; all compute in f32 ---- */

void dnn_pointwise(dnn_graph *g, descriptor y, cudnnPointwiseMode_t mode, descriptor x, descriptor b)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    descriptor how = dnn_make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    dnn_set(g, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    dnn_set(g, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type);
    dnn_finish(g, how);
    descriptor d = dnn_make(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    dnn_link(g, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    dnn_link(g, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b)
        dnn_link(g, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    dnn_link(g, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    dnn_operation(g, d);
}

void dnn_matmul(dnn_graph *g, descriptor c, descriptor a, descriptor b)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    descriptor how = dnn_make(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    dnn_set(g, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    dnn_finish(g, how);
    descriptor d = dnn_make(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    dnn_link(g, d, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    dnn_link(g, d, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    dnn_link(g, d, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    dnn_link(g, d, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    dnn_operation(g, d);
}

void dnn_sum(dnn_graph *g, descriptor y, descriptor x)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const cudnnReduceTensorOp_t add = CUDNN_REDUCE_TENSOR_ADD;
    descriptor how = dnn_make(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    dnn_set(g, how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &add);
    dnn_set(g, how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    dnn_finish(g, how);
    descriptor d = dnn_make(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    dnn_link(g, d, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
    dnn_link(g, d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    dnn_link(g, d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    dnn_operation(g, d);
}

void dnn_reshape(dnn_graph *g, descriptor y, descriptor x)
{
    descriptor d = dnn_make(g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    dnn_link(g, d, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    dnn_link(g, d, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    dnn_operation(g, d);
}

/* ---- plans ---- */

static void destroy(descriptor *list, int count)
{
    while (count-- > 0)
        if (list[count])
            cudnnBackendDestroyDescriptor(list[count]);
}

void dnn_abandon(dnn_graph *g)
{
    destroy(g->owned, g->owns);
    g->owns = 0;
}

void dnn_plan_close(void *plan)
{
    dnn_plan *p = plan;
    if (p->plan)
        cudnnBackendDestroyDescriptor(p->plan);
    destroy(p->owned, p->owns);
    free(p);
}

/* The library's word on an engine or a graph that it does not know how to run, by its families of statuses. */
static bool is_refusal(cudnnStatus_t status)
{
    return status == CUDNN_STATUS_BAD_PARAM || status / 1000 == CUDNN_STATUS_NOT_SUPPORTED / 1000;
}

/* Whether an engine gives the same bits twice, and in f32 those of f32. A call that fails is no word on the engine: g keeps
 * it, since with another engine the results would be others. */
static bool engine_fits(dnn_graph *g, descriptor configuration)
{
    cudnnBackendNumericalNote_t note[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    descriptor engine = NULL;
    int64_t    count = 0;
    bool       fits = true;
    cudnnStatus_t status = cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine);
    if (status != CUDNN_STATUS_SUCCESS) {
        keep(g, status, "cudnnBackendCreateDescriptor");
        return false;
    }
    status = cudnnBackendGetAttribute(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count,
                                      &engine);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                          CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, note);
    for (int64_t i = 0; status == CUDNN_STATUS_SUCCESS && i < count && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++) {
        bool fewer_bits = note[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE ||
                          note[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
                          note[i] == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
        fits = fits && note[i] != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC && !(g->exact && fewer_bits);
    }
    cudnnBackendDestroyDescriptor(engine);
    if (!is_refusal(status))
        keep(g, status, "cudnnBackendGetAttribute");
    return fits && status == CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t set_plan(const dnn_graph *g, descriptor plan, descriptor configuration)
{
    cudnnStatus_t status =
        g->card ? cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &g->card)
                : cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->handle);
    return status != CUDNN_STATUS_SUCCESS ? status
                                          : cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &configuration);
}

/* The configuration as a finished plan, or NULL where the engine cannot; *finishing says with what, if it is no refusal. */
static descriptor plan_of(dnn_graph *g, cudnnStatus_t *finishing, descriptor configuration)
{
    descriptor plan = NULL;
    keep(g, cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan), "cudnnBackendCreateDescriptor");
    if (!plan)
        return NULL;
    cudnnStatus_t status = set_plan(g, plan, configuration);
    if (status != CUDNN_STATUS_SUCCESS) {
        keep(g, status, "cudnnBackendSetAttribute");
    } else {
        status = cudnnBackendFinalize(plan);
        if (status != CUDNN_STATUS_SUCCESS && !is_refusal(status))
            *finishing = status;
    }
    if (status == CUDNN_STATUS_SUCCESS)
        return plan;
    cudnnBackendDestroyDescriptor(plan);
    return NULL;
}

/* The engines that the heuristics propose, as descriptors that g owns; their number. 0 for an unsupported graph. */
static int64_t engines_of(dnn_graph *g, descriptor *configuration)
{
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    int64_t    operations = g->operations, found = 0;
    descriptor whole = dnn_make(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    dnn_set(g, whole, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, operations, g->operation);
    if (!g->card)
        dnn_set(g, whole, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->handle);
    dnn_finish(g, whole);
    descriptor heuristics = dnn_make(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    dnn_link(g, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, whole);
    dnn_set(g, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (g->card)
        dnn_link(g, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, g->card);
    dnn_finish(g, heuristics);
    for (int i = 0; i < MOST_ENGINES; i++)
        configuration[i] = dnn_make(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (g->status == CUDNN_STATUS_SUCCESS)
        keep(g, cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                         MOST_ENGINES, &found, configuration), "cudnnBackendGetAttribute");
    return g->status == CUDNN_STATUS_SUCCESS ? found : 0;
}

err dnn_make_plan(dnn_plan **out, dnn_graph *g)
{
    descriptor configuration[MOST_ENGINES], plan = NULL;
    int64_t    engines = engines_of(g, configuration), bytes = 0, count = 0;
    *out = NULL;
    cudnnStatus_t finishing = CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; i < engines && i < MOST_ENGINES && !plan && g->status == CUDNN_STATUS_SUCCESS; i++)
        if (engine_fits(g, configuration[i]))
            plan = plan_of(g, &finishing, configuration[i]);
    if (!plan) {
        keep(g, finishing, "cudnnBackendFinalize");
        destroy(g->owned, g->owns);
        return g->status == CUDNN_STATUS_SUCCESS || is_refusal(g->status) ? OK : cuda_dnn_failed(g->status, g->failed);
    }
    cudnnStatus_t status = cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                                    &count, &bytes);
    dnn_plan *made = heap_get(sizeof *made);
    *made = (dnn_plan){.owns = g->owns, .plan = plan, .workspace = (size_t)bytes};
    memcpy(made->owned, g->owned, (size_t)g->owns * sizeof *g->owned);
    if (status != CUDNN_STATUS_SUCCESS) {
        dnn_plan_close(made);
        return cuda_dnn_failed(status, "cudnnBackendGetAttribute");
    }
    *out = made;
    return OK;
}

err dnn_run(cudnnHandle_t handle, const dnn_plan *plan, const int64_t *ids, void *const *pointers, int count,
            void *workspace)
{
    descriptor pack = NULL;
    cudnnStatus_t status = cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids);
    if (status == CUDNN_STATUS_SUCCESS)
        status =
            cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnBackendFinalize(pack);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnBackendExecute(handle, plan->plan, pack);
    if (pack)
        cudnnBackendDestroyDescriptor(pack);
    return status == CUDNN_STATUS_SUCCESS ? OK : cuda_dnn_failed(status, "cudnnBackendExecute");
}
