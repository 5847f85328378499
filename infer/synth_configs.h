/* The config files of a random pipeline folder, as text. */
#ifndef MSD_INFER_SYNTH_CONFIGS_H
#define MSD_INFER_SYNTH_CONFIGS_H

#include <stdint.h>

#include "base/arena.h"

typedef struct synth_clip {
    int64_t hidden, intermediate, layers, heads, projection;
} synth_clip;

typedef struct synth_size {
    const char *name;
    int64_t     sample;           /* side of the latents the UNet is made for */
    int64_t     channels[3], heads[3], depth[3], groups; /* of the UNet's three levels */
    int64_t     time_id_channels; /* addition_time_embed_dim */
    int64_t     vocabulary;
    synth_clip  text1, text2, vision;
    int64_t     image, patch;     /* pixels of the image encoder */
    int64_t     vae_channels[4], vae_layers, vae_groups;
} synth_size;

const synth_size *synth_size_find(const char *name); /* NULL when there is none */

/* One file beside the weights. */
typedef struct synth_file {
    const char *component; /* NULL: of the pipeline folder itself */
    const char *name, *text;
} synth_file;

enum { SYNTH_FILES = 8 };
/* All of them, config.json of unet, vae, text_encoder, text_encoder_2, image_encoder first and in this order. */
void synth_files(synth_file out[SYNTH_FILES], arena *memory, const synth_size *s);

#endif
