/* The sampling pipeline: a job to a picture, with the same modules that train. Networks are opened when their turn
 * comes and the encoders are closed after it, so that they never lie beside the UNet.
 *
 *     TRY(pipeline_open(&p, dev, &files, log));
 *     TRY(pipeline_encode(p, &job));                     // words and references, once
 *     TRY(pipeline_draw(&picture, p, &job, seed));       // as often as wanted
 *     pipeline_close(p); */
#ifndef MSD_INFER_PIPELINE_H
#define MSD_INFER_PIPELINE_H

#include "autograd/tensor.h"
#include "data/image.h"
#include "infer/encode.h"
#include "infer/job.h"
#include "model/unet.h"

typedef struct pipeline pipeline;

typedef struct pipeline_files {
    const char *model;         /* pipeline folder */
    const char *image_encoder; /* folder, or NULL */
    const char *adapter;       /* file, step folder or run folder; NULL: plain SDXL */
    dtype       type;          /* what the networks compute in */
} pipeline_files;

/* Reads the configs; loads nothing heavy. Strings stay the caller's. E_MODEL, E_USAGE. */
err  pipeline_open(pipeline **out, device *dev, const pipeline_files *files, logger *log);
void pipeline_close(pipeline *p); /* NULL is fine */

/* Networks that somebody else has loaded, of files->model: they are used instead of the files and stay the owner's, who
 * must not change them between encode and the last draw. */
typedef struct pipeline_networks {
    const unet       *unet;
    const ms_adapter *adapter;
    encoders         *encoders;     /* all four kinds; NULL: opened from the files and closed as otherwise */
    const char       *adapter_hash; /* what pipeline_adapter_hash is to say */
} pipeline_networks;

/* As pipeline_open with these; files->adapter is not read. A job draws the same bits as from files with the same weights. */
err  pipeline_open_with(pipeline **out, device *dev, const pipeline_files *files, const pipeline_networks *networks, logger *log);

/* Fills in what the job leaves open (width, height) and checks it against the model: E_USAGE. */
err pipeline_complete(const pipeline *p, job *j);
/* Encodes prompt, negative prompt, phrases and references of a complete job for the draws that follow. */
err pipeline_encode(pipeline *p, const job *j);
/* Draws the encoded job with this seed: the same bits whatever was drawn before. E_NUMERIC when something is not
 * finite. */
err pipeline_draw(image *out, pipeline *p, const job *j, uint64_t seed);

/* A name for the adapter's weights, the same for every form of file; "" without one. */
const char *pipeline_adapter_hash(const pipeline *p);
/* The model folder's own name: "sdxl" of "models/sdxl/". */
const char *pipeline_model_name(const pipeline *p);

#endif
