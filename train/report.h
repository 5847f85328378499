/* `msd report`: a run as one self-contained HTML page. No script, nothing fetched; light and dark; strangers' text
 * (prompts, phrases, paths) is escaped. The same folder gives the same bytes. */
#ifndef MSD_TRAIN_REPORT_H
#define MSD_TRAIN_REPORT_H

#include "base/log.h"
#include "train/html.h"
#include "train/report_data.h"

/* Writes `path` (NULL: RUN/report.html), published when whole. E_USAGE when `run` is no run folder; E_IO, E_DISK_FULL.
 */
err report_write(const char *path, const char *run, logger *log);

/* The parts, each a section or nothing. */
extern const char report_style[];
void report_curves(html *h, const report_data *d);
void report_pictures(html *h, report_data *d);
void report_dataset(html *h, report_data *d);

#endif
