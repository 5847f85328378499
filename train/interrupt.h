/* Signals while training. SIGINT and SIGTERM: the first asks to finish the step, save and leave; a second leaves at once,
 * with the last published checkpoint intact. SIGUSR1 asks to save now and go on. */
#ifndef MSD_TRAIN_INTERRUPT_H
#define MSD_TRAIN_INTERRUPT_H

#include <stdbool.h>

#include "base/error.h"

void interrupt_begin(void);      /* from here on SIGUSR1 is taken; SIGINT and SIGTERM still end the process */
void interrupt_watch(void);      /* takes these too, and forgets earlier ones */
void interrupt_end(void);        /* puts the former handlers back */
err  interrupt_seen(void);       /* OK, E_INTERRUPTED (SIGINT) or E_TERMINATED (SIGTERM) */
bool interrupt_save_asked(void); /* SIGUSR1 since the last call */

#endif
