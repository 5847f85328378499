/* What a UNet's cross-attentions read, for all steps of a picture: keys and values of text and subjects, box masks. */
#include <inttypes.h>

#include "model/expect_shape.h"
#include "model/unet.h"

static err check_text(const unet *u, const tensor *text)
{
    return expect_shape("encoder_hidden_states", text, DIMS(-1, -1, u->config.text_width));
}

static err check_subjects(const unet *u, const tensor *text, const adapter_inputs *s)
{
    const resampler_sizes *sizes = &s->adapter->image_proj.sizes;
    CHECK(s->adapter->pairs == u->mid.first_pair + u->mid.depth, "adapter of %" PRId64 " pairs on another UNet",
          s->adapter->pairs);
    TRY(expect_shape("boxes", s->boxes, DIMS(-1, -1, 4)));
    int64_t samples = s->boxes->dim[0], subjects = s->boxes->dim[1];
    if (samples > text->dim[0])
        return err_set(E_SHAPE, "boxes: got %" PRId64 " samples, expected no more than the batch of %" PRId64, samples,
                       text->dim[0]);
    TRY(expect_shape("ip_tokens", s->ip_tokens, DIMS(samples, subjects * sizes->queries, sizes->out_width)));
    return s->subject_scales ? expect_shape("subject_scales", s->subject_scales, DIMS(subjects)) : OK;
}

static void make_masks(unet_context *c, ag *g, const unet *u, tensor *boxes, int64_t h, int64_t w)
{
    int levels = u->config.levels;
    for (int level = 0; level < levels; level++) {
        bool used =
            u->config.down[level].attention || u->config.up[levels - 1 - level].attention || level == levels - 1;
        if (used) {
            c->grid[c->grids].h = h;
            c->grid[c->grids].w = w;
            c->grid[c->grids++].mask = ag_box_mask(g, boxes, h, w);
        }
        h = (h + 1) / 2; /* what a 3x3 convolution of stride 2 with padding 1 gives */
        w = (w + 1) / 2;
    }
}

static void add_subjects(unet_context *c, ag *g, const unet *u, const adapter_inputs *s, int64_t h, int64_t w)
{
    c->adapter = s->adapter;
    c->subject_scales = s->subject_scales;
    c->scale = s->scale;
    tensor *tokens = ag_to_type(g, s->ip_tokens, unet_type(u));
    for (int i = 0; i < s->adapter->groups; i++)
        c->ip_kv[i] = ag_linear(g, tokens, s->adapter->group[i].kv.t, NULL, NULL);
    make_masks(c, g, u, s->boxes, h, w);
}

err unet_context_make(unet_context *out, ag *g, const unet *u, tensor *text, const adapter_inputs *subjects, int64_t h,
                      int64_t w)
{
    *out = (unet_context){0};
    TRY(ag_status(g));
    TRY(ag_fail(g, check_text(u, text)));
    if (subjects)
        TRY(ag_fail(g, check_subjects(u, text, subjects)));
    out->text_kv = ag_linear(g, ag_to_type(g, text, unet_type(u)), u->text_kv.t, NULL, NULL);
    if (subjects)
        add_subjects(out, g, u, subjects, h, w);
    return ag_status(g);
}
