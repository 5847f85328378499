/* The adapter: all that is trained. A resampler that turns pictures of subjects into tokens, and for each
 * cross-attention of the UNet one pair of projections that lets it attend to them (facts.md 1). */
#ifndef MSD_MODEL_ADAPTER_H
#define MSD_MODEL_ADAPTER_H

#include "model/resampler.h"
#include "model/unet_config.h"

struct unet;

/* Keys and values of the subjects' tokens in one cross-attention; no bias. */
typedef struct adapter_pair {
    linear  k, v; /* to_k_ip, to_v_ip (channels, out_width): rows of their group's stack, k from first_row on, then v */
    int     group;
    int64_t first_row;
} adapter_pair;

enum { ADAPTER_DUMMY_TOKENS = 4, ADAPTER_MAX_GROUPS = 2 * UNET_MAX_LEVELS + 1 };

/* The pairs of one block of the UNet (down_blocks.1, ..., up_blocks.0, ..., mid_block): one tensor, so that one product
 * gives their keys and values and one their weights' gradient, which is whole as soon as backward has left the block. */
typedef struct adapter_group {
    weight_stack kv;
    int64_t      first, end; /* its pairs */
} adapter_group;

typedef struct ms_adapter {
    resampler     image_proj;
    adapter_pair *pair; /* pairs of them; pair[i] is ms_adapter.<2i+1> in files: self-attentions take the even places */
    const int64_t *channels; /* of each pair */
    int64_t       pairs;
    adapter_group group[ADAPTER_MAX_GROUPS];
    int           groups;
    tensor       *dummy; /* dummy_image_tokens (1,4,out_width): in the files, never computed with, not trained */
} ms_adapter;

/* The channels of every cross-attention of a UNet, in the order of its attention processors: down_blocks, up_blocks,
 * mid_block. Returns how many; *channels lives in `owner`. */
int64_t adapter_channels(const int64_t **channels, arena *owner, const unet_config *config);
/* Groups the pairs by the UNet's blocks; before the first adapter_bind, which else makes one group of all. */
void adapter_group_pairs(ms_adapter *a, const unet_config *config);

/* Sizes of an adapter file, from the shapes of its tensors. E_MODEL names what is missing or does not fit together. */
err adapter_sizes_read(resampler_sizes *out, const weight_source *source);

/* Names every tensor, in the order of the reference's dict: image_proj.*, ms_adapter.<i>.*, dummy_image_tokens. *a has
 * to be zero or bound before with the same sizes; its arrays live in `owner`. */
void adapter_bind(binder *b, ms_adapter *a, arena *owner, const resampler_sizes *sizes, const int64_t *channels,
                  int64_t pairs);

/* Loads an adapter for a UNet; trainable: f32, LIFE_STATE, with gradients but for the dummy tokens. Everything that
 * does not fit is named in one E_MODEL. */
err adapter_load(ms_adapter *a, arena *owner, device *dev, dtype type, const weight_source *source,
                 const unet_config *config, bool trainable);

/* A new adapter, trainable: Linear layers U(+-1/sqrt(in)) for weights and biases (torch's own initialisation),
 * grounding_latents N(0,1)/sqrt(dim), norms 1 and 0, dummy tokens N(0,1), pairs copied from the text's to_k, to_v of
 * the same cross-attention. Draws: DRAW_INIT of `seed`, the sample is the tensor's number in the walk. */
err adapter_new(ms_adapter *a, arena *owner, device *dev, const resampler_sizes *sizes, const struct unet *u,
                uint64_t seed);

/* A copy in another type, of LIFE_STATE, trainable where the original is: what networks in bf16 read while the f32 masters
 * are trained. */
err adapter_copy(ms_adapter *out, arena *owner, device *dev, ms_adapter *from, dtype type);

/* Visits all tensors in file order: export, optimizer, lists of gradients. Those that are trained have needs_grad. */
void adapter_walk(ms_adapter *a, bind_visit visit, void *user);
void adapter_release(ms_adapter *a); /* its tensors; structs go with their arena */

#endif
