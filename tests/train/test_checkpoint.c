/* Checkpoints: exact, whole or absent, and every kind of damage named. */
#include <dirent.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/counter.h"
#include "train/checkpoint.h"
#include "train/checkpoint_list.h"

static const char *const run = MSD_TEST_TMP "/checkpoint_run", *const other_run = MSD_TEST_TMP "/checkpoint_other";
static const char *const files[] = {"adapter.safetensors", "optimizer.safetensors", "config.yaml", "manifest.json"};

enum { FILES = 4, TENSORS = 4, TRAINED = 3 }; /* the last tensor is not trained, as dummy_image_tokens */

typedef struct state {
    arena      memory;
    device    *dev;
    parameter  tensor[TENSORS];
    optimizer *o;
    checkpoint c;
} state;

static const text_pair metadata[] = {{"format", "msd-adapter-1"}, {"step", "1"}};

static void fill(tensor *t, const char *name, int seed, float factor)
{
    float *value = t->data;
    char   key[64];
    snprintf(key, sizeof key, "%s#%d", name, seed);
    counter_uniform(value, key, 0, tensor_count(t));
    for (int64_t i = 0; i < tensor_count(t); i++)
        value[i] *= factor;
}

/* One thread, so that a forked child may use the device. Numbers that text formats lose are among the values. */
static void state_open(state *s, int seed, int64_t rows)
{
    const struct { const char *name; int64_t dim[2]; } shapes[TENSORS] = {
        {"image_proj.proj_in.weight", {rows, 13}}, {"image_proj.proj_in.bias", {1, 5}},
        {"ms_adapter.1.to_k_ip.weight", {3, 4}}, {"dummy_image_tokens", {4, 6}}};
    *s = (state){0};
    assert_int_equal(device_open_cpu(&s->dev, 1), OK);
    for (int i = 0; i < TENSORS; i++) {
        tensor *t = NULL;
        err     e = tensor_new(&t, &s->memory, s->dev, LIFE_STATE, shapes[i].name, DT_F32, 2, shapes[i].dim);
        assert_int_equal(e, OK);
        t->needs_grad = i < TRAINED;
        fill(t, shapes[i].name, seed, 1);
        s->tensor[i] = (parameter){.name = shapes[i].name, .t = t, .rate = 1};
    }
    float *first = s->tensor[0].t->data;
    first[1] = -0.0f;
    first[2] = 1e-45f;
    first[3] = -FLT_MAX;
    assert_int_equal(optimizer_new(&s->o, &s->memory, s->dev, s->tensor, TRAINED, (adamw){0.9, 0.999, 1e-8, 0.01, false, false, false}), OK);
    for (int i = 0; i < TRAINED; i++) {
        fill(s->o->m[i], shapes[i].name, seed + 100, 1e-3f);
        fill(s->o->v[i], shapes[i].name, seed + 200, 1e-30f);
    }
    s->o->updates = 40 + seed;
    s->c = (checkpoint){.tensor = s->tensor, .tensors = TENSORS, .metadata = metadata, .metadata_count = 2,
                        .optimizer = s->o, .config = "train: {steps: 3}\n", .step = seed};
}

static void state_close(state *s)
{
    optimizer_free(s->o);
    for (int i = 0; i < TENSORS; i++)
        tensor_release(s->tensor[i].t);
    assert_int_equal(s->dev->memory->total, 0);
    device_close(s->dev);
    arena_free(&s->memory);
}

static bool same_bits(const tensor *a, const tensor *b)
{
    return !memcmp(a->data, b->data, (size_t)tensor_count(a) * sizeof(float));
}

static bool same_state(const state *a, const state *b)
{
    bool same = a->o->updates == b->o->updates;
    for (int i = 0; i < TENSORS; i++)
        same = same && same_bits(a->tensor[i].t, b->tensor[i].t);
    for (int i = 0; i < TRAINED; i++)
        same = same && same_bits(a->o->m[i], b->o->m[i]) && same_bits(a->o->v[i], b->o->v[i]);
    return same;
}

static void fresh_run(const char *folder)
{
    folder_remove(folder);
    assert_int_equal(folder_make(folder), OK);
}

static void save(const char *folder, state *s, int64_t step)
{
    s->c.step = step;
    if (checkpoint_save(folder, &s->c) != OK)
        fail_msg("%s", err_message());
}

