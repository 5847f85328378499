/* The encoder cache as a folder of files: what comes back, and what every kind of damage leads to. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/half.h"
#include "base/hash.h"
#include "data/cache.h"
#include "data/cache_journal.h"
#include "data/file_stamps.h"

static const char *folder = MSD_TEST_TMP "/cache";

static void must(err e)
{
    if (e != OK)
        fail_msg("%s", err_message());
}

static cache_key key_of(int i)
{
    cache_key k;
    hash_memory(k.hex, &i, sizeof i);
    return k;
}

static const cache_form latent = {CACHE_LATENT, STORED_F32, 4, {2, 3, 5, 4}};
static const cache_form pooled = {CACHE_POOLED, STORED_F32, 1, {7}};

static float value_of(int i, int64_t k)
{
    return (float)i + 1.0f / (float)(k + 3);
}

static void add(cache *c, int i, cache_form form)
{
    float values[120];
    cache_key key = key_of(i);
    for (int64_t k = 0; k < cache_form_count(&form); k++)
        values[k] = value_of(i, k);
    must(cache_add(c, &key, &form, values));
}

static float rounded(float x, stored_type t)
{
    return t == STORED_BF16 ? bf16_to_f32(f32_to_bf16(x)) : t == STORED_F16 ? f16_to_f32(f32_to_f16(x)) : x;
}

static void expect(cache *c, int i, cache_form form)
{
    float values[120];
    cache_key key = key_of(i);
    must(cache_read(values, c, &key, &form));
    for (int64_t k = 0; k < cache_form_count(&form); k++)
        assert_true(values[k] == rounded(value_of(i, k), form.type));
}

static cache *open_to_add(void)
{
    cache *c;
    int64_t dropped;
    must(cache_open_to_add(&c, &dropped, folder));
    cache_origin o = {.type = STORED_F32, .computed = STORED_F32, .tokens = 77, .text_width = 8, .pooled_width = 7,
                      .phrase_width = 4, .picture_side = 32, .picture_tokens = 5, .picture_width = 6, .latent_channels = 4,
                      .latent_factor = 8, .scaling_factor = 0.13025};
    for (int e = 0; e < CACHE_ENCODER_COUNT; e++)
        hash_memory(o.encoder[e], &e, sizeof e);
    cache_set_origin(c, &o);
    return c;
}

/* Two shards: entries 0..9, then 10..14. */
static void make(void)
{
    folder_remove(folder);
    cache *c = open_to_add();
    for (int i = 0; i < 10; i++)
        add(c, i, i % 2 ? pooled : latent);
    must(cache_flush(c));
    for (int i = 10; i < 15; i++)
        add(c, i, latent);
    must(cache_flush(c));
    cache_close(c);
}

static void entries_come_back(void **state)
{
    (void)state;
    make();
    cache *c;
    must(cache_open(&c, folder));
    for (int i = 0; i < 10; i++)
        expect(c, i, i % 2 ? pooled : latent);
    for (int i = 10; i < 15; i++)
        expect(c, i, latent);
    assert_true(cache_get_origin(c)->scaling_factor == 0.13025);
    assert_int_equal(cache_get_origin(c)->picture_tokens, 5);
    cache_key no = key_of(99);
    float values[120];
    assert_false(cache_has(c, &no));
    assert_int_equal(cache_read(values, c, &no, &latent), E_CACHE);
    cache_key first = key_of(0);
    cache_form other = latent;
    other.dim[1] = 4;
    assert_int_equal(cache_read(values, c, &first, &other), E_CACHE);
    assert_non_null(strstr(err_message(), "another shape"));
    cache_counts n;
    cache_count(&n, c);
    assert_int_equal(n.entries[CACHE_LATENT], 10);
    assert_int_equal(n.entries[CACHE_POOLED], 5);
    assert_int_equal(n.bytes[CACHE_LATENT], 10 * 480);
    assert_int_equal(n.shards, 2);
    must(cache_verify(c, NULL, NULL));
    cache_close(c);
}

static void small_types_round_to_nearest(void **state)
{
    (void)state;
    folder_remove(folder);
    cache *c = open_to_add();
    cache_form half = latent, brain = pooled;
    half.type = STORED_F16;
    brain.type = STORED_BF16;
    add(c, 1, half);
    add(c, 2, brain);
    must(cache_flush(c));
    expect(c, 1, half);
    expect(c, 2, brain);
    cache_close(c);
    must(cache_open(&c, folder));
    expect(c, 1, half);
    expect(c, 2, brain);
    cache_close(c);
}

static char *read_all(size_t *size, const char *name)
{
    char *path = path_join(folder, name), *bytes;
    must(file_read(&bytes, size, path, (size_t)1 << 30));
    free(path);
    return bytes;
}

