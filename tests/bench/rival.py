#!/usr/bin/env python3
"""msd against PyTorch: the same work, the same threads, turn about in one run.

    msd synth half -o half
    python tests/bench/rival.py --msd build/release/msd --model half unet unet_bf16 vae vision conv attention train_step
    python tests/bench/rival.py --msd build/release/msd --model half --reference MS-DIFFUSION --photos A.jpg B.jpg generate

Each round runs PyTorch, then `msd benchmark` in a process of its own, so that a load that comes and goes meets both.
Each side's time of a round is its median over --runs runs after one to warm up. Printed: the median over the rounds,
lowest and highest, and the ratio msd / PyTorch (smaller is better for msd). Weights are the same folder's; inputs are
random on both sides, their values change no time. Beside the clock's time stands the CPU time of each process, which a
busy machine disturbs less. PyTorch runs in inference_mode with channels_last convolutions where that is its best.

train_step runs msd with activation checkpointing, train_step_fast without; PyTorch keeps its activations in both.
cached_step: msd's step on encoder outputs that a cache holds against a trainer's whole step in PyTorch, which encodes picture
and prompt and both subjects first: the sum of vae_encode, text, twice vision and train_step_fast, timed one after the other
in each round, because all of them do not fit into the memory of a small machine.

train_step also prints memory: the most that is resident beyond what lies there between steps (weights, optimizer state),
gradients included on both sides; PyTorch's by the kernel's high-water mark, msd's by its own count of every byte.
generate is the whole command, from the start of the process to the picture, and below it the same without loading:
`msd generate` against rival_generate.py, the pipeline of diffusers with the reference's adapter.
"""
import argparse
import ctypes
import gc
import json
import os
import resource
import re
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F


def cpu_seconds():
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


class Conv:
    """One 3x3 convolution, 320 -> 320 channels, 64 x 64 places."""
    ours = "conv"

    def __init__(self, a):
        self.x = torch.randn(1, 320, 64, 64).to(memory_format=torch.channels_last)
        self.conv = torch.nn.Conv2d(320, 320, 3, padding=1).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(self):
        self.conv(self.x)


class Attention:
    """10 heads, 4096 places, 64 channels each."""
    ours = "attention"

    def __init__(self, a):
        self.qkv = [torch.randn(1, 4096, 10, 64).transpose(1, 2) for _ in range(3)]

    @torch.inference_mode()
    def run(self):
        F.scaled_dot_product_attention(*self.qkv)


def load_unet(a, dtype):
    from diffusers import UNet2DConditionModel
    unet = UNet2DConditionModel.from_pretrained(a.model, subfolder="unet", torch_dtype=dtype).eval()
    return unet.to(memory_format=torch.channels_last)


class Unet:
    """Batch 1, 77 tokens, no subjects."""
    ours, dtype = "unet", torch.float32

    def __init__(self, a):
        self.model = load_unet(a, self.dtype)
        c, side = self.model.config, a.size // 8
        self.args = (torch.randn(1, c.in_channels, side, side).to(self.dtype), torch.tensor([500.0]),
                     torch.randn(1, 77, c.cross_attention_dim).to(self.dtype))
        pooled = c.projection_class_embeddings_input_dim - 6 * c.addition_time_embed_dim
        self.extra = {"text_embeds": torch.randn(1, pooled).to(self.dtype), "time_ids": torch.zeros(1, 6)}

    @torch.inference_mode()
    def run(self):
        self.model(*self.args, added_cond_kwargs=self.extra)


class UnetBf16(Unet):
    """The same in bf16, weights and activations."""
    dtype, arguments = torch.bfloat16, ["--dtype", "bf16"]


