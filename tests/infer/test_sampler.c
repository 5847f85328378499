/* The noise schedule and the samplers against diffusers (tests/reference/make_sampler.py). alpha_bar is equal to the
 * bit; everything else to 1e-6 of its norm, a few roundings of f32. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "data/counter.h"
#include "data/safetensors.h"
#include "infer/sampler.h"

static const double tolerance = 1e-6;

typedef struct fixture {
    safetensors *golden;
    json_t      *configs, *cases;
    arena        memory;
    char        *model; /* a folder for scheduler/scheduler_config.json */
} fixture;

static json_t *metadata_json(const fixture *f, const char *key)
{
    json_t     *out = NULL;
    const char *text = safetensors_metadata(f->golden, key);
    assert_non_null(text);
    assert_int_equal(json_text_parse(&out, text, strlen(text), key, JSON_KEEP_LAST), OK);
    return out;
}

static int open_fixture(void **state)
{
    static fixture f;
    f = (fixture){0};
    assert_int_equal(safetensors_open(&f.golden, MSD_GOLDENS "/sampler.safetensors"), OK);
    f.configs = metadata_json(&f, "configs");
    f.cases = metadata_json(&f, "cases");
    f.model = arena_print(&f.memory, "%s/sampler-model", MSD_TEST_TMP);
    folder_remove(f.model);
    assert_int_equal(folder_make(arena_print(&f.memory, "%s/scheduler", f.model)), OK);
    *state = &f;
    return 0;
}

static int close_fixture(void **state)
{
    fixture *f = *state;
    safetensors_close(f->golden);
    json_decref(f->configs);
    json_decref(f->cases);
    arena_free(&f->memory);
    return 0;
}

static float *golden(fixture *f, const char *name, int64_t *count)
{
    const stored_tensor *t = tensor_table_find(&f->golden->tensors, name);
    if (!t)
        fail_msg("golden without %s", name);
    float *out = ARENA_ARRAY(&f->memory, float, t->count);
    stored_to_f32(out, t->type, t->data, t->count);
    *count = t->count;
    return out;
}

static err load_text(scheduler_config *out, const fixture *f, const char *text)
{
    arena        memory = {0};
    file_writer *w;
    assert_int_equal(file_create(&w, arena_print(&memory, "%s/scheduler/scheduler_config.json", f->model)), OK);
    assert_int_equal(file_write(w, text, strlen(text)), OK);
    assert_int_equal(file_publish(w), OK);
    arena_free(&memory);
    return scheduler_config_load(out, f->model);
}

static scheduler_config load_config(const fixture *f, const char *name)
{
    scheduler_config out;
    char            *text = json_dumps(json_object_get(f->configs, name), 0);
    if (load_text(&out, f, text) != OK)
        fail_msg("%s", err_message());
    free(text);
    return out;
}

static void agrees(fixture *f, const char *name, const float *ours)
{
    int64_t count;
    float  *ref = golden(f, name, &count);
    double  difference = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += ((double)ours[i] - (double)ref[i]) * ((double)ours[i] - (double)ref[i]);
        norm += (double)ref[i] * (double)ref[i];
    }
    double error = sqrt(difference / (norm > 0 ? norm : 1));
    printf("%-28s %5.1f %% of tolerance\n", name, 100 * error / tolerance);
    assert_true(error <= tolerance); /* false for NaN */
}

static void schedules_are_torchs_to_the_bit(void **state)
{
    fixture    *f = *state;
    const char *name;
    json_t     *value;
    json_object_foreach(f->configs, name, value) {
        scheduler_config c = load_config(f, name);
        noise_schedule   n;
        int64_t          count;
        noise_schedule_make(&n, &f->memory, &c);
        float *ref = golden(f, arena_print(&f->memory, "%s.alpha_bar", name), &count);
        assert_int_equal(count, n.count);
        assert_memory_equal(n.alpha_bar, ref, (size_t)count * sizeof *ref);
        agrees(f, arena_print(&f->memory, "%s.signal", name),
               n.signal); /* torch's roots miss the last bit here and there */
        agrees(f, arena_print(&f->memory, "%s.noise", name), n.noise);
    }
}

static void run_case(fixture *f, const char *name, const char *config, int64_t steps)
{
    enum { COUNT = 4 * 3 * 5 };
    scheduler_config c = load_config(f, config);
    sampler         *s;
    float            latents[COUNT], answer[COUNT];
    float           *inputs = ARENA_ARRAY(&f->memory, float, steps * COUNT);
    assert_int_equal(sampler_open(&s, "euler", "discrete", &c, steps, COUNT), OK);
    assert_int_equal(sampler_calls(s), steps);
    assert_false(sampler_draws(s));
    counter_uniform(latents, "noise", 0, COUNT);
    sampler_start(s, latents);
    for (int64_t i = 0; i < steps; i++) {
        counter_uniform(answer, "model_outputs", (uint64_t)(i * COUNT), COUNT);
        for (int k = 0; k < COUNT; k++)
            answer[k] *= 2;
        sampler_input(inputs + i * COUNT, s, latents);
        sampler_step(s, latents, answer, NULL);
    }
    int64_t stored;
    char   *key = arena_print(&f->memory, "%s.model_inputs", name);
    golden(f, key, &stored); /* of many steps only the last */
    agrees(f, arena_print(&f->memory, "%s.timesteps", name), sampler_timesteps(s));
    agrees(f, arena_print(&f->memory, "%s.sigmas", name), sampler_sigmas(s));
    agrees(f, key, inputs + steps * COUNT - stored);
    agrees(f, arena_print(&f->memory, "%s.latents", name), latents);
    sampler_close(s);
}

