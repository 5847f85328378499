/* Folders as Hugging Face's libraries write them: a pipeline with one subfolder per component, or one model alone. */
#ifndef MSD_DATA_HF_FOLDER_H
#define MSD_DATA_HF_FOLDER_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

/* FOLDER/COMPONENT/NAME; component may be NULL. Caller frees. */
char *hf_path(const char *folder, const char *component, const char *name);

/* FOLDER/COMPONENT/config.json as JSON (an object; release with json_decref). Of duplicate keys the last counts, since
 * a well-known image encoder has one. A pipeline folder given for a model alone, and the reverse, is said. E_MODEL. */
err hf_config(json_t **out, const char *folder, const char *component);

/* Any other JSON file of a component, such as scheduler_config.json; `optional`: a missing one gives *out = NULL. */
err hf_json(json_t **out, const char *folder, const char *component, const char *name, bool optional);

/* E_MODEL unless every one of the components' folders (a NULL ends them) is there; all missing ones are named. */
err hf_check_components(const char *folder, const char *const *components);

#endif
