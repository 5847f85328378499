"""Makes vae_*.safetensors: inputs and outputs of diffusers' AutoencoderKL, both ways.

    python make_vae.py GOLDENS_FOLDER

Weights are the counter formula's under the names of the files, so that they are not stored; config.json is in the
metadata. Computed in f64, stored as f32: what is measured against it is the error of the other side alone.
"""

import json
import sys

import numpy
import torch
from diffusers import AutoencoderKL
from safetensors.numpy import save_file

import counter

torch.set_num_threads(1)


def config(channels, **more):
    return dict(block_out_channels=channels, down_block_types=["DownEncoderBlock2D"] * len(channels),
                up_block_types=["UpDecoderBlock2D"] * len(channels), **more)


CASES = {
    # SDXL's form: four blocks, two layers, sides that 8 divides
    "a": (config([16, 32, 32, 48], layers_per_block=2, norm_num_groups=8, scaling_factor=0.13025),
          (2, 3, 40, 24), (2, 4, 5, 3)),
    # odd sides, channels that differ between blocks, no 1x1 convolutions around the latent
    "b": (config([12, 30], layers_per_block=1, norm_num_groups=3, use_quant_conv=False, use_post_quant_conv=False,
                 latent_channels=3), (1, 3, 37, 29), (1, 3, 3, 7)),
    # no attention, three layers, batch of three
    "c": (config([8, 16, 8], layers_per_block=3, norm_num_groups=4, mid_block_add_attention=False),
          (3, 3, 21, 35), (3, 4, 1, 2)),
}


def make(folder, case):
    settings, sample_shape, latent_shape = CASES[case]
    model = AutoencoderKL(**settings)
    model.load_state_dict({k: torch.from_numpy(counter.fill(k, tuple(v.shape))) for k, v in model.state_dict().items()})
    model = model.double().eval()
    sample = counter.uniform("sample", sample_shape)
    latent = 3 * counter.uniform("latent", latent_shape)
    with torch.no_grad():
        posterior = model.encode(torch.from_numpy(sample).double()).latent_dist
        decoded = model.decode(torch.from_numpy(latent).double()).sample
    tensors = dict(sample=sample, mean=posterior.mean, logvar=posterior.logvar, latent=latent, decoded=decoded)
    tensors = {k: numpy.ascontiguousarray(numpy.asarray(v), dtype=numpy.float32) for k, v in tensors.items()}
    save_file(tensors, f"{folder}/vae_{case}.safetensors", {"config": json.dumps(settings)})


if __name__ == "__main__":
    for case in CASES:
        make(sys.argv[1], case)
