/* What is kept on disk about a card: found again, never believed when it is damaged, another's, or refused by the library. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/cuda/cuda.h"
#include "base/file.h"

#define FOLDER MSD_TEST_TMP "/store"
#define STORE  FOLDER "/msd/cuda"

static const int64_t key[] = {1, 2, 3}, other[] = {1, 2, 4};
enum { WORDS = 3 };

static int set_up(void **state)
{
    (void)state;
    folder_remove(FOLDER);
    unsetenv("MSD_CUDA_CACHE");
    unsetenv("MSD_CUDA_HOST_FAIL");
    return folder_make(FOLDER) != OK || setenv("XDG_CACHE_HOME", FOLDER, 1);
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(FOLDER);
    return 0;
}

static bool found(cuda_store *s, const char *kind, const int64_t *k, const char *expected)
{
    void  *payload;
    size_t bytes;
    if (!cuda_store_get(&payload, &bytes, s, kind, k, WORDS))
        return false;
    assert_int_equal(bytes, strlen(expected));
    assert_memory_equal(payload, expected, bytes);
    free(payload);
    return true;
}

/* Calls f with the path of every entry; how many there were. */
static int each_entry(void (*f)(const char *path))
{
    int count = 0;
    DIR *d = opendir(STORE);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strlen(e->d_name) == 64) {
            char *path = path_join(STORE, e->d_name);
            if (f)
                f(path);
            free(path);
            count++;
        }
    if (d)
        closedir(d);
    return count;
}

static void test_found_again(void **state)
{
    (void)state;
    cuda_store *s = cuda_store_open("one card"), *t = cuda_store_open("another card");
    assert_non_null(s);
    assert_false(found(s, "kind", key, ""));
    cuda_store_put(s, "kind", key, WORDS, "what was found", 14);
    assert_true(found(s, "kind", key, "what was found"));
    assert_false(found(s, "kind", other, ""));
    assert_false(found(s, "sort", key, ""));
    assert_false(found(t, "kind", key, ""));
    cuda_store_put(s, "kind", key, WORDS, "something else", 14); /* who comes second keeps the first one's */
    assert_true(found(s, "kind", key, "what was found"));
    cuda_store_close(s);
    cuda_store_close(t);
    s = cuda_store_open("one card");
    assert_true(found(s, "kind", key, "what was found"));
    cuda_store_close(s);
}

static long damage_at;
static void flip(const char *path)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, damage_at, SEEK_SET);
    int c = fgetc(f);
    fseek(f, damage_at, SEEK_SET);
    fputc(c ^ 1, f);
    fclose(f);
}
static void cut(const char *path)
{
    assert_int_equal(truncate(path, damage_at), 0);
}

static void test_damaged(void **state)
{
    (void)state;
    cuda_store *s = cuda_store_open("one card");
    static const long flips[] = {0, 7, 8, 71, 72, 85}, cuts[] = {0, 3, 71, 72, 80};
    for (size_t i = 0; i < sizeof flips / sizeof *flips + sizeof cuts / sizeof *cuts; i++) {
        bool flipped = i < sizeof flips / sizeof *flips;
        cuda_store_put(s, "kind", key, WORDS, "what was found", 14);
        assert_true(found(s, "kind", key, "what was found"));
        damage_at = flipped ? flips[i] : cuts[i - sizeof flips / sizeof *flips];
        assert_int_equal(each_entry(flipped ? flip : cut), 1);
        assert_false(found(s, "kind", key, ""));
        assert_int_equal(each_entry(NULL), 0); /* and removed */
    }
    cuda_store_close(s);
}

static char *copied_from;
static void remember(const char *path)
{
    copied_from = path_join("", path);
}
static void overwrite(const char *path)
{
    if (strcmp(path, copied_from)) {
        assert_int_equal(unlink(path), 0);
        assert_int_equal(link(copied_from, path), 0);
    }
}

/* A whole file, under another's name. */
static void test_foreign(void **state)
{
    (void)state;
    cuda_store *s = cuda_store_open("one card");
    cuda_store_put(s, "kind", key, WORDS, "of the first key", 16);
    each_entry(remember);
    cuda_store_put(s, "kind", other, WORDS, "of the second", 13);
    assert_int_equal(each_entry(overwrite), 2);
    assert_false(found(s, "kind", other, ""));
    assert_true(found(s, "kind", key, "of the first key"));
    free(copied_from);
    cuda_store_close(s);
}

static void test_folder_of_others(void **state)
{
    (void)state;
    cuda_store *s = cuda_store_open("one card");
    cuda_store_put(s, "kind", key, WORDS, "what was found", 14);
    assert_int_equal(chmod(STORE, 0777), 0);
    assert_false(found(s, "kind", key, ""));
    assert_null(cuda_store_open("one card"));
    assert_int_equal(chmod(STORE, 0755), 0);
    assert_true(found(s, "kind", key, "what was found"));
    cuda_store_close(s);
    setenv("MSD_CUDA_CACHE", "off", 1);
    assert_null(cuda_store_open("one card"));
    unsetenv("MSD_CUDA_CACHE");
}

