"""`msd generate` against diffusers' StableDiffusionXLPipeline with the reference implementation's adapter.

    python compare_generate.py --msd MSD --reference MS-DIFFUSION-CHECKOUT --work FOLDER [--golden GOLDENS_FOLDER]

Makes a tiny folder (`msd synth tiny`) and an adapter of the counter formula's weights in --work, generates with two subjects on both
sides through the reference's own MSAdapter.generate, and compares the 8-bit pictures: at most 1 of 255 at the 99.9th
percentile, and the same file from .bin and .safetensors. Plain SDXL is diffusers' pipeline as it is.
--golden also writes generate.safetensors, which tests/infer/test_pipeline.c holds the C side to without Python.
"""

import argparse
import os
import subprocess
import sys

import numpy
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image, ImageOps
from safetensors.numpy import save_file
from transformers import CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import counter
import reference_modules

torch.set_num_threads(2)
HERE = os.path.dirname(os.path.abspath(__file__))
IMAGES = os.path.join(HERE, "..", "goldens", "images")
SIZES = dict(dim=72, depth=2, dim_head=64, heads=2, num_queries=4, ff_mult=3)
NEGATIVE = "monochrome, lowres, bad anatomy, worst quality, low quality"
SUBJECTS = [dict(image="rgba.png", phrase="dog", box=[0, 0.25, 0.6, 1]), dict(image="exif6.jpg", phrase="red cat", box=[0.45, 0.1, 0.95, 0.8])]
CASES = {
    "two": dict(prompt="a dog and a red cat on the beach", subjects=SUBJECTS, seed=0, scale=0.6, cfg_scale=7.5, steps=8, side=112),
    "dropped": dict(prompt="a dog and a red cat", subjects=SUBJECTS, seed=3, scale=1.0, cfg_scale=5.0, steps=4, side=64, drop=1),
    "scales": dict(prompt="a dog", subjects=[dict(SUBJECTS[0], scale=1.5, mask=True), SUBJECTS[1]], seed=4, scale=0.4, cfg_scale=3.0,
                   steps=4, side=64),
    "plain": dict(prompt="a dog, without any subject", subjects=[], seed=1, scale=0.6, cfg_scale=7.5, steps=8, width=88, height=72),
    "unguided": dict(prompt="a dog", subjects=SUBJECTS[:1], seed=2, scale=0.6, cfg_scale=1.0, steps=4, side=64),
}


def load(name):
    return ImageOps.exif_transpose(Image.open(os.path.join(IMAGES, name))).convert("RGB")


def left_half(image):
    """A mask that keeps the left half."""
    mask = numpy.zeros((image.height, image.width), dtype=numpy.uint8)
    mask[:, : image.width // 2] = 128
    return mask


def picture(subject):
    image = load(subject["image"])
    if subject.get("mask"):
        image = Image.fromarray(numpy.where(left_half(image)[..., None] >= 128, numpy.asarray(image), 0).astype(numpy.uint8))
    return image.resize((512, 512))


def size(case):
    return case.get("width", case.get("side")), case.get("height", case.get("side"))


def build(folder, checkout):
    Resampler = reference_modules.load(checkout)[0]
    from msdiffusion.models.model import MSAdapter

    pipe = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float32, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    vision = CLIPVisionModelWithProjection.from_pretrained(os.path.join(folder, "image_encoder"), dtype=torch.float32).eval()
    resampler = Resampler(latent_init_mode="grounding", embedding_dim=vision.config.hidden_size, output_dim=pipe.unet.config.cross_attention_dim,
                          phrase_embeddings_dim=pipe.text_encoder.config.hidden_size, **SIZES)
    adapter = MSAdapter(pipe.unet, resampler, device="cpu", num_tokens=SIZES["num_queries"]).float().eval()
    flat = {}
    for part, module in (("image_proj", resampler), ("ms_adapter", adapter.adapter_modules)):
        flat.update({f"{part}.{k}": counter.fill(f"{part}.{k}", tuple(v.shape)) for k, v in module.state_dict().items()})
        module.load_state_dict({k: torch.from_numpy(flat[f"{part}.{k}"]) for k in module.state_dict()}, strict=True)
    flat["dummy_image_tokens"] = counter.fill("dummy_image_tokens", tuple(adapter.dummy_image_tokens.shape))
    adapter.dummy_image_tokens.data = torch.from_numpy(flat["dummy_image_tokens"])
    plain = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float32, add_watermarker=False)
    plain.set_progress_bar_config(disable=True)
    return pipe, plain, vision, adapter, flat


def save_adapter(folder, flat):
    save_file(flat, f"{folder}/adapter.safetensors")
    nested = {"image_proj": {}, "ms_adapter": {}, "dummy_image_tokens": torch.from_numpy(flat["dummy_image_tokens"])}
    for k, v in flat.items():
        part, _, rest = k.partition(".")
        if rest:
            nested[part][rest] = torch.from_numpy(v)
    torch.save(nested, f"{folder}/adapter.bin")


