#!/usr/bin/env python3
"""One picture with subjects by diffusers' StableDiffusionXLPipeline and the reference implementation's adapter: what
rival.py runs beside `msd generate`, as a command of its own.

    python rival_generate.py --model half --adapter adapter.safetensors --reference MS-DIFFUSION-CHECKOUT \\
        --subject FILE PHRASE x0,y0,x1,y1 [--subject ...] --prompt TEXT --output out.png
    python rival_generate.py --model half --reference CHECKOUT --make-adapter adapter.safetensors

The last line printed is JSON: {"generate": seconds from the loaded models to the written picture}. --make-adapter writes
an adapter of random weights at the published sizes, for both sides.
"""
import argparse
import json
import os
import sys
import time

import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))
import reference_modules  # noqa: E402

SIZES = dict(dim=1280, depth=4, dim_head=64, heads=20, num_queries=16, ff_mult=4)
NEGATIVE = "monochrome, lowres, bad anatomy, worst quality, low quality"


def adapter_of(unet, image_width, phrase_width, checkout):
    Resampler = reference_modules.load(checkout)[0]
    from msdiffusion.models.model import MSAdapter

    resampler = Resampler(latent_init_mode="grounding", embedding_dim=image_width, output_dim=unet.config.cross_attention_dim,
                          phrase_embeddings_dim=phrase_width, **SIZES)
    return MSAdapter(unet, resampler, device="cpu", num_tokens=SIZES["num_queries"]).float().eval()


def parts(adapter):
    return (("image_proj", adapter.image_proj_model), ("ms_adapter", adapter.adapter_modules))


def config(model, part):
    with open(os.path.join(model, part, "config.json")) as f:
        return json.load(f)


def make_adapter(a):
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(a.model, subfolder="unet", torch_dtype=torch.float32)
    vision = config(a.model, "image_encoder") if not a.image_encoder else config(a.image_encoder, "")
    adapter = adapter_of(unet, vision["hidden_size"], config(a.model, "text_encoder")["hidden_size"], a.reference)
    torch.manual_seed(0)
    flat = {f"{part}.{k}": 0.02 * torch.randn(v.shape) for part, m in parts(adapter) for k, v in m.state_dict().items()}
    flat["dummy_image_tokens"] = torch.randn(adapter.dummy_image_tokens.shape)
    save_file(flat, a.make_adapter)


def load(a):
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPVisionModelWithProjection

    pipe = StableDiffusionXLPipeline.from_pretrained(a.model, torch_dtype=torch.float32, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    folder = a.image_encoder or os.path.join(a.model, "image_encoder")
    vision = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()
    adapter = adapter_of(pipe.unet, vision.config.hidden_size, pipe.text_encoder.config.hidden_size, a.reference)
    flat = load_file(a.adapter)
    for part, module in parts(adapter):
        module.load_state_dict({k: flat[f"{part}.{k}"] for k in module.state_dict()}, strict=True)
    adapter.dummy_image_tokens.data = flat["dummy_image_tokens"]
    for network in (pipe.unet, pipe.vae):
        network.to(memory_format=torch.channels_last)
    return pipe, vision, adapter


def draw(a, pipe, vision, adapter):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil.from_pretrained(a.image_encoder or os.path.join(a.model, "image_encoder"))
    pictures = [ImageOps.exif_transpose(Image.open(s[0])).convert("RGB").resize((512, 512)) for s in a.subject]
    boxes = [[float(v) for v in s[2].split(",")] for s in a.subject]
    adapter.image_proj_model.float()
    with torch.inference_mode():
        return adapter.generate(pipe, pil_images=[pictures], prompt=[a.prompt], negative_prompt=[NEGATIVE], num_samples=1, seed=0,
                                scale=0.6, subject_scales=None, image_processor=processor, image_encoder=vision,
                                image_proj_type="resampler", weight_dtype=torch.float32, boxes=[boxes],
                                phrases=[[s[1] for s in a.subject]], drop_grounding_tokens=[0],
                                num_inference_steps=a.steps, guidance_scale=7.5, height=a.size, width=a.size)[0]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--image-encoder")
    p.add_argument("--reference", required=True, help="a checkout of MS-Diffusion")
    p.add_argument("--adapter")
    p.add_argument("--make-adapter")
    p.add_argument("--subject", nargs=3, action="append", default=[])
    p.add_argument("--prompt", default="")
    p.add_argument("--output")
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    if a.make_adapter:
        return make_adapter(a)
    loaded = load(a)
    start = time.perf_counter()
    draw(a, *loaded).save(a.output)
    print(json.dumps({"generate": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
