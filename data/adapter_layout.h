/* The tensors of an MS-Diffusion adapter: their names, order and shapes as the reference implementation saves them
 * (facts.md 1), and the sizes that follow from the shapes. */
#ifndef MSD_DATA_ADAPTER_LAYOUT_H
#define MSD_DATA_ADAPTER_LAYOUT_H

#include "data/tensor_table.h"

typedef struct adapter_file_sizes {
    int64_t dim;          /* of the latents */
    int64_t depth;        /* layers of the resampler */
    int64_t heads;        /* of 64; heads x 64 need not be dim */
    int64_t queries;      /* tokens per subject */
    int64_t image_width;  /* of the image encoder's hidden states */
    int64_t phrase_width; /* of the phrase embedding */
    int64_t ff_width;     /* of the feed-forward */
    int64_t cross_width;  /* of the tokens: the UNet's cross_attention_dim */
    int64_t pairs;        /* cross-attentions */
    int64_t dummy_tokens;
} adapter_file_sizes;

/* Reads the sizes of `tensors`, checks every name and shape against them, and lists the tensors in the reference's
 * order (grounding_latents ... norm_out, layers; ms_adapter by index; dummy_image_tokens). *ordered is sealed; it
 * borrows names, dims and data; the caller frees it. E_MODEL: all that is missing, wrong-shaped or not known, in one
 * message. */
err adapter_layout_read(adapter_file_sizes *sizes, tensor_table *ordered, const tensor_table *tensors);

#endif
