#include "train/config_keys.h"

#include <string.h>

#include "base/text.h"
#include "base/yaml.h"

#define AT(member)      offsetof(run_config, member)
#define RANGE(from, to) .low = (from), .high = (to)
#define STEPS           2147483647.0

const config_key config_keys[CONFIG_KEYS] = {
    {"model.base", KEY_PATH, AT(model.base), .fallback = NULL},
    {"model.image_encoder", KEY_PATH, AT(model.image_encoder), .fallback = NULL},
    {"model.adapter", KEY_PATH_OR_NULL, AT(model.adapter), .fallback = "null"},

    {"adapter.dim", KEY_WHOLE, AT(adapter.dim), .fallback = "1280", RANGE(1, 65536)},
    {"adapter.depth", KEY_WHOLE, AT(adapter.depth), .fallback = "4", RANGE(1, 64)},
    {"adapter.heads", KEY_WHOLE, AT(adapter.heads), .fallback = "20", RANGE(1, 1024)},
    {"adapter.queries", KEY_WHOLE, AT(adapter.queries), .fallback = "16", RANGE(1, 1024)},

    {"data.manifest", KEY_PATH, AT(data.manifest), .fallback = NULL},
    {"data.validation", KEY_PATH_OR_NULL, AT(data.validation), .fallback = "null"},
    {"data.resolution", KEY_WHOLE, AT(data.resolution), .fallback = "512", RANGE(8, 8192)},
    {"data.crop", KEY_CHOICE, AT(data.crop), .fallback = "center", .names = {"center", "random"}},
    {"data.buckets", KEY_SWITCH, AT(data.buckets), .fallback = "off"},
    {"data.max_subjects", KEY_WHOLE, AT(data.max_subjects), .fallback = "4", RANGE(1, 64)},
    {"data.cache", KEY_PATH_OR_OFF, AT(data.cache), .fallback = "off", .free = true},
    {"data.cache_dtype", KEY_CHOICE, AT(data.cache_dtype), .fallback = "auto", .names = {"auto", "f32", "bf16", "f16"}},
    {"data.bad_samples", KEY_CHOICE, AT(data.bad_samples), .fallback = "fatal", .names = {"fatal", "skip"}},
    {"data.drop.text", KEY_NUMBER, AT(data.drop.text), .fallback = "0.05", RANGE(0, 1)},
    {"data.drop.image", KEY_NUMBER, AT(data.drop.image), .fallback = "0.05", RANGE(0, 1)},
    {"data.drop.both", KEY_NUMBER, AT(data.drop.both), .fallback = "0.05", RANGE(0, 1)},
    {"data.drop.grounding", KEY_NUMBER, AT(data.drop.grounding), .fallback = "0.1", RANGE(0, 1)},
    {"data.augment.flip", KEY_NUMBER, AT(data.augment.flip), .fallback = "0", RANGE(0, 1)},
    {"data.augment.rotate", KEY_NUMBER, AT(data.augment.rotate), .fallback = "0", RANGE(0, 180)},
    {"data.augment.crop", KEY_NUMBER, AT(data.augment.crop), .fallback = "0", RANGE(0, 0.95)},
    {"data.augment.colour", KEY_NUMBER, AT(data.augment.colour), .fallback = "0", RANGE(0, 1)},

    {"train.steps", KEY_WHOLE, AT(train.steps), .fallback = "10000", RANGE(1, STEPS)},
    {"train.batch_size", KEY_WHOLE, AT(train.batch_size), .fallback = "8", RANGE(1, 65536)},
    {"train.accumulation", KEY_WHOLE, AT(train.accumulation), .fallback = "1", RANGE(1, 65536)},
    {"train.seed", KEY_WHOLE, AT(train.seed), .fallback = "0", RANGE(0, (double)INT64_MAX)},
    {"train.max_grad_norm", KEY_NUMBER, AT(train.max_grad_norm), .fallback = "1", RANGE(0, 1e30)},
    {"train.activation_checkpointing", KEY_CHOICE, AT(train.activation_checkpointing), .fallback = "off",
     .names = {"off", "on", "auto"}},
    {"train.memory", KEY_BYTES_OR_NULL, AT(train.memory), .fallback = "null"},
    {"train.ema", KEY_NUMBER_OR_OFF, AT(train.ema), .fallback = "off", RANGE(1e-9, 0.999999999)},
    {"train.part", KEY_CHOICE, AT(train.part), .fallback = "all", .names = {"all", "resampler", "kv"}},
    {"train.timesteps", KEY_SPAN_OR_ALL, AT(train.timesteps), .fallback = "all", RANGE(0, 100000)},
    {"train.min_snr", KEY_NUMBER_OR_OFF, AT(train.min_snr), .fallback = "off", RANGE(1e-6, 1e6)},
    {"train.noise_offset", KEY_NUMBER_OR_OFF, AT(train.noise_offset), .fallback = "off", RANGE(1e-6, 10)},
    {"train.max_bad_steps", KEY_WHOLE, AT(train.max_bad_steps), .fallback = "10", RANGE(1, STEPS)},
    {"train.reduce_dtype", KEY_CHOICE, AT(train.reduce_dtype), .fallback = "f32", .names = {"f32", "bf16"}},
    {"train.shard_optimizer", KEY_SWITCH, AT(train.shard_optimizer), .fallback = "off", .free = true},
    {"train.watchdog", KEY_WHOLE, AT(train.watchdog), .fallback = "120", RANGE(1, 86400), .free = true},

    {"optimizer.kind", KEY_CHOICE, AT(optimizer.kind), .fallback = "adamw", .names = {"adamw", "adamw8bit"}},
    {"optimizer.lr", KEY_NUMBER, AT(optimizer.lr), .fallback = "1e-4", RANGE(1e-12, 10)},
    {"optimizer.lr_resampler", KEY_NUMBER_OR_NULL, AT(optimizer.lr_resampler), .fallback = "null", RANGE(1e-12, 10)},
    {"optimizer.lr_kv", KEY_NUMBER_OR_NULL, AT(optimizer.lr_kv), .fallback = "null", RANGE(1e-12, 10)},
    {"optimizer.weight_decay", KEY_NUMBER, AT(optimizer.weight_decay), .fallback = "0.01", RANGE(0, 100)},
    {"optimizer.decay_norms", KEY_SWITCH, AT(optimizer.decay_norms), .fallback = "on"},
    {"optimizer.betas", KEY_PAIR, AT(optimizer.betas), .fallback = "[0.9, 0.999]", RANGE(0, 0.9999999)},
    {"optimizer.eps", KEY_NUMBER, AT(optimizer.eps), .fallback = "1e-8", RANGE(1e-30, 1)},
    {"optimizer.schedule", KEY_CHOICE, AT(optimizer.schedule), .fallback = "constant",
     .names = {"constant", "linear", "cosine"}},
    {"optimizer.warmup", KEY_WHOLE, AT(optimizer.warmup), .fallback = "0", RANGE(0, STEPS)},

    {"output.dir", KEY_PATH, AT(output.dir), .fallback = "runs/one", .free = true},
    {"output.checkpoint_every", KEY_WHOLE, AT(output.checkpoint_every), .fallback = "500", RANGE(0, STEPS),
     .free = true},
    {"output.keep", KEY_WHOLE, AT(output.keep), .fallback = "3", RANGE(0, STEPS), .free = true},
    {"output.sample_every", KEY_WHOLE, AT(output.sample_every), .fallback = "500", RANGE(0, STEPS), .free = true},
    {"output.samples", KEY_PATH_OR_NULL, AT(output.samples), .fallback = "null", .free = true},
    {"output.validate_every", KEY_WHOLE, AT(output.validate_every), .fallback = "500", RANGE(0, STEPS), .free = true},

    {"device.kind", KEY_CHOICE, AT(device.kind), .fallback = "auto", .names = {"auto", "cpu", "cuda"}, .free = true},
    {"device.dtype", KEY_CHOICE, AT(device.dtype), .fallback = "auto", .names = {"auto", "f32", "bf16"}, .free = true},
    {"device.graphs", KEY_SWITCH, AT(device.graphs), .fallback = "on", .free = true},
};

