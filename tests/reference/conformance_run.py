"""`msd train`, `tokenize`, `preprocess`, `export` and `check` from outside, against transformers, Pillow and torch.

    python conformance_run.py --msd MSD --work FOLDER

Makes a folder with `msd synth tiny` and a dataset of odd pictures, and compares the batches that `msd train --dump-batches`
writes with what transformers' encoders give for references that Pillow cut; the rules of resuming; conversions; tokens of
nasty lines; preprocessing of odd pictures. Prints the worst errors, fails when something is not as the contract says.
"""

import argparse
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import (CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

torch.set_num_threads(2)
worst, failures = {}, []
options = None
RUN = """model: {{base: tiny, image_encoder: tiny/image_encoder}}
adapter: {{dim: 32, depth: 1, heads: 1, queries: 2}}
data: {{manifest: data.jsonl, resolution: 64, drop: {{text: {text}, image: {image}, both: 0, grounding: {grounding}}}}}
train: {{steps: 2, batch_size: {size}}}
output: {{dir: {dir}, checkpoint_every: 2}}
device: {{kind: cpu}}
"""


def path(*parts):
    return os.path.join(options.work, *parts)


def expect(case, true, what=""):
    if not true:
        failures.append(f"{case}: {what}")
        print("FAILED", failures[-1], flush=True)


def compare(case, ours, theirs, tolerance=2e-5):
    ours, theirs = ours.double(), theirs.double()
    error = float("inf")
    if ours.shape == theirs.shape and torch.isfinite(ours).all():
        error = (ours - theirs).abs().max().item() / max(theirs.abs().max().item(), 1e-30)
    group = case.split(":")[0]
    worst[group] = max(worst.get(group, 0.0), error)
    expect(case, error <= tolerance, f"{error:.2e} above {tolerance:.0e}, shapes {tuple(ours.shape)} {tuple(theirs.shape)}")


def call(*arguments, status=0, stdin=None, says=()):
    done = subprocess.run([options.msd, *map(str, arguments)], capture_output=True, text=True, input=stdin, cwd=options.work)
    expect(" ".join(map(str, arguments)), done.returncode == status, f"exit {done.returncode}, expected {status}: {done.stderr.strip()[-600:]}")
    for word in says:
        expect(" ".join(map(str, arguments)), word in done.stderr + done.stdout, f"does not say {word}: {done.stderr.strip()[-600:]}")
    return done.stdout


def picture(name, w, h, mode="RGB"):
    r = numpy.random.default_rng(len(name) * 1000 + w * 31 + h)
    small = r.integers(0, 256, (h // 5 + 2, w // 5 + 2, len(mode)), dtype=numpy.uint8)
    image = Image.fromarray(small.squeeze(), mode if mode != "L" else None).resize((w, h), Image.BICUBIC)
    image.save(path(name))
    return image


def write_run(name, **more):
    values = dict(text=0, image=0, grounding=0, size=6, dir=name) | more
    open(path(f"{name}.yaml"), "w").write(RUN.format(**values))
    return f"{name}.yaml"


def dataset():
    """Six samples of different sizes; each knows its references as Pillow cuts them and the words for the phrase encoder."""
    samples, pictures = [], {}

    def cut(image, box=None, mask=None):
        if mask is not None:
            image = Image.fromarray(numpy.where(numpy.asarray(mask)[..., None] >= 128, numpy.asarray(image), 0).astype(numpy.uint8))
        return image.crop(box) if box else image

    for k, (w, h) in enumerate(((97, 131), (128, 64), (75, 76), (201, 90), (64, 64), (70, 111))):
        pictures[k] = picture(f"image{k}.png", w, h, "RGBA" if k == 3 else "RGB").convert("RGB")
    one, two = picture("one.png", 61, 83), picture("two.png", 140, 57)
    mask_one = Image.fromarray(numpy.where(numpy.arange(83)[:, None] < 40, numpy.arange(61)[None] * 4 % 256, 127).astype(numpy.uint8))
    mask_one.save(path("mask_one.png"))
    mask_zero = Image.fromarray((numpy.arange(131)[:, None] * 3 % 256 + numpy.zeros(97)[None]).astype(numpy.uint8))
    mask_zero.save(path("mask_zero.png"))

    def add(k, text, units, subjects):
        lines = [{key: v for key, v in s.items() if not key.startswith("_")} for s in subjects]
        samples.append(dict(image=pictures[k], text=text, units=units, subjects=subjects,
                            line=dict(image=f"image{k}.png", text=text, subjects=lines, box_units=units)))

    add(0, "a bull-dog and a red cat.", "pixel", [
        dict(phrase="dog", box=[10, 20, 60, 90], mask="mask_zero.png", _cut=cut(pictures[0], (10, 20, 60, 90), mask_zero), _words="bull-dog"),
        dict(phrase="red cat", box=[40, 5, 97, 131], reference="one.png", _cut=cut(one), _words="red cat")])
    add(1, "One dog, two dogs", "normalized", [
        dict(phrase="dog", box=[0.25, 0.25, 0.75, 0.75], reference="two.png", reference_box=[0.21, 0.1, 0.77, 0.93], _cut=cut(two, (0.21 * 140, 0.1 * 57, 0.77 * 140, 0.93 * 57)), _words="dog")])
    add(2, "nothing to see", "pixel", [])
    add(3, "a house", "pixel", [
        dict(phrase="house", box=[50, 10, 201, 80], reference="one.png", mask="mask_one.png", reference_box=[5, 10, 50, 70],
             _cut=cut(one, (5, 10, 50, 70), mask_one), _words="house"),
        dict(phrase="tree", box=[0.4, 0.6, 38.7, 89.2], _cut=cut(pictures[3], (0.4, 0.6, 38.7, 89.2)), _words="tree"),
        dict(phrase="house", box=[0, 0, 201, 90], reference="two.png", _cut=cut(two), _words="house")])
    add(4, "a cat! and the cat: again", "normalized", [
        dict(phrase="cat", box=[0, 0.5, 0.5, 1], reference="two.png", _cut=cut(two), _words="cat"),
        dict(phrase="cat", box=[0.5, 0.5, 1, 1], reference="one.png", _cut=cut(one), _words="cat")])
    add(5, "plain sheep", "pixel", [dict(phrase="sheep", box=[-10, 30, 50, 200], reference="one.png", _cut=cut(one), _words="sheep")])
    open(path("data.jsonl"), "w").write("".join(json.dumps(s["line"]) + "\n" for s in samples))
    return samples


def training_box(sample, subject, size=64):
    """Scaled with the short edge, shifted by the centre crop, clamped, over the size; zero where the crop leaves nothing."""
    w, h = sample["image"].size
    x0, y0, x1, y1 = subject["box"]
    if sample["units"] == "normalized":
        x0, y0, x1, y1 = x0 * w, y0 * h, x1 * w, y1 * h
    x0, x1, y0, y1 = max(x0, 0), min(x1, w), max(y0, 0), min(y1, h)
    rw, rh = (size, int(size * h / w)) if w < h else (int(size * w / h), size)
    left, top = (rw - size) // 2, (rh - size) // 2
    scale = size / min(w, h)
    box = [min(max(v / size, 0), 1) for v in (x0 * scale - left, y0 * scale - top, x1 * scale - left, y1 * scale - top)]
    return box if box[0] < box[2] and box[1] < box[3] else [0, 0, 0, 0], (h, w, top, left, size, size)


class Encoders:
    def __init__(self):
        folder = path("tiny")
        self.first = CLIPTextModel.from_pretrained(f"{folder}/text_encoder", dtype=torch.float32).double()
        self.second = CLIPTextModelWithProjection.from_pretrained(f"{folder}/text_encoder_2", dtype=torch.float32).double()
        self.vision = CLIPVisionModelWithProjection.from_pretrained(f"{folder}/image_encoder", dtype=torch.float32).double()
        self.tokenizers = [CLIPTokenizer.from_pretrained(f"{folder}/{name}") for name in ("tokenizer", "tokenizer_2")]
        side = self.vision.config.image_size
        self.processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})

    def ids(self, which, text):
        return self.tokenizers[which](text, max_length=77, padding="max_length", truncation=True, return_tensors="pt").input_ids

    def text(self, prompt):
        one = self.first(self.ids(0, prompt), output_hidden_states=True).hidden_states[-2]
        two = self.second(self.ids(1, prompt), output_hidden_states=True)
        return torch.cat([one, two.hidden_states[-2]], -1)[0], two.text_embeds[0]

    def phrase(self, words):
        return self.first(self.ids(0, words)).pooler_output[0]

    def hidden(self, pixels):
        return self.vision(pixels.double(), output_hidden_states=True).hidden_states[-2][0]

    def reference(self, image, size=64):
        return self.hidden(self.processor(images=image.resize((size, size), Image.BILINEAR), return_tensors="pt").pixel_values)

    def mean_colour(self):
        side = self.vision.config.image_size
        return self.hidden(torch.zeros(1, 3, side, side))


def batches(samples, encoders):
    for name, drop in (("keep", {}), ("no_text", dict(text=1)), ("no_image", dict(image=1)), ("no_grounding", dict(grounding=1))):
        run = write_run(name, **drop)
        call("train", run, "--quiet", "--dump-batches", path(f"dump_{name}"), "--set", "train.steps=1")
        batch = load_file(sorted(glob.glob(path(f"dump_{name}", "step-000001-*")))[0])
        seen = set()
        for row, ids in enumerate(batch["time_ids"].tolist()):
            at = [n for n, s in enumerate(samples) if (s["image"].height, s["image"].width) == tuple(ids[:2])]
            expect(f"{name} row {row}", len(at) == 1, f"time_ids {ids} are of no picture")
            if len(at) != 1:
                continue
            s = samples[at[0]]
            seen.add(at[0])
            where = f"{name} sample {at[0]}"
            states, pooled = encoders.text("" if name == "no_text" else s["text"])
            compare(f"encoder_hidden_states:{where}", batch["encoder_hidden_states"][row], states)
            compare(f"text_embeds:{where}", batch["text_embeds"][row], pooled)
            expect(where, int(batch["drop_grounding_tokens"][row]) == (name == "no_grounding"), "drop_grounding_tokens")
            for k, subject in enumerate(s["subjects"]):
                box, time_ids = training_box(s, subject)
                compare(f"boxes:{where} {k}", batch["boxes"][row, k], torch.tensor(box), 1e-6)
                expect(where, tuple(ids) == tuple(map(float, time_ids)), f"time_ids {ids}, expected {time_ids}")
                hidden = encoders.mean_colour() if name == "no_image" else encoders.reference(subject["_cut"])
                compare(f"image_hidden:{where} {k}", batch["image_hidden"][row, k], hidden)
                compare(f"phrase_embeds:{where} {k}", batch["phrase_embeds"][row, k], encoders.phrase(subject["_words"]))
            expect(where, not batch["boxes"][row, len(s["subjects"]):].any(), "absent subjects have boxes")
        expect(name, seen == set(range(len(samples))), f"one pass of the data gave samples {seen}")


def files_equal(a, b):
    return open(a, "rb").read() == open(b, "rb").read()


def log_lines(folder):
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in open(path(folder, "log.jsonl"))]


