/* A small dataset to try training on: pictures with two subjects each, their references and manifest.
 * With photographs: each target shows two of them in boxes on a plain ground. Without: coloured shapes. */
#ifndef MSD_TRAIN_DEMO_DATA_H
#define MSD_TRAIN_DEMO_DATA_H

#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

/* Writes FOLDER/data.jsonl, images/, references/, and subjects.txt (lines "phrase=references/FILE.png").
 * photos: a folder of pictures named after what they show, searched with its subfolders, or NULL.
 * count: targets (>= 1). The same arguments give the same bytes. FOLDER must not hold a data.jsonl.
 * E_USAGE; E_DATASET when photos holds fewer than two pictures; E_IO. */
err demo_data_write(const char *folder, const char *photos, int64_t count, uint64_t seed, logger *log);

#endif
