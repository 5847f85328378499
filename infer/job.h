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
    int64_t      batch_count;    /* pictures, with seeds seed, seed + 1, ... */
    double       cfg_scale, scale;
    const char  *sampling_method, *scheduler;
    bool         drop_grounding;
    job_subject *subject;        /* subjects of them */
    int          subjects, room; /* of the array */
    const char  *output;         /* path, or NULL */
} job;

/* All defaults; the negative prompt is the reference's. */
job job_default(void);

/* Adds the subject of "image=F,phrase=T,box=x0,y0,x1,y1[,mask=F][,scale=S]": a value runs to the next ,image= ,phrase=
 * ,box= ,mask= or ,scale= or the end. E_USAGE says what is wrong with it. */
err job_add_subject(job *j, arena *memory, const char *spec);

/* A job from a JSON object; keys are the long flags of generate with _ for -, and "subjects". `where` stands in
 * messages ("jobs.jsonl:3"); paths are relative to the folder of `base_file`, or to the working directory when it is
 * NULL. Unknown keys are errors that name the nearest. E_CONFIG. */
err job_from_json(job *out, arena *memory, const json_t *object, const char *where, const char *base_file);

/* E_USAGE for what no model can draw: steps, sizes, scales, boxes, methods. */
err    job_check(const job *j);
double job_box_clipped(double v); /* a coordinate of a box that reaches outside the picture */
/* Says what will be drawn otherwise than one might think: clipped boxes, zero boxes. */
void   job_warn(const job *j, logger *log);
/* Whether every reference and mask is a picture, by their headers, before anything heavy is loaded; E_DATASET names all
 * that are not. */
err    job_check_pictures(const job *j);

#endif