/* Everything in a folder, hidden names too. */
static int entries(const char *folder)
{
    DIR *d = opendir(folder);
    int  count = -2; /* . and .. */
    assert_non_null(d);
    while (readdir(d))
        count++;
    closedir(d);
    return count;
}

static char *step_path(arena *a, const char *folder, int64_t step)
{
    return arena_print(a, "%s/step-%06lld", folder, (long long)step);
}

static void expect_error(err found, err wanted, const char *part)
{
    assert_int_equal(found, wanted);
    if (!strstr(err_message(), part))
        fail_msg("'%s' does not say '%s'", err_message(), part);
}

/* ---- what is saved comes back ---- */

static void round_trip_is_exact(void **unused)
{
    (void)unused;
    state a, b;
    state_open(&a, 1, 7);
    state_open(&b, 2, 7);
    fresh_run(run);
    save(run, &a, 12);
    assert_false(same_state(&a, &b));
    b.c.step = 0;
    char *folder = step_path(&a.memory, run, 12);
    if (checkpoint_load(&b.c, folder) != OK)
        fail_msg("%s", err_message());
    assert_true(same_state(&a, &b));
    assert_int_equal(b.c.step, 12);
    char  *text = NULL;
    size_t size = 0;
    assert_int_equal(file_read(&text, &size, arena_print(&a.memory, "%s/config.yaml", folder), 1000), OK);
    assert_string_equal(text, a.c.config);
    free(text);
    assert_int_equal(entries(run), 1);
    assert_int_equal(entries(folder), FILES);
    state_close(&a);
    state_close(&b);
}

static void expect_same_file(const char *a, const char *b)
{
    file_map x, y;
    assert_int_equal(file_map_open(&x, a), OK);
    assert_int_equal(file_map_open(&y, b), OK);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.bytes, y.bytes, x.size);
    file_map_close(&x);
    file_map_close(&y);
}

static void equal_states_give_equal_bytes(void **unused)
{
    (void)unused;
    state a, b;
    state_open(&a, 1, 7);
    state_open(&b, 2, 7);
    fresh_run(run);
    fresh_run(other_run);
    save(run, &a, 3);
    assert_int_equal(checkpoint_load(&b.c, step_path(&a.memory, run, 3)), OK);
    save(other_run, &b, 3);
    for (int i = 0; i < FILES; i++)
        expect_same_file(arena_print(&a.memory, "%s/step-000003/%s", run, files[i]),
                         arena_print(&a.memory, "%s/step-000003/%s", other_run, files[i]));
    char *alone = arena_print(&a.memory, "%s/adapter.safetensors", other_run);
    assert_int_equal(checkpoint_write_adapter(alone, &b.c), OK);
    expect_same_file(alone, arena_print(&a.memory, "%s/step-000003/adapter.safetensors", run));
    state_close(&a);
    state_close(&b);
}

static void a_folder_of_the_same_step_is_replaced(void **unused)
{
    (void)unused;
    state a, b, c;
    state_open(&a, 1, 7);
    state_open(&b, 2, 7);
    state_open(&c, 3, 7);
    fresh_run(run);
    save(run, &a, 5);
    save(run, &b, 5);
    assert_int_equal(checkpoint_load(&c.c, step_path(&a.memory, run, 5)), OK);
    assert_true(same_state(&b, &c));
    assert_int_equal(entries(run), 1);
    state_close(&a);
    state_close(&b);
    state_close(&c);
}

/* 8-bit moments of the large tensor, averages, and the counts of skipped steps. */
static void use_codes_and_averages(state *s, int seed)
{
    optimizer_free(s->o);
    assert_int_equal(optimizer_new(&s->o, &s->memory, s->dev, s->tensor, TRAINED, (adamw){0.9, 0.999, 1e-8, 0.01, true, false, false}), OK);
    uint8_t *codes = s->o->m[0]->data;
    for (int64_t i = 0; i < tensor_count(s->o->m[0]); i++)
        codes[i] = (uint8_t)(i * 7 + seed);
    fill(s->o->m_absmax[0], "m_absmax", seed, 1);
    fill(s->o->v_absmax[0], "v_absmax", seed, 1);
    s->c.optimizer = s->o;
    assert_int_equal(average_new(&s->c.average, &s->memory, s->dev, s->tensor, TRAINED, 0.9), OK);
    for (int i = 0; i < TRAINED; i++)
        fill(s->c.average->mean[i], "mean", seed + i, 1);
    s->c.skips = (skip_counts){seed, seed - 1};
}

