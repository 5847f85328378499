#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/io.h"

static char *root; /* an empty folder for each test */

static int make_root(void **state)
{
    (void)state;
    root = path_join(MSD_TEST_TMP, "file");
    folder_remove(root);
    return folder_make(root) != OK;
}

static int remove_root(void **state)
{
    (void)state;
    folder_remove(root);
    int left = folder_exists(root);
    free(root);
    return left;
}

static void write_text(const char *path, const char *text)
{
    file_writer *w;
    assert_int_equal(file_create(&w, path), OK);
    assert_int_equal(file_write(w, text, strlen(text)), OK);
    assert_int_equal(file_publish(w), OK);
}

static void assert_text(const char *path, const char *expected)
{
    char *text;
    size_t size;
    assert_int_equal(file_read(&text, &size, path, 1 << 20), OK);
    assert_string_equal(text, expected);
    assert_int_equal(size, strlen(expected));
    free(text);
}

static int entries(const char *folder)
{
    char command[4096];
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", folder);
    FILE *pipe = popen(command, "r");
    int count = -1;
    assert_int_equal(fscanf(pipe, "%d", &count), 1);
    pclose(pipe);
    return count;
}

static void test_publish(void **state)
{
    (void)state;
    char *path = path_join(root, "a.txt");
    write_text(path, "old");
    file_writer *w;
    assert_int_equal(file_create(&w, path), OK);
    assert_int_equal(file_write(w, "new", 3), OK);
    assert_text(path, "old");
    assert_int_equal(entries(root), 2);
    assert_int_equal(file_publish(w), OK);
    assert_text(path, "new");
    assert_int_equal(file_create(&w, path), OK);
    assert_int_equal(file_write(w, "never", 5), OK);
    file_discard(w);
    file_discard(NULL);
    assert_text(path, "new");
    assert_int_equal(entries(root), 1);
    free(path);
}

/* Who is first stays, and no temporary is left. */
static void test_publish_first(void **state)
{
    (void)state;
    char *path = path_join(root, "kept.bin");
    static const char *const text[] = {"the first", "the second"};
    for (int i = 0; i < 2; i++) {
        file_writer *w;
        assert_int_equal(file_create(&w, path), OK);
        assert_int_equal(file_write(w, text[i], strlen(text[i])), OK);
        assert_int_equal(file_publish_first(w), OK);
        assert_text(path, text[0]);
        assert_int_equal(entries(root), 1);
    }
    free(path);
}

static void test_many_small_and_large_writes(void **state)
{
    (void)state;
    enum { N = 1000003 };
    uint8_t *bytes = malloc(N);
    for (size_t i = 0; i < N; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 257);
    char *path = path_join(root, "big");
    file_writer *w;
    assert_int_equal(file_create(&w, path), OK);
    for (size_t at = 0, step = 1; at < N; at += step, step = step * 3 % 400009 + 1)
        assert_int_equal(file_write(w, bytes + at, at + step < N ? step : N - at), OK);
    assert_int_equal(file_publish(w), OK);
    file_map map;
    assert_int_equal(file_map_open(&map, path), OK);
    assert_int_equal(map.size, N);
    assert_memory_equal(map.bytes, bytes, N);
    file_map_close(&map);
    char of_file[65], of_memory[65];
    assert_int_equal(file_sha256(of_file, path), OK);
    hash_memory(of_memory, bytes, N);
    assert_string_equal(of_file, of_memory);
    free(bytes);
    free(path);
}

/* A write past `ulimit -f` fails with EFBIG in the middle: the old file stays, no temporary is left, and the
 * first reason is kept. */
static void test_failed_write_keeps_the_old_file(void **state)
{
    (void)state;
    char *path = path_join(root, "kept");
    write_text(path, "old");
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 300000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    file_writer *w;
    char *bytes = calloc(1, 400000);
    assert_int_equal(file_create(&w, path), OK);
    err first = file_write(w, bytes, 400000), second = file_write(w, bytes, 1), last = file_publish(w);
    char message[512];
    snprintf(message, sizeof message, "%s", err_message());
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(first, E_IO);
    assert_int_equal(second, E_IO);
    assert_int_equal(last, E_IO);
    assert_non_null(strstr(message, "kept: cannot write: File too large"));
    assert_text(path, "old");
    assert_int_equal(entries(root), 1);
    free(bytes);
    free(path);
}

