#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/file.h"
#include "data/image.h"
#include "support_picture.h"

typedef struct bytes {
    uint8_t *data;
    size_t   size;
} bytes;

static void golden_path(char out[512], const char *name)
{
    snprintf(out, 512, MSD_GOLDENS "/images/%s", name);
}

static bytes golden_bytes(const char *name)
{
    char path[512], *text;
    size_t size;
    golden_path(path, name);
    assert_int_equal(file_read(&text, &size, path, 1 << 20), OK);
    return (bytes){(uint8_t *)text, size};
}

static uint8_t hex_byte(const char *text)
{
    char pair[3] = {text[0], text[1], 0};
    return (uint8_t)strtoul(pair, NULL, 16);
}

static void expect_bytes(const uint8_t *found, size_t size, const json_t *golden, const char *key, const char *name)
{
    const char *hex = json_string_value(json_object_get(golden, key));
    assert_int_equal(strlen(hex), 2 * size);
    for (size_t i = 0; i < size; i++) {
        if (found[i] != hex_byte(hex + 2 * i))
            fail_msg("%s: %s[%zu] is %d, Pillow's %d", name, key, i, found[i], hex_byte(hex + 2 * i));
    }
}

/* All forms of PNG, JPEG and WebP, upright, to the bit as Pillow's exif_transpose and convert. */
static void test_equals_pillow(void **state)
{
    json_t *goldens = json_object_get(*state, "files"), *g;
    const char *name;
    int count = 0;
    json_object_foreach(goldens, name, g) {
        char path[512];
        image_header header;
        image picture;
        grey_image grey;
        golden_path(path, name);
        count++;
        if (image_probe(&header, path, NULL) != OK && strstr(err_message(), "without libwebp"))
            continue;
        if (image_probe(&header, path, NULL) != OK || image_load(&picture, path, NULL) != OK ||
            grey_image_load(&grey, path, NULL) != OK)
            fail_msg("%s", err_message());
        assert_string_equal(header.format, json_string_value(json_object_get(g, "format")));
        int width = (int)json_integer_value(json_object_get(g, "width")),
            height = (int)json_integer_value(json_object_get(g, "height"));
        assert_int_equal(image_header_width(&header), width);
        assert_int_equal(image_header_height(&header), height);
        assert_int_equal(picture.width, width);
        assert_int_equal(picture.height, height);
        expect_bytes(picture.rgb, 3 * (size_t)width * (size_t)height, g, "rgb", name);
        expect_bytes(grey.grey, (size_t)grey.width * (size_t)grey.height, g, "grey", name);
        image_free(&picture);
        grey_image_free(&grey);
    }
    assert_true(count >= 50);
}

static void expect_refused(const uint8_t *data, size_t size, const char *what, const char *word)
{
    image out;
    err result = image_decode(&out, data, size, what, NULL);
    if (result != E_FORMAT || !strstr(err_message(), word) || out.rgb)
        fail_msg("%s: %s, message '%s', expected '%s' in it", what, err_name(result), result ? err_message() : "",
                 word);
}

/* A file cut at any byte is refused, not filled with grey. */
static void test_truncated(void **state)
{
    (void)state;
    static const char *const names[] = {
        "rgb.png",         "adam7_rgb.png",      "palette8_tRNS.png", "exif8_behind.png",
        "baseline420.jpg", "progressive444.jpg", "restart.jpg",       "cmyk_adobe.jpg",
        "lossy.webp",      "lossless_alpha.webp"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        bytes whole = golden_bytes(names[n]);
        for (size_t cut = 0; cut < whole.size; cut++) {
            uint8_t *part = malloc(cut + 1); /* of its own, so that a sanitizer sees reads beyond it */
            memcpy(part, whole.data, cut);
            image out;
            err result = image_decode(&out, cut ? part : NULL, cut, names[n], NULL);
            if (result != E_FORMAT && !(result == OK && strstr(names[n], "webp") && cut >= whole.size - 8))
                fail_msg("%s cut at %zu of %zu: %s", names[n], cut, whole.size, err_name(result));
            image_free(&out);
            free(part);
        }
        free(whole.data);
    }
}

/* Every bit of a few files flipped in turn: any answer but a crash or a leak will do. */
static void test_flipped(void **state)
{
    (void)state;
    static const char *const names[] = {"palette2.png", "exif6.png", "progressive420.jpg", "exif6.jpg", "exif6.webp"};
    image_limits limits = {.side = 1024, .pixels = 1 << 18};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        bytes whole = golden_bytes(names[n]);
        for (size_t bit = 0; bit < 8 * whole.size; bit++) {
            image out;
            whole.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            err result = image_decode(&out, whole.data, whole.size, names[n], &limits);
            assert_true(result == OK || result == E_FORMAT);
            image_free(&out);
            whole.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        free(whole.data);
    }
}

