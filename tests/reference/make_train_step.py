"""Makes train_step_*.safetensors: one training step, and AdamW updates, of the reference implementation's modules.

    python make_train_step.py GOLDENS_FOLDER --reference MS-DIFFUSION-CHECKOUT

diffusers' UNet with the reference's Resampler and MaskedIPAttnProcessor2_0; DDPM noising by diffusers. Weights are the
counter formula's under the names of the files, so that they are not stored; the UNet's config, the resampler's sizes
and the optimizer's settings are in the metadata. Computed in f64 (but for the reference's softmax in the resampler and
the sinusoids, which are f32), stored as f32: what is measured is the error of the other side alone.

loss.KIND and norms.KIND are those of v-prediction and min-SNR weights (v, snr, v_snr): the loss, and the norm of each gradient.
grad.NAME holds every gradient whole. param.NAME, after the updates, holds element i*n//512 for i in 0..511 of a tensor
of n > 512 elements; params.norm holds the norms of all of them.
"""

import argparse
import json

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import compute_snr
from safetensors.numpy import save_file

import counter
import reference_modules

torch.set_num_threads(1)

SAMPLED = 512
CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
CROSS_UP, PLAIN_UP = "CrossAttnUpBlock2D", "UpBlock2D"
COMMON = dict(addition_embed_type="text_time", in_channels=4, out_channels=4)
CASES = {
    # SDXL's form with two subjects a sample, RUN.yaml's own optimizer
    "a": dict(
        config=dict(COMMON, block_out_channels=[16, 24, 40], down_block_types=[PLAIN, CROSS, CROSS],
                    up_block_types=[CROSS_UP, CROSS_UP, PLAIN_UP], layers_per_block=2, attention_head_dim=[2, 3, 5],
                    transformer_layers_per_block=[1, 1, 2], use_linear_projection=True, norm_num_groups=8,
                    cross_attention_dim=24, addition_time_embed_dim=8, projection_class_embeddings_input_dim=20 + 48),
        resampler=dict(dim=24, depth=2, heads=1, num_queries=3, embedding_dim=20, output_dim=24, ff_mult=4,
                       phrase_embeddings_dim=12),
        side=12, text=9, length=7, timesteps=[999, 250], drop=[0, 0],
        boxes=[[[0.1, 0.2, 0.62, 0.9], [0.4, 0.0, 1.0, 0.55]], [[0.0, 0.0, 1.0, 0.3], [0.3, 0.25, 0.7, 1.0]]],
        updates=dict(updates=5, lr=1e-4, weight_decay=0.01, beta1=0.9, beta2=0.999, max_grad_norm=1.0),
    ),
    # lists, convolutions as projections, attention at the finest level; absent subjects (zero boxes), a sample without
    # grounding, heads x 64 that is not dim, an odd side; large steps
    "b": dict(
        config=dict(COMMON, block_out_channels=[12, 20, 28], down_block_types=[CROSS, PLAIN, CROSS],
                    up_block_types=[CROSS_UP, PLAIN_UP, CROSS_UP], layers_per_block=[1, 2, 1],
                    attention_head_dim=[3, 5, 7], transformer_layers_per_block=[2, 1, 2],
                    use_linear_projection=False, norm_num_groups=4,
                    cross_attention_dim=20, addition_time_embed_dim=6, projection_class_embeddings_input_dim=16 + 36),
        resampler=dict(dim=20, depth=1, heads=2, num_queries=2, embedding_dim=14, output_dim=20, ff_mult=2,
                       phrase_embeddings_dim=7),
        side=9, text=5, length=4, timesteps=[13, 0], drop=[0, 1],
        boxes=[[[0.0, 0.1, 0.35, 1.0], [0.3, 0.3, 0.9, 0.77], [0.0, 0.0, 0.0, 0.0]],
               [[0.5, 0.2, 0.95, 0.8], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]],
        updates=dict(updates=5, lr=1e-3, weight_decay=0.1, beta1=0.8, beta2=0.95, max_grad_norm=0.25),
    ),
}


def weight(name, shape):
    return torch.from_numpy(counter.fill(name, tuple(shape)))


