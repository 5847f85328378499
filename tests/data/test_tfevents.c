/* Event files to the byte: CRC-32C by its published vectors, and records as TensorFlow's own writer gives them
 * (tests/reference/check_events.py reads whole files by TensorBoard's reader). */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "data/crc32c.h"
#include "data/tfevents.h"

static const char *const folder = MSD_TEST_TMP "/events";

/* RFC 3720, B.4; and the check value of the CRC catalogue. */
static void known_sums(void **state)
{
    (void)state;
    uint8_t bytes[32];
    assert_int_equal(crc32c("123456789", 9), 0xE3069283);
    assert_int_equal(crc32c("", 0), 0);
    memset(bytes, 0, 32);
    assert_int_equal(crc32c(bytes, 32), 0x8A9136AA);
    memset(bytes, 0xFF, 32);
    assert_int_equal(crc32c(bytes, 32), 0x62A8AB43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(crc32c(bytes, 32), 0x46DD794E);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    assert_int_equal(crc32c(bytes, 32), 0x113FDB5C);
}

/* From tensorboard's RecordWriter. */
static void records_to_the_byte(void **state)
{
    (void)state;
    static const uint8_t wanted[] = {0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xb0, 0x99,
                                     0x49, 0x0e, 0x6d, 0x73, 0x64, 0xab, 0xbb, 0x6d, 0xf3};
    size_t size;
    uint8_t *record = tfevents_record(&size, "msd", 3);
    assert_int_equal(size, sizeof wanted);
    assert_memory_equal(record, wanted, size);
    free(record);
}

static int names(char name[4][256])
{
    struct dirent **entry;
    int count = scandir(folder, &entry, NULL, alphasort), kept = 0;
    for (int i = 0; i < count; i++) {
        if (strncmp(entry[i]->d_name, ".", 1) && kept < 4)
            snprintf(name[kept++], 256, "%s", entry[i]->d_name);
        free(entry[i]);
    }
    free(entry);
    return kept;
}

static char *read_named(size_t *size, const char *name)
{
    char *path = path_join(folder, name), *text;
    assert_int_equal(file_read(&text, size, path, 1 << 20), OK);
    free(path);
    return text;
}

static void a_file_to_the_byte(void **state)
{
    (void)state;
    static const uint8_t scalars[] = {
        0x32, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x24, 0x19, 0x56, 0xec, 0x09, 0x00, 0x00, 0x20, 0x40,
        0xfc, 0x54, 0xd9, 0x41, 0x10, 0xac, 0x02, 0x2a, 0x24, 0x0a, 0x11, 0x0a, 0x0a, 0x74, 0x72, 0x61, 0x69,
        0x6e, 0x2f, 0x6c, 0x6f, 0x73, 0x73, 0x15, 0x00, 0x00, 0x80, 0x3e, 0x0a, 0x0f, 0x0a, 0x08, 0x74, 0x72,
        0x61, 0x69, 0x6e, 0x2f, 0x6c, 0x72, 0x15, 0x17, 0xb7, 0xd1, 0x38, 0xca, 0xa4, 0x0c, 0x8a};
    static const uint8_t picture[] = {0x29, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x37, 0xff, 0x5f, 0x00,
                                      0x09, 0x00, 0x00, 0x40, 0x40, 0xfc, 0x54, 0xd9, 0x41, 0x10, 0xac, 0x02,
                                      0x2a, 0x1b, 0x0a, 0x19, 0x0a, 0x09, 0x73, 0x61, 0x6d, 0x70, 0x6c, 0x65,
                                      0x73, 0x2f, 0x30, 0x22, 0x0c, 0x08, 0x02, 0x10, 0x03, 0x18, 0x03, 0x22,
                                      0x04, 0x89, 0x50, 0x4e, 0x47, 0xee, 0x6e, 0xe6, 0x67};
    char name[4][256];
    tfevents *t;
    folder_remove(folder);
    assert_int_equal(folder_make(folder), OK);
    assert_int_equal(tfevents_open(&t, folder, 0), OK);
    assert_int_equal(
        tfevents_scalars(t, 1700000000.5, 300, (tfevents_scalar[]){{"train/loss", 0.25}, {"train/lr", 1e-4}}, 2), OK);
    assert_int_equal(names(name), 1); /* what is written is there without closing */
    size_t size, start = 12 + 24 + 4;
    char *text = read_named(&size, name[0]);
    assert_int_equal(size, start + sizeof scalars);
    assert_memory_equal(text + 12 + 9, "\x1a\x0d" "brain.Event:2", 15);
    assert_memory_equal(text + start, scalars, sizeof scalars);
    free(text);
    assert_int_equal(tfevents_picture(t, 1700000001, 300, "samples/0", "\x89PNG", 4, 3, 2), OK);
    text = read_named(&size, name[0]);
    assert_int_equal(size, start + sizeof scalars + sizeof picture);
    assert_memory_equal(text + start + sizeof scalars, picture, sizeof picture);
    free(text);
    tfevents_close(t);
}

/* A resumed run's file comes after the first by name, even within a second, and says from which step on it holds. */
static void files_in_order(void **state)
{
    (void)state;
    static const uint8_t session[] = {0x10, 0x0b, 0x3a, 0x02, 0x08, 0x01}; /* step 11, session_log {status START} */
    char name[4][256];
    tfevents *t;
    folder_remove(folder);
    assert_int_equal(folder_make(folder), OK);
    for (int64_t i = 0; i < 3; i++) {
        assert_int_equal(tfevents_open(&t, folder, i == 2 ? 11 : 0), OK);
        tfevents_close(t);
        assert_int_equal(names(name), i + 1);
    }
    size_t size;
    char *text = read_named(&size, name[2]);
    assert_int_equal(size, 40 + 12 + 15 + 4);
    assert_memory_equal(text + 40 + 12 + 9, session, sizeof session);
    free(text);
}

static void a_folder_that_is_not_there(void **state)
{
    (void)state;
    tfevents *t;
    assert_int_equal(tfevents_open(&t, MSD_TEST_TMP "/no/such", 0), E_IO);
    assert_null(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_sums),      cmocka_unit_test(records_to_the_byte), cmocka_unit_test(a_file_to_the_byte),
        cmocka_unit_test(files_in_order),  cmocka_unit_test(a_folder_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