static void test_names_what_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *word;
    } rows[] = {
        {"", 0, "empty"},
        {"GIF89a.........", 15, "GIF"},
        {"II*\0............", 16, "TIFF"},
        {"\0\0\0\x18" "ftypheic....", 16, "HEIC"},
        {"\0\0\0\x18" "ftypavif....", 16, "AVIF"},
        {"\0\0\0\x18" "ftypisom....", 16, "video"},
        {"BM..............", 16, "BMP"},
        {"<!DOCTYPE html><html>404</html>", 31, "HTML"},
        {"  <html lang=en>", 16, "HTML"},
        {"<?xml version='1.0'?><svg/>", 27, "XML"},
        {"<svg xmlns='...'/>", 18, "SVG"},
        {"version https://git-lfs.github.com/spec/v1\n", 43, "git-LFS"},
        {"%PDF-1.7", 8, "PDF"},
        {"gr\xc3\xbc\xc3\x9f dich", 11, "text"},
        {"\x89PN", 3, "unknown form"},
        {"\xff\xd8\xff\xe0 and then nothing", 22, "JPEG"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect_refused((const uint8_t *)rows[i].bytes, rows[i].size, "wrong.jpg", rows[i].word);
    image out;
    assert_int_equal(image_load(&out, MSD_GOLDENS "/images/missing.png", NULL), E_IO);
    assert_int_equal(image_load(&out, MSD_GOLDENS, NULL), E_IO);
    assert_non_null(strstr(err_message(), "goldens"));
}

static void set_png_size(bytes *png, uint32_t width, uint32_t height)
{
    for (int i = 0; i < 4; i++) {
        png->data[16 + i] = (uint8_t)(width >> (24 - 8 * i));
        png->data[20 + i] = (uint8_t)(height >> (24 - 8 * i));
    }
}

/* Limits hold on both sides, and are looked at before memory is asked for. */
static void test_limits(void **state)
{
    (void)state;
    static const struct {
        uint32_t width, height;
        const char *word;
    } rows[] = {{60000, 60000, "8192 a side"}, {8193, 1, "8192 a side"}, {8192, 8192, "64 million"}, {0, 9, "0 x 9"},
                {0xFFFFFFFF, 0xFFFFFFFF, "4294967295"}, {8000, 8000, "damaged"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bytes png = golden_bytes("rgb.png");
        set_png_size(&png, rows[i].width, rows[i].height);
        expect_refused(png.data, png.size, "bomb.png", rows[i].word);
        free(png.data);
    }
    image_header header;
    image_limits exact = {.side = 13, .pixels = 13 * 9}, short_side = {.side = 12, .pixels = 1000},
                 few = {.side = 13, .pixels = 13 * 9 - 1};
    assert_int_equal(image_probe(&header, MSD_GOLDENS "/images/rgb.png", &exact), OK);
    assert_int_equal(image_probe(&header, MSD_GOLDENS "/images/rgb.png", &short_side), E_FORMAT);
    assert_int_equal(image_probe(&header, MSD_GOLDENS "/images/rgb.png", &few), E_FORMAT);
    assert_non_null(strstr(err_message(), "images/rgb.png: PNG of 13 x 9 pixels"));
}

/* A progressive file with its first scan written again and again: legal, and a bomb. */
static void test_many_scans(void **state)
{
    (void)state;
    bytes jpeg = golden_bytes("progressive444.jpg");
    size_t first = 0, next = 0;
    for (size_t i = 2; i + 1 < jpeg.size && !next; i++) {
        if (jpeg.data[i] != 0xFF || (jpeg.data[i + 1] != 0xDA && !(first && jpeg.data[i + 1] == 0xC4)))
            continue;
        if (first)
            next = i;
        else
            first = i;
    }
    assert_true(first && next);
    size_t length = next - first, count = 600;
    bytes bomb = {malloc(jpeg.size + count * length), 0};
    memcpy(bomb.data, jpeg.data, first);
    bomb.size = first;
    for (size_t i = 0; i < count; i++, bomb.size += length)
        memcpy(bomb.data + bomb.size, jpeg.data + first, length);
    memcpy(bomb.data + bomb.size, jpeg.data + first, jpeg.size - first);
    bomb.size += jpeg.size - first;
    expect_refused(bomb.data, bomb.size, "scans.jpg", "500 scans");
    free(bomb.data);
    free(jpeg.data);
}

#define CONTAINS(whole, part) (memmem((whole).data, (whole).size, (part), sizeof(part) - 1) != NULL)

static void test_save(void **state)
{
    (void)state;
    static const image_text texts[] = {
        {"parameters", "a dog\nNegative prompt: caf\xc3\xa9"}, {"msd", "\xe6\xbc\xa2 {\"scale\":0.6}"}, {"empty", ""}};
    const char *path = MSD_TEST_TMP "/saved.png", *again = MSD_TEST_TMP "/saved_again.png";
    image in = picture_make(37, 21), out;
    assert_int_equal(image_save_png(path, &in, texts, 3), OK);
    assert_int_equal(image_save_png(again, &in, texts, 3), OK);
    assert_int_equal(image_load(&out, path, NULL), OK);
    assert_int_equal(out.width, 37);
    assert_int_equal(out.height, 21);
    assert_memory_equal(out.rgb, in.rgb, 37 * 21 * 3);
    bytes first, second;
    assert_int_equal(file_read((char **)&first.data, &first.size, path, 1 << 20), OK);
    assert_int_equal(file_read((char **)&second.data, &second.size, again, 1 << 20), OK);
    assert_int_equal(first.size, second.size);
    assert_memory_equal(first.data, second.data, first.size);
    assert_true(CONTAINS(first, "tEXtparameters\0a dog\nNegative prompt: caf\xe9"));
    assert_true(CONTAINS(first, "iTXtmsd\0\0\0\0\0\xe6\xbc\xa2 {\"scale\":0.6}"));
    assert_int_equal(image_save_png(MSD_TEST_TMP "/no/such/folder/x.png", &in, NULL, 0), E_IO);
    free(first.data);
    free(second.data);
    image_free(&in);
    image_free(&out);
}

static int load(void **state)
{
    *state = picture_goldens();
    return 0;
}

static int drop(void **state)
{
    json_decref(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_pillow),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_flipped),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_names_what_it_is),
        cmocka_unit_test(test_many_scans),
        cmocka_unit_test(test_save),
    };
    return cmocka_run_group_tests(tests, load, drop);
}
