/* Weights bound by one walk. A network is a struct of tensor pointers; its bind function walks the
 * struct and names every weight by its path in the file. What happens at each name is the binder's
 * visit function: load from a source, list (count, synth), or initialise. One walk, several uses:
 * the list of weights is typed once.
 *
 *     int at = bind_enter(b, "down_blocks.%d", i);
 *     bind_tensor(b, &r->norm1.w, "norm1.weight", WEIGHT_PLAIN, DIMS(c));
 *     bind_leave(b, at);
 */
#ifndef MSD_MODEL_BIND_H
#define MSD_MODEL_BIND_H

#include "autograd/weights.h"

/* How a weight lies in the file and on the device. */
typedef enum weight_kind {
    WEIGHT_PLAIN,  /* same order */
    WEIGHT_LINEAR, /* same order, until it is laid out: read by products alone */
    WEIGHT_CONV    /* file (O,I,KH,KW), device (O,KH,KW,I) */
} weight_kind;

typedef struct linear { tensor *w, *b; } linear;        /* w (out,in), b (out) or NULL */
typedef struct conv { tensor *w, *b; } conv;            /* w (O,KH,KW,I), b (O) */
typedef struct norm { tensor *w, *b; } norm;            /* w, b (C) */

/* Weights that are several in files and one tensor on the device: rows one after another, in the order of binding, so
 * that one product serves them all. */
typedef struct weight_stack {
    tensor *t;     /* (rows,...) */
    int64_t rows;  /* of all parts */
    int64_t bound; /* rows that this walk has met: where the next part begins */
} weight_stack;

enum { QKV = 3 };
typedef struct qkv_weights { /* queries, keys and values of one input: w (3C,in), b (3C) or NULL */
    weight_stack w, b;
    tensor      *part[2 * QKV]; /* only while they are bound */
} qkv_weights;

typedef struct binder binder;
typedef void (*bind_visit)(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim);

/* A binder that loads: each weight is checked for name and shape, allocated on `dev` in `type` and
 * converted. trainable: tensors are f32, of LIFE_STATE, with needs_grad. */
err bind_load_begin(binder **out, arena *owner, device *dev, dtype type, const weight_source *source, bool trainable);
/* The frozen weights of linear layers that a loading binder meets from here on are laid out for forward products alone
 * (device.h, lay_out): no data gradient will be asked for. */
void bind_forward_only(binder *b);
/* A binder that only calls visit for each name; slots stay untouched unless visit sets them. */
err bind_walk_begin(binder **out, arena *owner, bind_visit visit, void *user);
void *bind_user(binder *b);
/* A visit for bind_walk_begin that releases each tensor and empties its slot: how a network is closed. */
void bind_visit_release(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim);

int bind_enter(binder *b, const char *format, ...) __attribute__((format(printf, 2, 3))); /* adds ".part" to the path */
void bind_leave(binder *b, int at);
/* dim is the shape in the file, where further dimensions of 1 may follow (a linear layer stored as a 1x1 convolution).
 * leaf is joined to the path with a dot. */
void bind_tensor(binder *b, tensor **slot, const char *leaf, weight_kind kind, int ndim, const int64_t *dim);
void bind_linear(binder *b, linear *m, const char *at, int64_t out, int64_t in, bool bias);
void bind_conv(binder *b, conv *m, const char *at, int64_t out, int64_t in, int64_t kernel);
void bind_norm(binder *b, norm *m, const char *at, int64_t channels);
/* The parts of a stack, each under its own name, anywhere in the walk between begin and end: *slot becomes a view of its
 * rows, dim[0] of them. */
void bind_stack_begin(weight_stack *s, int64_t rows);
void bind_part(binder *b, weight_stack *s, tensor **slot, const char *leaf, int ndim, const int64_t *dim);
void bind_stack_end(binder *b, weight_stack *s);
/* Linear layers at the three paths, of `channels` outputs each. */
void bind_qkv(binder *b, qkv_weights *m, const char *const at[QKV], int64_t channels, int64_t in, bool bias);
/* For a visit that makes tensors: as tensor_new, or the next rows of the stack whose part is being bound. */
err  bind_make(binder *b, tensor **slot, arena *owner, device *dev, lifetime life, const char *name, dtype type, int ndim,
               const int64_t *dim);
/* Tensors of the file that the network does not use but that are no mistake (position_ids): a whole name, or the
 * beginning of names and '*'. */
void bind_ignore(binder *b, const char *name);
bool bind_has(const binder *b, const char *path_leaf); /* does the source hold current path + "." + leaf */

/* Ends the walk and frees b. E_MODEL with every missing, wrong-shaped, wrong-typed and unused tensor
 * (the first 20 of each kind and the counts) in one message, or the E_MEMORY that loading met; in both
 * cases what was loaded is released and its slots are empty again. */
err bind_end(binder *b);

#endif
