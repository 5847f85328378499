/* Pictures of a tiny folder against diffusers' pipeline with the reference implementation's adapter
 * (tests/reference/compare_generate.py): at most 1 of 255 at the 99.9th percentile, which is the rounding to 8 bits of
 * values that agree in f32 to the networks' bounds. Weights are the counter formula's on both sides. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/device.h"
#include "base/file.h"
#include "data/adapter_file.h"
#include "data/counter.h"
#include "infer/generate.h"
#include "infer/load_unet.h"
#include "infer/synth.h"
#include "tests/test_device.h"

#define IMAGES MSD_GOLDENS "/images"

typedef struct fixture {
    device      *dev;
    arena        memory;
    char        *model, *image_encoder, *adapter, *adapter_bin, *mask;
    safetensors *golden;
    logger       quiet;
} fixture;

/* ---- an adapter of the counter formula's weights ---- */

typedef struct adapter_list {
    stored_tensor item[256];
    size_t        count;
    arena        *memory;
} adapter_list;

static void list_tensor(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    adapter_list *list = bind_user(b);
    int64_t      *dims = ARENA_ARRAY(list->memory, int64_t, ndim), count = 1;
    (void)slot;
    (void)kind;
    for (int i = 0; i < ndim; i++)
        count *= dims[i] = dim[i];
    float *values = ARENA_ARRAY(list->memory, float, count);
    counter_fill(values, path, ndim, dims);
    assert_true(list->count < sizeof list->item / sizeof *list->item);
    list->item[list->count++] = (stored_tensor){.name = arena_copy_string(list->memory, path),
                                                .type = STORED_F32,
                                                .ndim = ndim,
                                                .dim = dims,
                                                .count = count,
                                                .bytes = (size_t)count * sizeof *values,
                                                .data = (const uint8_t *)values};
}

static void write_adapter(fixture *f)
{
    static adapter_list   list;
    const resampler_sizes sizes = {.dim = 72,
                                   .depth = 2,
                                   .heads = 2,
                                   .queries = 4,
                                   .image_width = 48,
                                   .phrase_width = 48,
                                   .hidden_width = 216,
                                   .out_width = 128};
    unet_config    config;
    const int64_t *channels;
    ms_adapter     a = {0};
    binder        *b;
    list = (adapter_list){.memory = &f->memory};
    assert_int_equal(load_unet_config(&config, f->model), OK);
    int64_t pairs = adapter_channels(&channels, &f->memory, &config);
    assert_int_equal(bind_walk_begin(&b, &f->memory, list_tensor, &list), OK);
    adapter_bind(b, &a, &f->memory, &sizes, channels, pairs);
    assert_int_equal(bind_end(b), OK);
    f->adapter = arena_print(&f->memory, "%s/adapter.safetensors", f->model);
    f->adapter_bin = arena_print(&f->memory, "%s/ms_adapter.bin", f->model);
    assert_int_equal(adapter_file_write(f->adapter, list.item, list.count, STORED_F32, NULL, 0), OK);
    assert_int_equal(adapter_file_write(f->adapter_bin, list.item, list.count, STORED_F32, NULL, 0), OK);
}

/* Keeps the left half of rgba.png. */
static void write_mask(fixture *f)
{
    image picture, mask;
    assert_int_equal(image_load(&picture, IMAGES "/rgba.png", NULL), OK);
    assert_int_equal(image_new(&mask, picture.width, picture.height), OK);
    for (int i = 0; i < mask.width * mask.height; i++)
        memset(mask.rgb + 3 * i, i % mask.width < mask.width / 2 ? 128 : 127, 3);
    f->mask = arena_print(&f->memory, "%s/mask.png", f->model);
    assert_int_equal(image_save_png(f->mask, &mask, NULL, 0), OK);
    image_free(&picture);
    image_free(&mask);
}

static int open_fixture(void **state)
{
    static fixture f;
    f = (fixture){.quiet = logger_start(true)};
    f.model = arena_print(&f.memory, "%s/pipeline-tiny", MSD_TEST_TMP);
    f.image_encoder = arena_print(&f.memory, "%s/image_encoder", f.model);
    folder_remove(f.model);
    if (synth_write(f.model, "tiny", 0, STORED_F32, &f.quiet) != OK)
        fail_msg("%s", err_message());
    assert_int_equal(test_device_open(&f.dev, 2), OK);
    assert_int_equal(safetensors_open(&f.golden, MSD_GOLDENS "/generate.safetensors"), OK);
    write_adapter(&f);
    write_mask(&f);
    *state = &f;
    return 0;
}

