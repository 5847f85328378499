/* What model a set of tensors seems to be, by names and shapes alone: for `inspect`, and for messages about a file that
 * was given in another's place. */
#ifndef MSD_DATA_MODEL_KIND_H
#define MSD_DATA_MODEL_KIND_H

#include "data/tensor_table.h"

typedef enum model_kind {
    MODEL_MS_ADAPTER, MODEL_IP_ADAPTER, MODEL_LORA, MODEL_OPTIMIZER,
    MODEL_SINGLE_FILE_SDXL, MODEL_SINGLE_FILE_SDXL_REFINER, MODEL_SINGLE_FILE_SD1, MODEL_SINGLE_FILE_SD2,
    MODEL_UNET_SDXL, MODEL_UNET_SDXL_INPAINTING, MODEL_UNET_SDXL_REFINER, MODEL_UNET_SD1, MODEL_UNET_SD2,
    MODEL_CONTROLNET, MODEL_VAE,
    MODEL_TEXT_CLIP_L, MODEL_TEXT_BIGG, MODEL_TEXT_CLIP,
    MODEL_VISION_BIGG, MODEL_VISION_VIT_H, MODEL_VISION_VIT_L, MODEL_VISION_CLIP,
    MODEL_TENSORS, /* anything else */
    MODEL_KIND_COUNT
} model_kind;

model_kind  model_kind_of(const tensor_table *t);
const char *model_kind_name(model_kind kind); /* "unet_sdxl", for machines */
const char *model_kind_text(model_kind kind); /* "an SDXL UNet", for people */

#endif
