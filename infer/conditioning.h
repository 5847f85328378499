/* What a job's words and pictures become: everything that the UNet is handed beside the latents, as host f32 arrays. */
#ifndef MSD_INFER_CONDITIONING_H
#define MSD_INFER_CONDITIONING_H

#include "infer/encode.h"
#include "infer/job.h"

typedef struct conditioning {
    int64_t T, X, P;             /* text tokens, their width, pooled width */
    float  *text, *pooled;       /* (T,X), (P) of the prompt */
    float  *no_text, *no_pooled; /* of the negative prompt */
    int64_t S, L, D, E;          /* subjects; picture tokens and width; phrase width */
    float  *image_hidden;        /* (S,L,D) */
    float  *phrases;             /* (S,E) */
    float  *boxes;               /* (S,4) */
    float  *scales;              /* (S), or NULL: all take the job's */
} conditioning;

/* Encodes one job. Arrays live in `memory`. E_USAGE and E_DATASET name the picture that cannot be used. */
err conditioning_encode(conditioning *out, arena *memory, encoders *e, const job *j, logger *log);

#endif