def equal_products():
    dumps = []
    for size, accumulation in ((4, 1), (2, 2), (1, 4)):
        name = f"product{size}"
        run = write_run(name, size=size, text=0.3, image=0.3, grounding=0.3)
        call("train", run, "--quiet", "--dump-batches", path(f"dump_{name}"), "--set", f"train.accumulation={accumulation}", "--set", "train.steps=3")
        rows = []
        for file in sorted(glob.glob(path(f"dump_{name}", "step-*"))):
            batch = load_file(file)
            rows += [{k: v[r] for k, v in batch.items() if v.ndim and v.shape[0] == size} for r in range(size)]
        dumps.append(rows)
    for rows in dumps[1:]:
        expect("equal products", len(rows) == len(dumps[0]), "another number of samples")
        for n, (a, b) in enumerate(zip(dumps[0], rows)):
            for k in ("latents", "noise", "timesteps", "encoder_hidden_states", "text_embeds", "time_ids", "drop_grounding_tokens"):
                expect(f"equal products, sample {n}", torch.equal(a[k], b[k]), f"{k} differs by {(a[k].double() - b[k].double()).abs().max():.1e}")
            if "boxes" in a and "boxes" in b:
                both = min(len(a["boxes"]), len(b["boxes"]))
                expect(f"equal products, sample {n}", torch.equal(a["boxes"][:both], b["boxes"][:both]), "boxes")
                expect(f"equal products, sample {n}", torch.equal(a["image_hidden"][:both][a["boxes"][:both].any(-1)], b["image_hidden"][:both][b["boxes"][:both].any(-1)]), "image_hidden")


