/* A short name for a set of weights: SHA-256 of every tensor's name, type, shape and first and last bytes. Made in
 * milliseconds from mapped files, yet another one for every fine-tune; not a proof against forgery. */
#ifndef MSD_DATA_FINGERPRINT_H
#define MSD_DATA_FINGERPRINT_H

#include "base/hash.h"
#include "data/tensor_table.h"

/* The same for any order of the tensors in the file and any number of shards. */
void fingerprint(char hex[65], const tensor_table *tensors);
/* The same piece by piece: the tensors in order of their names. */
void fingerprint_add(hash_state *h, const stored_tensor *t);

#endif
