/* CLIP's text encoder: transformers' CLIPTextModel and CLIPTextModelWithProjection, from config.json.
 *
 *     x = token_embedding[ids] + position_embedding;  x = causal layers(x)
 *     penultimate = x before the last layer;  last = final_layer_norm(x);  pooled = last at the end-of-text token */
#ifndef MSD_MODEL_CLIP_TEXT_H
#define MSD_MODEL_CLIP_TEXT_H

#include "model/clip_layers.h"

typedef struct clip_text_config {
    clip_layers_config layers;
    int64_t vocabulary;  /* vocab_size */
    int64_t positions;   /* max_position_embeddings */
    int64_t projection;  /* projection_dim; 0: the model has none */
    int64_t end_of_text; /* eos_token_id; 2 means: pool at the largest id, transformers' rule for old files */
} clip_text_config;

/* `where` names the file in messages. with_projection: CLIPTextModelWithProjection. Absent keys take transformers'
 * defaults. E_MODEL names every key that is wrong. */
err clip_text_config_parse(clip_text_config *out, const json_t *config, const char *where, bool with_projection);

typedef struct clip_text {
    clip_text_config config;
    tensor          *token_embedding;    /* (vocabulary,C) */
    tensor          *position_embedding; /* (positions,C) */
    clip_layer      *layer;              /* config.layers.layers of them */
    norm             final_norm;
    linear           projection;         /* (projection,C), no bias */
} clip_text;

/* Names every weight, with "text_model." or, when the source has them so, without it; arrays live in `owner`. *m has to
 * be zero or bound before with the same config. */
void clip_text_bind(binder *b, clip_text *m, arena *owner, const clip_text_config *config);
void clip_text_release(clip_text *m); /* its weights */

enum { CLIP_TEXT_PENULTIMATE = 1, CLIP_TEXT_LAST = 2, CLIP_TEXT_POOLED = 4, CLIP_TEXT_EMBEDS = 8 };

typedef struct clip_text_output { /* NULL where not wanted */
    tensor *penultimate; /* (B,T,C) hidden_states[-2], no final norm */
    tensor *last;        /* (B,T,C) last_hidden_state, after the final norm */
    tensor *pooled;      /* (B,C) pooler_output */
    tensor *embeds;      /* (B,P) text_embeds; only of a model with projection */
} clip_text_output;

/* ids: host (B,T), T <= positions. wanted: CLIP_TEXT_ flags; what is not needed for them is not computed.
 * E_SHAPE: T too long; E_MODEL: an id outside the vocabulary (tokenizer and encoder do not belong together). */
err clip_text_forward(clip_text_output *out, ag *g, const clip_text *m, const int32_t *ids, int64_t batch,
                      int64_t length, unsigned wanted);

#endif
