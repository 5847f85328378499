/* PNG by libpng's low-level interface with only the transforms needed: the simplified interface and gamma, palette
 * and profile handling are where its security fixes of the last years lie. */
#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "data/codec.h"
#include "data/exif.h"

enum { SIGNATURE_BYTES = 8, MESSAGE_BYTES = 160 };

static uint32_t big_endian32(const uint8_t *b)
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static bool recognises(const uint8_t *bytes, size_t size)
{
    return size >= SIGNATURE_BYTES && png_sig_cmp(bytes, 0, SIGNATURE_BYTES) == 0;
}

/* The EXIF block may stand before or behind the picture data, so all chunks are walked. */
static int orientation_of(const uint8_t *bytes, size_t size)
{
    size_t at = SIGNATURE_BYTES;
    while (size - at >= 12) {
        size_t length = big_endian32(bytes + at);
        if (length > size - at - 12)
            break;
        if (memcmp(bytes + at + 4, "eXIf", 4) == 0)
            return exif_orientation(bytes + at + 8, length);
        at += 12 + length;
    }
    return 1;
}

static err probe(image_header *out, const uint8_t *bytes, size_t size)
{
    if (size < SIGNATURE_BYTES + 12 + 13 || big_endian32(bytes + 8) != 13 || memcmp(bytes + 12, "IHDR", 4))
        return err_set(E_FORMAT, "PNG without a header (IHDR), probably truncated; get the file again");
    uint32_t width = big_endian32(bytes + 16), height = big_endian32(bytes + 20);
    if (width == 0 || height == 0 || width > INT32_MAX || height > INT32_MAX)
        return err_set(E_FORMAT, "PNG of %u x %u pixels, expected sides from 1 to 2147483647", width, height);
    *out = (image_header){(int)width, (int)height, orientation_of(bytes, size), "PNG"};
    return OK;
}

typedef struct reader {
    const uint8_t *bytes;
    size_t         size, at;
    char           message[MESSAGE_BYTES];
} reader;

static void keep_message(png_structp png, png_const_charp message)
{
    char *kept = png_get_error_ptr(png);
    size_t length = strnlen(message, MESSAGE_BYTES - 1);
    memcpy(kept, message, length);
    kept[length] = 0;
    png_longjmp(png, 1);
}

static void ignore_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void read_bytes(png_structp png, png_bytep out, size_t size)
{
    reader *r = png_get_io_ptr(png);
    if (size > r->size - r->at)
        png_error(png, "the file ends too early (truncated)");
    memcpy(out, r->bytes + r->at, size);
    r->at += size;
}

/* Everything but the picture itself is skipped unread: text, profiles, gamma, transparency. */
static void skip_ancillary_chunks(png_structp png)
{
    static const png_byte names[] =
        "bKGD\0cHRM\0cICP\0eXIf\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0sPLT\0sRGB\0"
        "sTER\0tEXt\0tIME\0tRNS\0zTXt\0acTL\0fcTL\0fdAT";
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, names, (int)(sizeof names / 5));
}

static void set_transforms(png_structp png, png_infop info)
{
    int depth = png_get_bit_depth(png, info), type = png_get_color_type(png, info);
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(png);
    if (type == PNG_COLOR_TYPE_GRAY && depth < 8)
        png_set_expand_gray_1_2_4_to_8(png);
    if (depth == 16)
        png_set_strip_16(png); /* the high byte, as Pillow */
    if (type & PNG_COLOR_MASK_ALPHA)
        png_set_strip_alpha(png);
    if (!(type & PNG_COLOR_MASK_COLOR))
        png_set_gray_to_rgb(png);
}

static void read_picture(png_structp png, png_infop info, uint8_t *rgb, const image_header *h)
{
    skip_ancillary_chunks(png);
    png_set_user_limits(png, (png_uint_32)h->width, (png_uint_32)h->height);
    png_set_chunk_malloc_max(png, 1 << 20);
    png_read_info(png, info);
    set_transforms(png, info);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    size_t row_bytes = (size_t)h->width * 3;
    if (png_get_rowbytes(png, info) != row_bytes || png_get_image_height(png, info) != (png_uint_32)h->height)
        png_error(png, "two headers that differ");
    for (int pass = 0; pass < passes; pass++) {
        for (int y = 0; y < h->height; y++)
            png_read_row(png, rgb + (size_t)y * row_bytes, NULL);
    }
    png_read_end(png, NULL);
}

/* The setjmp lives where no local changes after it. */
static bool attempt_read(png_structp png, png_infop info, uint8_t *rgb, const image_header *h)
{
    if (setjmp(png_jmpbuf(png)))
        return false;
    read_picture(png, info, rgb, h);
    return true;
}

static err decode(uint8_t *rgb, const image_header *h, const uint8_t *bytes, size_t size)
{
    reader r = {.bytes = bytes, .size = size};
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r.message, keep_message, ignore_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info) {
        png_destroy_read_struct(&png, NULL, NULL);
        return err_set(E_MEMORY, "no memory to decode a PNG; close other programs");
    }
    png_set_read_fn(png, &r, read_bytes);
    bool whole = attempt_read(png, info, rgb, h);
    png_destroy_read_struct(&png, &info, NULL);
    return whole ? OK : err_set(E_FORMAT, "damaged PNG: %s; get the file again or re-save it", r.message);
}