static void test_disk_full_class(void **state)
{
    (void)state;
    if (access("/dev/full", W_OK) != 0)
        skip();
    int fd = io_open("/dev/full", 1, 0);
    assert_true(fd >= 0);
    assert_false(io_write_all(fd, "x", 1));
    assert_int_equal(io_error(errno, "x", "write"), E_DISK_FULL);
    io_close(fd);
    assert_int_equal(io_error(EDQUOT, "x", "write"), E_DISK_FULL);
    assert_int_equal(io_error(EIO, "x", "write"), E_IO);
}

static void test_not_regular(void **state)
{
    (void)state;
    char *fifo = path_join(root, "fifo"), *text;
    size_t size;
    assert_int_equal(mkfifo(fifo, 0600), 0);
    file_map map;
    alarm(5); /* a hang ends the test */
    assert_int_equal(file_map_open(&map, fifo), E_IO);
    assert_int_equal(file_read(&text, &size, fifo, 10), E_IO);
    assert_non_null(strstr(err_message(), "expected a regular file"));
    assert_int_equal(file_map_open(&map, root), E_IO);
    assert_non_null(strstr(err_message(), "a folder"));
    assert_int_equal(file_map_open(&map, "/dev/zero"), E_IO);
    char *missing = path_join(root, "missing");
    assert_int_equal(file_map_open(&map, missing), E_IO);
    assert_non_null(strstr(err_message(), "No such file"));
    file_writer *w;
    assert_int_equal(file_create(&w, root), E_IO);
    file_log *log;
    assert_int_equal(file_log_open(&log, fifo), E_IO);
    alarm(0);
    assert_false(file_exists(fifo));
    assert_false(file_exists(root));
    assert_true(folder_exists(root));
    free(missing);
    free(fifo);
}

static void test_read_limit(void **state)
{
    (void)state;
    char *path = path_join(root, "five"), *text;
    size_t size;
    write_text(path, "12345");
    assert_int_equal(file_read(&text, &size, path, 4), E_FORMAT);
    assert_null(text);
    assert_int_equal(file_read(&text, &size, path, 5), OK);
    assert_string_equal(text, "12345");
    free(text);
    write_text(path, "");
    assert_int_equal(file_read(&text, &size, path, 5), OK);
    assert_int_equal(size, 0);
    assert_string_equal(text, "");
    free(text);
    file_map map;
    assert_int_equal(file_map_open(&map, path), OK);
    assert_null(map.bytes);
    file_map_close(&map);
    assert_int_equal(file_read(&text, &size, "/proc/self/stat", 1 << 16), OK); /* claims 0 bytes */
    assert_true(size > 10);
    free(text);
    free(path);
}

static void test_folder(void **state)
{
    (void)state;
    char *final = path_join(root, "step-000010"), *temporary;
    assert_int_equal(folder_create_temporary(&temporary, final), OK);
    char *inside = path_join(temporary, "a");
    write_text(inside, "x");
    assert_false(folder_exists(final));
    assert_int_equal(folder_publish(temporary, final), OK);
    free(inside);
    inside = path_join(final, "a");
    assert_text(inside, "x");
    assert_int_equal(entries(root), 1);
    char *again;
    assert_int_equal(folder_create_temporary(&again, final), OK);
    assert_int_equal(folder_publish(again, final), E_IO); /* never over a folder that has something in it */
    assert_text(inside, "x");
    folder_remove(again);
    free(again);
    free(inside);
    free(temporary);
    free(final);
}

