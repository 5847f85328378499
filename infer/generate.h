/* A job to PNG files. */
#ifndef MSD_INFER_GENERATE_H
#define MSD_INFER_GENERATE_H

#include "infer/pipeline.h"

/* Draws j->batch_count pictures with seeds j->seed, j->seed + 1, ... and writes them: to j->output for one, else with
 * _0, _1 ... before the ending. Each equals the picture that its seed gives alone. A picture is published when it is
 * whole. All that can be known to be wrong is told before networks are loaded; errors as of job.h and the pipeline, and
 * E_IO. */
err generate_pictures(pipeline *p, const job *j, logger *log);

#endif
