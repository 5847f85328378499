/* What a cache lacks of a run's datasets: one item a sample and crop, each entry wanted once. */
#ifndef MSD_TRAIN_PREPARE_PLAN_H
#define MSD_TRAIN_PREPARE_PLAN_H

#include "base/problems.h"
#include "data/cache_index.h"
#include "train/sample_keys.h"

typedef struct prepare_item {
    const manifest *from;
    const sample   *of;
    sample_view     view;
    sample_keys     keys;
    bool            latent, text;     /* wanted; so are the subjects' below */
    bool           *phrase, *picture; /* (subjects) */
} prepare_item;

typedef struct prepare_plan {
    prepare_item *item;      /* those that lack something */
    int64_t       items, room;
    int64_t       samples;   /* of the datasets, times crops */
    bool          empty, mean_colour; /* wanted */
    int64_t       wanted[CACHE_KIND_COUNT]; /* entries */
    int64_t       latent_pixels; /* of the targets whose latents are wanted */
    cache_index   referenced; /* every key of the datasets */
} prepare_plan;

/* Samples whose pictures cannot be found are problems (E_DATASET), or warnings under data.bad_samples skip. store: has
 * what is there already. */
void    prepare_plan_add(prepare_plan *p, problems *found, arena *memory, const manifest *m, const run_config *c,
                         const cache_origin *o, const cache *store, file_stamps *stamps);
void    prepare_plan_add_replacements(prepare_plan *p, const cache_origin *o, const cache *store);
int64_t prepare_plan_bytes(const prepare_plan *p, const cache_origin *o); /* of the wanted entries */
void    prepare_plan_free(prepare_plan *p);

#endif