static void test_folder_make_and_remove(void **state)
{
    (void)state;
    char *deep = path_join(root, "a/b//c/"), *file = path_join(root, "a/file"), *below = path_join(root, "a/file/x");
    assert_int_equal(folder_make(deep), OK);
    assert_int_equal(folder_make(deep), OK);
    assert_true(folder_exists(deep));
    write_text(file, "x");
    assert_int_equal(folder_make(file), E_IO);
    assert_int_equal(folder_make(below), E_IO);
    assert_int_equal(folder_make(""), E_IO);
    char *outside = path_join(root, "outside"), *link = path_join(root, "a/link"), *kept = path_join(root, "outside/k");
    assert_int_equal(folder_make(outside), OK);
    write_text(kept, "kept");
    assert_int_equal(symlink(outside, link), 0);
    char *a = path_join(root, "a");
    folder_remove(a);
    folder_remove(a);
    assert_false(folder_exists(a));
    assert_text(kept, "kept");
    char *names[] = {deep, file, below, outside, link, kept, a};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        free(names[i]);
}

static void test_log_and_lock(void **state)
{
    (void)state;
    char *path = path_join(root, "log.jsonl"), *lock = path_join(root, "lock");
    for (int i = 0; i < 2; i++) {
        file_log *log;
        assert_int_equal(file_log_open(&log, path), OK);
        assert_int_equal(file_log_line(log, "{\"a\":1}"), OK);
        assert_int_equal(file_log_line(log, ""), OK);
        file_log_close(log);
    }
    assert_text(path, "{\"a\":1}\n\n{\"a\":1}\n\n");
    int fd, other;
    assert_int_equal(file_lock(&fd, lock), OK);
    assert_int_equal(file_lock(&other, lock), E_USAGE);
    assert_non_null(strstr(err_message(), "lock: another process"));
    file_unlock(fd);
    pid_t child = fork();
    if (child == 0) { /* dies with the lock held */
        _exit(file_lock(&other, lock) == OK ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(file_lock(&fd, lock), OK);
    file_unlock(fd);
    free(path);
    free(lock);
}

static void test_paths(void **state)
{
    (void)state;
    static const struct {
        const char *base, *relative, *expected;
    } row[] = {
        {"a/b.yaml", "c.jsonl", "a/c.jsonl"}, {"b.yaml", "c", "c"},           {"a/b.yaml", "/c", "/c"},
        {"/b.yaml", "c", "/c"},               {"a/b.yaml", "../c", "a/../c"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        char *path = path_beside(row[i].base, row[i].relative);
        assert_string_equal(path, row[i].expected);
        free(path);
    }
    static const char *const joins[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < sizeof joins / sizeof joins[0]; i++) {
        char *path = path_join(joins[i][0], joins[i][1]);
        assert_string_equal(path, joins[i][2]);
        free(path);
    }
    char longest[256]; /* a name of 255 bytes still gets a temporary beside it */
    memset(longest, 'n', 255);
    longest[255] = 0;
    char *path = path_join(root, longest);
    write_text(path, "x");
    assert_text(path, "x");
    free(path);
}

static void test_free_space_and_hash(void **state)
{
    (void)state;
    uint64_t here = 0, below = 0;
    assert_int_equal(file_free_space(&here, root), OK);
    char *path = path_join(root, "not/yet/there");
    assert_int_equal(file_free_space(&below, path), OK);
    assert_true(here > 0 && below > 0);
    assert_int_equal(file_free_space(&below, "not-yet-there"), OK);
    char hex[65];
    hash_memory(hex, "abc", 3);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(file_sha256(hex, path), E_IO);
    assert_string_equal(hex, "");
    assert_true(hash_fnv1a("a", 1) == 0xaf63dc4c8601ec8cu);
    free(path);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_publish), TEST(test_publish_first), TEST(test_many_small_and_large_writes), TEST(test_failed_write_keeps_the_old_file),
        TEST(test_disk_full_class), TEST(test_not_regular), TEST(test_read_limit), TEST(test_folder),
        TEST(test_folder_make_and_remove), TEST(test_log_and_lock), TEST(test_paths), TEST(test_free_space_and_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
