/* Inside the meta device's folder. */
#ifndef MSD_AUTOGRAD_META_DEVICE_H
#define MSD_AUTOGRAD_META_DEVICE_H

#include "autograd/meta/meta.h"

extern const primitives meta_primitives; /* d->state is a meta_report */

#endif