def resuming():
    whole = write_run("whole", size=2)
    call("train", whole, "--quiet", "--set", "train.steps=12", says=())
    cut = write_run("cut", size=2)
    child = subprocess.Popen([options.msd, "train", cut, "--quiet", "--set", "train.steps=12"], cwd=options.work, stderr=subprocess.DEVNULL)
    while child.poll() is None and not glob.glob(path("cut", "step-000004")):
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    expect("kill -9", not os.path.exists(path("cut", "adapter.safetensors")), "the run was finished before the kill")
    call("train", cut, "--quiet", "--set", "train.steps=12", status=2, says=("--resume",))
    call("train", cut, "--quiet", "--set", "train.steps=12", "--resume", "auto")
    expect("kill -9", files_equal(path("whole", "adapter.safetensors"), path("cut", "adapter.safetensors")), "the adapter has other bits")
    for name in ("adapter.safetensors", "optimizer.safetensors"):
        expect("kill -9", files_equal(path("whole", "step-000012", name), path("cut", "step-000012", name)), f"{name} has other bits")
    expect("kill -9", log_lines("whole") == log_lines("cut"), "log.jsonl differs")
    expect("log", [r["step"] for r in log_lines("cut")] == list(range(1, 13)), "steps are not 1..12")
    expect("log", {"step", "loss", "grad_norm", "lr"} <= set(log_lines("cut")[0]), "fields")
    call("train", cut, "--quiet", "--set", "train.steps=12", "--resume", "auto")
    call("train", cut, "--quiet", "--set", "train.steps=14", "--resume", "auto")
    expect("more steps", len(log_lines("cut")) == 14, "train.steps may grow under a constant schedule")
    call("train", cut, "--quiet", "--set", "train.steps=16", "--set", "optimizer.lr=1e-3", "--resume", "auto", status=2, says=("optimizer.lr", "--allow-change"))
    call("train", cut, "--quiet", "--set", "train.steps=16", "--set", "optimizer.lr=1e-3", "--resume", "auto", "--allow-change", "optimizer.lr")
    newest = sorted(glob.glob(path("cut", "step-*")))
    expect("keep", len(newest) == 3, f"{[os.path.basename(n) for n in newest]}, keep is 3")
    file = os.path.join(newest[-1], "optimizer.safetensors")
    data = bytearray(open(file, "rb").read())
    data[-1] ^= 1
    open(file, "wb").write(data)
    call("train", cut, "--set", "train.steps=16", "--set", "optimizer.lr=1e-3", "--resume", "auto", "--allow-change", "optimizer.lr", says=(os.path.basename(newest[-1]),))
    tuned = write_run("tuned", size=2)
    call("train", tuned, "--quiet", "--set", "model.adapter=whole/adapter.safetensors", "--dump-batches", path("dump_tuned"))
    before, after = load_file(path("dump_tuned", "adapter-000000.safetensors")), load_file(path("whole", "adapter.safetensors"))
    expect("fine-tuning", all(torch.equal(before[k].float(), after[k].float()) for k in after), "does not begin at model.adapter")


