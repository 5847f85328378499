#!/usr/bin/env python3
"""Trains the reference implementation's modules on the batches of an msd run and compares losses and weights.

    msd train run.yaml --dump-batches dump --set train.steps=20
    python compare_train.py --model tiny --dump dump --run runs/one --reference MS-Diffusion

MS-Diffusion is a checkout of the reference implementation. Everything of the run's config that changes arithmetic is done
here by torch and diffusers: AdamW with groups, clipping, accumulation, get_scheduler's rates, min-SNR weights, v-prediction,
EMA. Prints the worst relative differences of the losses and, where the run saved that step, of every trained tensor and its
average (norm of the difference over norm of the reference); exits 1 when one is above --tolerance (1e-4: f32 sums in another
order, amplified by AdamW's division over the steps). --double: torch in f64, which shows whose f32 it was: a tensor whose
gradient nearly vanishes moves by the sign of rounding errors, torch's as well as ours.
"""
import argparse
import glob
import json
import os
import sys

import torch
import yaml
from safetensors.torch import load_file

import reference_modules
from diffusers.optimization import get_scheduler


def load_numbers(path):
    """The file's tensors; those of floating point in the type that torch computes in."""
    return {k: v.to(torch.get_default_dtype()) if v.is_floating_point() else v for k, v in load_file(path).items()}


def build(args, state):
    from diffusers import UNet2DConditionModel
    Resampler, Masked, Plain = reference_modules.load(args.reference)
    unet = UNet2DConditionModel.from_pretrained(os.path.join(args.model, "unet"), torch_dtype=torch.get_default_dtype())
    unet.requires_grad_(False)
    p = {k[len("image_proj."):]: v for k, v in state.items() if k.startswith("image_proj.")}
    depth = 1 + max(int(k.split(".")[1]) for k in p if k.startswith("layers."))
    phrase_width = p["latent_proj.0.weight"].shape[1] - 64
    dim = p["proj_in.weight"].shape[0]
    resampler = Resampler(dim=dim, depth=depth, dim_head=64, heads=p["layers.0.0.to_q.weight"].shape[0] // 64,
                          num_queries=p["grounding_latents"].shape[1], embedding_dim=p["proj_in.weight"].shape[1],
                          output_dim=p["proj_out.weight"].shape[0],
                          ff_mult=p["layers.0.1.1.weight"].shape[0] / dim, latent_init_mode="grounding",
                          phrase_embeddings_dim=phrase_width, fourier_freqs=8)
    resampler.load_state_dict(p, strict=True)
    queries = p["grounding_latents"].shape[1]
    processors = {}
    for name, old in unet.attn_processors.items():
        if name.endswith("attn1.processor"):
            processors[name] = Plain()
        else:
            module = unet.get_submodule(name[:-len(".processor")])
            processors[name] = Masked(hidden_size=module.to_q.out_features, cross_attention_dim=module.to_k.in_features,
                                      scale=1.0, num_tokens=queries)
    unet.set_attn_processor(processors)
    layers = torch.nn.ModuleList(unet.attn_processors.values())
    layers.load_state_dict({k[len("ms_adapter."):]: v for k, v in state.items() if k.startswith("ms_adapter.")}, strict=True)
    return unet, resampler, layers


def predict(unet, resampler, dummy, batch, alphas_cumprod):
    t = batch["timesteps"].long()
    abar = alphas_cumprod[t].view(-1, 1, 1, 1)
    noisy = abar.sqrt() * batch["latents"] + (1 - abar).sqrt() * batch["noise"]
    text = batch["encoder_hidden_states"]
    B = text.shape[0]
    S = batch["boxes"].shape[1] if "boxes" in batch else 0
    if S == 0:
        boxes = torch.zeros(B, 1, 4)
        tokens = torch.zeros(B, resampler.num_queries, text.shape[-1])
    else:
        boxes = batch["boxes"]
        hidden = batch["image_hidden"].flatten(0, 1)
        grounding = {"boxes": boxes.flatten(0, 1), "phrase_embeds": batch["phrase_embeds"].flatten(0, 1),
                     "drop_grounding_tokens": [int(v) for v in batch["drop_grounding_tokens"]]}
        tokens = resampler(hidden, grounding_kwargs=grounding).reshape(B, -1, text.shape[-1])
    states = torch.cat([text, dummy.repeat(B, 1, 1), tokens], dim=1)
    return unet(noisy, t, states, added_cond_kwargs={"text_embeds": batch["text_embeds"], "time_ids": batch["time_ids"]},
                cross_attention_kwargs={"boxes": boxes, "phrase_idxes": torch.zeros(B, max(S, 1), 2, dtype=torch.long)}).sample


def groups(names, config):
    """torch's parameter groups: (tensors, rate, decay) by part and kind, of what is trained."""
    o, out = config["optimizer"], {}
    for name, p in names.items():
        part = "resampler" if name.startswith("image_proj.") else "kv"
        if config["train"]["part"] not in ("all", part):
            p.requires_grad_(False)
            continue
        rate = float(o["lr_" + part] or o["lr"])
        decay = 0.0 if p.ndim == 1 and not o["decay_norms"] else float(o["weight_decay"])
        out.setdefault((rate, decay), []).append(p)
    return [dict(params=p, lr=rate, weight_decay=decay) for (rate, decay), p in out.items()]


