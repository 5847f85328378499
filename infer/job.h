/* A picture to draw, as data: what the command line of generate says, and a line of a job file. */
#ifndef MSD_INFER_JOB_H
#define MSD_INFER_JOB_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/log.h"

typedef struct job_subject {
    const char *image;     /* path of the reference */
    const char *phrase;
    double      box[4];    /* normalised xyxy; 0,0,1,1 when none was given */
    const char *mask;      /* path, or NULL; of the reference's size: 128 and above keeps */
    double      scale;     /* NAN: the job's */
} job_subject;

typedef struct job {
    const char  *prompt, *negative_prompt;
    int64_t      width, height;  /* 0: what the model was made for */
    int64_t      steps;
    uint64_t     seed;
    double       cfg_scale, scale;
    const char  *sampling_method, *scheduler;
    bool         drop_grounding;
    job_subject *subject;        /* subjects of them */
    int          subjects;
    const char  *output;         /* path, or NULL */
} job;

/* All defaults; the negative prompt is the reference's. */
job job_default(void);

/* Adds the subject of "image=F,phrase=T,box=x0,y0,x1,y1[,mask=F][,scale=S]": a value runs to the next ,image= ,phrase= ,box= ,mask=
 * or ,scale= or the end. E_USAGE says what is wrong with it. */
err job_add_subject(job *j, arena *memory, const char *spec);

/* A job from a JSON object; keys are the long flags of generate with _ for -, and "subjects". `where` stands in messages ("jobs.jsonl:3").
 * Unknown keys are errors that name the nearest. E_CONFIG. */
err job_from_json(job *out, arena *memory, const json_t *object, const char *where);

/* E_USAGE for what no model can draw: steps, sizes, scales, boxes. Warns of zero boxes. */
err job_check(const job *j, logger *log);

#endif