static void codes_averages_and_counts_come_back(void **unused)
{
    (void)unused;
    state a, b, c;
    state_open(&a, 1, 400);
    state_open(&b, 2, 400);
    state_open(&c, 3, 400);
    use_codes_and_averages(&a, 5);
    use_codes_and_averages(&b, 6);
    fresh_run(run);
    save(run, &a, 12);
    char *folder = step_path(&a.memory, run, 12);
    assert_int_equal(entries(folder), FILES + 1);
    if (checkpoint_load(&b.c, folder) != OK)
        fail_msg("%s", err_message());
    assert_memory_equal(a.o->m[0]->data, b.o->m[0]->data, 400 * 13);
    assert_true(same_bits(a.o->m_absmax[0], b.o->m_absmax[0]) && same_bits(a.o->v_absmax[0], b.o->v_absmax[0]));
    for (int i = 0; i < TRAINED; i++)
        assert_true(same_bits(a.c.average->mean[i], b.c.average->mean[i]));
    assert_true(b.c.skips.all == 5 && b.c.skips.in_a_row == 4);
    expect_error(checkpoint_load(&c.c, folder), E_CHECKPOINT, "this run needs F32 (400,13); is `adapter:` or optimizer.kind");
    average_free(a.c.average);
    average_free(b.c.average);
    state_close(&a);
    state_close(&b);
    state_close(&c);
}

/* ---- damage ---- */

static void rewrite(const char *path, size_t keep, long flip)
{
    char  *text = NULL;
    size_t size = 0;
    assert_int_equal(file_read(&text, &size, path, 1 << 20), OK);
    if (flip >= 0)
        text[flip] ^= 0x10;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, keep < size ? keep : size, f), keep < size ? keep : size);
    fclose(f);
    free(text);
}

static size_t size_of(const char *path)
{
    file_map map;
    assert_int_equal(file_map_open(&map, path), OK);
    size_t size = map.size;
    file_map_close(&map);
    return size;
}

typedef enum damage { FLIP_FIRST, FLIP_MIDDLE, FLIP_LAST, CUT, EMPTY, LONGER, MISSING, DAMAGES } damage;

static void do_damage(damage how, const char *path)
{
    size_t size = size_of(path);
    FILE  *f;
    switch (how) {
    case FLIP_FIRST: rewrite(path, size, 0); break;
    case FLIP_MIDDLE: rewrite(path, size, (long)size / 2); break;
    case FLIP_LAST: rewrite(path, size, (long)size - 1); break;
    case CUT: rewrite(path, size / 2, -1); break;
    case EMPTY: rewrite(path, 0, -1); break;
    case LONGER:
        f = fopen(path, "ab");
        assert_non_null(f);
        fputc('}', f);
        fclose(f);
        break;
    default: assert_int_equal(unlink(path), 0);
    }
}