const codec codec_png = {"PNG", recognises, probe, decode};

/* Writing. */

typedef struct writer {
    file_writer *file;  /* or, where NULL, memory: */
    uint8_t     *bytes;
    size_t       size, room;
    err          result;
    char         message[MESSAGE_BYTES];
} writer;

static void keep_bytes(writer *w, const uint8_t *bytes, size_t size)
{
    if (w->size + size > w->room) {
        w->room = 2 * (w->size + size);
        w->bytes = heap_grow(w->bytes, w->room);
    }
    memcpy(w->bytes + w->size, bytes, size);
    w->size += size;
}

static void write_bytes(png_structp png, png_bytep bytes, size_t size)
{
    writer *w = png_get_io_ptr(png);
    if (!w->file) {
        keep_bytes(w, bytes, size);
        return;
    }
    w->result = file_write(w->file, bytes, size);
    if (w->result != OK)
        png_error(png, "write");
}

static void flush_nothing(png_structp png)
{
    (void)png;
}

/* Latin-1 bytes of UTF-8 `text` into `out` (as long as text), or false where a character is beyond it or a control
 * character other than newline, which tEXt does not allow. */
static bool latin1(char *out, const char *text)
{
    const uint8_t *in = (const uint8_t *)text;
    while (*in) {
        unsigned c = *in++;
        if (c == 0xC2 || c == 0xC3) {
            if ((*in & 0xC0) != 0x80)
                return false;
            c = (c & 3) << 6 | (*in++ & 0x3F);
        } else if (c >= 0x80) {
            return false;
        }
        if ((c < 0x20 && c != '\n') || (c >= 0x7F && c < 0xA0))
            return false;
        *out++ = (char)c;
    }
    *out = 0;
    return true;
}

static png_text text_chunk(const image_text *t, char *converted)
{
    bool plain = latin1(converted, t->text);
    png_text chunk = {
        .compression = plain ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE,
        .key = (char *)(uintptr_t)t->key,
        .text = plain ? converted : (char *)(uintptr_t)t->text,
    };
    if (plain)
        chunk.text_length = strlen(converted);
    else
        chunk.itxt_length = strlen(t->text);
    return chunk;
}

static void write_picture(png_structp png, png_infop info, const image *picture, const png_text *texts, int text_count)
{
    png_set_IHDR(png, info, (png_uint_32)picture->width, (png_uint_32)picture->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_compression_level(png, 6);
    png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_ALL_FILTERS);
    if (text_count)
        png_set_text(png, info, texts, text_count);
    png_write_info(png, info);
    for (int y = 0; y < picture->height; y++)
        png_write_row(png, picture->rgb + (size_t)y * (size_t)picture->width * 3);
    png_write_end(png, info);
}

static bool attempt_write(png_structp png, png_infop info, const image *picture, const png_text *texts, int text_count)
{
    if (setjmp(png_jmpbuf(png)))
        return false;
    write_picture(png, info, picture, texts, text_count);
    return true;
}

static err encode(writer *w, const image *picture, const png_text *texts, int text_count)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, w->message, keep_message, ignore_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info) {
        png_destroy_write_struct(&png, NULL);
        return err_set(E_MEMORY, "no memory to write a PNG; close other programs");
    }
    png_set_write_fn(png, w, write_bytes, flush_nothing);
    bool whole = attempt_write(png, info, picture, texts, text_count);
    png_destroy_write_struct(&png, &info);
    if (w->result != OK)
        return w->result;
    return whole ? OK : err_set(E_IO, "cannot encode a PNG: %s", w->message);
}

err image_save_png(const char *path, const image *picture, const image_text *texts, int text_count)
{
    writer w = {.result = OK};
    TRY(file_create(&w.file, path));
    png_text *chunks = calloc((size_t)text_count + 1, sizeof *chunks);
    char **converted = calloc((size_t)text_count + 1, sizeof *converted);
    err result = chunks && converted ? OK : err_set(E_MEMORY, "%s: no memory for %d text chunks", path, text_count);
    for (int i = 0; i < text_count && result == OK; i++) {
        converted[i] = malloc(strlen(texts[i].text) + 1);
        if (converted[i])
            chunks[i] = text_chunk(&texts[i], converted[i]);
        else
            result = err_set(E_MEMORY, "%s: no memory for the text '%s'", path, texts[i].key);
    }
    if (result == OK)
        result = encode(&w, picture, chunks, text_count);
    for (int i = 0; converted && i < text_count; i++)
        free(converted[i]);
    free(converted);
    free(chunks);
    if (result == OK)
        return file_publish(w.file);
    file_discard(w.file);
    return result;
}

err image_encode_png(uint8_t **bytes, size_t *size, const image *picture)
{
    writer w = {.result = OK};
    err e = encode(&w, picture, NULL, 0);
    if (e != OK) {
        free(w.bytes);
        w = (writer){0};
    }
    *bytes = w.bytes;
    *size = w.size;
    return e;
}
