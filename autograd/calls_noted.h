/* Between autograd/calls.c and the table of primitives that note themselves, calls_noted.c. */
#ifndef MSD_AUTOGRAD_CALLS_NOTED_H
#define MSD_AUTOGRAD_CALLS_NOTED_H

#include "autograd/calls.h"

enum { NOTED_TENSORS = 12 }; /* of one call at most */

/* A device with these has its noting as state. */
extern const primitives noting_primitives;

void note_call(noting *n, call c); /* its arguments follow */
void note_tensor(noting *n, const tensor *t);
void note_value(noting *n, call_value v);
void note_download(noting *n, void *host, void *pinned, size_t bytes);
err  note_pinned(noting *n, void **out, size_t bytes);
err  note_flush(noting *n); /* does what was noted; from then on calls are done at once */

#endif
