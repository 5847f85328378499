"""Makes sampler.safetensors and noise.safetensors: diffusers' EulerDiscreteScheduler and torch.randn on the CPU.

    python make_sampler.py GOLDENS_FOLDER

Noise and model outputs are the counter formula's values ("noise", and "model_outputs" for all calls together, times 2), so that
they are not stored.
"""

import argparse
import json

import numpy
import torch
from diffusers import DDPMScheduler, EulerDiscreteScheduler
from safetensors.numpy import save_file

import counter

torch.set_num_threads(1)
SHAPE = (1, 4, 3, 5)
SDXL = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
            timestep_spacing="leading", prediction_type="epsilon", interpolation_type="linear")
CONFIGS = {
    "sdxl": (SDXL, [1, 2, 3, 8, 30, 999, 1000]),
    "trailing": (dict(SDXL, timestep_spacing="trailing"), [1, 2, 7, 30]),
    "linspace": (dict(SDXL, timestep_spacing="linspace"), [1, 2, 7, 30]),
    "v": (dict(SDXL, prediction_type="v_prediction"), [1, 8, 30]),
    "linear": (dict(SDXL, beta_schedule="linear", beta_start=0.0001, beta_end=0.02, num_train_timesteps=200, steps_offset=0), [6]),
}
SEEDS = [0, 1, 42, 2**32 + 1, 123456789012345]


def run(config, steps):
    s = EulerDiscreteScheduler.from_config(config)
    s.set_timesteps(steps)
    outputs = 2 * torch.from_numpy(counter.uniform("model_outputs", (steps,) + SHAPE))
    latents = torch.from_numpy(counter.uniform("noise", SHAPE)) * s.init_noise_sigma
    inputs = []
    for i, t in enumerate(s.timesteps):
        inputs.append(s.scale_model_input(latents, t))
        latents = s.step(outputs[i], t, latents).prev_sample
    assert len(inputs) == steps
    return dict(timesteps=s.timesteps, sigmas=s.sigmas, model_inputs=torch.stack(inputs), latents=latents)


def samplers(folder):
    tensors, cases = {}, []
    for name, (config, counts) in CONFIGS.items():
        alpha_bar = DDPMScheduler.from_config(config).alphas_cumprod
        tensors[f"{name}.alpha_bar"] = alpha_bar.numpy()
        tensors[f"{name}.signal"], tensors[f"{name}.noise"] = (alpha_bar**0.5).numpy(), ((1 - alpha_bar) ** 0.5).numpy()
        for steps in counts:
            out = run(config, steps)
            if steps > 30:  # the ends are enough
                out["model_inputs"] = out["model_inputs"][-1:]
            cases.append(dict(name=f"{name}.{steps}", config=name, steps=steps))
            tensors.update({f"{name}.{steps}.{k}": numpy.ascontiguousarray(v.numpy()) for k, v in out.items()})
    metadata = {"configs": json.dumps({k: c for k, (c, _) in CONFIGS.items()}), "cases": json.dumps(cases)}
    save_file(tensors, f"{folder}/sampler.safetensors", metadata)


def noises(folder):
    tensors = {}
    for seed in SEEDS:
        draw = lambda n: torch.randn(n, generator=torch.Generator("cpu").manual_seed(seed)).numpy()
        tensors[f"{seed}.1024"] = draw(1024)
    for n in range(1, 41):
        tensors[f"7.{n}"] = torch.randn(n, generator=torch.Generator("cpu").manual_seed(7)).numpy()
    big = torch.randn(100003, generator=torch.Generator("cpu").manual_seed(3)).numpy()
    tensors["3.100003"] = numpy.ascontiguousarray(big[-64:])  # the end, where a mistake of the order shows
    g = torch.Generator("cpu").manual_seed(5)  # several draws of one generator; the odd ones keep a number
    parts = [torch.randn(n, generator=g) for n in (3, 20, 2, 16, 1, 5, 33)]
    tensors["5.parts"] = torch.cat(parts).numpy()
    save_file(tensors, f"{folder}/noise.safetensors")


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("folder")
    folder = a.parse_args().folder
    samplers(folder)
    noises(folder)
