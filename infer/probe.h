/* `msd probe`: one network, or one step, run on tensors from a safetensors file, for porting and debugging. A module is
 * a row: what it needs, what it reads, which --set keys it knows, and the function that runs it. The machinery reads,
 * checks everything at once, and writes; names and layouts outside are those of diffusers (NCHW, f32 out).
 *
 *     static const probe_input inputs[] = {{"sample", "B,3,H,W", PROBE_IMAGE}, {0}};
 *     static err run(probe *p) { ... probe_tensor(p, "sample") ... probe_put_image(p, "sample", out) ... }
 *     const probe_module probe_module_x = {"x", PROBE_MODEL, inputs, NULL, run};  */
#ifndef MSD_INFER_PROBE_H
#define MSD_INFER_PROBE_H

#include "autograd/ag.h"
#include "data/safetensors.h"

typedef struct probe_options {
    const char        *module;
    const char        *model, *image_encoder, *adapter, *in, *out; /* those not given are NULL */
    const char *const *set;                                        /* sets of "key=value" */
    int                sets;
    device            *dev;
    dtype              type; /* what networks compute in */
} probe_options;

typedef enum probe_kind {
    PROBE_PLAIN, /* as it is, on the device in the type of the network */
    PROBE_IMAGE, /* NCHW in the file, NHWC on the device */
    PROBE_F32,   /* on the device in f32 whatever the network's type: times, boxes */
    PROBE_IDS    /* whole numbers, i32 on the device */
} probe_kind;

/* When an input has to be there. */
typedef enum probe_need { PROBE_REQUIRED, PROBE_OPTIONAL, PROBE_WITH_ADAPTER, PROBE_OPTIONAL_WITH_ADAPTER } probe_need;

/* shape: sizes separated by commas, numbers or letters; the same letter is the same size in every input of the module
 * ("B,T,C"); "S?" may be 0. The last row has name NULL. */
typedef struct probe_input {
    const char *name, *shape;
    probe_kind  kind;
    probe_need  need;
} probe_input;

enum { PROBE_MODEL = 1, PROBE_IMAGE_ENCODER = 2, PROBE_ADAPTER = 4 }; /* options that have to be given */

typedef struct probe probe;
typedef struct probe_module {
    const char        *name;
    unsigned           needs;
    const probe_input *inputs;
    const char *const *settings; /* --set keys, ended by NULL; NULL: none */
    err (*run)(probe *p);
} probe_module;

/* Runs options->module, which has to be one of `modules`. E_USAGE: unknown module or --set key, an option that is
 * missing; E_SHAPE: tensors that are missing or have another shape, all in one message; and the module's own. */
err probe_run(const probe_options *options, const probe_module *const *modules, int count);

/* ---- for modules ---- */

const probe_options *probe_given(const probe *p);
ag    *probe_graph(const probe *p);
arena *probe_memory(probe *p);                         /* host memory until the end of the run */
int64_t probe_size(const probe *p, const char *letter); /* of a shape; 0 when no input had it */
bool   probe_has(const probe *p, const char *name);

/* On the device; NULL when absent, or on an error that is kept in the graph. */
tensor *probe_tensor(probe *p, const char *name);
/* On the host in file order, in the probe's memory; E_FORMAT names a number that is no whole one. */
err probe_f32(float **out, probe *p, const char *name);
err probe_i32(int32_t **out, probe *p, const char *name);
float *probe_nhwc(probe *p, const char *name); /* of a PROBE_IMAGE input; NULL when absent */

/* --set values; E_USAGE names key and value. */
err probe_number(double *out, const probe *p, const char *key, double fallback);
err probe_whole(int64_t *out, const probe *p, const char *key, int64_t fallback, int64_t low, int64_t high);
const char *probe_text(const probe *p, const char *key, const char *fallback);

/* Outputs, written in the order of these calls. `name` is copied. */
err probe_put(probe *p, const char *name, const tensor *t);       /* any type, as f32 */
err probe_put_image(probe *p, const char *name, const tensor *t); /* NHWC on the device, NCHW in the file */
err probe_put_f32(probe *p, const char *name, const float *values, int ndim, const int64_t *dim); /* copied */

extern const probe_module probe_module_unet, probe_module_resampler;
extern const probe_module probe_module_text_encoder, probe_module_text_encoder_2, probe_module_image_encoder,
    probe_module_vae_encode, probe_module_vae_decode, probe_module_noise, probe_module_sampler;

#endif
