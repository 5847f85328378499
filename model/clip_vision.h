/* CLIP's picture encoder: transformers' CLIPVisionModelWithProjection, from config.json.
 *
 *     x = [class_embedding | patches] + position_embedding;  x = layers(pre_layrnorm(x))
 *     penultimate = x before the last layer;  embeds = visual_projection(post_layernorm(x[:, 0])) */
#ifndef MSD_MODEL_CLIP_VISION_H
#define MSD_MODEL_CLIP_VISION_H

#include "model/clip_layers.h"

typedef struct clip_vision_config {
    clip_layers_config layers;
    int64_t image_size, patch_size; /* pixels */
    int64_t channels;               /* num_channels */
    int64_t projection;             /* projection_dim */
} clip_vision_config;

/* config.json of a vision model, or of a whole CLIP model, whose vision_config then counts. `where` names the file in
 * messages. Absent keys take transformers' defaults. E_MODEL names every key that is wrong. */
err clip_vision_config_parse(clip_vision_config *out, const json_t *config, const char *where);

/* Whether this encoder's hidden_size is the width an adapter was made for (1664: OpenCLIP ViT-bigG/14). E_MODEL names
 * both encoders where they are known ones: 1280, ViT-H/14, is the common mix-up. */
err clip_vision_check_width(const clip_vision_config *config, int64_t adapter_width, const char *where);

typedef struct clip_vision {
    clip_vision_config config;
    tensor            *class_embedding;    /* (C) */
    tensor            *patch_embedding;    /* (C,P,P,channels) */
    tensor            *position_embedding; /* (L,C), L = 1 + patches */
    norm               pre_norm, post_norm;
    clip_layer        *layer;
    linear             projection;         /* (projection,C), no bias; NULL when bound without head */
} clip_vision;

/* Names every weight, with "vision_model." or, when the source has them so, without it; arrays live in `owner`.
 * with_head: post_layernorm and visual_projection too; else they may be absent. The text half of a whole CLIP model's
 * file is passed over. *m has to be zero or bound before in the same way. */
void clip_vision_bind(binder *b, clip_vision *m, arena *owner, const clip_vision_config *config, bool with_head);
void clip_vision_release(clip_vision *m); /* its weights */

typedef struct clip_vision_output {
    tensor *penultimate; /* (B,L,C) hidden_states[-2], no norm */
    tensor *embeds;      /* (B,P) image_embeds, or NULL when not wanted */
} clip_vision_output;

/* pixel_values (B,image_size,image_size,channels), normalised as CLIP wants them. E_SHAPE when they have another size:
 * position embeddings are not stretched. */
err clip_vision_forward(clip_vision_output *out, ag *g, const clip_vision *m, tensor *pixel_values, bool want_embeds);

#endif
