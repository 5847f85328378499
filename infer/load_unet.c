#include "infer/load_unet.h"

#include <stdlib.h>

#include "data/hf_folder.h"
#include "data/weights.h"

err load_unet_config(unet_config *out, const char *model)
{
    json_t *config = NULL;
    TRY(hf_config(&config, model, "unet"));
    char *where = hf_path(model, "unet", "config.json");
    err   e = unet_config_parse(out, config, where);
    free(where);
    json_decref(config);
    return e;
}

err load_unet(unet *out, const load_target *to, const char *model)
{
    unet_config config;
    weights    *w = NULL;
    binder     *b;
    *out = (unet){0};
    TRY(load_unet_config(&config, model));
    TRY(weights_open_component(&w, model, "unet"));
    err e = bind_load_begin(&b, to->owner, to->dev, to->type, &w->source, false);
    if (e == OK) {
        if (to->forward_only)
            bind_forward_only(b);
        unet_bind(b, out, to->owner, &config);
        e = bind_end(b);
    }
    weights_close(w);
    return e;
}

err load_adapter(ms_adapter *out, const load_target *to, const char *path, const unet_config *config, bool trainable)
{
    weights *w = NULL;
    *out = (ms_adapter){0};
    TRY(weights_open(&w, path));
    err e = adapter_load(out, to->owner, to->dev, to->type, &w->source, config, trainable);
    weights_close(w);
    return e;
}

err load_resampler(resampler *out, const load_target *to, const char *path)
{
    weights        *w = NULL;
    binder         *b;
    resampler_sizes sizes;
    err             e;
    *out = (resampler){0};
    TRY(weights_open(&w, path));
    TRY_GOTO(e, adapter_sizes_read(&sizes, &w->source), done);
    TRY_GOTO(e, bind_load_begin(&b, to->owner, to->dev, to->type, &w->source, false), done);
    int at = bind_enter(b, "image_proj");
    resampler_bind(b, out, to->owner, &sizes);
    bind_leave(b, at);
    bind_ignore(b, "ms_adapter.*");
    bind_ignore(b, "dummy_image_tokens");
    e = bind_end(b);
done:
    weights_close(w);
    return e;
}
