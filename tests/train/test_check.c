#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/progress.h"
#include "data/image.h"
#include "train/check.h"

static arena memory;
static char *folder;

static const char *at(const char *name)
{
    return arena_print(&memory, "%s/%s", folder, name);
}

static void put(const char *name, const char *text)
{
    file_writer *w;
    assert_int_equal(file_create(&w, at(name)), OK);
    assert_int_equal(file_write(w, text, strlen(text)), OK);
    assert_int_equal(file_publish(w), OK);
}

static void put_picture(const char *name, int width, int height)
{
    image i;
    assert_int_equal(image_new(&i, width, height), OK);
    assert_int_equal(image_save_png(at(name), &i, NULL, 0), OK);
    image_free(&i);
}

static int set_up(void **state)
{
    (void)state;
    folder = path_join(MSD_TEST_TMP, "check");
    folder_remove(folder);
    if (folder_make(folder) != OK)
        return 1;
    put_picture("a.png", 64, 48);
    put_picture("ref.png", 32, 32);
    put_picture("mask.png", 64, 48);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(folder);
    free(folder);
    arena_free(&memory);
    return 0;
}

/* Everything that a check prints, in one string of the arena. */
static const char *report(problems *p, err *result)
{
    char *printed;
    size_t size;
    FILE *out = open_memstream(&printed, &size);
    *result = problems_report(p, out, 50);
    fclose(out);
    const char *kept = arena_print(&memory, "%s%s", printed, p->errors == 1 ? err_message() : "");
    free(printed);
    return kept;
}

