/* Jobs from the command line and from JSON: what is taken, and what every mistake is called. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "infer/job.h"
#include "infer/png_metadata.h"

static void a_spec_is_read(void **state)
{
    arena memory = {0};
    job   j = job_default();
    (void)state;
    assert_int_equal(
        job_add_subject(&j, &memory, "image=a,b=c.png,phrase=a red, fat cat,box=0,0.25,.5,1e0,mask=m.png,scale=0.4"),
        OK);
    assert_int_equal(job_add_subject(&j, &memory, "phrase=dog,image=d.jpg"), OK);
    assert_int_equal(j.subjects, 2);
    const job_subject *s = j.subject;
    assert_string_equal(s[0].image, "a,b=c.png"); /* a value runs to the next ",key=" of the five */
    assert_string_equal(s[0].phrase, "a red, fat cat");
    assert_string_equal(s[0].mask, "m.png");
    assert_true(s[0].box[0] == 0 && s[0].box[1] == 0.25 && s[0].box[2] == 0.5 && s[0].box[3] == 1 && s[0].scale == 0.4);
    assert_string_equal(s[1].phrase, "dog");
    assert_true(s[1].box[0] == 0 && s[1].box[3] == 1 && isnan(s[1].scale) && !s[1].mask);
    arena_free(&memory);
}