def theirs(pipe, plain, vision, adapter, case, processor):
    subjects = case["subjects"]
    width, height = size(case)
    common = dict(num_inference_steps=case["steps"], guidance_scale=case["cfg_scale"], height=height, width=width)
    if not subjects:
        return plain(case["prompt"], negative_prompt=NEGATIVE, generator=torch.Generator().manual_seed(case["seed"]), **common).images[0]
    scales = None
    if any("scale" in s for s in subjects):
        scales = [s.get("scale", case["scale"]) for s in subjects]
    adapter.image_proj_model.float()
    if case["cfg_scale"] <= 1:
        return theirs_unguided(pipe, vision, adapter, case, processor, common)
    return adapter.generate(pipe, pil_images=[[picture(s) for s in subjects]], prompt=[case["prompt"]], negative_prompt=[NEGATIVE],
                            num_samples=1, seed=case["seed"], scale=case["scale"], subject_scales=scales, image_processor=processor,
                            image_encoder=vision, image_proj_type="resampler", weight_dtype=torch.float32,
                            boxes=[[s["box"] for s in subjects]], phrases=[[s["phrase"] for s in subjects]],
                            drop_grounding_tokens=[case.get("drop", 0)], **common)[0]


def theirs_unguided(pipe, vision, adapter, case, processor, common):
    """The reference always guides; without guidance diffusers wants one half only."""
    with torch.no_grad():
        adapter.pipe = pipe
        adapter.set_scale(case["scale"], None)
        s = case["subjects"]
        pixels = processor(images=[picture(x) for x in s], return_tensors="pt").pixel_values
        hidden = vision(pixels, output_hidden_states=True).hidden_states[-2]
        ids = pipe.tokenizer([x["phrase"] for x in s], max_length=77, padding="max_length", truncation=True, return_tensors="pt").input_ids
        boxes = torch.tensor([[x["box"] for x in s]], dtype=torch.float32)
        tokens = adapter.image_proj_model(hidden, grounding_kwargs=dict(boxes=boxes[0], phrase_embeds=pipe.text_encoder(ids).pooler_output,
                                                                        drop_grounding_tokens=[0]))
        tokens = torch.cat([adapter.dummy_image_tokens, tokens.reshape(1, -1, tokens.shape[-1])], 1)
        text, _, pooled, _ = pipe.encode_prompt(case["prompt"], device="cpu", do_classifier_free_guidance=False)
        return pipe(prompt_embeds=torch.cat([text, tokens], 1), pooled_prompt_embeds=pooled, generator=torch.Generator().manual_seed(case["seed"]),
                    cross_attention_kwargs={"boxes": boxes}, **common).images[0]


def ours(msd, work, case, output, adapter):
    command = [msd, "generate", "--model", f"{work}/tiny", "-p", case["prompt"], "-o", output, "-W", str(size(case)[0]), "-H", str(size(case)[1]),
               "--steps", str(case["steps"]), "--seed", str(case["seed"]), "--cfg-scale", str(case["cfg_scale"]), "--scale", str(case["scale"]),
               "--quiet"]
    if case["subjects"]:
        command += ["--adapter", adapter, "--image-encoder", f"{work}/tiny/image_encoder"]
    for s in case["subjects"]:
        spec = f"image={os.path.join(IMAGES, s['image'])},phrase={s['phrase']},box={','.join(map(str, s['box']))}"
        if s.get("mask"):
            Image.fromarray(left_half(load(s["image"]))).save(f"{work}/mask.png")
            spec += f",mask={work}/mask.png"
        command += ["--subject", spec + (f",scale={s['scale']}" if "scale" in s else "")]
    if case.get("drop"):
        command.append("--drop-grounding")
    subprocess.run(command, check=True)
    return numpy.asarray(Image.open(output))


def compare(name, a, b):
    difference = numpy.abs(a.astype(int) - b.astype(int))
    at = float(numpy.percentile(difference, 99.9))
    print(f"{name}: {a.shape[1]} x {a.shape[0]}, mean {b.mean():.1f}, deviation {b.std():.1f}: at most {difference.max()} of 255, "
          f"{at:g} at the 99.9th percentile, {100 * float((difference > 0).mean()):.3f} % of the values differ")
    return at <= 1


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--msd", required=True)
    a.add_argument("--reference", required=True)
    a.add_argument("--work", required=True)
    a.add_argument("--golden")
    args = a.parse_args()
    os.makedirs(args.work, exist_ok=True)
    if not os.path.isdir(f"{args.work}/tiny"):
        subprocess.run([args.msd, "synth", "tiny", "-o", f"{args.work}/tiny", "--dtype", "f32", "--quiet"], check=True)
    pipe, plain, vision, adapter, flat = build(f"{args.work}/tiny", args.reference)
    save_adapter(args.work, flat)
    processor = CLIPImageProcessorPil.from_pretrained(f"{args.work}/tiny/image_encoder")
    good, goldens = True, {}
    for name, case in CASES.items():
        expected = numpy.asarray(theirs(pipe, plain, vision, adapter, case, processor))
        goldens[name] = expected
        Image.fromarray(expected).save(f"{args.work}/{name}-reference.png")
        drawn = ours(args.msd, args.work, case, f"{args.work}/{name}.png", f"{args.work}/adapter.safetensors")
        good &= compare(name, drawn, expected)
        if case["subjects"]:
            from_bin = ours(args.msd, args.work, case, f"{args.work}/{name}-bin.png", f"{args.work}/adapter.bin")
            same = open(f"{args.work}/{name}.png", "rb").read() == open(f"{args.work}/{name}-bin.png", "rb").read()
            print(f"  .bin and .safetensors: {'the same file' if same else 'DIFFERENT'}")
            good &= same and bool((from_bin == drawn).all())
    alone = dict(CASES["two"], subjects=[])
    print("how much the subjects change of the first:")
    compare("  without them", ours(args.msd, args.work, alone, f"{args.work}/alone.png", None), goldens["two"])
    if args.golden:
        save_file({k: numpy.ascontiguousarray(v) for k, v in goldens.items()}, f"{args.golden}/generate.safetensors")
    sys.exit(not good)


if __name__ == "__main__":
    main()
