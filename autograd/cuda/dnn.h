/* cuDNN's graphs from C: descriptors are made one by one, errors stick in the graph, and dnn_make_plan says what came
 * of it. A plan is made once per key and run with pointers. */
#ifndef MSD_AUTOGRAD_CUDA_DNN_H
#define MSD_AUTOGRAD_CUDA_DNN_H

#include "autograd/cuda/cuda.h"

enum { DNN_DIMS = 4, DNN_MOST_DESCRIPTORS = 96, DNN_MOST_OPERATIONS = 24, DNN_MOST_TENSORS = 16 };

typedef cudnnBackendDescriptor_t descriptor;

/* Where a tensor of a graph is: memory of the card, nowhere (between two operations), or a number of the host's. */
typedef enum dnn_place { DNN_REAL, DNN_VIRTUAL, DNN_NUMBER } dnn_place;

typedef struct dnn_shape {
    int64_t dim[DNN_DIMS], stride[DNN_DIMS]; /* as the library orders them: (n,c,h,w), (batch,heads,rows,columns) */
} dnn_shape;

typedef struct dnn_graph {
    cudnnHandle_t handle;
    descriptor    card;  /* NULL, or the card described instead of a handle: plans without a device */
    bool          exact; /* f32: engines that round inputs to fewer bits are passed over */
    descriptor    owned[DNN_MOST_DESCRIPTORS], operation[DNN_MOST_OPERATIONS];
    int           owns, operations;
    int64_t       next; /* unique ids of virtual tensors */
    uint64_t      print; /* of all that was set: the same for the same graph, in every process */
    cudnnStatus_t status;
    const char   *failed; /* the first call that failed */
} dnn_graph;

void       dnn_open(dnn_graph *g, const cuda_state *s, bool exact);
descriptor dnn_tensor(dnn_graph *g, int64_t id, const dnn_shape *shape, cudnnDataType_t type, dnn_place place);
descriptor dnn_between(dnn_graph *g, const dnn_shape *shape, cudnnDataType_t type); /* virtual */
descriptor dnn_number(dnn_graph *g, int64_t id);                                     /* f32 */

descriptor dnn_make(dnn_graph *g, cudnnBackendDescriptorType_t type);
void       dnn_set(dnn_graph *g, descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                   int64_t count, const void *values);
void       dnn_link(dnn_graph *g, descriptor d, cudnnBackendAttributeName_t name, descriptor other);
descriptor dnn_finish(dnn_graph *g, descriptor d);
void       dnn_operation(dnn_graph *g, descriptor d); /* finishes it and puts it into the graph */

/* y = f(x [, b]) */
void dnn_pointwise(dnn_graph *g, descriptor y, cudnnPointwiseMode_t mode, descriptor x, descriptor b);
void dnn_matmul(dnn_graph *g, descriptor c, descriptor a, descriptor b);
void dnn_sum(dnn_graph *g, descriptor y, descriptor x); /* over the dimensions in which y has 1 */
void dnn_reshape(dnn_graph *g, descriptor y, descriptor x);

typedef struct dnn_plan {
    descriptor owned[DNN_MOST_DESCRIPTORS]; /* what the plan stands on */
    int        owns;
    descriptor plan;
    size_t     workspace;
} dnn_plan;

/* The first engine of the library's heuristics that gives the same bits twice; *out is NULL with status OK where it has
 * none for the graph. Takes over what g owns. */
err  dnn_make_plan(dnn_plan **out, dnn_graph *g);
void dnn_abandon(dnn_graph *g); /* instead: nothing is made of it */
void dnn_plan_close(void *plan);

/* The plan of a key (keyed.h) of s->plans, whose graph `build` fills from `what` where it has to be made; NULL where the
 * library has no engine. (plans.c) */
typedef void (*dnn_builder)(dnn_graph *g, const void *what);
err cuda_plan(const dnn_plan **out, cuda_state *s, const int64_t *key, int words, bool exact, dnn_builder build,
              const void *what);

/* A plan as text for the next process, and from it; NULL where the library gives or takes none. Of a file: bytes may be
 * anything. */
char     *dnn_plan_text(size_t *bytes, const dnn_plan *plan);
dnn_plan *dnn_plan_of_text(const cuda_state *s, const char *text, size_t bytes);

/* Pointers by id; workspace: of plan->workspace bytes. */
err dnn_run(cudnnHandle_t handle, const dnn_plan *plan, const int64_t *ids, void *const *pointers, int count,
            void *workspace);

#endif