def loss_of(answer, batch, alphas_cumprod, v_prediction, gamma):
    """As diffusers' train_text_to_image: compute_snr, and the weights of its --snr_gamma."""
    t = batch["timesteps"].long()
    abar = alphas_cumprod[t].view(-1, 1, 1, 1)
    target = abar.sqrt() * batch["noise"] - (1 - abar).sqrt() * batch["latents"] if v_prediction else batch["noise"]
    loss = torch.nn.functional.mse_loss(answer, target, reduction="none").mean(dim=(1, 2, 3))
    if gamma:
        snr = (abar / (1 - abar)).flatten()
        loss = loss * torch.minimum(snr, torch.full_like(snr, gamma)) / (snr + 1 if v_prediction else snr)
    return loss.mean()


def compare_file(label, path, wanted):
    if not os.path.exists(path):
        return 0.0
    ours, worst, apart, whole = load_numbers(path), (0.0, "nothing"), 0.0, 0.0
    for name, p in wanted.items():
        difference = float((ours[name] - p).norm())
        error = difference / float(p.norm())
        worst = max(worst, (error if error == error else float("inf"), name))
        apart, whole = apart + difference ** 2, whole + float(p.norm()) ** 2
    print(f"relative difference of {label}: {(apart / whole) ** 0.5:.3e} of all as one; worst tensor {worst[0]:.3e} "
          f"({worst[1]}, of {len(wanted)})")
    return worst[0]


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--model", required=True)
    a.add_argument("--dump", required=True)
    a.add_argument("--run", required=True)
    a.add_argument("--reference", required=True)
    a.add_argument("--steps", type=int, default=20)
    a.add_argument("--tolerance", type=float, default=1e-4)
    a.add_argument("--double", action="store_true")
    args = a.parse_args()

    if args.double:
        torch.set_default_dtype(torch.float64)
    state = load_numbers(os.path.join(args.dump, "adapter-000000.safetensors"))
    unet, resampler, layers = build(args, state)
    dummy = state["dummy_image_tokens"]
    config = yaml.safe_load(open(os.path.join(args.run, "config.yaml")))
    config["optimizer"]["decay_norms"] = str(config["optimizer"]["decay_norms"]) in ("on", "True")
    o, number = config["optimizer"], lambda v: float(v) if v not in ("off", False, None) else 0.0
    names = {"image_proj." + k: v for k, v in resampler.named_parameters()}
    names.update({"ms_adapter." + k: v for k, v in layers.named_parameters()})
    optimizer = torch.optim.AdamW(groups(names, config), betas=tuple(map(float, o["betas"])), eps=float(o["eps"]))
    parameters = [p for p in names.values() if p.requires_grad]
    kind = {"constant": "constant_with_warmup"}.get(o["schedule"], o["schedule"])
    rates = get_scheduler(kind, optimizer, num_warmup_steps=o["warmup"], num_training_steps=config["train"]["steps"])
    decay, gamma = number(config["train"]["ema"]), number(config["train"]["min_snr"])
    means = {k: p.detach().clone() for k, p in names.items() if p.requires_grad}
    with open(os.path.join(args.model, "scheduler", "scheduler_config.json")) as file:
        v_prediction = json.load(file).get("prediction_type") == "v_prediction"
    betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, dtype=torch.float32) ** 2
    alphas_cumprod = torch.cumprod(1 - betas, 0)
    ours = {r["step"]: r for r in map(json.loads, open(os.path.join(args.run, "log.jsonl")))}

    worst, saved = 0.0, os.path.join(args.run, "step-%06d")
    for step in range(1, args.steps + 1):
        files = sorted(glob.glob(os.path.join(args.dump, f"step-{step:06d}-*.safetensors")))
        if not files:
            break
        total = 0.0
        for file in files:
            batch = load_numbers(file)
            loss = loss_of(predict(unet, resampler, dummy, batch, alphas_cumprod), batch, alphas_cumprod, v_prediction, gamma)
            if loss.requires_grad:
                (loss / len(files)).backward()
            total += loss.item() / len(files)
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, float(config["train"]["max_grad_norm"])))
        optimizer.step()
        rates.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for k in means:
                means[k].mul_(decay).add_(names[k], alpha=1 - decay)
        difference = abs(ours[step]["loss"] - total) / abs(total)
        worst = max(worst, difference) if difference == difference else float("inf")
        print(f"step {step:3d}  torch {total:.9f}  msd {ours[step]['loss']:.9f}  relative {difference:.2e}"
              f"  norm {norm:.6f} / {ours[step]['grad_norm']:.6f}")
        if os.path.exists(saved % step):
            trained = {k: p.detach() for k, p in names.items() if p.requires_grad}
            worst = max(worst, compare_file(f"the weights after {step}", saved % step + "/adapter.safetensors", trained))
            if decay:
                worst = max(worst, compare_file(f"the averages after {step}", saved % step + "/ema.safetensors", means))
    print(f"worst of all: {worst:.3e} ({100 * worst / args.tolerance:.1f} % of tolerance)")
    sys.exit(not worst <= args.tolerance)


if __name__ == "__main__":
    main()