static void euler_is_diffusers(void **state)
{
    fixture *f = *state;
    size_t   i;
    json_t  *one;
    assert_int_equal(json_array_size(f->cases), 19);
    json_array_foreach(f->cases, i, one)
        run_case(f, json_string_value(json_object_get(one, "name")), json_string_value(json_object_get(one, "config")),
                 json_integer_value(json_object_get(one, "steps")));
}

static void trailing_makes_as_many_steps_as_asked(void **state)
{
    scheduler_config c;
    assert_int_equal(load_text(&c, *state, "{\"timestep_spacing\": \"trailing\"}"), OK);
    for (int64_t steps = 1; steps <= 1000;
         steps++) { /* diffusers makes one too many, at timestep -1, for 61, 103, 121 ... */
        sampler *s;
        assert_int_equal(sampler_open(&s, "euler", "discrete", &c, steps, 1), OK);
        const float *t = sampler_timesteps(s);
        assert_true(t[0] == 999 && t[steps - 1] >= 0);
        for (int64_t i = 1; i < steps; i++)
            assert_true(t[i] < t[i - 1]);
        sampler_close(s);
    }
}

static void configs_are_held_to_what_is_computed(void **state)
{
    fixture         *f = *state;
    scheduler_config c;
    assert_int_equal(scheduler_config_load(&c, NULL), OK);
    assert_true(c.train_timesteps == 1000 && c.betas == BETA_SCALED_LINEAR && c.spacing == SPACING_LEADING &&
                c.steps_offset == 1);
    assert_int_equal(scheduler_config_load(&c, MSD_GOLDENS), OK); /* a folder without scheduler/ */
    assert_true(c.beta_start == 0.00085 && c.beta_end == 0.012);
    assert_int_equal(load_text(&c, f, "{}"), OK);
    assert_true(c.spacing == SPACING_LINSPACE && c.betas == BETA_LINEAR && c.steps_offset == 0);
    static const struct {
        const char *text, *part;
    } wrong[] = {
        {"{\"prediction_type\": \"sample\"}",
         "prediction_type: found \"sample\", this version supports: epsilon, v_prediction"},
        {"{\"beta_schedule\": \"squaredcos_cap_v2\"}", "beta_schedule"},
        {"{\"use_karras_sigmas\": true}", "use_karras_sigmas: found true"},
        {"{\"rescale_betas_zero_snr\": true}", "rescale_betas_zero_snr"},
        {"{\"trained_betas\": [0.1, 0.2]}", "trained_betas: found a list of 2"},
        {"{\"timestep_type\": \"continuous\"}", "timestep_type"},
        {"{\"final_sigmas_type\": \"sigma_min\"}", "final_sigmas_type"},
        {"{\"interpolation_type\": \"log_linear\"}", "interpolation_type"},
        {"{\"beta_start\": 0.5, \"beta_end\": 0.1}", "beta_start, beta_end"},
        {"{\"num_train_timesteps\": 1}", "num_train_timesteps"},
        {"[]", "scheduler_config.json"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(load_text(&c, f, wrong[i].text), E_MODEL);
        if (!strstr(err_message(), wrong[i].part))
            fail_msg("%s: %s", wrong[i].text, err_message());
    }
}

static void what_exists_is_named(void **state)
{
    (void)state;
    scheduler_config c;
    sampler         *s;
    assert_int_equal(scheduler_config_load(&c, NULL), OK);
    assert_int_equal(sampler_open(&s, "ddim", "discrete", &c, 4, 1), E_USAGE);
    assert_non_null(strstr(err_message(), "found \"ddim\", this version has: euler"));
    assert_null(s);
    assert_int_equal(sampler_open(&s, "euler", "karras", &c, 4, 1), E_USAGE);
    assert_non_null(strstr(err_message(), "found \"karras\", with sampling_method euler this version has: discrete"));
    assert_int_equal(sampler_open(&s, "euler", "discrete", &c, 0, 1), E_USAGE);
    assert_int_equal(sampler_open(&s, "euler", "discrete", &c, 1001, 1), E_USAGE);
    assert_string_equal(sampler_title("euler"), "Euler");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules_are_torchs_to_the_bit), cmocka_unit_test(euler_is_diffusers),
        cmocka_unit_test(trailing_makes_as_many_steps_as_asked), cmocka_unit_test(configs_are_held_to_what_is_computed),
        cmocka_unit_test(what_exists_is_named),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