static void damage_is_named_and_changes_nothing(void **unused)
{
    (void)unused;
    state a, b, before;
    state_open(&a, 1, 7);
    state_open(&b, 2, 7);
    state_open(&before, 2, 7);
    char *folder = step_path(&a.memory, run, 1);
    for (int i = 0; i < FILES; i++) {
        for (int how = 0; how < DAMAGES; how++) {
            fresh_run(run);
            save(run, &a, 1);
            do_damage((damage)how, arena_print(&a.memory, "%s/%s", folder, files[i]));
            bool other_file = i == 3 && how == FLIP_MIDDLE; /* a hash in manifest.json: the file it is of is blamed */
            expect_error(checkpoint_load(&b.c, folder), E_CHECKPOINT, other_file ? "step-000001/" : files[i]);
            assert_true(same_state(&b, &before));
        }
    }
    state_close(&a);
    state_close(&b);
    state_close(&before);
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void manifests_of_others_are_refused(void **unused)
{
    (void)unused;
    state a;
    state_open(&a, 1, 7);
    fresh_run(run);
    save(run, &a, 1);
    char   *folder = step_path(&a.memory, run, 1), *path = arena_print(&a.memory, "%s/manifest.json", folder);
    int64_t step = -1;
    write_text(path, "{\"format\": 2, \"step\": 1, \"files\": {}}");
    expect_error(checkpoint_verify(&step, folder), E_CHECKPOINT, "manifest.json: format: 2, this version reads 1");
    write_text(path, "{\"format\": 1, \"step\": 1, \"files\": {}}");
    expect_error(checkpoint_verify(&step, folder), E_CHECKPOINT, "adapter.safetensors");
    write_text(path, "{\"format\": 1, \"step\": 1, \"step\": 2, \"files\": {}}");
    expect_error(checkpoint_verify(&step, folder), E_CHECKPOINT, "manifest.json");
    write_text(path, "{\"format\": 1, \"step\": -1, \"files\": {\"adapter.safetensors\": {\"bytes\": 1e300}}}");
    expect_error(checkpoint_verify(&step, folder), E_CHECKPOINT, "manifest.json");
    expect_error(checkpoint_verify(&step, MSD_TEST_TMP "/no_such_step"), E_CHECKPOINT, "no_such_step: no such folder");
    state_close(&a);
}

static void another_adapter_is_refused(void **unused)
{
    (void)unused;
    state a, b;
    state_open(&a, 1, 7);
    state_open(&b, 2, 8);
    fresh_run(run);
    save(run, &a, 1);
    expect_error(checkpoint_load(&b.c, step_path(&a.memory, run, 1)), E_CHECKPOINT,
                 "adapter.safetensors: image_proj.proj_in.weight: found F32 (7,13), this run needs F32 (8,13)");
    b.tensor[0].name = "image_proj.other.weight";
    expect_error(checkpoint_load(&b.c, step_path(&a.memory, run, 1)), E_CHECKPOINT,
                 "image_proj.other.weight is missing");
    state_close(&a);
    state_close(&b);
}

/* ---- NaN ---- */

static void not_a_number_is_never_saved(void **unused)
{
    (void)unused;
    state a;
    state_open(&a, 1, 7);
    fresh_run(run);
    save(run, &a, 1);
    ((float *)a.tensor[2].t->data)[3] = NAN;
    a.c.step = 2;
    expect_error(checkpoint_save(run, &a.c), E_NUMERIC, "ms_adapter.1.to_k_ip.weight: element 3 is nan");
    ((float *)a.tensor[2].t->data)[3] = 0;
    ((float *)a.o->v[1]->data)[4] = INFINITY;
    expect_error(checkpoint_save(run, &a.c), E_NUMERIC, "proj_in.bias: element 4 is inf");
    a.c.step = 1; /* the one that is there stays */
    expect_error(checkpoint_save(run, &a.c), E_NUMERIC, "proj_in.bias");
    assert_int_equal(entries(run), 1);
    int64_t step = -1;
    assert_int_equal(checkpoint_verify(&step, step_path(&a.memory, run, 1)), OK);
    assert_int_equal(step, 1);
    state_close(&a);
}

/* ---- which one ---- */

static void expect_newest(int64_t step, int count, const char *warning)
{
    char  *folder = NULL, *said = NULL;
    size_t length = 0;
    int    found = -1;
    FILE  *stream = open_memstream(&said, &length);
    logger log = {.stream = stream};
    assert_int_equal(checkpoint_newest(&folder, &found, run, &log), OK);
    fclose(stream);
    assert_int_equal(found, count);
    if (step < 0) {
        assert_null(folder);
    } else {
        char wanted[32];
        snprintf(wanted, sizeof wanted, "/step-%06lld", (long long)step);
        assert_non_null(folder);
        assert_non_null(strstr(folder, wanted));
    }
    if (warning)
        assert_non_null(strstr(said, warning));
    else
        assert_int_equal(length, 0);
    free(folder);
    free(said);
}

static void the_newest_whole_one_is_found(void **unused)
{
    (void)unused;
    state a;
    state_open(&a, 1, 7);
    folder_remove(run);
    expect_newest(-1, 0, NULL); /* no folder at all */
    fresh_run(run);
    expect_newest(-1, 0, NULL);
    save(run, &a, 9);
    save(run, &a, 10);
    save(run, &a, 1000000); /* more digits than the name has room for */
    assert_int_equal(folder_make(arena_print(&a.memory, "%s/step-7", run)), OK); /* no spelling of ours */
    assert_int_equal(folder_make(arena_print(&a.memory, "%s/.step-000099.tmp-1-0", run)), OK);
    expect_newest(1000000, 3, NULL);
    assert_int_equal(unlink(arena_print(&a.memory, "%s/step-1000000/manifest.json", run)), 0);
    expect_newest(10, 3, "step-1000000 is not a whole checkpoint");
    rewrite(arena_print(&a.memory, "%s/step-000010/optimizer.safetensors", run), 100, -1);
    expect_newest(9, 3, "optimizer.safetensors: 100 bytes");
    /* a whole folder under another step's name is no checkpoint of that step */
    assert_int_equal(rename(step_path(&a.memory, run, 9), step_path(&a.memory, run, 11)), 0);
    expect_newest(-1, 3, "step-000011 is not a whole checkpoint and is passed over: manifest.json: step: found 9");
    state_close(&a);
}

static void rotation_keeps_the_newest_and_the_good_one(void **unused)
{
    (void)unused;
    state a;
    state_open(&a, 1, 7);
    fresh_run(run);
    for (int step = 1; step <= 5; step++)
        save(run, &a, step);
    checkpoint_rotate(run, 0, 5);
    assert_int_equal(entries(run), 5);
    checkpoint_rotate(run, 9, 5);
    assert_int_equal(entries(run), 5);
    checkpoint_rotate(run, 2, 1);
    assert_int_equal(entries(run), 3);
    const bool left[] = {true, false, false, true, true};
    for (int step = 1; step <= 5; step++)
        assert_int_equal(folder_exists(step_path(&a.memory, run, step)), left[step - 1]);
    state_close(&a);
}

/* ---- kill -9 ---- */

/* Saves, replaces and rotates until it is killed; nothing of the test's own state is touched. */
static void save_forever(state *s)
{
    for (int64_t i = 0;; i++) {
        s->c.step = 1 + i % 4;
        if (checkpoint_save(run, &s->c) != OK)
            _exit(1);
        checkpoint_rotate(run, 2, s->c.step);
    }
}

static int visible_and_whole(int *left_behind)
{
    DIR *d = opendir(run);
    int  whole = 0;
    *left_behind = 0;
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));) {
        if (!strncmp(entry->d_name, "step-", 5)) {
            char   *path = path_join(run, entry->d_name);
            int64_t step = -1;
            if (checkpoint_verify(&step, path) != OK)
                fail_msg("after kill -9: %s", err_message());
            whole++;
            free(path);
        } else if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) {
            ++*left_behind;
        }
    }
    closedir(d);
    return whole;
}