static void mistakes_in_specs_are_named(void **state)
{
    static const struct {
        const char *spec, *part;
    } wrong[] = {
        {"phrase=dog,box=0,0,1,1", "image= is missing"},
        {"image=a.png", "phrase= is missing"},
        {"image=a.png,phrase=dog,box=0,0,1", "expected four numbers"},
        {"image=a.png,phrase=dog,box=0,0,1,1,1", "expected four numbers"},
        {"image=a.png,phrase=dog,box=0,0,nan,1", "expected four numbers"},
        {"image=a.png,phrase=dog,scale=big", "'big' is not a number"},
        {"image=a.png,phrase=dog,phrase=cat", "given twice"},
        {"image=,phrase=dog", "has no value"},
        {"file=a.png,phrase=dog", "expected image="},
        {"", "image= is missing"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        arena memory = {0};
        job   j = job_default();
        assert_int_equal(job_add_subject(&j, &memory, wrong[i].spec), E_USAGE);
        if (!strstr(err_message(), wrong[i].part))
            fail_msg("%s: %s", wrong[i].spec, err_message());
        arena_free(&memory);
    }
}

static err from_text(job *out, arena *memory, const char *text)
{
    json_t *o = NULL;
    assert_int_equal(json_text_parse(&o, text, strlen(text), "jobs", JSON_KEEP_LAST), OK);
    err e = job_from_json(out, memory, o, "jobs.jsonl:3", "lists/jobs.jsonl");
    json_decref(o);
    return e;
}

static void json_is_read(void **state)
{
    arena memory = {0};
    job   j;
    (void)state;
    assert_int_equal(from_text(&j, &memory, "{\"prompt\": \"p\"}"), OK);
    assert_true(j.steps == 30 && j.cfg_scale == 7.5 && j.scale == 0.6 && j.width == 0 && j.batch_count == 1 &&
                !j.output);
    assert_string_equal(j.negative_prompt, "monochrome, lowres, bad anatomy, worst quality, low quality");
    assert_int_equal(
        from_text(&j, &memory,
                  "{\"prompt\": \"p\", \"negative_prompt\": \"\", \"width\": 64, \"height\": 72, \"steps\": 4, "
                  "\"seed\": 9223372036854775807, \"cfg_scale\": 3, \"scale\": 0.5, \"output\": \"o.png\", "
                  "\"sampling_method\": \"euler\", \"scheduler\": \"discrete\", \"drop_grounding\": true, "
                  "\"batch_count\": 2, \"subjects\": [{\"image\": \"/i.png\", \"phrase\": \"dog\", "
                  "\"box\": [0, 0.5, 1, 1], \"mask\": \"m.png\", \"scale\": 1}, {\"image\": \"i.png\", "
                  "\"phrase\": \"cat\", \"box\": null}]}"),
        OK);
    assert_true(j.width == 64 && j.height == 72 && j.seed == INT64_MAX && j.drop_grounding && j.batch_count == 2 &&
                j.subjects == 2);
    assert_string_equal(j.output, "lists/o.png");
    assert_string_equal(j.subject[0].image, "/i.png");
    assert_string_equal(j.subject[0].mask, "lists/m.png");
    assert_string_equal(j.subject[1].image, "lists/i.png");
    assert_true(j.subject[0].box[1] == 0.5 && j.subject[1].box[2] == 1);
    arena_free(&memory);
}

static void mistakes_in_json_are_named(void **state)
{
    static const struct {
        const char *text, *part;
    } wrong[] = {
        {"[]", "jobs.jsonl:3: expected an object"},
        {"{}", "prompt is missing"},
        {"{\"promt\": \"p\"}", "unknown key promt, did you mean prompt"},
        {"{\"prompt\": 3}", "prompt: found 3"},
        {"{\"prompt\": \"p\", \"steps\": 0}", "steps: found 0"},
        {"{\"prompt\": \"p\", \"seed\": -1}", "seed: found -1"},
        {"{\"prompt\": \"p\", \"subjects\": [{\"image\": \"a\", \"phrase\": \"b\", \"boxx\": 1}]}",
         "subjects[0]: unknown key boxx"},
        {"{\"prompt\": \"p\", \"subjects\": [{\"image\": \"a\", \"phrase\": \"b\", \"box\": [1, 2]}]}",
         "expected four numbers"},
        {"{\"prompt\": \"p\", \"subjects\": [{\"phrase\": \"b\"}]}", "subjects[0]: image is missing"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        arena memory = {0};
        job   j;
        assert_int_equal(from_text(&j, &memory, wrong[i].text), E_CONFIG);
        if (!strstr(err_message(), wrong[i].part))
            fail_msg("%s: %s", wrong[i].text, err_message());
        arena_free(&memory);
    }
}

static void values_are_checked(void **state)
{
    static const struct {
        double      box[4];
        const char *part; /* NULL: fine */
    } boxes[] = {
        {{0, 0, 1, 1}, NULL}, {{0, 0, 0, 0}, NULL}, {{-0.1, 0, 0.5, 1.2}, NULL},
        {{0.5, 0, 0.5, 1}, "is empty"}, {{0, 0.6, 1, 0.5}, "is empty"}, {{10, 20, 300, 400}, "not pixels"},
        {{1, 0, 1.5, 1}, "lies outside"}, {{0, -0.5, 1, 0}, "lies outside"}, {{0, 0, (double)NAN, 1}, "outside 0..1"},
    };
    job_subject s = {.image = "a", .phrase = "dog", .scale = (double)NAN};
    job         j = job_default(), other;
    (void)state;
    j.subject = &s;
    j.subjects = 1;
    for (size_t i = 0; i < sizeof boxes / sizeof *boxes; i++) {
        memcpy(s.box, boxes[i].box, sizeof s.box);
        assert_int_equal(job_check(&j), boxes[i].part ? E_USAGE : OK);
        if (boxes[i].part && !strstr(err_message(), boxes[i].part))
            fail_msg("box %zu: %s", i, err_message());
    }
    j.subjects = 0;
    other = j, other.steps = 0, assert_int_equal(job_check(&other), E_USAGE);
    other = j, other.width = -8, assert_int_equal(job_check(&other), E_USAGE);
    other = j, other.height = 100000, assert_int_equal(job_check(&other), E_USAGE);
    other = j, other.cfg_scale = (double)INFINITY, assert_int_equal(job_check(&other), E_USAGE);
    other = j, other.batch_count = 0, assert_int_equal(job_check(&other), E_USAGE);
    other = j, other.sampling_method = "ddim", assert_int_equal(job_check(&other), E_USAGE);
    other = j, other.scheduler = "karras", assert_int_equal(job_check(&other), E_USAGE);
}

static void pictures_are_looked_at_first(void **state)
{
    job_subject s[] = {{.image = MSD_GOLDENS "/images/rgba.png", .mask = MSD_GOLDENS "/images/grey.png"},
                       {.image = MSD_GOLDENS "/images/nothing.png"},
                       {.image = MSD_GOLDENS "/images/images.json"},
                       {.image = MSD_GOLDENS "/images/exif6.jpg", .mask = MSD_GOLDENS "/images/exif1.jpg"}};
    job         j = job_default();
    (void)state;
    j.subject = s;
    j.subjects = 1;
    if (job_check_pictures(&j) != OK)
        fail_msg("%s", err_message());
    j.subjects = 4; /* everything at once; the mask of a turned picture is to be upright already */
    assert_int_equal(job_check_pictures(&j), E_DATASET);
    const char *m = err_message();
    assert_true(strstr(m, "nothing.png") && strstr(m, "images.json") && strstr(m, "exif1.jpg: the mask is"));
}

static void png_texts_are_a1111s(void **state)
{
    arena       memory = {0};
    job         j = job_default();
    image_text  texts[PNG_METADATA_TEXTS];
    json_t     *o = NULL;
    (void)state;
    assert_int_equal(job_add_subject(&j, &memory, "image=/secret/a.png,phrase=dög,box=0,0.25,0.5,1"), OK);
    j.prompt = "a dög, \"quoted\"";
    j.width = 64;
    j.height = 72;
    assert_int_equal(png_metadata(texts, &memory, &j, 12345678901234, "sdxl", "abc"), 2);
    assert_string_equal(texts[0].key, "parameters");
    assert_string_equal(
        texts[0].text,
        "a dög, \"quoted\"\nNegative prompt: monochrome, lowres, bad anatomy, worst quality, low quality\n"
        "Steps: 30, Sampler: Euler, CFG scale: 7.5, Seed: 12345678901234, Size: 64x72, Model: sdxl");
    assert_string_equal(texts[1].key, "msd");
    assert_int_equal(json_text_parse(&o, texts[1].text, strlen(texts[1].text), "msd", JSON_REFUSE_DUPLICATES), OK);
    const json_t *s = json_array_get(json_object_get(o, "subjects"), 0);
    assert_string_equal(json_string_value(json_object_get(s, "phrase")), "dög");
    assert_true(json_number_value(json_array_get(json_object_get(s, "box"), 1)) == 0.25);
    assert_true(json_number_value(json_object_get(s, "scale")) == 0.6);
    assert_string_equal(json_string_value(json_object_get(o, "adapter")), "abc");
    assert_int_equal(json_integer_value(json_object_get(o, "seed")), 12345678901234);
    assert_null(strstr(texts[1].text, "secret")); /* no paths: the picture is the same wherever it is drawn */
    json_decref(o);
    j.negative_prompt = "";
    j.prompt = "p";
    png_metadata(texts, &memory, &j, 0, "a, b: \"c\"", "");
    assert_string_equal(
        texts[0].text,
        "p\nSteps: 30, Sampler: Euler, CFG scale: 7.5, Seed: 0, Size: 64x72, Model: \"a, b: \\\"c\\\"\"");
    arena_free(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_spec_is_read), cmocka_unit_test(mistakes_in_specs_are_named), cmocka_unit_test(json_is_read),
        cmocka_unit_test(mistakes_in_json_are_named), cmocka_unit_test(values_are_checked),
        cmocka_unit_test(pictures_are_looked_at_first), cmocka_unit_test(png_texts_are_a1111s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
