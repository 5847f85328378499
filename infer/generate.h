/* A job to PNG files. */
#ifndef MSD_INFER_GENERATE_H
#define MSD_INFER_GENERATE_H

#include "infer/pipeline.h"

/* Draws `count` pictures with seeds j->seed ... and writes them: to j->output for one, else with _0, _1 ... before the ending. Each
 * equals the picture that its seed gives alone. A picture is published when it is whole. Errors as of the pipeline. */
err generate_pictures(pipeline *p, const job *j, int64_t count, logger *log);

#endif
