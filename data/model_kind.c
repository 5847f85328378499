#include "data/model_kind.h"

#include <string.h>

static const struct {
    const char *name, *text;
} kinds[MODEL_KIND_COUNT] = {
    [MODEL_MS_ADAPTER] = {"ms_adapter", "an MS-Diffusion adapter"},
    [MODEL_IP_ADAPTER] = {"ip_adapter", "an IP-Adapter (not MS-Diffusion's)"},
    [MODEL_LORA] = {"lora", "a LoRA"},
    [MODEL_OPTIMIZER] = {"optimizer", "the optimizer state of a checkpoint"},
    [MODEL_SINGLE_FILE_SDXL] = {"single_file_sdxl", "a single-file SDXL checkpoint"},
    [MODEL_SINGLE_FILE_SDXL_REFINER] = {"single_file_sdxl_refiner", "a single-file SDXL refiner checkpoint"},
    [MODEL_SINGLE_FILE_SD1] = {"single_file_sd1", "a single-file Stable Diffusion 1.x checkpoint"},
    [MODEL_SINGLE_FILE_SD2] = {"single_file_sd2", "a single-file Stable Diffusion 2.x checkpoint"},
    [MODEL_UNET_SDXL] = {"unet_sdxl", "an SDXL UNet"},
    [MODEL_UNET_SDXL_INPAINTING] = {"unet_sdxl_inpainting", "an SDXL inpainting UNet"},
    [MODEL_UNET_SDXL_REFINER] = {"unet_sdxl_refiner", "an SDXL refiner UNet"},
    [MODEL_UNET_SD1] = {"unet_sd1", "a Stable Diffusion 1.x UNet"},
    [MODEL_UNET_SD2] = {"unet_sd2", "a Stable Diffusion 2.x UNet"},
    [MODEL_CONTROLNET] = {"controlnet", "a ControlNet"},
    [MODEL_VAE] = {"vae", "a VAE"},
    [MODEL_TEXT_CLIP_L] = {"text_clip_l", "a CLIP ViT-L text encoder (SDXL's text_encoder)"},
    [MODEL_TEXT_BIGG] = {"text_bigg", "an OpenCLIP bigG text encoder (SDXL's text_encoder_2)"},
    [MODEL_TEXT_CLIP] = {"text_clip", "a CLIP text encoder"},
    [MODEL_VISION_BIGG] = {"vision_bigg", "an OpenCLIP ViT-bigG image encoder"},
    [MODEL_VISION_VIT_H] = {"vision_vit_h", "an OpenCLIP ViT-H image encoder"},
    [MODEL_VISION_VIT_L] = {"vision_vit_l", "a CLIP ViT-L image encoder"},
    [MODEL_VISION_CLIP] = {"vision_clip", "a CLIP image encoder"},
    [MODEL_TENSORS] = {"tensors", "tensors of no model known here"},
};

const char *model_kind_name(model_kind kind)
{
    return kinds[kind].name;
}

const char *model_kind_text(model_kind kind)
{
    return kinds[kind].text;
}

static bool has(const tensor_table *t, const char *name)
{
    return tensor_table_find(t, name) != NULL;
}

/* dim[which] of a tensor; 0 when it is absent or has fewer dimensions. */
static int64_t dim_of(const tensor_table *t, const char *name, int which)
{
    const stored_tensor *s = tensor_table_find(t, name);
    return s && which < s->ndim ? s->dim[which] : 0;
}

static bool any_contains(const tensor_table *t, const char *part)
{
    for (size_t i = 0; i < t->count; i++) {
        if (strstr(t->at[i].name, part))
            return true;
    }
    return false;
}

static bool any_begins(const tensor_table *t, const char *prefix)
{
    for (size_t i = 0; i < t->count; i++) {
        if (strncmp(t->at[i].name, prefix, strlen(prefix)) == 0)
            return true;
    }
    return false;
}

/* The width of the text that cross-attentions see: 768 SD1, 1024 SD2, 1280 refiner, 2048 SDXL. */
static int64_t text_width(const tensor_table *t)
{
    for (size_t i = 0; i < t->count; i++) {
        if (strstr(t->at[i].name, "attn2.to_k.weight") && t->at[i].ndim >= 2)
            return t->at[i].dim[1];
    }
    return 0;
}

static model_kind single_file_kind(const tensor_table *t)
{
    if (any_begins(t, "conditioner.embedders.1."))
        return MODEL_SINGLE_FILE_SDXL;
    if (any_begins(t, "conditioner."))
        return MODEL_SINGLE_FILE_SDXL_REFINER;
    return any_begins(t, "cond_stage_model.model.") ? MODEL_SINGLE_FILE_SD2 : MODEL_SINGLE_FILE_SD1;
}

static model_kind unet_kind(const tensor_table *t)
{
    if (any_begins(t, "controlnet_cond_embedding."))
        return MODEL_CONTROLNET;
    if (has(t, "add_embedding.linear_1.weight")) {
        if (dim_of(t, "add_embedding.linear_1.weight", 1) == 2560)
            return MODEL_UNET_SDXL_REFINER;
        return dim_of(t, "conv_in.weight", 1) == 9 ? MODEL_UNET_SDXL_INPAINTING : MODEL_UNET_SDXL;
    }
    return text_width(t) == 1024 ? MODEL_UNET_SD2 : MODEL_UNET_SD1;
}

/* Files of transformers 5 lack the prefix text_model. */
static model_kind text_kind(const tensor_table *t)
{
    int64_t width = dim_of(t, "text_model.embeddings.token_embedding.weight", 1);
    width = width ? width : dim_of(t, "embeddings.token_embedding.weight", 1);
    bool projected = has(t, "text_projection.weight");
    return width == 768 && !projected   ? MODEL_TEXT_CLIP_L
           : width == 1280 && projected ? MODEL_TEXT_BIGG
                                        : MODEL_TEXT_CLIP;
}

static model_kind vision_kind(int64_t width)
{
    return width == 1664 ? MODEL_VISION_BIGG : width == 1280 ? MODEL_VISION_VIT_H : width == 1024 ? MODEL_VISION_VIT_L
                                                                                                   : MODEL_VISION_CLIP;
}

model_kind model_kind_of(const tensor_table *t)
{
    if (any_begins(t, "m.") && any_begins(t, "v.") &&
        (any_begins(t, "m.image_proj.") || any_begins(t, "m.ms_adapter.")))
        return MODEL_OPTIMIZER;
    if (any_begins(t, "ms_adapter.") || has(t, "image_proj.grounding_latents"))
        return MODEL_MS_ADAPTER;
    if (any_begins(t, "ip_adapter."))
        return MODEL_IP_ADAPTER;
    if (any_begins(t, "model.diffusion_model."))
        return single_file_kind(t);
    if (any_begins(t, "lora_") || any_contains(t, ".lora_A.") || any_contains(t, ".lora.down.") ||
        any_contains(t, ".lora_down."))
        return MODEL_LORA;
    if (has(t, "conv_in.weight") && any_begins(t, "down_blocks."))
        return unet_kind(t);
    if (has(t, "decoder.conv_in.weight") || has(t, "encoder.conv_in.weight"))
        return MODEL_VAE;
    int64_t patches = dim_of(t, "vision_model.embeddings.patch_embedding.weight", 0);
    patches = patches ? patches : dim_of(t, "embeddings.patch_embedding.weight", 0);
    if (patches)
        return vision_kind(patches);
    if (has(t, "text_model.embeddings.token_embedding.weight") || has(t, "embeddings.token_embedding.weight"))
        return text_kind(t);
    return MODEL_TENSORS;
}
