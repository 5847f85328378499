/* Batches from a source without encoders: their order, their bits whatever the threads, and bad samples at their turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "train/batch_source.h"

enum { SAMPLES = 7, B = 2, PARTS = 2, STEPS = 9 };

/* Latents that tell which sample and crop they are of. */
static err read_number(sample_source *s, sample_slot *slot, int64_t index, int crop)
{
    const sample *m = &s->dataset->sample[index];
    usleep((useconds_t)(index * 37 % 200));
    if (!m->valid)
        return err_set(E_FORMAT, "%s: broken", m->image);
    slot->view = (sample_view){.image = m->image, .text = m->text, .frame = {.crop_width = 16, .crop_height = 16}};
    slot->values[0] = (float)(10 * index + crop);
    return OK;
}

static err encode_number(encoded_sample *out, sample_source *s, const sample_slot *slot)
{
    for (int64_t k = 0; k < 2 * s->latent; k++)
        out->latent[k] = k < s->latent ? slot->values[0] : 0.0f;
    if (out->text)
        out->text[0] = out->pooled[0] = slot->values[0];
    return OK;
}

static void close_nothing(sample_source *s)
{
    (void)s;
}

typedef struct fixture {
    run_config    config;
    manifest      dataset;
    sample        sample[SAMPLES];
    sample_source source;
    float         text, pooled;
} fixture;

static fixture *fixture_new(void)
{
    fixture *f = calloc(1, sizeof *f);
    f->config.data.resolution = 16;
    f->config.data.max_subjects = 1;
    f->config.data.drop.text = 0.3;
    f->config.train.batch_size = B;
    f->config.train.accumulation = PARTS;
    f->config.train.seed = 5;
    f->dataset = (manifest){.path = "data.jsonl", .sample = f->sample, .count = SAMPLES};
    for (int i = 0; i < SAMPLES; i++)
        f->sample[i] = (sample){.image = "a.png", .text = "", .line = i + 1, .valid = true};
    f->source = (sample_source){.config = &f->config, .dataset = &f->dataset, .latent = 16, .slot_floats = 1,
                                .sizes = {.tokens = 1, .text_width = 1, .pooled_width = 1, .phrase_width = 1, .picture_tokens = 1,
                                          .picture_width = 1, .picture_side = 1, .latent_channels = 4, .latent_factor = 8,
                                          .scaling_factor = 1},
                                .empty_text = &f->text, .empty_pooled = &f->pooled, .read = read_number,
                                .encode = encode_number, .close = close_nothing};
    f->text = f->pooled = -1;
    return f;
}

static void open_source(batch_source *s, fixture *f, int threads)
{
    assert_int_equal(batch_source_open(s, &f->config, &f->dataset, &f->source, 1000, threads, 0, 1, NULL), OK);
}

enum { ROW = 16 + 16 + 1 + 1 + 1 }; /* latents, noise, timestep, text, pooled */

/* All batches of the run from step `first` on, one behind the other. */
static float *all_batches(fixture *f, int threads, int first)
{
    batch_source s;
    float *all = calloc((size_t)STEPS * PARTS * B * ROW, sizeof *all), *to = all;
    open_source(&s, f, threads);
    for (int step = first; step <= STEPS; step++) {
        for (int micro = 0; micro < PARTS; micro++) {
            assert_int_equal(batch_source_make(&s, step, micro), OK);
            for (int i = 0; i < B; i++, to += ROW) {
                memcpy(to, s.batch.latents + 16 * i, 16 * sizeof *to);
                memcpy(to + 16, s.batch.noise + 16 * i, 16 * sizeof *to);
                to[32] = s.batch.timesteps[i];
                to[33] = s.batch.text[i];
                to[34] = s.batch.pooled[i];
            }
        }
    }
    assert_true(s.waited > 0);
    batch_source_close(&s);
    return all;
}

