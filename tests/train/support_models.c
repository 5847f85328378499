#include "support_models.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "model/unet.h"
#include "support_source.h"

static void must(err e)
{
    CHECK(e == OK, "%s", err_message());
}

static void write_weights(const char *path, const counter_source *s)
{
    safetensors_writer *w = NULL;
    must(safetensors_create(&w, path));
    for (size_t i = 0; i < s->count; i++)
        safetensors_declare(w, s->item[i].name, STORED_F32, s->item[i].view.ndim, s->item[i].view.dim);
    for (size_t i = 0; i < s->count; i++)
        must(safetensors_write_f32(w, s->item[i].view.data));
    must(safetensors_publish(w));
}

static void write_unet(const char *folder, const char *config_text, const unet_config *config, arena *memory)
{
    counter_source weights = {0};
    unet           listed = {0};
    file_writer   *w = NULL;
    must(folder_make(arena_print(memory, "%s/unet", folder)));
    must(file_create(&w, arena_print(memory, "%s/unet/config.json", folder)));
    file_write(w, config_text, strlen(config_text));
    must(file_publish(w));
    binder *b = counter_source_walk(&weights);
    unet_bind(b, &listed, memory, config);
    counter_source_end(&weights, b);
    write_weights(arena_print(memory, "%s/unet/diffusion_pytorch_model.safetensors", folder), &weights);
    counter_source_free(&weights);
}

static int64_t number(const json_t *object, const char *key)
{
    int64_t value = 0;
    must(json_get_int(&value, object, key, "resampler", 1, 1 << 20));
    return value;
}

static void write_adapter(const char *folder, const json_t *r, const unet_config *config, arena *memory)
{
    resampler_sizes sizes = {.dim = number(r, "dim"), .depth = number(r, "depth"), .heads = number(r, "heads"),
                             .queries = number(r, "num_queries"), .image_width = number(r, "embedding_dim"),
                             .phrase_width = number(r, "phrase_embeddings_dim"),
                             .hidden_width = number(r, "dim") * number(r, "ff_mult"),
                             .out_width = number(r, "output_dim")};
    counter_source  weights = {0};
    ms_adapter      listed = {0};
    const int64_t  *channels;
    int64_t         pairs = adapter_channels(&channels, memory, config);
    binder         *b = counter_source_walk(&weights);
    adapter_bind(b, &listed, memory, &sizes, channels, pairs);
    counter_source_end(&weights, b);
    write_weights(arena_print(memory, "%s/adapter.safetensors", folder), &weights);
    counter_source_free(&weights);
}

void models_write(const golden *data, const char *folder)
{
    arena       memory = {0};
    unet_config config;
    json_t     *sizes = NULL;
    const char *text = safetensors_metadata(data->file, "resampler");
    must(unet_config_parse(&config, data->config, "golden"));
    must(json_text_parse(&sizes, text, strlen(text), "resampler", JSON_REFUSE_DUPLICATES));
    write_unet(folder, safetensors_metadata(data->file, "config"), &config, &memory);
    write_adapter(folder, sizes, &config, &memory);
    json_decref(sizes);
    arena_free(&memory);
}
