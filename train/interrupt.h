/* SIGINT and SIGTERM while training: the first asks to finish the step, save and leave; a second
 * leaves at once, with the last published checkpoint intact. */
#ifndef MSD_TRAIN_INTERRUPT_H
#define MSD_TRAIN_INTERRUPT_H

#include "base/error.h"

void interrupt_watch(void);   /* installs the handlers and forgets earlier signals */
void interrupt_unwatch(void); /* puts the former handlers back */
err  interrupt_seen(void);    /* OK, E_INTERRUPTED (SIGINT) or E_TERMINATED (SIGTERM) */

#endif
