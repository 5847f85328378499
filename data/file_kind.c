#include "data/file_kind.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *text, *advice;
} kinds[] = {
    [FILE_SAFETENSORS] = {"a safetensors file", "give a file of the right form"},
    [FILE_ZIP] = {"a zip archive (the form of torch.save)", "give a file of the right form"},
    [FILE_PICKLE] = {"a bare pickle (the legacy form of torch.save)",
                     "load and save it again with torch >= 1.6, or convert it to safetensors"},
    [FILE_TAR] = {"a tar archive (the oldest form of torch.save)",
                  "load and save it again with torch >= 1.6, or convert it to safetensors"},
    [FILE_LFS_POINTER] = {"a git-LFS pointer, not the weights themselves", "fetch them with `git lfs pull`"},
    [FILE_HTML] = {"an HTML page", "the download gave a web page; download the file itself"},
    [FILE_HDF5] = {"an HDF5 file", "give a file of the right form"},
    [FILE_GGUF] = {"a GGUF file", "give the original weights"},
    [FILE_PNG] = {"a PNG picture", "give a file of the right form"},
    [FILE_JPEG] = {"a JPEG picture", "give a file of the right form"},
    [FILE_JSON] = {"JSON text", "give the weights themselves; an index.json is found by its folder"},
    [FILE_ZEROS] = {"only zero bytes at the start (a download that was cut off)", "download the file again"},
    [FILE_EMPTY] = {"an empty file", "download the file again"},
    [FILE_UNKNOWN] = {"a file of unknown form", "give a file of the right form"},
};

static bool starts(const uint8_t *bytes, size_t size, const char *magic, size_t length)
{
    return size >= length && memcmp(bytes, magic, length) == 0;
}

static bool is_html(const uint8_t *bytes, size_t size)
{
    while (size && memchr(" \t\r\n", *bytes, 4))
        bytes++, size--;
    return (size >= 9 && strncasecmp((const char *)bytes, "<!doctype", 9) == 0) ||
           (size >= 5 && strncasecmp((const char *)bytes, "<html", 5) == 0);
}

static bool is_safetensors(const uint8_t *bytes, size_t size)
{
    if (size < 10 || bytes[8] != '{')
        return false;
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | bytes[i];
    return length >= 2 && length <= 100000000;
}

static bool is_tar(const uint8_t *bytes, size_t size)
{
    return size >= 512 && memcmp(bytes + 257, "ustar", 5) == 0;
}

static bool is_zeros(const uint8_t *bytes, size_t size)
{
    static const uint8_t zeros[64];
    return size >= sizeof zeros && memcmp(bytes, zeros, sizeof zeros) == 0;
}

file_kind file_kind_of(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    static const struct {
        const char *magic;
        size_t length;
        file_kind kind;
    } magics[] = {
        {"PK\3\4", 4, FILE_ZIP}, {"PK\5\6", 4, FILE_ZIP}, {"version https://git-lfs", 23, FILE_LFS_POINTER},
        {"\x89HDF\r\n\x1a\n", 8, FILE_HDF5}, {"GGUF", 4, FILE_GGUF}, {"\x89PNG\r\n\x1a\n", 8, FILE_PNG},
        {"\xff\xd8\xff", 3, FILE_JPEG}, {"{", 1, FILE_JSON},
    };
    if (size == 0)
        return FILE_EMPTY;
    if (is_safetensors(bytes, size))
        return FILE_SAFETENSORS;
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++) {
        if (starts(bytes, size, magics[i].magic, magics[i].length))
            return magics[i].kind;
    }
    if (is_html(bytes, size))
        return FILE_HTML;
    if (size >= 3 && bytes[0] == 0x80 && bytes[1] >= 1 && bytes[1] <= 5)
        return FILE_PICKLE;
    if (is_tar(bytes, size))
        return FILE_TAR;
    return is_zeros(bytes, size) ? FILE_ZEROS : FILE_UNKNOWN;
}

const char *file_kind_text(file_kind kind)
{
    return kinds[kind].text;
}

err file_kind_refuse(file_kind kind, const char *wanted)
{
    return err_set(E_FORMAT, "found %s, expected %s; %s", kinds[kind].text, wanted, kinds[kind].advice);
}
