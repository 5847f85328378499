/* cuDNN's plans as text: the library's own JSON, which holds the engine, its settings and the code that it compiled. */
#include <stdlib.h>

#include "autograd/cuda/dnn.h"

enum { MOST_TEXT = 8 << 20 };

char *dnn_plan_text(size_t *bytes, const dnn_plan *plan)
{
    const cudnnBackendAttributeName_t name = CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION;
    int64_t count = 0;
    if (cudnnBackendGetAttribute(plan->plan, name, CUDNN_TYPE_CHAR, 0, &count, NULL) != CUDNN_STATUS_SUCCESS || count < 1 ||
        count > MOST_TEXT)
        return NULL;
    char *text = heap_get((size_t)count + 1);
    if (cudnnBackendGetAttribute(plan->plan, name, CUDNN_TYPE_CHAR, count, &count, text) != CUDNN_STATUS_SUCCESS) {
        free(text);
        return NULL;
    }
    *bytes = (size_t)count;
    return text;
}

static cudnnStatus_t fill(descriptor plan, const cuda_state *s, const char *text, size_t bytes)
{
    cudnnStatus_t status = cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                                    (int64_t)bytes, text);
    if (status == CUDNN_STATUS_SUCCESS && s->described)
        status = cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                          &s->described);
    else if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &s->dnn);
    return status == CUDNN_STATUS_SUCCESS ? cudnnBackendFinalize(plan) : status;
}

dnn_plan *dnn_plan_of_text(const cuda_state *s, const char *text, size_t bytes)
{
    descriptor plan = NULL;
    int64_t    workspace = 0, count = 0;
    if (!bytes || bytes > MOST_TEXT ||
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan) != CUDNN_STATUS_SUCCESS)
        return NULL;
    cudnnStatus_t status = fill(plan, s, text, bytes);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count, &workspace);
    if (status != CUDNN_STATUS_SUCCESS || workspace < 0) {
        cudnnBackendDestroyDescriptor(plan);
        return NULL;
    }
    dnn_plan *made = heap_get(sizeof *made);
    *made = (dnn_plan){.plan = plan, .workspace = (size_t)workspace};
    return made;
}