static int close_fixture(void **state)
{
    fixture *f = *state;
    int      left = (int)f->dev->memory->total;
    safetensors_close(f->golden);
    device_close(f->dev);
    folder_remove(f->model);
    arena_free(&f->memory);
    return left; /* bytes that nobody released */
}

/* ---- drawing ---- */

static pipeline *open_pipeline(fixture *f, const char *adapter)
{
    pipeline      *p;
    pipeline_files files = {.model = f->model, .image_encoder = f->image_encoder, .adapter = adapter};
    if (pipeline_open(&p, f->dev, &files, &f->quiet) != OK)
        fail_msg("%s", err_message());
    return p;
}

static void encode(pipeline *p, job *j)
{
    if (job_check(j) != OK || pipeline_complete(p, j) != OK || pipeline_encode(p, j) != OK)
        fail_msg("%s", err_message());
}

static image draw(pipeline *p, const job *j, uint64_t seed)
{
    image out;
    if (pipeline_draw(&out, p, j, seed) != OK)
        fail_msg("%s", err_message());
    return out;
}

static size_t bytes_of(const image *i)
{
    return 3 * (size_t)i->width * (size_t)i->height;
}

static void agrees(const fixture *f, const char *name, const image *ours)
{
    const stored_tensor *t = tensor_table_find(&f->golden->tensors, name);
    size_t               bytes = bytes_of(ours), beyond = 0, other = 0;
    assert_non_null(t);
    assert_true(t->ndim == 3 && t->dim[0] == ours->height && t->dim[1] == ours->width && t->bytes == bytes);
    for (size_t i = 0; i < bytes; i++) {
        int difference = abs((int)ours->rgb[i] - (int)t->data[i]);
        beyond += difference > 1;
        other += difference > 0;
    }
    printf("%s: %zu of %zu values differ, %zu by more than 1: %.1f %% of tolerance\n", name, other, bytes, beyond,
           100.0 * (double)beyond / (0.001 * (double)bytes));
    assert_true((double)beyond <= 0.001 * (double)bytes);
}

static job job_of(const char *prompt, int64_t width, int64_t height, int64_t steps, double cfg_scale, double scale)
{
    job j = job_default();
    j.prompt = prompt;
    j.width = width;
    j.height = height;
    j.steps = steps;
    j.cfg_scale = cfg_scale;
    j.scale = scale;
    return j;
}

static void add_subject(fixture *f, job *j, const char *spec)
{
    if (job_add_subject(j, &f->memory, spec) != OK)
        fail_msg("%s", err_message());
}

static const char dog[] = "image=" IMAGES "/rgba.png,phrase=dog,box=0,0.25,0.6,1";
static const char cat[] = "image=" IMAGES "/exif6.jpg,phrase=red cat,box=0.45,0.1,0.95,0.8";

static void two_subjects(void **state)
{
    fixture  *f = *state;
    job       j = job_of("a dog and a red cat on the beach", 112, 112, 8, 7.5, 0.6);
    pipeline *p = open_pipeline(f, f->adapter);
    add_subject(f, &j, dog);
    add_subject(f, &j, cat);
    encode(p, &j);
    image picture = draw(p, &j, 0);
    agrees(f, "two", &picture);
    image_free(&picture);
    pipeline_close(p);
}

/* The same bits from either form of file, and whatever was drawn before. */
static void one_seed_is_one_picture(void **state)
{
    fixture *f = *state;
    job      j = job_of("a dog and a red cat", 64, 64, 4, 5.0, 1.0);
    add_subject(f, &j, dog);
    add_subject(f, &j, cat);
    j.drop_grounding = true;
    pipeline *p = open_pipeline(f, f->adapter_bin);
    encode(p, &j);
    image other = draw(p, &j, 9), first = draw(p, &j, 3);
    agrees(f, "dropped", &first);
    pipeline *q = open_pipeline(f, f->adapter);
    encode(q, &j);
    image second = draw(q, &j, 3);
    assert_memory_equal(first.rgb, second.rgb, bytes_of(&first));
    assert_memory_not_equal(first.rgb, other.rgb, bytes_of(&first));
    assert_string_equal(pipeline_adapter_hash(p), pipeline_adapter_hash(q));
    image_free(&first);
    image_free(&second);
    image_free(&other);
    pipeline_close(p);
    pipeline_close(q);
}

static void own_scales_and_a_mask(void **state)
{
    fixture  *f = *state;
    job       j = job_of("a dog", 64, 64, 4, 3.0, 0.4);
    pipeline *p = open_pipeline(f, f->adapter);
    add_subject(f, &j, arena_print(&f->memory, "%s,mask=%s,scale=1.5", dog, f->mask));
    add_subject(f, &j, cat);
    encode(p, &j);
    image picture = draw(p, &j, 4);
    agrees(f, "scales", &picture);
    image_free(&picture);
    pipeline_close(p);
}

