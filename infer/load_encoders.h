/* The frozen encoders from folders: config.json, then weights, then binding. Each function leaves *out usable or empty;
 * its weights are released by the model's own ..._release, its arrays live in `owner`. Errors are E_MODEL and name file
 * and key or tensor, or E_MEMORY. `type` is what the network computes in. */
#ifndef MSD_INFER_LOAD_ENCODERS_H
#define MSD_INFER_LOAD_ENCODERS_H

#include "model/clip_text.h"
#include "model/clip_vision.h"
#include "model/vae.h"

typedef struct load_target {
    arena  *owner;
    device *dev;
    dtype   type;
    bool    forward_only; /* no data gradient will be asked for: weights lie as the forward reads them fastest */
} load_target;

/* `model` is a pipeline folder; it may hold only the component in question. second: text_encoder_2, with projection. */
err load_text_encoder(clip_text *out, const load_target *to, const char *model, bool second);
err load_vae(vae *out, const load_target *to, const char *model);
/* `folder` is the picture encoder's own. with_head: image_embeds will be asked for. */
err load_image_encoder(clip_vision *out, const load_target *to, const char *folder, bool with_head);

#endif
