/* What has to be the same on all ranks before a run begins: the program, its libraries, the device, every setting, and what
 * is in the files that it names. Paths may differ. */
#ifndef MSD_TRAIN_START_FACTS_H
#define MSD_TRAIN_START_FACTS_H

#include "train/config.h"
#include "train/ranks.h"

/* E_DISTRIBUTED names the odd ranks; E_MODEL, E_IO: files that cannot be read. NULL ranks: nothing is read. */
err start_compare(ranks *all, const run_config *c);

#endif
