#!/usr/bin/env python3
"""PyTorch beside `msd benchmark` on a GPU, for gpu-check.sh speed: SDXL's networks of sdxl_torch.py in bf16 with random
weights, channels last, attention by scaled_dot_product_attention, eager or compiled.

    rival_cuda.py measure generate --size 1024 --mode eager --out eager-generate-1024-1.json
    rival_cuda.py measure train --size 512 --batch 8 --mode compile --out compile-train-512-8.json
    rival_cuda.py line ours-train-512-8.json     # what `msd benchmark --json` wrote, as one line
    rival_cuda.py table DIR                      # DIR/{ours,eager,compile}-ROW.json to speed.json and speed.md

generate is a picture of 30 steps, two subjects, guidance: 30 x UNet and the VAE's decoder; encoders are left out on both sides.
train is a step with two subjects and encoder outputs given: frozen UNet in bf16, the adapter in bf16 beside f32 masters, clipping,
fused AdamW.
"""
import argparse
import glob
import json
import os
import statistics
import time

import torch
import torch.nn.functional as F

import sdxl_torch

STEPS = 30
BOXES = [(0.05, 0.2, 0.55, 0.95), (0.45, 0.1, 0.95, 0.9)]
TINY_UNET = dict(sdxl_torch.SDXL_UNET, block_out_channels=[32, 64, 96], attention_head_dim=[1, 2, 3], cross_attention_dim=128,
                 transformer_layers_per_block=[1, 1, 2])
TINY_VAE = dict(sdxl_torch.SDXL_VAE, block_out_channels=[32, 32, 64, 64])
CONFIGS = {"sdxl": (sdxl_torch.SDXL_UNET, sdxl_torch.SDXL_VAE), "tiny": (TINY_UNET, TINY_VAE)}


def unet_with_subjects(a, config, scale):
    unet = sdxl_torch.make(sdxl_torch.UNet, config, torch.bfloat16, a.device)
    side = a.size // 8
    shared = unet.add_subjects(BOXES, scale, places=[(side >> level) ** 2 for level in range(len(config["block_out_channels"]))])
    return unet.to(memory_format=torch.channels_last), shared


def random(a, *shape, dtype=torch.bfloat16):
    return torch.randn(*shape, device=a.device).to(dtype)


def unet_inputs(a, config, batch):
    side, pooled = a.size // 8, config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    return (random(a, batch, config["in_channels"], side, side).to(memory_format=torch.channels_last),
            torch.tensor([500.0], device=a.device), random(a, batch, 77, config["cross_attention_dim"]), random(a, batch, pooled),
            torch.tensor([[a.size, a.size, 0.0, 0.0, a.size, a.size]] * batch, device=a.device))


def compiled(a, module):
    return torch.compile(module) if a.mode == "compile" else module


