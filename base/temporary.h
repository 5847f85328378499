/* Names beside a final name, and the fsync that makes a rename last. Used by the file and folder writers. */
#ifndef MSD_BASE_TEMPORARY_H
#define MSD_BASE_TEMPORARY_H

#include "base/error.h"

enum { TEMPORARY_ATTEMPTS = 100 };

/* "FOLDER/.NAME.tmp-PID-ATTEMPT" for "FOLDER/NAME"; caller frees. The name is cut so that it stays within 255 bytes. */
char *temporary_name(const char *path, unsigned attempt);

/* fsyncs the folder that holds `path`; a folder that cannot be fsynced at all (some network file systems) is fine. */
err temporary_sync_parent(const char *path);
/* fsyncs the folder itself. */
err temporary_sync_folder(const char *folder);

#endif
