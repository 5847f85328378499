/* A file of jobs: JSON Lines, a picture to draw in each (infer/job.h). Blank lines are passed over. */
#ifndef MSD_TRAIN_JOB_LIST_H
#define MSD_TRAIN_JOB_LIST_H

#include "base/problems.h"
#include "infer/job.h"

enum { JOB_LIST_MOST = 100 };

typedef struct job_list {
    job item[JOB_LIST_MOST];
    int count;
} job_list;

/* Reads all lines; what the jobs point to lives in `memory`. Each mistake is a problem with its line: E_CONFIG for the file
 * and its keys, E_USAGE for what no model can draw, E_DATASET for references that are no pictures (their headers are
 * read), E_CONFIG for a file without jobs or with more than JOB_LIST_MOST. Use the list only when nothing was added. */
void job_list_load(job_list *out, arena *memory, problems *p, const char *path);

#endif