def checks():
    good = write_run("good")
    call("check", good)
    call("check", good, "--set", "optimizer.rl=1", status=2, says=("optimizer.rl", "optimizer.lr"))
    call("check", good, "--set", "data.max_subjects=2", status=3, says=("max_subjects",))
    call("check", good, "--set", "data.manifest=none.jsonl", status=3, says=("none.jsonl",))
    call("check", good, "--set", "model.base=nowhere", status=4, says=("nowhere",))
    lines = [dict(image="image1.png", text="a", subjects=[]), dict(image="image1.png", text="a", box_units="feet", subjects=[]),
             dict(image="missing.png", text="a", box_units="pixel", subjects=[]),
             dict(image="image1.png", text="a", box_units="pixel", subjects=[dict(phrase="a", box=[9, 0, 9, 5])])]
    open(path("bad.jsonl"), "w").write("".join(json.dumps(v) + "\n" for v in lines) + "{not json\n")
    call("check", good, "--set", "data.manifest=bad.jsonl", status=3, says=("box_units", "feet", "missing.png", "bad.jsonl:1", "bad.jsonl:4", "bad.jsonl:5"))
    call("check", good, "--set", "data.manifest=bad.jsonl", "--set", "model.base=nowhere", "--set", "train.stepz=3", status=2, says=("stepz",))


