/* A small vocabulary for tests and benchmarks: CLIP's tokenizer in form, with the 512 byte tokens, some hundred merges
 * that make common English words one token each, and the two special tokens last. */
#ifndef MSD_DATA_VOCAB_H
#define MSD_DATA_VOCAB_H

#include "base/error.h"

enum { VOCAB_TOKENS = 1225 }; /* the last two are <|startoftext|> and <|endoftext|> */

/* Writes vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json into `folder` (which exists).
 * pad: "<|endoftext|>", as SDXL's first tokenizer, or "!", as its second. E_IO, E_DISK_FULL. */
err vocab_write(const char *folder, const char *pad);

#endif