class Vae:
    """Decode to a picture of --size."""
    ours = "vae"

    def __init__(self, a):
        from diffusers import AutoencoderKL
        self.model = AutoencoderKL.from_pretrained(a.model, subfolder="vae", torch_dtype=torch.float32).eval()
        self.model.to(memory_format=torch.channels_last)
        self.latent = torch.randn(1, 4, a.size // 8, a.size // 8)

    @torch.inference_mode()
    def run(self):
        self.model.decode(self.latent)


class VaeEncode(Vae):
    """Of a picture of --size."""
    ours = "encode"

    def __init__(self, a):
        super().__init__(a)
        self.picture = torch.randn(1, 3, a.size, a.size)

    @torch.inference_mode()
    def run(self):
        self.model.encode(self.picture)


class Text:
    """One prompt of 77 tokens through both text encoders."""
    ours = "text"

    def __init__(self, a):
        from transformers import CLIPTextModel, CLIPTextModelWithProjection
        self.models = [kind.from_pretrained(a.model, subfolder=name, torch_dtype=torch.float32).eval() for kind, name in
                       [(CLIPTextModel, "text_encoder"), (CLIPTextModelWithProjection, "text_encoder_2")]]
        self.ids = torch.randint(0, 200, (1, 77))

    @torch.inference_mode()
    def run(self):
        for model in self.models:
            model(self.ids, output_hidden_states=True)


class Vision:
    """The image encoder on one picture, with its head."""
    ours = "vision"

    def __init__(self, a):
        from transformers import CLIPVisionModelWithProjection
        folder = a.image_encoder or os.path.join(a.model, "image_encoder")
        self.model = CLIPVisionModelWithProjection.from_pretrained(folder, torch_dtype=torch.float32).eval()
        size = self.model.config.image_size
        self.pixels = torch.randn(1, 3, size, size)

    @torch.inference_mode()
    def run(self):
        self.model(self.pixels, output_hidden_states=True)


class SubjectProcessor(torch.nn.Module):
    """Cross-attention with a second pair of projections for the subjects' tokens, masked by their boxes."""

    def __init__(self, attn, boxes, scale=1.0):
        super().__init__()
        self.k = torch.nn.Linear(attn.to_k.in_features, attn.to_k.out_features, bias=False)
        self.v = torch.nn.Linear(attn.to_k.in_features, attn.to_k.out_features, bias=False)
        self.boxes, self.scale, self.tokens = boxes, scale, None

    def heads(self, t, attn):
        return t.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

    def mask(self, places):
        """(1, 1, places, tokens) 0 or -inf; four dummy tokens come first, for places that no box covers."""
        side = int(places ** 0.5)
        at = (torch.arange(side) + 0.5) / side
        inside = [((at >= y0) & (at < y1))[:, None] & ((at >= x0) & (at < x1))[None] for x0, y0, x1, y1 in self.boxes]
        outside = ~torch.stack(inside).any(0)
        columns = torch.stack([outside] + inside).flatten(1).T
        counts = torch.tensor([4] + [16] * len(self.boxes))
        keep = columns.repeat_interleave(counts, dim=1)
        return torch.zeros(keep.shape).masked_fill(~keep, float("-inf"))[None, None]

    def forward(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **unused):
        q = self.heads(attn.to_q(hidden_states), attn)
        k, v = (self.heads(p(encoder_hidden_states), attn) for p in (attn.to_k, attn.to_v))
        out = F.scaled_dot_product_attention(q, k, v)
        k, v = (self.heads(p(self.tokens[0]), attn) for p in (self.k, self.v))
        out = out + self.scale * F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask(q.shape[2]))
        return attn.to_out[0](out.transpose(1, 2).flatten(2))


class Resampler(torch.nn.Module):
    """The grounding resampler's arithmetic: 4 layers of width 1280, 20 heads, 16 queries."""

    def __init__(self, width=1280, image=1664, out=2048, depth=4, heads=20):
        super().__init__()
        linear, norm = torch.nn.Linear, torch.nn.LayerNorm
        self.heads, self.width = heads, width
        self.latent = torch.nn.Sequential(linear(1344, 2 * width), torch.nn.GELU(), linear(2 * width, 16 * width))
        self.latent_norm, self.proj_in, self.proj_out = norm(width), linear(image, width), linear(width, out)
        self.attention_norm, self.norm_out = norm(width), norm(out)
        self.layers = torch.nn.ModuleList(torch.nn.ModuleDict({
            "n1": norm(width), "n2": norm(width), "q": linear(width, width, bias=False),
            "kv": linear(width, 2 * width, bias=False), "o": linear(width, width, bias=False),
            "ff": torch.nn.Sequential(norm(width), linear(width, 4 * width, bias=False), torch.nn.GELU(),
                                      linear(4 * width, width, bias=False))}) for _ in range(depth))

    def forward(self, pictures, grounding):
        split = lambda t: t.unflatten(-1, (self.heads, 64)).transpose(1, 2)
        x = self.proj_in(pictures)
        latents = self.latent_norm(self.latent(grounding).unflatten(-1, (16, self.width)))
        for m in self.layers:
            a, b = m["n1"](x), m["n2"](latents)
            k, v = m["kv"](torch.cat([a, b], 1)).chunk(2, -1)
            y = F.scaled_dot_product_attention(split(m["q"](b)), split(k), split(v))
            latents = latents + m["o"](y.transpose(1, 2).flatten(2))
            latents = latents + m["ff"](latents)
        return self.norm_out(self.proj_out(self.attention_norm(latents)))