static int64_t microseconds_of_a_save(state *s)
{
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int64_t step = 1; step <= 5; step++)
        save(run, s, step);
    clock_gettime(CLOCK_MONOTONIC, &to);
    return ((to.tv_sec - from.tv_sec) * 1000000 + (to.tv_nsec - from.tv_nsec) / 1000) / 5;
}

static void killed_at_any_time_what_is_visible_is_whole(void **unused)
{
    (void)unused;
    state s;
    int   left_behind = 0, rounds_with_rest = 0, whole = 0;
    state_open(&s, 1, 700); /* 36 kB a file: long enough to be caught in */
    fresh_run(run);
    int64_t one_save = microseconds_of_a_save(&s);
    for (int i = 0; i < 50; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            save_forever(&s);
        int status = 0;
        usleep((useconds_t)(1000 + 3 * one_save / 1000 * (i * 7919 % 1000)));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status)); /* it did not end by an error */
        whole = visible_and_whole(&left_behind);
        rounds_with_rest += left_behind > 0;
        checkpoint_sweep(run);
        visible_and_whole(&left_behind);
        assert_int_equal(left_behind, 0);
    }
    printf("killed 50 times, %d of them in the middle of a folder; %d whole ones at the end\n", rounds_with_rest,
           whole);
    assert_true(rounds_with_rest > 0); /* else this test looked at nothing */
    assert_true(whole > 0);
    state_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip_is_exact),
        cmocka_unit_test(equal_states_give_equal_bytes),
        cmocka_unit_test(codes_averages_and_counts_come_back),
        cmocka_unit_test(a_folder_of_the_same_step_is_replaced),
        cmocka_unit_test(damage_is_named_and_changes_nothing),
        cmocka_unit_test(manifests_of_others_are_refused),
        cmocka_unit_test(another_adapter_is_refused),
        cmocka_unit_test(not_a_number_is_never_saved),
        cmocka_unit_test(the_newest_whole_one_is_found),
        cmocka_unit_test(rotation_keeps_the_newest_and_the_good_one),
        cmocka_unit_test(killed_at_any_time_what_is_visible_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
