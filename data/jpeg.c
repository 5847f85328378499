/* JPEG by libjpeg-turbo. Corrupt data, which libjpeg only warns of and fills with grey, is an error here. */
#include <stddef.h>
#include <stdio.h>
#include <jpeglib.h>
#include <jerror.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "data/codec.h"
#include "data/exif.h"

/* A legal progressive file may hold tens of thousands of scans of a hundred bytes, each a pass over all coefficients.
 * Encoders write about ten. The memory is for the coefficients of progressive files (6 bytes a pixel without
 * subsampling, 3 with the usual one). */
enum { MAX_SCANS = 500, MAX_MEMORY = 256 * 1024 * 1024 };

typedef struct decoder {
    struct jpeg_decompress_struct jpeg; /* first, so that a pointer to it is one to the decoder */
    struct jpeg_error_mgr         errors;
    struct jpeg_progress_mgr      progress;
    jmp_buf                       failed;
    uint8_t                      *row; /* one row of CMYK */
    bool                          too_many_scans;
    char                          message[JMSG_LENGTH_MAX];
} decoder;

static bool recognises(const uint8_t *bytes, size_t size)
{
    return size >= 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF;
}

static _Noreturn void fail(j_common_ptr jpeg)
{
    decoder *d = (decoder *)jpeg;
    if (!d->too_many_scans)
        jpeg->err->format_message(jpeg, d->message);
    longjmp(d->failed, 1);
}

/* Warnings that mean lost picture data. The others (stray bytes between markers, odd versions) harm nothing. */
static void judge_warning(j_common_ptr jpeg, int level)
{
    if (level >= 0)
        return;
    switch (jpeg->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_MUST_RESYNC:
    case JWRN_ARITH_BAD_CODE:
        fail(jpeg);
    default:
        break;
    }
}

static void count_scans(j_common_ptr jpeg)
{
    decoder *d = (decoder *)jpeg;
    if (d->jpeg.input_scan_number <= MAX_SCANS)
        return;
    d->too_many_scans = true;
    snprintf(d->message, sizeof d->message, "more than %d scans", MAX_SCANS);
    fail(jpeg);
}

static void start(decoder *d, const uint8_t *bytes, size_t size)
{
    jpeg_create_decompress(&d->jpeg);
    d->jpeg.progress = &d->progress;
    d->progress.progress_monitor = count_scans;
    d->jpeg.mem->max_memory_to_use = MAX_MEMORY;
    jpeg_save_markers(&d->jpeg, JPEG_APP0 + 1, 0xFFFF);
    jpeg_mem_src(&d->jpeg, bytes, size);
    jpeg_read_header(&d->jpeg, TRUE);
}

static err refuse(const decoder *d)
{
    if (d->errors.msg_code == JERR_OUT_OF_MEMORY || d->errors.msg_code == JERR_NO_BACKING_STORE)
        return err_set(E_FORMAT, "progressive JPEG needs more than %d MiB to decode; re-save it smaller or as PNG",
                       MAX_MEMORY >> 20);
    return err_set(E_FORMAT, "damaged or unsupported JPEG: %s; get the file again or re-save it", d->message);
}

static int orientation_of(const decoder *d)
{
    for (jpeg_saved_marker_ptr m = d->jpeg.marker_list; m; m = m->next) {
        if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && memcmp(m->data, "Exif\0\0", 6) == 0)
            return exif_orientation(m->data, m->data_length);
    }
    return 1;
}

/* The setjmp lives where no local changes after it. rgb NULL: the header alone. */
static bool attempt(decoder *d, uint8_t *rgb, image_header *h, const uint8_t *bytes, size_t size);

static err run(uint8_t *rgb, image_header *h, const uint8_t *bytes, size_t size)
{
    decoder d = {0};
    d.jpeg.err = jpeg_std_error(&d.errors);
    d.errors.error_exit = fail;
    d.errors.emit_message = judge_warning;
    err result = attempt(&d, rgb, h, bytes, size) ? OK : refuse(&d);
    jpeg_destroy_decompress(&d.jpeg);
    free(d.row);
    return result;
}

static err probe(image_header *out, const uint8_t *bytes, size_t size)
{
    return run(NULL, out, bytes, size);
}

static err decode(uint8_t *rgb, const image_header *h, const uint8_t *bytes, size_t size)
{
    image_header copy = *h;
    return run(rgb, &copy, bytes, size);
}

static uint8_t times_over_255(unsigned a, unsigned b)
{
    unsigned t = a * b + 128;
    return (uint8_t)(((t >> 8) + t) >> 8);
}

/* Adobe's convention, which Pillow assumes of every four-channel JPEG: stored inverted, so that 255 is no ink. */
static void rgb_from_inverted_cmyk(uint8_t *rgb, const uint8_t *cmyk, int width)
{
    for (int x = 0; x < width; x++, rgb += 3, cmyk += 4) {
        unsigned light = cmyk[3];
        for (int c = 0; c < 3; c++)
            rgb[c] = (uint8_t)(light - times_over_255(255u - cmyk[c], light));
    }
}

static void read_picture(decoder *d, uint8_t *rgb, const image_header *h)
{
    bool cmyk = d->jpeg.num_components == 4;
    d->jpeg.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(&d->jpeg);
    if (d->jpeg.output_width != (JDIMENSION)h->width || d->jpeg.output_height != (JDIMENSION)h->height)
        ERREXIT(&d->jpeg, JERR_IMAGE_TOO_BIG);
    if (cmyk && !(d->row = malloc((size_t)h->width * 4)))
        ERREXIT1(&d->jpeg, JERR_OUT_OF_MEMORY, 0);
    while (d->jpeg.output_scanline < d->jpeg.output_height) {
        uint8_t *out = rgb + (size_t)d->jpeg.output_scanline * (size_t)h->width * 3;
        JSAMPROW row = cmyk ? d->row : out;
        jpeg_read_scanlines(&d->jpeg, &row, 1);
        if (cmyk)
            rgb_from_inverted_cmyk(out, d->row, h->width);
    }
    jpeg_finish_decompress(&d->jpeg);
}

static bool attempt(decoder *d, uint8_t *rgb, image_header *h, const uint8_t *bytes, size_t size)
{
    if (setjmp(d->failed))
        return false;
    start(d, bytes, size);
    if (rgb)
        read_picture(d, rgb, h);
    else
        *h = (image_header){(int)d->jpeg.image_width, (int)d->jpeg.image_height, orientation_of(d), "JPEG"};
    return true;
}

const codec codec_jpeg = {"JPEG", recognises, probe, decode};