class TrainStep:
    """UNet frozen, adapter trained: forward, backward, clipping, AdamW; batch 1, two subjects, encoder outputs given."""
    ours, arguments = "train", ["--activation-checkpointing"]

    def __init__(self, a):
        base = Unet(a)
        self.unet, self.base = base.model.requires_grad_(False), base
        boxes = [(0.05, 0.2, 0.55, 0.95), (0.45, 0.1, 0.95, 0.9)]
        self.tokens, self.processors = [None], []
        for name, module in self.unet.named_modules():
            if name.endswith("attn2"):
                p = SubjectProcessor(module, boxes)
                p.tokens = self.tokens
                module.set_processor(p)
                self.processors.append(p)
        self.resampler = Resampler(out=self.unet.config.cross_attention_dim)
        self.pictures, self.grounding = torch.randn(2, 257, 1664), torch.randn(2, 1344)
        self.dummy = torch.randn(1, 4, self.unet.config.cross_attention_dim)
        self.noise = torch.randn_like(base.args[0])
        self.parameters = list(self.resampler.parameters()) + [q for p in self.processors for q in p.parameters()]
        for p in self.parameters:
            p.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4)

    def run(self):
        self.optimizer.zero_grad()
        tokens = self.resampler(self.pictures, self.grounding).flatten(0, 1)[None]
        self.tokens[0] = torch.cat([self.dummy, tokens], 1)
        out = self.unet(*self.base.args, added_cond_kwargs=self.base.extra).sample
        F.mse_loss(out, self.noise).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()


class TrainStepFast(TrainStep):
    """The same; msd without activation checkpointing."""
    arguments = []


def status(key):
    with open("/proc/self/status") as f:
        return int(re.search(key + r":\s+(\d+) kB", f.read()).group(1)) * 1024


def peak_of(run, between):
    """Bytes resident at most during run() beyond those before it."""
    between()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = status("VmRSS")
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")
    run()
    return status("VmHWM") - before


PARTS = {"unet": Unet, "unet_bf16": UnetBf16, "vae": Vae, "vae_encode": VaeEncode, "text": Text, "vision": Vision, "conv": Conv, "attention": Attention, "train_step": TrainStep,
         "train_step_fast": TrainStepFast}


def theirs(part, a):
    """(wall, CPU) ms."""
    wall, cpu = [], []
    for _ in range(a.runs + 1):
        start, cpu_start = time.perf_counter(), cpu_seconds()
        part.run()
        wall.append(time.perf_counter() - start)
        cpu.append(cpu_seconds() - cpu_start)
    found = 1e3 * statistics.median(wall[1:]), 1e3 * statistics.median(cpu[1:])
    if not isinstance(part, TrainStep):
        return found
    return *found, peak_of(part.run, part.optimizer.zero_grad) / 2**20


def ours(part, a):
    line = [a.msd, "benchmark", part.ours, "--json", "--quiet", "--repeats", str(a.runs), "--threads", str(a.threads),
            "--size", str(a.size)] + getattr(part, "arguments", [])
    if part.ours not in ("conv", "attention"):
        line += ["--model", a.model]
        if a.image_encoder:
            line += ["--image-encoder", a.image_encoder]
    found = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)["parts"]
    return (sum(f["ms"] for f in found), sum(f["cpu_ms"] for f in found),
            max(f["step_bytes"] + f["gradient_bytes"] for f in found) / 2**20)


# ---- the whole command ----

SUBJECTS = [("dog", "0,0.25,0.45,0.9"), ("cat", "0.55,0.25,1,0.9")]
PROMPT = "a dog and a cat on the beach"


