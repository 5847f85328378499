"""Whether diffusers and transformers take a folder that `msd synth` wrote, and whether it is fit for tests.

    python check_synth.py FOLDER [--steps 2] [--picture OUT.png]

Loads every component strictly (no missing or unexpected weights), draws one picture, and fails when something is not
finite or the picture is flat.
"""

import argparse
import os
import sys

import numpy
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import AutoImageProcessor, CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

torch.set_num_threads(2)

CLASSES = dict(unet=UNet2DConditionModel, vae=AutoencoderKL, text_encoder=CLIPTextModel,
               text_encoder_2=CLIPTextModelWithProjection, image_encoder=CLIPVisionModelWithProjection)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("folder")
    a.add_argument("--steps", type=int, default=2)
    a.add_argument("--picture")
    args = a.parse_args()
    problems = []

    for name, cls in CLASSES.items():
        model, info = cls.from_pretrained(os.path.join(args.folder, name), output_loading_info=True)
        for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
            if info.get(key):
                problems.append(f"{name}: {key}: {info[key]}")
        print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters")

    pipeline = StableDiffusionXLPipeline.from_pretrained(args.folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    for tokenizer in (pipeline.tokenizer, pipeline.tokenizer_2):
        ids = tokenizer("a dog and a cat", padding="max_length", truncation=True).input_ids
        if len(ids) != 77 or max(ids) >= pipeline.text_encoder.config.vocab_size:
            problems.append(f"tokenizer: {len(ids)} ids up to {max(ids)}")
    out = pipeline("a dog and a cat", num_inference_steps=args.steps, generator=torch.Generator().manual_seed(0),
                   output_type="np")
    picture = out.images[0]
    print(f"picture {picture.shape}, mean {picture.mean():.3f}, deviation {picture.std():.3f}, "
          f"{100 * float(((picture <= 0) | (picture >= 1)).mean()):.0f} % clipped")
    if not numpy.isfinite(picture).all() or picture.std() < 0.02:
        problems.append("the picture is flat or not finite")
    if args.picture:
        pipeline.image_processor.numpy_to_pil(out.images)[0].save(args.picture)

    folder = os.path.join(args.folder, "image_encoder")
    vision = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32)
    processor = AutoImageProcessor.from_pretrained(folder)
    pixels = processor(images=(255 * picture).astype("uint8"), return_tensors="pt").pixel_values
    hidden = vision(pixels, output_hidden_states=True).hidden_states[-2]
    print(f"image encoder: {tuple(hidden.shape)}, deviation {float(hidden.std()):.3f}")
    if not torch.isfinite(hidden).all():
        problems.append("the image encoder's output is not finite")
    for problem in problems:
        print("FAILED", problem)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