def build(case, checkout):
    """The UNet with the reference's processors in it, its adapter's state by file name, and the resampler."""
    Resampler, Masked, Plain = reference_modules.load(checkout)
    unet = UNet2DConditionModel(**case["config"])
    unet.load_state_dict({k: weight(k, v.shape) for k, v in unet.state_dict().items()})
    unet.requires_grad_(False)
    unet.double()
    resampler = Resampler(dim_head=64, latent_init_mode="grounding", fourier_freqs=8, **case["resampler"])
    resampler.load_state_dict({k: weight("image_proj." + k, v.shape) for k, v in resampler.state_dict().items()})
    resampler.double()
    trained = {"image_proj." + k: v for k, v in resampler.named_parameters()}
    processors = {name: Plain() for name in unet.attn_processors}
    for number, name, module in reference_modules.cross_attentions(unet):
        p = Masked(hidden_size=module.to_q.out_features, cross_attention_dim=module.to_k.in_features, scale=1.0,
                   num_tokens=case["resampler"]["num_queries"], text_tokens=case["text"])
        p.load_state_dict({k: weight(f"ms_adapter.{number}.{k}", v.shape) for k, v in p.state_dict().items()})
        processors[name] = p.double()
        trained.update({f"ms_adapter.{number}.{k}": v for k, v in p.named_parameters()})
    return unet, resampler, processors, trained


def inputs_of(case):
    config, sizes, side = case["config"], case["resampler"], case["side"]
    boxes = torch.tensor(case["boxes"])
    B, S = boxes.shape[:2]
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    make = lambda name, *shape: torch.from_numpy(counter.uniform(name, shape))
    return dict(
        latents=1.5 * make("latents", B, 4, side, side), noise=1.7 * make("noise", B, 4, side, side),
        timesteps=torch.tensor(case["timesteps"], dtype=torch.int64),
        encoder_hidden_states=2 * make("encoder_hidden_states", B, case["text"], config["cross_attention_dim"]),
        text_embeds=2 * make("text_embeds", B, pooled),
        time_ids=torch.tensor([[512, 768, 0, 64, 1024, 512 + 128 * i] for i in range(B)], dtype=torch.float32),
        image_hidden=2 * make("image_hidden", B, S, case["length"], sizes["embedding_dim"]),
        phrase_embeds=2 * make("phrase_embeds", B, S, sizes["phrase_embeddings_dim"]),
        boxes=boxes, drop_grounding_tokens=torch.tensor(case["drop"], dtype=torch.int32),
    )


def predict(unet, i, states, **more):
    schedule = DDPMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012,
                             beta_schedule="scaled_linear")
    noisy = schedule.add_noise(i["latents"].double(), i["noise"].double(), i["timesteps"])
    return unet(noisy, i["timesteps"], states, added_cond_kwargs=dict(
        text_embeds=i["text_embeds"].double(), time_ids=i["time_ids"]), **more).sample


def predict_with_subjects(unet, resampler, i):
    B, S = i["boxes"].shape[:2]
    tokens = resampler(i["image_hidden"].flatten(0, 1).double(), grounding_kwargs=dict(
        boxes=i["boxes"].flatten(0, 1).double(), phrase_embeds=i["phrase_embeds"].flatten(0, 1).double(),
        drop_grounding_tokens=[int(v) for v in i["drop_grounding_tokens"]]))
    tokens = tokens.reshape(B, -1, tokens.shape[-1])
    dummy = 3 * torch.from_numpy(counter.uniform("dummy", (B, 4, tokens.shape[-1]))).double()
    states = torch.cat([i["encoder_hidden_states"].double(), dummy, tokens], dim=1)
    return predict(unet, i, states, cross_attention_kwargs=dict(
        boxes=i["boxes"], phrase_idxes=torch.zeros(B, S, 2, dtype=torch.long)))


def loss_of(noise_pred, i):
    return torch.nn.functional.mse_loss(noise_pred, i["noise"].double())