def timed(line):
    """(wall, CPU) seconds of a process, and what it printed."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (time.perf_counter() - start, cpu), done.stdout, done.stderr


def our_command(a, work):
    line = [a.msd, "generate", "--model", a.model, "--image-encoder", a.image_encoder or os.path.join(a.model, "image_encoder"),
            "--adapter", f"{work}/adapter.safetensors", "-p", PROMPT, "-o", f"{work}/ours.png", "-W", str(a.size), "-H", str(a.size),
            "--steps", str(a.steps), "--threads", str(a.threads), "--dtype", a.dtype]
    for photo, (phrase, box) in zip(a.photos, SUBJECTS):
        line += ["--subject", f"image={photo},phrase={phrase},box={box}"]
    whole, _, said = timed(line)
    loading = sum(float(x) for x in re.findall(r"loaded .* in ([0-9.]+) s", said))
    return whole, (whole[0] - loading,)


def their_command(a, work, *more):
    line = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "rival_generate.py"), "--model", a.model,
            "--reference", a.reference, "--threads", str(a.threads)] + (["--image-encoder", a.image_encoder] if a.image_encoder else [])
    if more:
        return timed(line + list(more))
    line += ["--adapter", f"{work}/adapter.safetensors", "--prompt", PROMPT, "--output", f"{work}/theirs.png", "--steps", str(a.steps),
             "--size", str(a.size)]
    for photo, (phrase, box) in zip(a.photos, SUBJECTS):
        line += ["--subject", photo, phrase, box]
    whole, said, _ = timed(line)
    return whole, (json.loads(said.strip().splitlines()[-1])["generate"],)


def compare_commands(a):
    if not a.reference or len(a.photos) != 2:
        raise SystemExit("generate needs --reference CHECKOUT and --photos A B")
    with tempfile.TemporaryDirectory() as work:
        their_command(a, work, "--make-adapter", f"{work}/adapter.safetensors")
        left, right = [], []
        for _ in range(a.rounds):
            right.append(their_command(a, work))
            left.append(our_command(a, work))
    for i, name in enumerate(("command", "generate")):
        row(name, [tuple(1e3 * v for v in x[i]) for x in left], [tuple(1e3 * v for v in x[i]) for x in right])


def compare_cached(a):
    """Whole steps: theirs with encoders in it, ours without."""
    left, right = [], []
    for _ in range(a.rounds):
        whole = [0.0, 0.0]
        for name, times in (("vae_encode", 1), ("text", 1), ("vision", 2), ("train_step_fast", 1)):
            part = PARTS[name](a)
            found = theirs(part, a)
            whole = [sum(v) for v in zip(whole, (times * found[0], times * found[1]))]
            del part
            gc.collect()
        right.append(whole)
        left.append(ours(TrainStepFast, a)[:2])
    row("cached_step", left, right)


def row(name, left, right):
    spread = lambda v: f"{statistics.median(v):9.1f} ({min(v):.1f} to {max(v):.1f})"
    for which, clock in enumerate(("wall", "CPU", "MiB")[: min(len(left[0]), len(right[0]))]):
        x, y = [v[which] for v in left], [v[which] for v in right]
        ratio = statistics.median(x) / statistics.median(y)
        print(f"{name:10} {clock:5}{spread(x):34} {spread(y):34} {ratio:.3f}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("part", nargs="+", choices=[*PARTS, "cached_step", "generate"])
    p.add_argument("--msd", required=True, help="the program")
    p.add_argument("--model", help="what `msd synth half` wrote")
    p.add_argument("--image-encoder")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--reference", help="a checkout of MS-Diffusion, for generate")
    p.add_argument("--photos", nargs=2, default=[], help="two pictures of subjects, for generate")
    p.add_argument("--steps", type=int, default=10, help="of generate")
    p.add_argument("--dtype", default="f32", help="of msd in generate")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--runs", type=int, default=3)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    print(f"torch {torch.__version__}, {a.threads} threads, ms: median (lowest to highest) of {a.rounds} rounds\n"
          f"{'':15} {'msd':>9} {'':24} {'PyTorch':>9} {'':24} ratio", flush=True)
    for name in a.part:
        if name == "generate":
            compare_commands(a)
            continue
        if name == "cached_step":
            compare_cached(a)
            continue
        part = PARTS[name](a)
        left, right = [], []
        for _ in range(a.rounds):
            right.append(theirs(part, a))
            left.append(ours(part, a))
        row(name, left, right)
        del part
        gc.collect()


if __name__ == "__main__":
    main()
