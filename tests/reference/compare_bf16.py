"""How far bf16 is from f32, msd beside PyTorch: the UNet on the same inputs and weights.

    python compare_bf16.py --msd MSD --model FOLDER [--size 512] [--work FOLDER] [--vae]

Relative error ||bf16 - f32|| / ||f32||, each side against PyTorch's f32. The bar: msd's bf16 no further from f32 than
PyTorch's. --vae: also the decoder, as PSNR in dB of the picture (range 2).
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file


def error(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm())


def psnr(a, b):
    return 10 * math.log10(4 / float(((a.double() - b.double()) ** 2).mean()))


def ours(a, work, module, inputs, output, dtype):
    save_file({k: v.contiguous() for k, v in inputs.items()}, f"{work}/in.safetensors")
    subprocess.run([a.msd, "probe", module, "--model", a.model, "--in", f"{work}/in.safetensors", "--out",
                    f"{work}/out.safetensors", "--dtype", dtype, "--quiet"], check=True)
    return load_file(f"{work}/out.safetensors")[output]


@torch.inference_mode()
def unet(a, work):
    model = UNet2DConditionModel.from_pretrained(a.model, subfolder="unet", torch_dtype=torch.float32).eval()
    c, side = model.config, a.size // 8
    pooled = c.projection_class_embeddings_input_dim - 6 * c.addition_time_embed_dim
    x = {"sample": torch.randn(1, c.in_channels, side, side), "timestep": torch.tensor([500.0]),
         "encoder_hidden_states": torch.randn(1, 77, c.cross_attention_dim), "text_embeds": torch.randn(1, pooled),
         "time_ids": torch.tensor([[a.size, a.size, 0, 0, a.size, a.size]], dtype=torch.float32)}

    def theirs(dtype):
        model.to(dtype)
        extra = {"text_embeds": x["text_embeds"].to(dtype), "time_ids": x["time_ids"]}
        return model(x["sample"].to(dtype), x["timestep"], x["encoder_hidden_states"].to(dtype), added_cond_kwargs=extra).sample.float()

    exact, rough = theirs(torch.float32), theirs(torch.bfloat16)
    mine = error(ours(a, work, "unet", x, "noise_pred", "bf16"), exact)
    print(f"unet f32: msd {error(ours(a, work, 'unet', x, 'noise_pred', 'f32'), exact):.2e} from PyTorch's")
    print(f"unet bf16 from f32: msd {mine:.3e}, PyTorch {error(rough, exact):.3e}, ratio {mine / error(rough, exact):.3f}")
    return mine <= error(rough, exact)


@torch.inference_mode()
def vae(a, work):
    model = AutoencoderKL.from_pretrained(a.model, subfolder="vae", torch_dtype=torch.float32).eval()
    latent = torch.randn(1, model.config.latent_channels, a.size // 8, a.size // 8)
    exact = model.decode(latent).sample
    rough = model.to(torch.bfloat16).decode(latent.to(torch.bfloat16)).sample.float()
    mine = ours(a, work, "vae_decode", {"latent": latent}, "sample", "bf16")
    print(f"vae bf16 against f32, PSNR: msd {psnr(mine, exact):.1f} dB, PyTorch {psnr(rough, exact):.1f} dB; largest value {float(exact.abs().max()):.2f}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--msd", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--work")
    p.add_argument("--vae", action="store_true")
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as temporary:
        work = a.work or temporary
        good = unet(a, work)
        if a.vae:
            vae(a, work)
    sys.exit(not good)


if __name__ == "__main__":
    main()
