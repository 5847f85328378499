#!/usr/bin/env python3
"""The UNet of `msd probe unet` against PyTorch (sdxl_torch.py), on the same weights and inputs, in f32 and bf16.

    python tests/bench/compare_unet.py --msd build/cuda/msd --model sdxl --out FOLDER --device cuda --size 1024

f32 has to lie within 1e-4 of PyTorch's f32 (sums of thousands of products, in another order on each side, without TF32); bf16 at
most 1.3 times as far from PyTorch's f32 as PyTorch's own bf16. The distance is ||difference|| / ||PyTorch's f32||.
"""
import argparse
import os
import subprocess

import torch

from sdxl_torch import UNet, load, read_config, read_tensors, write_tensors


def inputs(model, size):
    c = read_config(model, "unet")
    pooled = c["projection_class_embeddings_input_dim"] - 6 * c["addition_time_embed_dim"]
    torch.manual_seed(0)
    return {"sample": torch.randn(1, c["in_channels"], size // 8, size // 8), "timestep": torch.tensor([500.0]),
            "encoder_hidden_states": torch.randn(1, 77, c["cross_attention_dim"]), "text_embeds": torch.randn(1, pooled),
            "time_ids": torch.tensor([[float(size), float(size), 0.0, 0.0, float(size), float(size)]])}


@torch.inference_mode()
def theirs(a, given, dtype):
    unet = load(UNet, a.model, "unet", dtype, a.device)
    x = {k: v.to(a.device) for k, v in given.items()}
    y = unet(x["sample"].to(dtype), x["timestep"], x["encoder_hidden_states"].to(dtype), x["text_embeds"].to(dtype), x["time_ids"])
    return y.float().cpu()


def ours(a, path, kind):
    out = os.path.join(a.out, f"unet-{kind}.safetensors")
    subprocess.run([a.msd, "probe", "unet", "--model", a.model, "--in", path, "--out", out, "--device", "cuda", "--dtype", kind,
                    "--quiet"], check=True)
    return read_tensors(out)["noise_pred"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--msd", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--device", default="cuda", help="PyTorch's; msd runs on cuda")
    p.add_argument("--size", type=int, default=1024)
    a = p.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    given = inputs(a.model, a.size)
    path = os.path.join(a.out, "unet-in.safetensors")
    write_tensors(path, given)
    exact = theirs(a, given, torch.float32)
    apart = lambda y: ((y - exact).norm() / exact.norm()).item()
    f32, bf16, their_bf16 = apart(ours(a, path, "f32")), apart(ours(a, path, "bf16")), apart(theirs(a, given, torch.bfloat16))
    print(f"from PyTorch's f32: f32 {f32:.2e} (bound 1e-4), bf16 {bf16:.2e} (PyTorch's own bf16 {their_bf16:.2e}, bound 1.3 times that)")
    raise SystemExit(not (f32 <= 1e-4 and bf16 <= 1.3 * their_bf16))


if __name__ == "__main__":
    main()
