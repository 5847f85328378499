/* TensorBoard's event files, without TensorFlow. A file is records: length (u64), masked CRC-32C of the length, an
 * Event message in protobuf's wire format, masked CRC-32C of it; numbers little-endian. Fields written, by number:
 *   Event    1 wall_time (double), 2 step (int64), 3 file_version (string), 5 summary, 7 session_log
 *   Summary  1 value (repeated): 1 tag, 2 simple_value (float), 4 image: 1 height, 2 width, 3 colorspace, 4 PNG
 *   SessionLog 1 status (1: START): readers drop what earlier files of the folder say of this step and later ones
 * Every event is one write: a process that is killed leaves all before it readable. */
#ifndef MSD_DATA_TFEVENTS_H
#define MSD_DATA_TFEVENTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct tfevents tfevents;

typedef struct tfevents_scalar {
    const char *tag; /* "train/loss" */
    double      value;
} tfevents_scalar;

/* A new file events.out.tfevents.SECONDS.msd in `folder`, after all others there by name, that begins at `step`: of
 * earlier files readers take what lies before it. E_IO, E_DISK_FULL. */
err  tfevents_open(tfevents **out, const char *folder, int64_t step);
void tfevents_close(tfevents *t); /* NULL is fine */

/* wall_time: seconds since 1970. Values that are not finite are written as they are. */
err tfevents_scalars(tfevents *t, double wall_time, int64_t step, const tfevents_scalar *scalar, int count);
/* png: a whole file's bytes, RGB of width x height. */
err tfevents_picture(tfevents *t, double wall_time, int64_t step, const char *tag, const void *png, size_t size,
                     int width, int height);

/* One record as it lies in the file, for tests: returns its bytes (heap, caller frees). */
uint8_t *tfevents_record(size_t *size, const void *message, size_t message_size);

#endif
