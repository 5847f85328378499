"""Makes encode_tiny.safetensors: what SDXL's pipeline makes of texts and pictures with the folder of `msd synth tiny`.

    msd synth tiny -o FOLDER --dtype f32
    python make_encode.py FOLDER GOLDENS_FOLDER

Texts go through diffusers' own encode_prompt, in f32 as it runs there; pictures are the counter formula's and not
stored.
"""

import json
import sys

import numpy
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from safetensors.numpy import save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection

import counter

torch.set_num_threads(1)

PROMPTS = ["a dog and a cat on the beach", "", "The quick brown FOX, 42 times! " * 12]
PHRASES = ["dog", "bull-dog in a colorful sneaker"]


def encode_texts(folder):
    parts = dict(text_encoder=CLIPTextModel, text_encoder_2=CLIPTextModelWithProjection, tokenizer=CLIPTokenizer,
                 tokenizer_2=CLIPTokenizer)
    parts = {k: v.from_pretrained(folder, subfolder=k) for k, v in parts.items()}
    pipeline = StableDiffusionXLPipeline(vae=None, unet=None, scheduler=None, **parts)
    hidden, pooled = [], []
    for prompt in PROMPTS:
        h, _, p, _ = pipeline.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
        hidden.append(h[0])
        pooled.append(p[0])
    ids = parts["tokenizer"](PHRASES, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    ids = ids.input_ids
    return dict(prompt_hidden=torch.stack(hidden), prompt_pooled=torch.stack(pooled),
                phrase_pooled=parts["text_encoder"](ids).pooler_output)


def encode_pictures(folder):
    vision = CLIPVisionModelWithProjection.from_pretrained(folder, subfolder="image_encoder")
    side = vision.config.image_size
    pixels = torch.from_numpy(2 * counter.uniform("pixel_values", (1, 3, side, side)))
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    posterior = vae.encode(torch.from_numpy(counter.uniform("picture", (1, 3, 45, 64)))).latent_dist
    latent = torch.from_numpy(counter.uniform("latent", (1, 4, 6, 5)))
    return dict(picture_hidden=vision(pixels, output_hidden_states=True).hidden_states[-2][0], mean=posterior.mean,
                deviation=posterior.std, decoded=vae.decode(latent / vae.config.scaling_factor).sample)


if __name__ == "__main__":
    with torch.no_grad():
        tensors = encode_texts(sys.argv[1]) | encode_pictures(sys.argv[1])
    tensors = {k: numpy.ascontiguousarray(v.float().numpy()) for k, v in tensors.items()}
    save_file(tensors, f"{sys.argv[2]}/encode_tiny.safetensors",
              {"prompts": json.dumps(PROMPTS), "phrases": json.dumps(PHRASES)})
