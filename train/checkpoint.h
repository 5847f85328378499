/* Checkpoints: RUN/step-NNNNNN/ with adapter.safetensors, optimizer.safetensors, config.yaml, with averaged weights
 * ema.safetensors (an adapter file too), and manifest.json (sizes and SHA-256 of the others). Written in a temporary folder, every file fsynced,
 * read back for its hash, then renamed: a folder under its final name is whole. What is in the
 * .safetensors depends on numbers alone: equal runs give equal bytes. */
#ifndef MSD_TRAIN_CHECKPOINT_H
#define MSD_TRAIN_CHECKPOINT_H

#include "data/safetensors.h"
#include "train/average.h"

/* Steps without an update, because loss or gradients were not finite. */
typedef struct skip_counts {
    int64_t all, in_a_row; /* of the run; up to the last step */
} skip_counts;

typedef struct checkpoint {
    const parameter *tensor;   /* all of the adapter file, in its order: the trained ones and dummy_image_tokens */
    int              tensors;
    const text_pair *metadata; /* of adapter.safetensors */
    size_t           metadata_count;
    optimizer       *optimizer;
    average         *average;  /* NULL: none */
    const char      *config;   /* text of config.yaml */
    int64_t          step;
    skip_counts      skips;
    int              ranks;    /* that trained together; up to 1: one process */
} checkpoint;

/* Writes RUN/step-NNNNNN. An existing folder of that name is replaced. E_IO, E_DISK_FULL (before the
 * first byte, when the space is known to be too small), E_NUMERIC when a trained tensor holds NaN or Inf. */
err checkpoint_save(const char *run, const checkpoint *c);
/* Fills c->tensor, c->optimizer and c->average from a step folder and sets c->step and c->skips. A folder without averaged
 * weights starts them at its weights. E_CHECKPOINT names what does not match. Nothing is changed before manifest and hashes
 * were found good. */
err checkpoint_load(checkpoint *c, const char *folder);

/* Removes a step folder; at every moment it is whole under its name or gone. */
void checkpoint_remove(const char *folder);

/* E_CHECKPOINT unless manifest.json and all it names are whole; *step is the manifest's. */
err checkpoint_verify(int64_t *step, const char *folder);
/* Of a folder that was verified: how many ranks trained together, 1 for one process. */
err checkpoint_ranks(int64_t *count, const char *folder);
/* An adapter's tensors as a file of their own, as in a checkpoint. */
err checkpoint_write_adapter(const char *path, const checkpoint *c);

#endif
