/* cuDNN's backend descriptors: what is set is kept as bytes, finalizing checks it as the library does, and a finished
 * plan is a list of nodes for dnn_graph.h's interpreter. */
#include "dnn_graph.h"
#include "host.h"

#include <cstdio>
#include <cstring>

using namespace cuda_host;

namespace {

struct attribute {
    cudnnBackendAttributeType_t type;
    int64_t                     count;
    std::vector<char>           bytes;
};

struct descriptor {
    cudnnBackendDescriptorType_t                     type;
    std::map<cudnnBackendAttributeName_t, attribute> set;
    bool                                             finished;
    std::vector<graph_node>                          nodes; /* of a graph, and of what stands on one */
    graph_tensor                                     tensor;
};

const int64_t WORKSPACE = 256;

cudnnStatus_t bad(const char *what)
{
    refuse(cudaErrorInvalidValue, "cuDNN: %s", what);
    return CUDNN_STATUS_BAD_PARAM;
}

size_t size_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_CHAR:
    case CUDNN_TYPE_BOOLEAN: return 1;
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
    default: return 4;
    }
}

template <class T> bool get(const descriptor &d, cudnnBackendAttributeName_t name, T *out, int64_t count = 1)
{
    auto it = d.set.find(name);
    if (it == d.set.end() || it->second.count != count || it->second.bytes.size() != sizeof(T) * (size_t)count)
        return false;
    memcpy(out, it->second.bytes.data(), it->second.bytes.size());
    return true;
}

const descriptor *linked(const descriptor &d, cudnnBackendAttributeName_t name)
{
    const descriptor *to = nullptr;
    return get(d, name, &to) && to && to->finished ? to : nullptr;
}

cudnnStatus_t finish_tensor(descriptor &d)
{
    graph_tensor &t = d.tensor;
    int64_t       alignment = 0;
    if (!get(d, CUDNN_ATTR_TENSOR_DATA_TYPE, &t.type) || !get(d, CUDNN_ATTR_TENSOR_DIMENSIONS, t.dim.data(), 4) ||
        !get(d, CUDNN_ATTR_TENSOR_STRIDES, t.stride.data(), 4) || !get(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, &t.id) ||
        !get(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &alignment))
        return bad("a tensor lacks its type, dimensions, strides, id or alignment");
    get(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, &t.is_virtual);
    get(d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, &t.by_value);
    for (int i = 0; i < 4; i++)
        if (t.dim[i] < 1 || t.stride[i] < 0)
            return bad("a tensor has a dimension below 1 or a stride below 0");
    return alignment % 16 == 0 ? CUDNN_STATUS_SUCCESS : bad("a tensor lies on fewer than 16 bytes");
}

/* The tensors of an operation by their attributes; false where one is missing. */
bool take(std::vector<graph_tensor> *to, const descriptor &d, cudnnBackendAttributeName_t name, bool optional = false)
{
    const descriptor *t = linked(d, name);
    if (t)
        to->push_back(t->tensor);
    return t || (optional && !d.set.count(name));
}

bool convolution(graph_node *n, const descriptor &d, cudnnBackendAttributeName_t how, cudnnBackendAttributeName_t alpha, cudnnBackendAttributeName_t beta)
{
    const descriptor *c = linked(d, how);
    int64_t           post[2];
    if (!c || !get(*c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, n->pad, 2) || !get(*c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, post, 2) ||
        !get(*c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, n->step, 2) || !get(*c, CUDNN_ATTR_CONVOLUTION_DILATIONS, n->dilation, 2))
        return false;
    get(d, alpha, &n->alpha);
    get(d, beta, &n->beta);
    bool                forward = n->kind == NODE_CONVOLUTION;
    const graph_tensor &x = forward ? n->in[0] : n->out[0], &w = n->in[1], &y = forward ? n->out[0] : n->in[0];
    for (int i = 0; i < 2; i++)
        if (y.dim[2 + i] != (x.dim[2 + i] + n->pad[i] + post[i] - n->dilation[i] * (w.dim[2 + i] - 1) - 1) / n->step[i] + 1)
            return false;
    return x.dim[0] == y.dim[0] && x.dim[1] == w.dim[1] && y.dim[1] == w.dim[0];
}