static void plain_sdxl_of_an_odd_size(void **state)
{
    fixture  *f = *state;
    job       j = job_of("a dog, without any subject", 88, 72, 8, 7.5, 0.6);
    pipeline *p = open_pipeline(f, NULL);
    encode(p, &j);
    image picture = draw(p, &j, 1);
    agrees(f, "plain", &picture);
    image_free(&picture);
    pipeline_close(p);
}

static void without_guidance(void **state)
{
    fixture  *f = *state;
    job       j = job_of("a dog", 64, 64, 4, 1.0, 0.6);
    pipeline *p = open_pipeline(f, f->adapter);
    add_subject(f, &j, dog);
    encode(p, &j);
    image picture = draw(p, &j, 2);
    agrees(f, "unguided", &picture);
    image_free(&picture);
    pipeline_close(p);
}

static void files_of_a_batch(void **state)
{
    fixture  *f = *state;
    job       j = job_of("a dog", 64, 64, 1, 2.0, 0.6);
    pipeline *p = open_pipeline(f, NULL);
    char *names[] = {arena_print(&f->memory, "%s/x.y_0.png", f->model),
                     arena_print(&f->memory, "%s/x.y_1.png", f->model),
                     arena_print(&f->memory, "%s/x.y.png", f->model)};
    image     seen[2];
    j.output = names[2];
    j.batch_count = 2;
    j.seed = 5;
    assert_int_equal(generate_pictures(p, &j, &f->quiet), OK);
    assert_false(file_exists(names[2]));
    assert_int_equal(image_load(&seen[0], names[1], NULL), OK);
    j.batch_count = 1;
    j.seed = 6;
    assert_int_equal(generate_pictures(p, &j, &f->quiet), OK);
    assert_int_equal(image_load(&seen[1], names[2], NULL), OK);
    assert_memory_equal(seen[0].rgb, seen[1].rgb, bytes_of(&seen[0]));
    char a[65], b[65]; /* the texts too */
    assert_int_equal(file_sha256(a, names[1]), OK);
    assert_int_equal(file_sha256(b, names[2]), OK);
    assert_string_equal(a, b);
    image_free(&seen[0]);
    image_free(&seen[1]);
    pipeline_close(p);
}

static void mistakes_are_told_before_the_work(void **state)
{
    fixture  *f = *state;
    job       j = job_of("a dog", 0, 0, 4, 7.5, 0.6), other;
    pipeline *p = open_pipeline(f, NULL);
    other = j;
    assert_int_equal(pipeline_complete(p, &other), OK);
    assert_true(other.width == 128 && other.height == 128); /* sample_size x the VAE's factor */
    other = j, other.width = 100;
    assert_int_equal(pipeline_complete(p, &other), E_USAGE);
    assert_non_null(strstr(err_message(), "multiples of 8"));
    other = j, other.steps = 1001;
    assert_int_equal(pipeline_complete(p, &other), E_USAGE);
    other = j, other.output = "no-such-folder/x.png";
    assert_int_equal(generate_pictures(p, &other, &f->quiet), E_IO);
    other = j, other.output = f->model;
    assert_int_equal(generate_pictures(p, &other, &f->quiet), E_IO);
    other = j;
    add_subject(f, &other, dog);
    assert_int_equal(pipeline_complete(p, &other), E_USAGE);
    assert_non_null(strstr(err_message(), "--adapter"));
    pipeline_close(p);
    pipeline_files files = {.model = f->model, .adapter = f->adapter};
    assert_int_equal(pipeline_open(&p, f->dev, &files, &f->quiet), E_USAGE);
    files = (pipeline_files){.model = f->image_encoder};
    assert_int_equal(pipeline_open(&p, f->dev, &files, &f->quiet), E_MODEL);
    files = (pipeline_files){.model = f->model, .image_encoder = f->image_encoder, .adapter = f->mask};
    assert_int_equal(pipeline_open(&p, f->dev, &files, &f->quiet), E_MODEL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_subjects),
        cmocka_unit_test(one_seed_is_one_picture),
        cmocka_unit_test(own_scales_and_a_mask),
        cmocka_unit_test(plain_sdxl_of_an_odd_size),
        cmocka_unit_test(without_guidance),
        cmocka_unit_test(files_of_a_batch),
        cmocka_unit_test(mistakes_are_told_before_the_work),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
