/* What a file is by its first bytes, never by its name: weights that were not downloaded (git-LFS pointers, HTML
 * pages) or that lie under another form's name are recognised and said. */
#ifndef MSD_DATA_FILE_KIND_H
#define MSD_DATA_FILE_KIND_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef enum file_kind {
    FILE_SAFETENSORS,  /* a header length and '{' */
    FILE_ZIP,          /* torch.save since 1.6 */
    FILE_PICKLE,       /* torch.save before 1.6, or a bare pickle */
    FILE_TAR,          /* torch.save before 0.1.10 */
    FILE_LFS_POINTER, FILE_HTML, FILE_HDF5, FILE_GGUF, FILE_PNG, FILE_JPEG, FILE_JSON,
    FILE_ZEROS,        /* begins with 64 or more zero bytes: a download that was cut off */
    FILE_EMPTY,
    FILE_UNKNOWN
} file_kind;

file_kind   file_kind_of(const void *bytes, size_t size);
const char *file_kind_text(file_kind kind); /* "a git-LFS pointer, not the weights themselves" */
/* E_FORMAT "found ..., expected WANTED; what to do". The caller adds the file's name. */
err         file_kind_refuse(file_kind kind, const char *wanted);

#endif
