#include "infer/load_encoders.h"

#include <stdlib.h>

#include "data/hf_folder.h"
#include "data/weights.h"

/* A component's two files, open. */
typedef struct component {
    json_t  *config;
    char    *where; /* of config.json, for messages */
    weights *weights;
    binder  *binder;
} component;

static err open_config(component *c, const char *folder, const char *name)
{
    *c = (component){0};
    TRY(hf_config(&c->config, folder, name));
    c->where = hf_path(folder, name, "config.json");
    return OK;
}

static err open_weights(component *c, const load_target *to, const char *folder, const char *name)
{
    TRY(weights_open_component(&c->weights, folder, name));
    TRY(bind_load_begin(&c->binder, to->owner, to->dev, to->type, &c->weights->source, false));
    if (to->forward_only)
        bind_forward_only(c->binder);
    return OK;
}

static void close_component(component *c)
{
    json_decref(c->config);
    free(c->where);
    weights_close(c->weights);
}

err load_text_encoder(clip_text *out, const load_target *to, const char *model, bool second)
{
    const char      *name = second ? "text_encoder_2" : "text_encoder";
    component        c;
    clip_text_config config;
    *out = (clip_text){0};
    err e;
    TRY_GOTO(e, open_config(&c, model, name), done);
    TRY_GOTO(e, clip_text_config_parse(&config, c.config, c.where, second), done);
    TRY_GOTO(e, open_weights(&c, to, model, name), done);
    clip_text_bind(c.binder, out, to->owner, &config);
    e = bind_end(c.binder);
done:
    close_component(&c);
    return e;
}

err load_vae(vae *out, const load_target *to, const char *model)
{
    component  c;
    vae_config config;
    *out = (vae){0};
    err e;
    TRY_GOTO(e, open_config(&c, model, "vae"), done);
    TRY_GOTO(e, vae_config_parse(&config, c.config, c.where), done);
    TRY_GOTO(e, open_weights(&c, to, model, "vae"), done);
    vae_bind(c.binder, out, to->owner, &config);
    e = bind_end(c.binder);
done:
    close_component(&c);
    return e;
}

err load_image_encoder(clip_vision *out, const load_target *to, const char *folder, bool with_head)
{
    component          c;
    clip_vision_config config;
    *out = (clip_vision){0};
    err e;
    TRY_GOTO(e, open_config(&c, folder, NULL), done);
    TRY_GOTO(e, clip_vision_config_parse(&config, c.config, c.where), done);
    TRY_GOTO(e, open_weights(&c, to, folder, NULL), done);
    clip_vision_bind(c.binder, out, to->owner, &config, with_head);
    e = bind_end(c.binder);
done:
    close_component(&c);
    return e;
}