def conversions():
    adapter = path("whole", "adapter.safetensors")
    flat = load_file(adapter)
    for dtype, kind in (("f16", torch.float16), ("bf16", torch.bfloat16), ("f32", torch.float32), (None, torch.float32)):
        more = ["--dtype", dtype] if dtype else []
        call("export", "whole", "-o", path("x.bin"), *more)
        call("export", path("x.bin"), "-o", path("x.safetensors"))
        call("export", path("x.safetensors"), "-o", path("y.bin"))
        expect(f"export {dtype}", files_equal(path("x.bin"), path("y.bin")), ".bin -> .safetensors -> .bin changes bits")
        nested = torch.load(path("x.bin"), weights_only=True)
        back = load_file(path("x.safetensors"))
        for k, v in flat.items():
            part, _, rest = k.partition(".")
            other = nested[part][rest] if rest else nested[part]
            expect(f"export {dtype} {k}", torch.equal(other, v.to(kind)) and torch.equal(back[k], v.to(kind)), "other numbers")
    torch.save({"image_proj": {k[11:]: v for k, v in flat.items() if k.startswith("image_proj.")}, "ms_adapter": {k[11:]: v for k, v in flat.items() if k.startswith("ms_adapter.")},
                "dummy_image_tokens": flat["dummy_image_tokens"]}, path("theirs.bin"))
    call("export", path("theirs.bin"), "-o", path("theirs.safetensors"))
    expect("export of torch.save", all(torch.equal(v, flat[k]) for k, v in load_file(path("theirs.safetensors")).items()), "other numbers")
    call("inspect", path("x.bin"), says=("image_proj.proj_in.weight",))
    call("inspect", path("theirs.safetensors"), says=("ms_adapter.1.to_k_ip.weight",))