/* ---- a device: algorithms and plans of the first opening serve the second ---- */

enum { N = 32, SIDE = 8, CHANNELS = 16 };

static err make(tensor **out, arena *a, device *d, int ndim, const int64_t *dim)
{
    float value[N * N * CHANNELS];
    TRY(tensor_new(out, a, d, LIFE_STATE, "t", DT_F32, ndim, dim));
    for (int64_t i = 0; i < tensor_count(*out); i++)
        value[i] = (float)((i * 37) % 101) / 101.0f - 0.5f;
    return tensor_upload(*out, value, DT_F32);
}

static err compute(float *out, device *d, arena *a)
{
    tensor *t[6];
    conv_geometry g = {.stride = 1, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
    TRY(make(&t[0], a, d, DIMS(N, N)));
    TRY(make(&t[1], a, d, DIMS(N, N)));
    TRY(make(&t[2], a, d, DIMS(N, N)));
    TRY(make(&t[3], a, d, DIMS(1, SIDE, SIDE, CHANNELS)));
    TRY(make(&t[4], a, d, DIMS(CHANNELS, 3, 3, CHANNELS)));
    TRY(make(&t[5], a, d, DIMS(1, SIDE, SIDE, CHANNELS)));
    TRY(d->p->linear(d, t[0], t[1], t[2], NULL, NULL));
    TRY(d->p->conv2d(d, t[5], t[3], t[4], NULL, NULL, &g));
    TRY(tensor_download(out, DT_F32, t[0]));
    TRY(tensor_download(out + N * N, DT_F32, t[5]));
    for (int i = 0; i < 6; i++)
        tensor_release(t[i]);
    return OK;
}

enum { NUMBERS = N * N + SIDE * SIDE * CHANNELS };

static void run_device(float out[NUMBERS])
{
    arena   a = {0};
    device *d;
    assert_int_equal(device_open_cuda(&d, 0), OK);
    err e = compute(out, d, &a);
    if (e != OK)
        fail_msg("%s", err_message());
    device_close(d);
    arena_free(&a);
}

static ino_t files[8];
static int   known;
static void note_file(const char *path)
{
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    assert_true(known < 8);
    files[known++] = s.st_ino;
}
static void same_file(const char *path)
{
    struct stat s;
    bool        old = false;
    assert_int_equal(stat(path, &s), 0);
    for (int i = 0; i < known; i++)
        old = old || files[i] == s.st_ino;
    assert_true(old); /* nothing was refused and made anew */
}

static void test_device(void **state)
{
    (void)state;
    static float first[NUMBERS], second[NUMBERS], third[NUMBERS];
    run_device(first);
    known = 0;
    assert_int_equal(each_entry(note_file), 2); /* an algorithm, a plan */
    setenv("MSD_CUDA_HOST_FAIL", "cublasLtMatmulAlgoGetHeuristic:1:sticky", 1); /* nobody asks for proposals again */
    run_device(second);
    unsetenv("MSD_CUDA_HOST_FAIL");
    assert_memory_equal(first, second, sizeof first);
    assert_int_equal(each_entry(same_file), 2);
    damage_at = 100;
    assert_int_equal(each_entry(flip), 2);
    run_device(third);
    assert_memory_equal(first, third, sizeof first);
    assert_int_equal(each_entry(NULL), 2);
}

/* Whole entries whose contents make no sense to the libraries. */
static const char *identity_of(char *text, size_t bytes)
{
    struct cudaDeviceProp card;
    assert_int_equal(cudaGetDeviceProperties(&card, 0), cudaSuccess);
    snprintf(text, bytes, "%.256s, capability %d.%d; cuBLASLt %zu, cuDNN %zu", card.name, card.major, card.minor,
             cublasLtGetVersion(), cudnnGetVersion());
    return text;
}

static void test_nonsense(void **state)
{
    (void)state;
    static float first[NUMBERS], second[NUMBERS];
    char    text[512];
    int64_t product[] = {N, N, N, 1, 0, 0, 0, 0, 0, 16, 16, 0, 16}; /* blas.c */
    cublasLtMatmulAlgo_t nonsense;
    memset(&nonsense, 0x5a, sizeof nonsense);
    cuda_store *s = cuda_store_open(identity_of(text, sizeof text));
    cuda_store_put(s, "cublaslt algorithm", product, (int)(sizeof product / sizeof *product), &nonsense, sizeof nonsense);
    assert_int_equal(each_entry(NULL), 1);
    run_device(first);
    assert_int_equal(each_entry(NULL), 2); /* in the place of that, and the plan: so it was the product's */
    run_device(second);
    assert_memory_equal(first, second, sizeof first);
    cuda_store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_found_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_foreign, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_folder_of_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_device, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nonsense, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