static void write_all(const char *name, const char *bytes, size_t size)
{
    char *path = path_join(folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    if (size)
        assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
    free(path);
}

/* The journal of a process killed at any byte: whole entries stay, the rest is encoded again. */
static void a_cut_journal_loses_one_entry(void **state)
{
    (void)state;
    folder_remove(folder);
    cache *c = open_to_add();
    for (int i = 0; i < 3; i++)
        add(c, i, latent);
    cache_close(c); /* not flushed */
    size_t size;
    char *journal = read_all(&size, "journal");
    assert_int_equal(size % 3, 0);
    for (size_t cut = 0; cut <= size; cut += 37) {
        write_all("journal", journal, cut);
        c = open_to_add();
        for (int i = 0; i < 3; i++) {
            cache_key key = key_of(i);
            assert_int_equal(cache_has(c, &key), (size_t)(i + 1) * (size / 3) <= cut);
            add(c, i, latent);
        }
        cache_close(c);
        size_t again;
        char *whole = read_all(&again, "journal");
        assert_int_equal(again, size);
        assert_memory_equal(whole, journal, size);
        free(whole);
    }
    journal[size / 2] ^= 4;
    write_all("journal", journal, size);
    c = open_to_add();
    cache_key second = key_of(1), first = key_of(0);
    assert_false(cache_has(c, &second));
    assert_true(cache_has(c, &first));
    cache_close(c);
    free(journal);
}

/* Killed between the manifest and the clearing of the journal: the entries are not stored twice. */
static void a_journal_that_is_in_a_shard_is_dropped(void **state)
{
    (void)state;
    folder_remove(folder);
    cache *c = open_to_add();
    add(c, 1, latent);
    size_t size;
    char *journal = read_all(&size, "journal");
    must(cache_flush(c));
    cache_close(c);
    write_all("journal", journal, size);
    free(journal);
    c = open_to_add();
    must(cache_flush(c));
    cache_counts n;
    cache_count(&n, c);
    assert_int_equal(n.entries[CACHE_LATENT], 1);
    cache_close(c);
}

static void expect_refused(const char *what)
{
    cache *c;
    assert_int_equal(cache_open(&c, folder), E_CACHE);
    assert_null(c);
    if (!strstr(err_message(), "msd prepare") || !strstr(err_message(), what))
        fail_msg("%s", err_message());
}

static void damaged_shards_are_refused_and_encoded_again(void **state)
{
    (void)state;
    make();
    size_t size;
    char *shard = read_all(&size, "shard-000001.h5");
    for (size_t cut = 0; cut < size; cut += size / 20 + 1) {
        write_all("shard-000001.h5", shard, cut);
        expect_refused("shard-000001.h5");
    }
    for (size_t at = 0; at < size; at += size / 50 + 1) {
        shard[at] ^= 1;
        write_all("shard-000001.h5", shard, size);
        expect_refused("SHA-256");
        shard[at] ^= 1;
    }
    shard[size / 2] ^= 1;
    write_all("shard-000001.h5", shard, size);
    cache *c;
    int64_t dropped;
    must(cache_open_to_add(&c, &dropped, folder));
    assert_int_equal(dropped, 1);
    cache_key lost = key_of(3), kept = key_of(12);
    assert_false(cache_has(c, &lost));
    assert_true(cache_has(c, &kept));
    for (int i = 0; i < 10; i++)
        add(c, i, i % 2 ? pooled : latent);
    must(cache_flush(c));
    cache_close(c);
    must(cache_open(&c, folder));
    expect(c, 3, pooled);
    expect(c, 12, latent);
    cache_close(c);
    free(shard);
    char *path = path_join(folder, "shard-000002.h5");
    assert_int_equal(unlink(path), 0);
    free(path);
    expect_refused("missing");
}

/* Every byte of the manifest is under its own hash. */
static void damaged_manifests_are_refused(void **state)
{
    (void)state;
    make();
    size_t size;
    char *manifest = read_all(&size, "manifest.json");
    for (size_t at = 0; at < size; at++) {
        manifest[at] ^= 2;
        write_all("manifest.json", manifest, size);
        expect_refused("manifest.json");
        manifest[at] ^= 2;
    }
    for (size_t cut = 0; cut < size; cut += 13) {
        write_all("manifest.json", manifest, cut);
        expect_refused("manifest.json");
    }
    write_all("manifest.json", manifest, size);
    cache *c;
    must(cache_open(&c, folder));
    cache_close(c);
    free(manifest);
    folder_remove(folder);
    expect_refused("no such file");
}

/* A shard of another cache under our name, and an HDF5 file that we did not write. */
static void foreign_shards_are_refused(void **state)
{
    (void)state;
    make();
    size_t size;
    char *other = read_all(&size, "shard-000002.h5");
    write_all("shard-000001.h5", other, size);
    expect_refused("shard-000001.h5");
    free(other);
    cache_shard s;
    char *path = path_join(folder, "manifest.json");
    assert_int_equal(cache_shard_open(&s, path), E_CACHE);
    free(path);
}

/* fletcher32 alone, without the file's hash: a flipped bit in an entry's bytes is seen when it is read. */
static void fletcher32_sees_a_flipped_bit(void **state)
{
    (void)state;
    make();
    size_t size;
    char *shard = read_all(&size, "shard-000002.h5");
    float value = value_of(11, 0);
    char *at = memmem(shard, size, &value, sizeof value);
    assert_non_null(at);
    at[1] ^= 16;
    write_all("shard-000002.h5", shard, size);
    free(shard);
    cache_shard s;
    char *path = path_join(folder, "shard-000002.h5");
    float values[120];
    must(cache_shard_open(&s, path));
    must(cache_shard_read(values, &s, 0, 0));
    assert_int_equal(cache_shard_read(values, &s, 0, 1), E_CACHE);
    assert_non_null(strstr(err_message(), "checksum"));
    cache_shard_close(&s);
    free(path);
}

static bool keep_even(void *user, const cache_key *key)
{
    (void)user;
    for (int i = 0; i < 15; i += 2) {
        cache_key k = key_of(i);
        if (!strcmp(k.hex, key->hex))
            return true;
    }
    return false;
}

static bool keep_all(void *user, const cache_key *key)
{
    (void)user;
    (void)key;
    return true;
}

static void collecting_gives_space_back(void **state)
{
    (void)state;
    make();
    cache *c = open_to_add();
    int64_t freed, dropped;
    must(cache_collect(&freed, &dropped, c, keep_all, NULL));
    assert_int_equal(freed, 0);
    assert_int_equal(dropped, 0);
    cache_counts before, after;
    cache_count(&before, c);
    must(cache_collect(&freed, &dropped, c, keep_even, NULL));
    cache_count(&after, c);
    assert_int_equal(dropped, 7);
    assert_int_equal(freed, before.file_bytes - after.file_bytes);
    assert_true(freed > 0);
    cache_close(c);
    must(cache_open(&c, folder));
    for (int i = 0; i < 15; i++) {
        cache_key k = key_of(i);
        assert_int_equal(cache_has(c, &k), i % 2 == 0);
        if (i % 2 == 0)
            expect(c, i, latent);
    }
    cache_close(c);
    char *path = path_join(folder, "shard-000001.h5");
    assert_false(file_exists(path));
    free(path);
}

static void unreadable_pictures_are_remembered(void **state)
{
    (void)state;
    folder_remove(folder);
    cache *c = open_to_add();
    cache_key bad = key_of(5), good = key_of(6);
    cache_add_unreadable(c, &bad);
    cache_add_unreadable(c, &bad);
    must(cache_flush(c));
    cache_close(c);
    must(cache_open(&c, folder));
    assert_true(cache_unreadable(c, &bad));
    assert_false(cache_unreadable(c, &good));
    cache_close(c);
}

static void two_writers_are_refused(void **state)
{
    (void)state;
    folder_remove(folder);
    cache *c = open_to_add(), *second;
    int64_t dropped;
    assert_int_equal(cache_open_to_add(&second, &dropped, folder), E_USAGE);
    assert_null(second);
    cache_close(c);
}

static void stamps_see_changes(void **state)
{
    (void)state;
    const char *table = MSD_TEST_TMP "/stamps", *file = MSD_TEST_TMP "/stamped";
    char a[65], b[65];
    unlink(table);
    folder_remove(folder);
    must(folder_make(folder));
    write_all("../stamped", "one", 3);
    file_stamps *s = file_stamps_open(table);
    must(file_stamps_hash(a, s, file));
    write_all("../stamped", "two", 3);
    must(file_stamps_hash(b, s, file));
    assert_string_not_equal(a, b);
    hash_memory(a, "two", 3);
    assert_string_equal(a, b);
    must(file_stamps_save(s));
    file_stamps_close(s);
    s = file_stamps_open(table);
    must(file_stamps_hash(b, s, file));
    assert_string_equal(a, b);
    assert_int_equal(file_stamps_hash(b, s, MSD_TEST_TMP "/no-such-file"), E_IO);
    file_stamps_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_come_back),
        cmocka_unit_test(small_types_round_to_nearest),
        cmocka_unit_test(a_cut_journal_loses_one_entry),
        cmocka_unit_test(a_journal_that_is_in_a_shard_is_dropped),
        cmocka_unit_test(damaged_shards_are_refused_and_encoded_again),
        cmocka_unit_test(damaged_manifests_are_refused),
        cmocka_unit_test(foreign_shards_are_refused),
        cmocka_unit_test(fletcher32_sees_a_flipped_bit),
        cmocka_unit_test(collecting_gives_space_back),
        cmocka_unit_test(unreadable_pictures_are_remembered),
        cmocka_unit_test(two_writers_are_refused),
        cmocka_unit_test(stamps_see_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