const config_key *config_key_find(const char *name)
{
    for (int i = 0; i < CONFIG_KEYS; i++)
        if (!strcmp(config_keys[i].name, name))
            return &config_keys[i];
    return NULL;
}

int config_key_names(const config_key *k)
{
    int count = 0;
    while (count < MOST_NAMES && k->names[count])
        count++;
    return count;
}

const char *config_key_text(arena *memory, const config_key *k, const run_config *c)
{
    const void *value = (const char *)c + k->at;
    char number[32], other[32];
    switch (k->kind) {
    case KEY_PATH:
    case KEY_PATH_OR_NULL:
    case KEY_PATH_OR_OFF:
    case KEY_TEXT_OR_NULL: {
        const char *text = *(const char *const *)value;
        return text ? yaml_quoted(memory, text) : k->kind == KEY_PATH_OR_OFF ? "off" : "null";
    }
    case KEY_BYTES_OR_NULL: {
        int64_t bytes = *(const int64_t *)value;
        return bytes % 1048576 ? arena_print(memory, "%lld", (long long)bytes)
               : bytes         ? arena_print(memory, "%lldMiB", (long long)bytes / 1048576)
                               : "null";
    }
    case KEY_WHOLE: return arena_print(memory, "%lld", (long long)*(const int64_t *)value);
    case KEY_NUMBER: return arena_copy_string(memory, text_number(number, *(const double *)value));
    case KEY_NUMBER_OR_OFF:
    case KEY_NUMBER_OR_NULL: {
        double x = *(const double *)value;
        return x == 0 ? (k->kind == KEY_NUMBER_OR_OFF ? "off" : "null") : arena_copy_string(memory, text_number(number, x));
    }
    case KEY_SPAN_OR_ALL: {
        const int64_t *span = value;
        return span[1] ? arena_print(memory, "[%lld, %lld]", (long long)span[0], (long long)span[1]) : "all";
    }
    case KEY_PAIR: {
        const double *pair = value;
        return arena_print(memory, "[%s, %s]", text_number(number, pair[0]), text_number(other, pair[1]));
    }
    case KEY_CHOICE: return k->names[*(const int *)value];
    case KEY_SWITCH: return *(const bool *)value ? "on" : "off";
    }
    return "";
}
