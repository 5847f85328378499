/* What a generated PNG says of itself: `parameters` as the A1111 web UI writes and reads them, and `msd`, the same and
 * the subjects as JSON. */
#ifndef MSD_INFER_PNG_METADATA_H
#define MSD_INFER_PNG_METADATA_H

#include "data/image.h"
#include "infer/job.h"

enum { PNG_METADATA_TEXTS = 2 };

/* texts[0..return); their strings live in `memory`. model: the folder's name; adapter_hash: "" without an adapter. */
int png_metadata(image_text texts[PNG_METADATA_TEXTS], arena *memory, const job *j, uint64_t seed, const char *model,
                 const char *adapter_hash);

#endif
