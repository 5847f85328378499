/* Tensors as they lie in files: more number types than networks take, any rank, little-endian, contiguous,
 * row-major, perhaps unaligned. And their conversion to and from the types of the host. */
#ifndef MSD_DATA_STORED_H
#define MSD_DATA_STORED_H

#include "autograd/tensor.h"

typedef enum stored_type {
    STORED_F64, STORED_F32, STORED_F16, STORED_BF16, STORED_F8E4M3, STORED_F8E5M2,
    STORED_I64, STORED_I32, STORED_I16, STORED_I8, STORED_U64, STORED_U32, STORED_U16, STORED_U8, STORED_BOOL,
    STORED_TYPE_COUNT
} stored_type;

const char *stored_type_name(stored_type t);             /* as safetensors writes it: "BF16" */
size_t      stored_type_bytes(stored_type t);            /* of one element */
bool        stored_type_parse(stored_type *out, const char *name); /* "BF16" */
const char *stored_type_torch(stored_type t);            /* "BFloat16Storage"; NULL where torch has no such class */
dtype       stored_dtype(stored_type t);                 /* DTYPE_COUNT where networks have no such type */

typedef struct stored_tensor {
    const char    *name;
    stored_type    type;
    int            ndim;
    const int64_t *dim;   /* ndim, outermost first */
    int64_t        count; /* product of dim */
    size_t         bytes; /* count * stored_type_bytes(type) */
    const uint8_t *data;  /* stays valid while the file is open */
} stored_tensor;

/* Elements and bytes of a shape; false when a dimension is negative or a product overflows. */
bool stored_size(int64_t *count, size_t *bytes, stored_type type, int ndim, const int64_t *dim);
char *stored_shape_text(arena *a, int ndim, const int64_t *dim); /* "(320,4,3,3)" */
/* A stranger's name for a message: no control bytes, at most 200 bytes. */
char *stored_name_text(arena *a, const char *name);

/* out (count) in f32. 64-bit integers and f64 are rounded to nearest. */
void stored_to_f32(float *out, stored_type type, const void *data, int64_t count);
/* out (count). E_FORMAT names the first element that is no integer or does not fit, such as NaN or 0.5. */
err  stored_to_i64(int64_t *out, stored_type type, const void *data, int64_t count);
/* out (count) of `type`, which is F32, F16 or BF16; rounded to nearest, ties to even. */
void stored_from_f32(void *out, stored_type type, const float *values, int64_t count);

/* The whole tensor converted; caller frees. E_MEMORY; and of stored_to_i64, with the tensor's name. */
err stored_read_f32(float **out, const stored_tensor *t);
err stored_read_i64(int64_t **out, const stored_tensor *t);

#endif