/* Ten mistakes of ten kinds in a run file and its manifest: each is named with its line, in under a second. */
static void test_ten_mistakes(void **state)
{
    (void)state;
    put("RUN.yaml", "model: {base: sdxl/, image_encoder: bigG/}\n"
                    "data:\n"
                    "  manifest: data.jsonl\n"
                    "  resolution: 510\n"
                    "  buckets: some\n"
                    "train: {steps: \"8\"}\n"
                    "optimiser: {lr: 1e-4}\n"
                    "optimizer: {lr: 0}\n");
    put("notes.jpg", "not a picture at all, only words");
    put("data.jsonl", "{\"image\":\"a.png\",\"text\":\"good\",\"box_units\":\"pixel\",\"subjects\":[{\"phrase\":\"p\","
                      "\"box\":[1,1,64,48]}]}\n"
                      "{\"image\":\"a.png\",\"text\":\"x\",\"box_units\":\"pixel\",\"subjects\":[{\"phrase\":\"p\","
                      "\"box\":[9,1,5,48]}]}\n"
                      "{\"image\":\"none.png\",\"text\":\"x\",\"box_units\":\"pixel\"}\n"
                      "{\"image\":\"notes.jpg\",\"text\":\"x\",\"box_units\":\"pixel\"}\n"
                      "{\"image\":\"a.png\",\"text\":\"x\",\"box_units\":\"pixel\",\"subjcts\":[]}\n"
                      "{\"image\":\"a.png\",\"text\":\"x\",\"box_un\n");
    problems p = {.memory = &memory};
    check_counts counts;
    double before = clock_seconds();
    check_run(&counts, &p, at("RUN.yaml"), NULL, 0, &(check_look){0});
    assert_true(clock_seconds() - before < 1);
    err result;
    const char *text = report(&p, &result);
    assert_int_equal(result, E_CONFIG);
    static const char *const expected[] = {
        "RUN.yaml:4: data.resolution: found 510",
        "RUN.yaml:5: data.buckets: found some, expected off or on",
        "RUN.yaml:6: train.steps: found \"8\" (a string)",
        "RUN.yaml:7: optimiser: unknown key; did you mean optimizer?",
        "RUN.yaml:8: optimizer.lr: found 0",
        "data.jsonl:2: subjects[0].box: found [9, 1, 5, 48]",
        "data.jsonl:3: image: ",
        "data.jsonl:4: image: ",
        "data.jsonl:5: subjcts: unknown key; did you mean subjects?",
        "data.jsonl:6: not JSON",
        "RUN.yaml:1: model.base: ",
        "RUN.yaml:1: model.image_encoder: ",
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        if (!strstr(text, expected[i]))
            fail_msg("not said: %s\n%s", expected[i], text);
    assert_int_equal(p.errors, 12);
    assert_int_equal(counts.samples, 6);
    assert_int_equal(counts.pictures, 3);
}

/* Pixels of a PNG that were damaged after its header: only decoding finds them. */
static void test_damaged_picture(void **state)
{
    (void)state;
    char *bytes;
    size_t size;
    assert_int_equal(file_read(&bytes, &size, at("a.png"), 1 << 20), OK);
    file_writer *w;
    assert_int_equal(file_create(&w, at("cut.png")), OK);
    file_write(w, bytes, size / 2);
    assert_int_equal(file_publish(w), OK);
    free(bytes);
    put("data.jsonl", "{\"image\":\"a.png\",\"text\":\"good\"}\n{\"image\":\"cut.png\",\"text\":\"cut\"}\n");
    for (int headers = 0; headers < 2; headers++) {
        problems p = {.memory = &memory};
        manifest m;
        manifest_load(&m, &p, at("data.jsonl"), 4);
        int64_t before = p.errors;
        assert_int_equal(check_pictures(NULL, &p, &m, &(check_look){.headers = headers, .threads = 3}), 2);
        manifest_free(&m);
        assert_int_equal(p.errors - before, headers ? 0 : 1);
        err result;
        if (!headers && !strstr(report(&p, &result), "data.jsonl:2: image: "))
            fail_msg("the damaged picture is not named");
    }
}

static void check_samples(problems *p, const char *lines)
{
    put("data.jsonl", lines);
    *p = (problems){.memory = &memory};
    manifest m;
    manifest_load(&m, p, at("data.jsonl"), 4);
    check_pictures(NULL, p, &m, &(check_look){0});
    manifest_free(&m);
}

static void test_boxes_and_masks(void **state)
{
    (void)state;
    static const char *const row[][3] = {
        /* subject, error, warning */
        {"\"box\":[0,0,64,48]", NULL, NULL},
        {"\"box\":[-5,0,70,48]", NULL, "subjects[0].box: [-5, 0, 70, 48] reaches outside of the picture of 64 x 48"},
        {"\"box\":[64,0,70,48]", "subjects[0].box: [64, 0, 70, 48] lies outside of the picture of 64 x 48", NULL},
        {"\"box\":[0,0,9,9],\"reference\":\"ref.png\",\"reference_box\":[1,1,32,32]", NULL, NULL},
        {"\"box\":[0,0,9,9],\"reference\":\"ref.png\",\"reference_box\":[1,1,40,32]", NULL,
         "subjects[0].reference_box: "},
        {"\"box\":[0,0,9,9],\"reference\":\"ref.png\",\"reference_box\":[40,1,50,32]",
         "outside of the picture of 32 x 32", NULL},
        {"\"box\":[0,0,9,9],\"reference\":\"gone.png\",\"reference_box\":[1,1,50,32]", "subjects[0].reference: ", NULL},
        {"\"box\":[0,0,9,9],\"mask\":\"mask.png\"", NULL, NULL},
        {"\"box\":[0,0,9,9],\"mask\":\"ref.png\"", "found 32 x 32, expected the 64 x 48 of the image", NULL},
        {"\"box\":[0,0,9,9],\"reference\":\"ref.png\",\"mask\":\"mask.png\"", "expected the 32 x 32 of the reference",
         NULL},
        {"\"box\":[0,0,9,9],\"mask\":\"gone.png\"", "subjects[0].mask: ", NULL},
        {"\"box\":[0,0,9,9],\"mask\":\"..\"", "subjects[0].mask: ", NULL},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        problems p;
        check_samples(
            &p, arena_print(&memory,
                            "{\"image\":\"a.png\",\"text\":\"t\",\"box_units\":\"pixel\",\"subjects\":[{\"phrase\":"
                            "\"p\",%s}]}\n",
                            row[i][0]));
        const char *said = p.count ? p.item[0].text : "";
        if (p.errors != (row[i][1] != NULL) || p.warnings != (row[i][2] != NULL) ||
            (row[i][1] && !strstr(said, row[i][1])) || (row[i][2] && !strstr(said, row[i][2])))
            fail_msg("%s: %lld errors, %lld warnings: %s", row[i][0], (long long)p.errors, (long long)p.warnings, said);
        if (row[i][1])
            assert_int_equal(p.worst, E_DATASET);
    }
}

static void test_same_file_at_every_line(void **state)
{
    (void)state;
    problems p;
    check_samples(&p, "{\"image\":\"gone.png\",\"text\":\"1\",\"box_units\":\"pixel\"}\n"
                      "{\"image\":\"gone.png\",\"text\":\"2\",\"box_units\":\"pixel\"}\n");
    assert_int_equal(p.errors, 2);
    assert_int_equal(p.item[1].line, 2);
}

static void test_missing_manifest(void **state)
{
    (void)state;
    put("RUN.yaml", "model: {base: sdxl/, image_encoder: bigG/}\ndata: {manifest: gone.jsonl}\n");
    problems p = {.memory = &memory};
    check_counts counts;
    check_run(&counts, &p, at("RUN.yaml"), NULL, 0, &(check_look){0});
    err result;
    const char *text = report(&p, &result);
    assert_int_equal(result, E_DATASET);
    assert_non_null(strstr(text, "RUN.yaml:2: data.manifest: "));
    p = (problems){.memory = &memory};
    check_run(&counts, &p, at("gone.yaml"), NULL, 0, &(check_look){0});
    assert_int_equal(p.errors, 1);
    assert_int_equal(p.worst, E_CONFIG);
}

static void test_broken_model_folder(void **state)
{
    (void)state;
    assert_int_equal(folder_make(at("sdxl/unet")), OK);
    assert_int_equal(folder_make(at("sdxl/tokenizer")), OK);
    assert_int_equal(folder_make(at("bigG")), OK);
    put("sdxl/unet/config.json", "{\"broken");
    put("RUN.yaml",
        "model: {base: sdxl/,\n image_encoder: bigG/,\n adapter: gone.bin}\ndata: {manifest: data.jsonl}\n");
    put("data.jsonl", "{\"image\":\"a.png\",\"text\":\"1\",\"box_units\":\"pixel\"}\n");
    problems p = {.memory = &memory};
    check_counts counts;
    check_run(&counts, &p, at("RUN.yaml"), NULL, 0, &(check_look){0});
    err result;
    const char *text = report(&p, &result);
    assert_int_equal(result, E_MODEL);
    static const char *const expected[] = {"text_encoder_2",
                                           "vae",
                                           "tokenizer_2",
                                           "unet/config.json",
                                           "RUN.yaml:2: model.image_encoder: ",
                                           "RUN.yaml:3: model.adapter: ",
                                           "merges.txt"};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        if (!strstr(text, expected[i]))
            fail_msg("not said: %s\n%s", expected[i], text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ten_mistakes),     TEST(test_boxes_and_masks),     TEST(test_same_file_at_every_line),
        TEST(test_missing_manifest), TEST(test_broken_model_folder), TEST(test_damaged_picture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
