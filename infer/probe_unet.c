#include "infer/load_unet.h"
#include "infer/probe.h"

static const probe_input unet_rows[] = {
    {"sample", "B,C,h,w", PROBE_IMAGE, PROBE_REQUIRED},
    {"timestep", "B", PROBE_F32, PROBE_REQUIRED},
    {"encoder_hidden_states", "B,T,X", PROBE_PLAIN, PROBE_REQUIRED},
    {"text_embeds", "B,P", PROBE_PLAIN, PROBE_REQUIRED},
    {"time_ids", "B,6", PROBE_F32, PROBE_REQUIRED},
    {"ip_tokens", "B,S*N,X", PROBE_PLAIN, PROBE_WITH_ADAPTER},
    {"boxes", "B,S,4", PROBE_F32, PROBE_WITH_ADAPTER},
    {"subject_scales", "S", PROBE_F32, PROBE_OPTIONAL_WITH_ADAPTER},
    {0},
};

static err predict(probe *p, const unet *u, const ms_adapter *adapter, double scale)
{
    unet_inputs in = {
        .sample = probe_tensor(p, "sample"),
        .timestep = probe_tensor(p, "timestep"),
        .text_embeds = probe_tensor(p, "text_embeds"),
        .time_ids = probe_tensor(p, "time_ids"),
    };
    adapter_inputs subjects = {.adapter = adapter, .scale = (float)scale};
    if (adapter) {
        subjects.ip_tokens = probe_tensor(p, "ip_tokens");
        subjects.boxes = probe_tensor(p, "boxes");
        subjects.subject_scales = probe_tensor(p, "subject_scales");
    }
    unet_context context;
    tensor      *text = probe_tensor(p, "encoder_hidden_states");
    TRY(ag_status(probe_graph(p)));
    TRY(unet_context_make(&context, probe_graph(p), u, text, adapter ? &subjects : NULL, in.sample->dim[1],
                          in.sample->dim[2]));
    return probe_put_image(p, "noise_pred", unet_forward(probe_graph(p), u, &in, &context));
}

static err run_unet(probe *p)
{
    const probe_options *o = probe_given(p);
    load_target          to = {.owner = probe_memory(p), .dev = o->dev, .type = o->type, .forward_only = true};
    unet                 u;
    ms_adapter           adapter = {0};
    double               scale;
    TRY(probe_number(&scale, p, "scale", 0.6));
    TRY(load_unet(&u, &to, o->model));
    err e = o->adapter ? load_adapter(&adapter, &to, o->adapter, &u.config, false) : OK;
    if (e == OK)
        e = predict(p, &u, o->adapter ? &adapter : NULL, scale);
    unet_release(&u);
    adapter_release(&adapter);
    return e;
}

static const char *const unet_settings[] = {"scale", NULL};
const probe_module probe_module_unet = {"unet", PROBE_MODEL, unet_rows, unet_settings, run_unet};

static const probe_input resampler_rows[] = {
    {"image_hidden", "R,L,D", PROBE_PLAIN, PROBE_REQUIRED},
    {"phrase_embeds", "R,P", PROBE_PLAIN, PROBE_REQUIRED},
    {"boxes", "R,4", PROBE_F32, PROBE_REQUIRED},
    {"drop_grounding_tokens", "R", PROBE_IDS, PROBE_REQUIRED},
    {0},
};

static err run_resampler(probe *p)
{
    const probe_options *o = probe_given(p);
    load_target          to = {.owner = probe_memory(p), .dev = o->dev, .type = o->type, .forward_only = true};
    resampler            r;
    TRY(load_resampler(&r, &to, o->adapter));
    tensor *tokens =
        resampler_forward(probe_graph(p), &r, probe_tensor(p, "image_hidden"), probe_tensor(p, "phrase_embeds"),
                          probe_tensor(p, "boxes"), probe_tensor(p, "drop_grounding_tokens"), false);
    err e = probe_put(p, "image_prompt_embeds", tokens);
    resampler_release(&r);
    return e;
}

const probe_module probe_module_resampler = {"resampler", PROBE_ADAPTER, resampler_rows, NULL, run_resampler};