def loss_by(noise_pred, i, v_prediction, gamma):
    """The loss as diffusers' train_text_to_image weighs it, against noise or v."""
    schedule = DDPMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    noise = i["noise"].double()
    target = schedule.get_velocity(i["latents"].double(), noise, i["timesteps"]) if v_prediction else noise
    loss = torch.nn.functional.mse_loss(noise_pred, target, reduction="none").mean(dim=(1, 2, 3))
    if gamma:
        snr = compute_snr(schedule, i["timesteps"]).double()
        loss = loss * torch.minimum(snr, torch.full_like(snr, gamma)) / (snr + 1 if v_prediction else snr)
    return loss.mean()


def weighed(unet, resampler, trained, i, out):
    """loss.KIND and norms.KIND: of v, of min-SNR 5, and of both, the loss and each gradient's norm."""
    for kind, v_prediction, gamma in (("v", True, 0), ("snr", False, 5.0), ("v_snr", True, 5.0)):
        for p in trained.values():
            p.grad = None
        loss = loss_by(predict_with_subjects(unet, resampler, i), i, v_prediction, gamma)
        loss.backward()
        fill_absent(trained)
        out["loss." + kind] = loss
        out["norms." + kind] = torch.stack([p.grad.norm() for p in trained.values()])
    for p in trained.values():
        p.grad = None


def fill_absent(trained):
    for p in trained.values():
        if p.grad is None:
            p.grad = torch.zeros_like(p)


def run_updates(unet, resampler, trained, i, u):
    optimizer = torch.optim.AdamW(trained.values(), lr=u["lr"], betas=(u["beta1"], u["beta2"]), eps=1e-8,
                                  weight_decay=u["weight_decay"])
    losses, norms = [], []
    for _ in range(u["updates"]):
        optimizer.zero_grad()
        loss = loss_of(predict_with_subjects(unet, resampler, i), i)
        loss.backward()
        fill_absent(trained)
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained.values(), u["max_grad_norm"])))
        losses.append(loss.item())
        optimizer.step()
    return losses, norms


def sampled(t):
    flat = t.detach().flatten()
    n = flat.numel()
    return flat if n <= SAMPLED else flat[torch.arange(SAMPLED) * n // SAMPLED]


def make(folder, name, checkout):
    case = CASES[name]
    unet, resampler, processors, trained = build(case, checkout)
    i = inputs_of(case)
    out = dict(i)
    with torch.no_grad():
        out["noise_pred_plain"] = predict(unet, i, i["encoder_hidden_states"].double())
        out["loss_plain"] = loss_of(out["noise_pred_plain"], i)
    unet.set_attn_processor(processors)
    out["noise_pred"] = predict_with_subjects(unet, resampler, i)
    out["loss"] = loss_of(out["noise_pred"], i)
    out["loss"].backward()
    fill_absent(trained)
    out.update({"grad." + k: v.grad.clone() for k, v in trained.items()})
    weighed(unet, resampler, trained, i, out)
    before = {k: v.detach().clone() for k, v in trained.items()}
    losses, norms = run_updates(unet, resampler, trained, i, case["updates"])
    out.update(losses=torch.tensor(losses, dtype=torch.float64), norms=torch.tensor(norms, dtype=torch.float64))
    out.update({"param." + k: sampled(v) for k, v in trained.items()})
    moved = torch.stack([(trained[k].detach() - before[k]).norm() / before[k].norm() for k in trained])
    out["params.norm"] = torch.stack([v.detach().norm() for v in trained.values()])
    zero = [k for k in trained if not out["grad." + k].any()]
    print(f"train_step_{name}: losses {losses}, norms {norms}; {len(trained)} tensors, no gradient: {zero}; "
          f"updates move them by {float(moved.min()):.1e} to {float(moved.max()):.1e}; "
          f"plain loss {float(out['loss_plain']):.6f}")
    narrow = lambda v: v.float() if v.is_floating_point() else v
    tensors = {k: narrow(v.detach()).contiguous().numpy() for k, v in out.items()}
    save_file(tensors, f"{folder}/train_step_{name}.safetensors", {
        "config": json.dumps(case["config"]), "resampler": json.dumps(case["resampler"]),
        "updates": json.dumps({k: repr(v) for k, v in case["updates"].items()})})


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("folder")
    a.add_argument("--reference", required=True)
    args = a.parse_args()
    for name in CASES:
        make(args.folder, name, args.reference)
