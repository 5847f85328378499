/* The time that work takes on a card at least: each call of a primitive max(operations / rate, bytes / bandwidth), summed.
 * Launches, waits and everything that keeps a kernel from its bound are left out, so that this is an estimate from below.
 *
 *     roofline r;
 *     roofline_open(&r, card_find("h100"));
 *     meta_watch(dev, roofline_watch, &r);
 *     ...                                       // a step on the meta device
 *     roofline_sort(&r);                        // longest first */
#ifndef MSD_TRAIN_ROOFLINE_H
#define MSD_TRAIN_ROOFLINE_H

#include "autograd/meta/meta.h"
#include "train/card.h"

enum { ROOFLINE_ROWS = 64 };

typedef struct roofline_row {
    const char *primitive;
    int64_t     calls;
    double      operations, bytes, seconds;
    double      seconds_by_bytes; /* of the calls that the bandwidth bounds */
} roofline_row;

typedef struct roofline {
    const card  *card;
    roofline_row row[ROOFLINE_ROWS];
    int          rows;
    double       seconds; /* of all calls so far */
} roofline;

void   roofline_open(roofline *r, const card *c);
void   roofline_watch(void *user, const meta_call *call); /* a meta_watcher; user: the roofline */
double roofline_call_seconds(const card *c, const meta_call *call);
void   roofline_sort(roofline *r); /* longest first */

#endif