NASTY = ["", " ", "a photo of a cat", "  A   PHOTO\tof\u00a0a\u3000cat \r", "it's we'll I'm they've you're he'd DON'T", "<|startoftext|>mid<|endoftext|>end", "<|ENDOFTEXT|>",
         "caf\u00e9 cafe\u0301 \u00c5ngstr\u00f6m \u0130stanbul \u1e9e STRASSE", "\u732b\u3068\u72ac \ud55c\uae00 \u0639\u0631\u0628\u064a", "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f",
         "12345 3.14 \u00bd \u2460 \u0967\u0968", "!!!??...,,;;--__", "a\x0bb\x0cc\x1cd\x85e\u2028f\u200bg", "word " * 100, "x" * 300, "\u00df\ufb01\u03a3\u03c2 \u039f\u0394\u039f\u03a3", "\x00nul", "tab\tend\t",
         "\"quotes\" 'single' `tick` \\back/slash", "\ufeffbom", "\u0301lone"]


def tokens(encoders):
    for which, tokenizer in enumerate(encoders.tokenizers):
        tokenizer.save_pretrained(path("saved", ("tokenizer", "tokenizer_2")[which]))
    for folder in ("tiny", "saved"):
        for which in (1, 2):
            out = subprocess.run([options.msd, "tokenize", "--model", path(folder), "--which", str(which)], input="".join(v + "\n" for v in NASTY).encode(), capture_output=True)
            lines = out.stdout.decode().splitlines()
            expect(f"tokenize {folder} {which}", len(lines) == len(NASTY), f"{len(lines)} lines: {out.stderr.decode()[-300:]}")
            for text, line in zip(NASTY, lines):
                expect(f"tokenize {folder} {which}", json.loads(line) == encoders.ids(which - 1, text)[0].tolist(), f"{text[:40]!r}: {line[:80]} {encoders.ids(which - 1, text)[0].tolist()[:16]}")


def preprocessing():
    for k, (w, h, mode) in enumerate(((1, 1, "RGB"), (300, 7, "RGB"), (225, 449, "L"), (223, 224, "RGBA"), (641, 480, "RGB"), (50, 33, "RGB"))):
        image = picture(f"odd{k}.png", w, h, mode).convert("RGB")
        for size in (224, 98, 33):
            processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
            call("preprocess", "clip", path(f"odd{k}.png"), "--size", size, "--out", path("p.safetensors"))
            compare(f"preprocess clip:{w}x{h} {size}", load_file(path("p.safetensors"))["pixel_values"], processor(images=image, return_tensors="pt").pixel_values, 1e-6)
            rw, rh = (size, int(size * h / w)) if w < h else (int(size * w / h), size)
            left, top = (rw - size) // 2, (rh - size) // 2
            theirs = numpy.asarray(image.resize((rw, rh), Image.BILINEAR).crop((left, top, left + size, top + size)), dtype=numpy.float64) / 127.5 - 1
            call("preprocess", "train", path(f"odd{k}.png"), "--size", size, "--out", path("p.safetensors"))
            ours = load_file(path("p.safetensors"))
            compare(f"preprocess train:{w}x{h} {size}", ours["pixel_values"], torch.from_numpy(theirs.transpose(2, 0, 1).copy())[None], 1e-6)
            compare(f"preprocess time_ids:{w}x{h} {size}", ours["time_ids"], torch.tensor([[h, w, top, left, size, size]]), 0)


def main():
    global options
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--msd", required=True)
    a.add_argument("--work", required=True)
    options = a.parse_args()
    options.msd, options.work = os.path.abspath(options.msd), os.path.abspath(options.work)
    shutil.rmtree(options.work, ignore_errors=True)
    os.makedirs(options.work)
    call("synth", "tiny", "-o", path("tiny"), "--quiet")
    with torch.no_grad():
        samples, encoders = dataset(), Encoders()
        checks()
        batches(samples, encoders)
        equal_products()
        resuming()
        conversions()
        tokens(encoders)
        preprocessing()
    for group, error in sorted(worst.items()):
        print(f"{group:28s} worst error {error:.2e}")
    print(f"{len(failures)} failed")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