bool node_of(graph_node *n, const descriptor &d)
{
    const descriptor *how = nullptr;
    switch (d.type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        n->kind = NODE_CONVOLUTION;
        return take(&n->in, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X) && take(&n->in, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W) &&
               take(&n->out, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y) &&
               convolution(n, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        n->kind = NODE_CONVOLUTION_DX;
        return take(&n->in, d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY) && take(&n->in, d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W) &&
               take(&n->out, d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX) &&
               convolution(n, d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA);
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        n->kind = NODE_POINTWISE;
        how = linked(d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
        return how && get(*how, CUDNN_ATTR_POINTWISE_MODE, &n->mode) && take(&n->in, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC) &&
               take(&n->in, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, true) && take(&n->out, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        n->kind = NODE_MATMUL;
        return linked(d, CUDNN_ATTR_OPERATION_MATMUL_DESC) && take(&n->in, d, CUDNN_ATTR_OPERATION_MATMUL_ADESC) &&
               take(&n->in, d, CUDNN_ATTR_OPERATION_MATMUL_BDESC) && take(&n->out, d, CUDNN_ATTR_OPERATION_MATMUL_CDESC) &&
               n->in[0].dim[3] == n->in[1].dim[2] && n->in[0].dim[2] == n->out[0].dim[2] && n->in[1].dim[3] == n->out[0].dim[3];
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        n->kind = NODE_REDUCTION;
        how = linked(d, CUDNN_ATTR_OPERATION_REDUCTION_DESC);
        return how && get(*how, CUDNN_ATTR_REDUCTION_OPERATOR, &n->mode) && take(&n->in, d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC) &&
               take(&n->out, d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC);
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
        n->kind = NODE_RESHAPE;
        return take(&n->in, d, CUDNN_ATTR_OPERATION_RESHAPE_XDESC) && take(&n->out, d, CUDNN_ATTR_OPERATION_RESHAPE_YDESC) &&
               n->in[0].count() == n->out[0].count();
    case CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR:
        n->kind = NODE_ATTENTION;
        return take(&n->in, d, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC) && take(&n->in, d, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC) &&
               take(&n->in, d, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC) && take(&n->out, d, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC) &&
               take(&n->out, d, CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC, true) && take(&n->in, d, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, true) &&
               n->in[0].dim[3] == n->in[1].dim[3] && n->in[1].dim[2] == n->in[2].dim[2] && n->in[0].type == CUDNN_DATA_BFLOAT16;
    default: return false; /* attention backward as one node among them: no graph with it can be built */
    }
}

cudnnStatus_t finish_graph(descriptor &d)
{
    auto it = d.set.find(CUDNN_ATTR_OPERATIONGRAPH_OPS);
    if (it == d.set.end())
        return bad("a graph without operations");
    std::map<int64_t, bool> known;
    for (int64_t i = 0; i < it->second.count; i++) {
        const descriptor *op = ((descriptor *const *)it->second.bytes.data())[i];
        graph_node        n;
        if (!op || !op->finished || !node_of(&n, *op))
            return bad("an operation of the graph is not supported, or its shapes do not fit");
        for (const graph_tensor &t : n.in)
            if (t.is_virtual && !known[t.id])
                return bad("a virtual tensor is read before an operation writes it");
        for (const graph_tensor &t : n.out)
            known[t.id] = true;
        d.nodes.push_back(n);
    }
    return CUDNN_STATUS_SUCCESS;
}

/* Bias before residual, which only engines compiled at run time know. */
void count_plan(const std::vector<graph_node> &nodes)
{
    bool bias = false, late = false;
    for (const graph_node &n : nodes) {
        bool small = n.kind == NODE_POINTWISE && n.in.size() > 1 && n.in[1].count() < n.out[0].count();
        late = late || (bias && n.kind == NODE_POINTWISE && !small);
        bias = bias || small;
    }
    bool convolves = nodes[0].kind == NODE_CONVOLUTION || nodes[0].kind == NODE_CONVOLUTION_DX;
    count(convolves ? "plans of convolutions" : "plans of attention");
    if (convolves && late)
        count("plans compiled at run time: bias before residual");
}

cudnnStatus_t stand_on(descriptor &d, cudnnBackendAttributeName_t name)
{
    const descriptor *to = linked(d, name);
    if (!to)
        return bad("a descriptor lacks what it stands on");
    d.nodes = to->nodes;
    if (d.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)
        count_plan(d.nodes);
    return CUDNN_STATUS_SUCCESS;
}

/* From a graph's configuration, or from what another plan's text says. */
cudnnStatus_t finish_plan(descriptor &d)
{
    auto text = d.set.find(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION);
    if (text == d.set.end())
        return stand_on(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    if (!d.set.count(CUDNN_ATTR_EXECUTION_PLAN_HANDLE) ||
        text->second.bytes.back() != 0 || !nodes_of_text(&d.nodes, text->second.bytes.data()))
        return CUDNN_STATUS_NOT_SUPPORTED;
    count("plans from text");
    return CUDNN_STATUS_SUCCESS;
}

} // namespace

struct cudnnContext {
    cudaStream_t stream;
};

size_t cudnnGetVersion(void)
{
    return 91900;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    switch (status / 1000) {
    case 0: return "CUDNN_STATUS_SUCCESS";
    case 1: return "CUDNN_STATUS_NOT_INITIALIZED";
    case 2: return "CUDNN_STATUS_BAD_PARAM";
    case 3: return "CUDNN_STATUS_NOT_SUPPORTED";
    case 4: return "CUDNN_STATUS_INTERNAL_ERROR";
    default: return "CUDNN_STATUS_EXECUTION_FAILED";
    }
}

void cudnnGetLastErrorString(char *message, size_t bytes)
{
    snprintf(message, bytes, "see the line of cuda_host");
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *out)
{
    if (begin_call("cudnnCreate"))
        return CUDNN_STATUS_NOT_INITIALIZED;
    *out = new cudnnContext{nullptr};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    delete handle;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    if (begin_call("cudnnSetStream"))
        return CUDNN_STATUS_INTERNAL_ERROR;
    handle->stream = stream;
    return valid_stream(stream) ? CUDNN_STATUS_SUCCESS : bad("no such stream");
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out)
{
    if (begin_call("cudnnBackendCreateDescriptor"))
        return CUDNN_STATUS_INTERNAL_ERROR;
    *out = new descriptor{type, {}, false, {}, {}};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
    delete (descriptor *)d;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t at, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n, const void *values)
{
    if (begin_call("cudnnBackendSetAttribute"))
        return CUDNN_STATUS_INTERNAL_ERROR;
    descriptor *d = (descriptor *)at;
    if (!d || d->finished || n < 1 || !values)
        return bad("an attribute is set without values, or after the descriptor was finalized");
    d->set[name] = {type, n, {(const char *)values, (const char *)values + size_of(type) * (size_t)n}};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t at)
{
    descriptor   *d = (descriptor *)at;
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    if (begin_call("cudnnBackendFinalize"))
        return CUDNN_STATUS_INTERNAL_ERROR;
    switch (d->type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR: status = finish_tensor(*d); break;
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR: status = finish_graph(*d); break;
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR: status = stand_on(*d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH); break;
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: status = finish_plan(*d); break;
    default: break;
    }
    d->finished = status == CUDNN_STATUS_SUCCESS;
    return status;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t at, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t, int64_t most, int64_t *n, void *values)
{
    if (begin_call("cudnnBackendGetAttribute"))
        return CUDNN_STATUS_INTERNAL_ERROR;
    descriptor *d = (descriptor *)at;
    *n = 1;
    switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
        if (most < 1 || !d->finished)
            return bad("heuristics are asked before they are finalized");
        (*(descriptor **)values)->nodes = d->nodes;
        (*(descriptor **)values)->finished = true;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINECFG_ENGINE:
        (*(descriptor **)values)->nodes = d->nodes;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
        *n = !d->nodes.empty() && d->nodes[0].in[0].type == CUDNN_DATA_BFLOAT16 && most > 0;
        if (*n)
            *(cudnnBackendNumericalNote_t *)values = CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        *(int64_t *)values = WORKSPACE;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION: {
        std::string text = text_of(d->nodes);
        *n = (int64_t)text.size() + 1;
        if (values && most >= *n)
            memcpy(values, text.c_str(), (size_t)*n);
        return d->finished ? CUDNN_STATUS_SUCCESS : bad("the text of an unfinished plan");
    }
    default: return bad("an attribute that is not known here is asked for");
    }
}

namespace {

/* Each real tensor's pointer, each number's value. */
cudnnStatus_t take_pointers(std::map<int64_t, void *> *memory, std::map<int64_t, float> *numbers, const descriptor &plan, const descriptor &pack)
{
    auto ids = pack.set.find(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS), pointers = pack.set.find(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    if (ids == pack.set.end() || pointers == pack.set.end() || ids->second.count != pointers->second.count)
        return bad("a variant pack without as many pointers as ids");
    for (int64_t i = 0; i < ids->second.count; i++)
        (*memory)[((const int64_t *)ids->second.bytes.data())[i]] = ((void *const *)pointers->second.bytes.data())[i];
    for (const graph_node &n : plan.nodes)
        for (const std::vector<graph_tensor> *list : {&n.in, &n.out})
            for (const graph_tensor &t : *list) {
                if (t.is_virtual)
                    continue;
                if (!memory->count(t.id))
                    return bad("a tensor of the graph has no pointer in the variant pack");
                void *p = memory->at(t.id);
                if (t.by_value)
                    (*numbers)[t.id] = *(const float *)p;
                else if ((uintptr_t)p % 16 != 0)
                    return bad("a pointer does not lie on 16 bytes");
            }
    return CUDNN_STATUS_SUCCESS;
}

cudaError_t run_plan(const std::vector<graph_node> &nodes, const std::map<int64_t, void *> &memory, const std::map<int64_t, float> &numbers, void *workspace)
{
    for (const graph_node &n : nodes)
        for (const std::vector<graph_tensor> *list : {&n.in, &n.out})
            for (const graph_tensor &t : *list) {
                size_t bytes = (size_t)t.reach() * (t.type == CUDNN_DATA_FLOAT ? 4 : 2);
                if (!t.is_virtual && !t.by_value && !on_device(memory.at(t.id), bytes))
                    return fault(cudaErrorIllegalAddress, "cuDNN: tensor %lld, %zu bytes at %p: %s", (long long)t.id, bytes,
                                 memory.at(t.id), describe(memory.at(t.id)).c_str());
            }
    if (!on_device(workspace, (size_t)WORKSPACE))
        return fault(cudaErrorIllegalAddress, "cuDNN: the workspace at %p: %s", workspace, describe(workspace).c_str());
    device_access access;
    memset(workspace, POISON, (size_t)WORKSPACE);
    interpret(nodes, memory, numbers);
    count("ran graph");
    return cudaSuccess;
}

} // namespace

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    if (begin_call("cudnnBackendExecute"))
        return CUDNN_STATUS_EXECUTION_FAILED;
    const descriptor         &of = *(descriptor *)plan, &with = *(descriptor *)pack;
    std::map<int64_t, void *> memory;
    std::map<int64_t, float>  numbers;
    void                     *workspace = nullptr;
    if (!of.finished || !with.finished)
        return bad("a plan or a variant pack was not finalized");
    if (cudnnStatus_t status = take_pointers(&memory, &numbers, of, with))
        return status;
    get(with, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &workspace);
    count("runs of plans");
    std::vector<graph_node> nodes = of.nodes;
    cudaError_t             e = enqueue(handle->stream, "cudnnBackendExecute", [=] { return run_plan(nodes, memory, numbers, workspace); });
    return e ? CUDNN_STATUS_EXECUTION_FAILED : CUDNN_STATUS_SUCCESS;
}
