/* Inside the meta device's folder. */
#ifndef MSD_AUTOGRAD_META_DEVICE_H
#define MSD_AUTOGRAD_META_DEVICE_H

#include "autograd/meta/meta.h"

typedef struct meta_state {
    meta_report       report;
    const primitives *dry;  /* of the device that is imitated: its calls that take scratch, or NULL */
    meta_watcher      watcher;
    void             *user; /* the watcher's */
    device            like; /* that device without data, whose memory is the meta device's; for those calls */
} meta_state;

extern const primitives meta_primitives; /* d->state is a meta_state */

#endif