/* A step of 4 micro-batches: by one rank, by 2 with 2 each, by 4 with one each. */
static void ranks_share_what_one_sees(void **state)
{
    enum { MICROS = 4 };
    (void)state;
    fixture *f = fixture_new();
    batch_source alone, part;
    f->config.train.accumulation = MICROS;
    open_source(&alone, f, 1);
    for (int ranks = 2; ranks <= MICROS; ranks *= 2) {
        for (int rank = 0; rank < ranks; rank++) {
            f->config.train.accumulation = MICROS / ranks;
            assert_int_equal(batch_source_open(&part, &f->config, &f->dataset, &f->source, 1000, 2, rank, ranks, NULL), OK);
            for (int step = 1; step <= STEPS; step++) {
                for (int micro = 0; micro < MICROS / ranks; micro++) {
                    assert_int_equal(batch_source_make(&part, step, micro), OK);
                    f->config.train.accumulation = MICROS;
                    assert_int_equal(batch_source_make(&alone, step, micro * ranks + rank), OK);
                    f->config.train.accumulation = MICROS / ranks;
                    assert_memory_equal(part.chosen, alone.chosen, sizeof(sample *[B]));
                    assert_memory_equal(part.batch.latents, alone.batch.latents, sizeof(float[16 * B]));
                    assert_memory_equal(part.batch.noise, alone.batch.noise, sizeof(float[16 * B]));
                    assert_memory_equal(part.batch.timesteps, alone.batch.timesteps, sizeof(float[B]));
                    assert_memory_equal(part.batch.drop_grounding, alone.batch.drop_grounding, sizeof(int32_t[B]));
                }
            }
            batch_source_close(&part);
        }
    }
    batch_source_close(&alone);
    free(f);
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    for (int crop = CROP_CENTER; crop <= CROP_RANDOM; crop++) {
        fixture *f = fixture_new();
        f->config.data.crop = crop;
        float *expected = all_batches(f, 0, 1);
        for (int threads = 1; threads <= 4; threads++) {
            float *found = all_batches(f, threads, 1);
            assert_memory_equal(found, expected, sizeof(float) * STEPS * PARTS * B * ROW);
            free(found);
        }
        float *later = all_batches(f, 3, 5); /* as after a resume */
        size_t skipped = (size_t)4 * PARTS * B * ROW;
        assert_memory_equal(later, expected + skipped, sizeof(float) * ((size_t)STEPS * PARTS * B * ROW - skipped));
        free(later);
        free(expected);
        free(f);
    }
}

static void a_fatal_sample_is_named_at_its_turn(void **state)
{
    (void)state;
    fixture *f = fixture_new();
    batch_source s;
    f->sample[3].valid = false;
    open_source(&s, f, 3);
    sample_order order;
    sample_order_open(&order, 5, SAMPLES);
    int64_t turn = 0;
    while (sample_order_at(&order, turn) != 3)
        turn++;
    sample_order_close(&order);
    int64_t bad_step = turn / (B * PARTS) + 1, bad_micro = turn % (B * PARTS) / B;
    for (int64_t step = 1; step <= bad_step; step++) {
        for (int64_t micro = 0; micro < PARTS; micro++) {
            bool bad = step == bad_step && micro >= bad_micro;
            err e = batch_source_make(&s, step, micro);
            if (bad) {
                assert_int_equal(e, E_DATASET);
                assert_string_equal(err_message(), "data.jsonl:4: a.png: broken");
                break;
            }
            assert_int_equal(e, OK);
        }
    }
    batch_source_close(&s);
    free(f);
}

static void the_next_good_sample_stands_in(void **state)
{
    (void)state;
    fixture *f = fixture_new();
    batch_source s;
    f->config.data.bad_samples = BAD_SAMPLES_SKIP;
    f->sample[3].valid = f->sample[4].valid = f->sample[6].valid = false;
    open_source(&s, f, 2);
    sample_order order;
    sample_order_open(&order, 5, SAMPLES);
    for (int64_t position = 0; position < STEPS * PARTS * B; position += B) {
        assert_int_equal(batch_source_make(&s, position / (PARTS * B) + 1, position / B % PARTS), OK);
        for (int i = 0; i < B; i++) {
            int64_t drawn = sample_order_at(&order, position + i);
            int64_t expected = drawn == 3 || drawn == 4 ? 5 : drawn == 6 ? 0 : drawn;
            assert_ptr_equal(s.chosen[i], &f->sample[expected]);
        }
    }
    assert_int_equal(s.bad_samples, 3);
    sample_order_close(&order);
    batch_source_close(&s);
    for (int i = 0; i < SAMPLES; i++)
        f->sample[i].valid = false;
    open_source(&s, f, 2);
    assert_int_equal(batch_source_make(&s, 1, 0), E_DATASET);
    batch_source_close(&s);
    free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(ranks_share_what_one_sees),
        cmocka_unit_test(a_fatal_sample_is_named_at_its_turn),
        cmocka_unit_test(the_next_good_sample_stands_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