class Generate:
    """parts: name, what is run, how often in a picture."""

    def __init__(self, a):
        config, vae = CONFIGS[a.model_size]
        unet, shared = unet_with_subjects(a, config, 0.6)
        shared["tokens"] = random(a, 1, 4 + 16 * len(BOXES), config["cross_attention_dim"])
        given, latent = unet_inputs(a, config, 2), random(a, 1, 4, a.size // 8, a.size // 8)
        decoder = compiled(a, sdxl_torch.make(sdxl_torch.Decoder, vae, torch.bfloat16, a.device))
        unet = compiled(a, unet)
        self.parts = [("UNet", torch.inference_mode()(lambda: unet(*given)), STEPS),
                      ("VAE decode", torch.inference_mode()(lambda: decoder(latent)), 1)]


class Train:
    def __init__(self, a):
        from rival import Resampler
        config = CONFIGS[a.model_size][0]
        unet, self.shared = unet_with_subjects(a, config, 1.0)
        self.batch, self.given = a.batch, unet_inputs(a, config, a.batch)
        self.noise = torch.randn_like(self.given[0])
        with torch.device(a.device):
            self.resampler = Resampler(out=config["cross_attention_dim"]).to(torch.bfloat16)
        self.pictures, self.grounding = random(a, len(BOXES) * a.batch, 257, 1664), random(a, len(BOXES) * a.batch, 1344)
        self.dummy = random(a, 4, config["cross_attention_dim"])
        pairs = [m.attn2.subjects for m in unet.modules() if isinstance(m, sdxl_torch.Block)]
        self.copies = list(self.resampler.parameters()) + [p for m in pairs for p in (m.k.weight, m.v.weight)]
        for p in self.copies:
            p.requires_grad_(True)
        self.masters = [p.detach().float() for p in self.copies]
        for m in self.masters:
            m.grad = torch.empty_like(m)
        self.optimizer = torch.optim.AdamW(self.masters, lr=1e-4, fused=a.device == "cuda")
        self.unet, self.resampler = compiled(a, unet), compiled(a, self.resampler)
        self.parts = [("training step", self.run, 1)]

    def run(self):
        tokens = self.resampler(self.pictures, self.grounding).unflatten(0, (self.batch, -1)).flatten(1, 2)
        self.shared["tokens"] = torch.cat([self.dummy.expand(self.batch, -1, -1), tokens], 1)
        F.mse_loss(self.unet(*self.given).float(), self.noise.float()).backward()
        torch._foreach_copy_([m.grad for m in self.masters], [p.grad for p in self.copies])
        torch.nn.utils.clip_grad_norm_(self.masters, 1.0, foreach=True)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(self.copies, self.masters)
        for p in self.copies:
            p.grad = None


def wait(a):
    if a.device == "cuda":
        torch.cuda.synchronize()


def milliseconds(a, run):
    """The median of what one call takes, called again and again without waiting in between, after a warm-up."""
    for _ in range(3 if a.device == "cuda" else 1):
        run()
    found = []
    for _ in range(5 if a.device == "cuda" else 1):
        wait(a)
        start = time.perf_counter()
        for _ in range(a.calls):
            run()
        wait(a)
        found.append(1e3 * (time.perf_counter() - start) / a.calls)
    return statistics.median(found)


def measure(a):
    torch.manual_seed(0)
    work = {"generate": Generate, "train": Train}[a.part](a)
    parts = [{"name": name, "ms": milliseconds(a, run), "times": times} for name, run, times in work.parts]
    found = {"parts": parts, "ms": sum(p["ms"] * p["times"] for p in parts), "torch": torch.__version__,
             "device": torch.cuda.get_device_name() if a.device == "cuda" else "CPU",
             "peak_bytes": torch.cuda.max_memory_allocated() if a.device == "cuda" else 0}
    with open(a.out, "w") as f:
        json.dump(found, f, indent=1)
    print(", ".join(f"{p['name']} {p['ms']:.2f} ms" for p in parts) + f"; {found['ms']:.1f} ms in all, torch {found['torch']}")


def read_ours(path):
    """What `msd benchmark --json` wrote, with ms of the whole row."""
    with open(path) as f:
        found = json.load(f)
    times = lambda p: STEPS if p["name"].startswith("UNet") else 0 if p["name"].startswith("image encoder") else 1
    found["ms"] = sum(p["ms"] * times(p) for p in found["parts"])
    found["parts"] = [p for p in found["parts"] if times(p)]
    return found


def described(p):
    rate = p["gflop"] / p["ms"]  # TFLOP/s
    return (f"{p['name']} {p['ms']:.2f} ms, {rate:.1f} TFLOP/s, {100e3 * rate / p['matrix_gflops']:.0f} % of the matrix rate, "
            f"peak {p['peak_bytes'] / 2**20:.0f} MiB, of which planned {p['planned_bytes'] / 2**20:.0f}")


def line(a):
    found = read_ours(a.file)
    for p in found["parts"]:
        print(described(p))
    print("; ".join(f"{p['name'].split(',')[0]} {p['ms']:.2f} ms" for p in found["parts"]) + f"; {found['ms']:.1f} ms in all")


def read_theirs(path):
    if not os.path.exists(path):
        return None
    with open(path) as f:
        return json.load(f)


def table(a):
    rows, text = [], ["| | msd, ms | PyTorch eager | ratio | compiled | ratio |", "|---|---|---|---|---|---|"]
    for path in sorted(glob.glob(os.path.join(a.dir, "ours-*.json"))):
        name = os.path.basename(path)[5:-5]
        if not os.path.getsize(path):  # it failed
            continue
        ours = read_ours(path)
        row = {"row": name, "ours": ours}
        cells = [f"{ours['ms']:.1f}"]
        for mode in ("eager", "compile"):
            row[mode] = found = read_theirs(os.path.join(a.dir, f"{mode}-{name}.json"))
            cells += [f"{found['ms']:.1f}", f"{ours['ms'] / found['ms']:.3f}"] if found else ["not measured", ""]
        text.append(f"| {name} | " + " | ".join(cells) + " |")
        rows.append(row)
    for row in rows:
        text += ["", f"{row['row']}:"] + [f"- {described(p)}" for p in row["ours"]["parts"]]
        if row["eager"]:
            text.append(f"- PyTorch {row['eager']['torch']} on {row['eager']['device']}: peak {row['eager']['peak_bytes'] / 2**20:.0f} MiB")
        for p in row["ours"]["parts"]:
            text.append("- most of it: " + "; ".join(f"{s['primitive']} {s['shape']} x {s['calls']}: {s['ms']:.2f} ms" for s in p["slowest"][:5]))
    with open(os.path.join(a.dir, "speed.json"), "w") as f:
        json.dump(rows, f, indent=1)
    with open(os.path.join(a.dir, "speed.md"), "w") as f:
        f.write("\n".join(text) + "\n")
    if not rows:
        raise SystemExit("nothing was measured")
    print(f"{len(rows)} rows, {sum(bool(r['eager']) for r in rows)} beside PyTorch")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(dest="command", required=True)
    m = commands.add_parser("measure")
    m.add_argument("part", choices=["generate", "train"])
    m.add_argument("--size", type=int, default=1024)
    m.add_argument("--batch", type=int, default=1)
    m.add_argument("--mode", choices=["eager", "compile"], default="eager")
    m.add_argument("--device", default="cuda")
    m.add_argument("--model-size", choices=CONFIGS, default="sdxl")
    m.add_argument("--calls", type=int, default=3, help="of one measurement")
    m.add_argument("--out", required=True)
    commands.add_parser("line").add_argument("file")
    commands.add_parser("table").add_argument("dir")
    a = p.parse_args()
    {"measure": measure, "line": line, "table": table}[a.command](a)


if __name__ == "__main__":
    main()
