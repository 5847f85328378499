"""`msd probe` from outside: random models that diffusers and transformers make and save, of many architectures and storage
forms, against those libraries and the reference implementation's modules.

    python conformance.py --msd MSD --reference MS-DIFFUSION-CHECKOUT --work FOLDER [--only NAME]

The references are computed in f64 from the weights as stored. An error is the largest difference over the largest value.
Prints one line a comparison, fails when one is above its tolerance: 1e-5 for f32 networks, 3e-5 where an f32 network is
deep (VAE decoder) or for gradients, 1e-4 for weights after updates, which AdamW's division amplifies.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys

import torch
from diffusers import (AutoencoderKL, DDPMScheduler, EulerDiscreteScheduler, UNet2DConditionModel)
from safetensors.torch import load_file, save_file
from transformers import (CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionConfig,
                          CLIPVisionModelWithProjection)

import reference_modules

torch.set_num_threads(2)
CROSS, PLAIN, CROSS_UP, PLAIN_UP = "CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"
worst, failures = {}, []
options = None


def relative(ours, theirs):
    ours, theirs = ours.double(), theirs.double()
    if ours.shape != theirs.shape or not torch.isfinite(ours).all():
        return float("inf")
    size = theirs.abs().max().item()
    return (ours - theirs).abs().max().item() / (size if size > 0 else 1.0)


def relative_norm(ours, theirs):
    """The norm of the difference: AdamW turns a gradient that is only rounding noise into a whole step of either sign."""
    ours, theirs = ours.double(), theirs.double()
    if ours.shape != theirs.shape or not torch.isfinite(ours).all():
        return float("inf")
    return ((ours - theirs).norm() / theirs.norm()).item()


def compare(case, ours, theirs, tolerance=1e-5, measure=relative):
    error = measure(ours, theirs)
    group = case.split(":")[0]
    worst[group] = max(worst.get(group, 0.0), error)
    if not error <= tolerance:
        failures.append(f"{case}: {error:.2e} above {tolerance:.0e} (shapes {tuple(ours.shape)} {tuple(theirs.shape)})")
        print("FAILED", failures[-1], flush=True)


def expect(case, true, what):
    if not true:
        failures.append(f"{case}: {what}")
        print("FAILED", failures[-1], flush=True)


def path(*parts):
    return os.path.join(options.work, *parts)


def call(*arguments):
    return subprocess.run([options.msd, *map(str, arguments)], capture_output=True, text=True)


def probe(module, inputs=None, *more):
    """The tensors that MODULE writes; a failure of the program is a failed comparison and gives {}."""
    arguments = ["probe", module, *more, "--out", path("out.safetensors"), "--quiet"]
    if inputs is not None:
        extra = dict(inputs, unknown_tensor=torch.zeros(3, 0, dtype=torch.int64), another=torch.ones((), dtype=torch.float64))
        save_file({k: v.contiguous() for k, v in extra.items()}, path("in.safetensors"))
        arguments += ["--in", path("in.safetensors")]
    done = call(*arguments)
    expect(f"{module} {more}", done.returncode == 0, f"exit {done.returncode}: {done.stderr.strip()}")
    return load_file(path("out.safetensors")) if done.returncode == 0 else {}


def refused(case, module, inputs, names, status, *more):
    """The probe must fail with `status` and its message must have every one of `names`."""
    save_file({k: v.contiguous() for k, v in inputs.items()}, path("in.safetensors"))
    if os.path.exists(path("none.safetensors")):
        os.remove(path("none.safetensors"))
    done = call("probe", module, *more, "--in", path("in.safetensors"), "--out", path("none.safetensors"), "--quiet")
    expect(case, done.returncode in (status, 4), f"exit {done.returncode}, expected {status}: {done.stderr.strip()}")
    for name in names:
        expect(case, name in done.stderr, f"the message does not name {name}: {done.stderr.strip()}")
    expect(case, not os.path.exists(path("none.safetensors")), "left an output")


def save(model, folder, kind):
    """Saves in one of the forms that repositories have and returns the f64 model with the weights as stored."""
    shutil.rmtree(folder, ignore_errors=True)
    if "16" in kind:
        model = model.to(torch.bfloat16 if "bf16" in kind else torch.float16)
    more = {}
    if "shard" in kind:
        more["max_shard_size"] = "40KB"
    if "variant" in kind:
        more["variant"] = "fp16"
    if "bin" in kind:
        try:
            model.save_pretrained(folder, safe_serialization=False, **more)
        except (TypeError, ValueError):
            pass
        if not [f for f in os.listdir(folder) if f.endswith(".bin")]:
            for f in os.listdir(folder):
                if f.endswith((".safetensors", ".safetensors.index.json")):
                    os.remove(os.path.join(folder, f))
            name = "diffusion_pytorch_model.bin" if hasattr(model, "_class_name") or "diffusers" in type(model).__module__ else "pytorch_model.bin"
            if "variant" in kind:
                name = name[:-3] + "fp16.bin"
            torch.save(model.state_dict(), os.path.join(folder, name))
    else:
        model.save_pretrained(folder, **more)
    return model.double().eval()


def roughen(model):
    """Norms and biases that are not one and zero, so that leaving one out shows."""
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p += 0.1 * torch.randn_like(p)
    return model


def duplicate_key(folder, key, wrong):
    """Writes `key` twice into config.json: the later one counts, as in Python's json."""
    file = os.path.join(folder, "config.json")
    text = open(file).read()
    open(file, "w").write("{\n  " + json.dumps(key) + ": " + json.dumps(wrong) + "," + text[1:])


def change_config(folder, **changes):
    file = os.path.join(folder, "config.json")
    config = json.load(open(file))
    config.update(changes)
    json.dump(config, open(file, "w"), indent=2)


def typed(ids, dtype):
    return ids.to(dtype)


def text_encoders():
    cases = [
        ("text_encoder", CLIPTextModel, dict(hidden_size=48, intermediate_size=100, num_hidden_layers=3, num_attention_heads=3,
                                             hidden_act="quick_gelu", eos_token_id=2, vocab_size=99), "fp16 variant", torch.int64),
        ("text_encoder", CLIPTextModel, dict(hidden_size=40, intermediate_size=72, num_hidden_layers=2, num_attention_heads=5, layer_norm_eps=1e-3,
                                             hidden_act="gelu", eos_token_id=7, vocab_size=99), "fp32 shard", torch.int32),
        ("text_encoder", CLIPTextModel, dict(hidden_size=33, intermediate_size=70, num_hidden_layers=4, num_attention_heads=3,
                                             hidden_act="quick_gelu", eos_token_id=2, vocab_size=99), "bin fp16", torch.float32),
        ("text_encoder_2", CLIPTextModelWithProjection, dict(hidden_size=64, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
                                                             projection_dim=28, hidden_act="gelu", eos_token_id=2, vocab_size=99), "fp32", torch.float16),
        ("text_encoder_2", CLIPTextModelWithProjection, dict(hidden_size=36, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                                                             projection_dim=36, hidden_act="gelu", eos_token_id=98, vocab_size=99), "bf16 shard bin", torch.int64),
    ]
    for n, (module, cls, config, kind, dtype) in enumerate(cases):
        torch.manual_seed(n)
        folder = path(f"text{n}", module)
        model = save(roughen(cls(CLIPTextConfig(bos_token_id=97, pad_token_id=1, **config))), folder, kind)
        duplicate_key(folder, "num_hidden_layers", 17)
        ids = torch.randint(3, 97, (3, 77 if n else 20))
        eos = config["eos_token_id"]
        for row, at in enumerate((4, 11, ids.shape[1] - 1)):
            ids[row, at] = 98 if eos == 2 else eos
        with torch.no_grad():
            theirs = model(ids, output_hidden_states=True)
        ours = probe(module, {"input_ids": typed(ids, dtype)}, "--model", path(f"text{n}"))
        if not ours:
            continue
        compare(f"{module}:{n} penultimate", ours["hidden_states_penultimate"], theirs.hidden_states[-2])
        compare(f"{module}:{n} last", ours["last_hidden_state"], theirs.last_hidden_state)
        other = "text_embeds" if module.endswith("2") else "pooler_output"
        compare(f"{module}:{n} {other}", ours[other], getattr(theirs, other))
        expect(f"{module}:{n}", set(ours) == {"hidden_states_penultimate", "last_hidden_state", other}, f"writes {sorted(ours)}")
    refused("no input_ids", "text_encoder", {"ids": torch.zeros(1, 4)}, ["input_ids"], 2, "--model", path("text0"))
    refused("input_ids of one dimension", "text_encoder", {"input_ids": torch.zeros(4)}, ["input_ids"], 2, "--model", path("text0"))
    change_config(path("text1", "text_encoder"), hidden_act="relu6")
    refused("hidden_act", "text_encoder", {"input_ids": torch.zeros(1, 4)}, ["hidden_act", "relu6"], 4, "--model", path("text1"))


def image_encoders():
    cases = [
        dict(hidden_size=44, intermediate_size=90, num_hidden_layers=3, num_attention_heads=4, image_size=42, patch_size=14, hidden_act="gelu", projection_dim=24),
        dict(hidden_size=39, intermediate_size=61, num_hidden_layers=2, num_attention_heads=3, image_size=32, patch_size=8, hidden_act="quick_gelu", projection_dim=10),
        dict(hidden_size=104, intermediate_size=128, num_hidden_layers=4, num_attention_heads=1, image_size=28, patch_size=7, hidden_act="gelu", projection_dim=33),
    ]
    for n, (config, kind) in enumerate(zip(cases, ("fp16", "fp32 shard", "fp16 bin"))):
        torch.manual_seed(100 + n)
        folder = path(f"vision{n}")
        model = save(roughen(CLIPVisionModelWithProjection(CLIPVisionConfig(**config))), folder, kind)
        if n == 1:  # as laion's folders have it
            own = json.load(open(os.path.join(folder, "config.json")))
            json.dump({"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": config["projection_dim"],
                       "text_config": {"hidden_size": 12}, "vision_config": own}, open(os.path.join(folder, "config.json"), "w"))
        else:
            duplicate_key(folder, "hidden_size", 5)
        side = config["image_size"]
        pixels = torch.randn(2, 3, side, side).to(torch.bfloat16 if n == 2 else torch.float32)
        with torch.no_grad():
            theirs = model(pixels.double(), output_hidden_states=True)
        ours = probe("image_encoder", {"pixel_values": pixels}, "--image-encoder", folder)
        if ours:
            compare(f"image_encoder:{n} penultimate", ours["hidden_states_penultimate"], theirs.hidden_states[-2])
            compare(f"image_encoder:{n} embeds", ours["image_embeds"], theirs.image_embeds)
    refused("pixel_values of another size", "image_encoder", {"pixel_values": torch.zeros(1, 3, 20, 20)}, ["pixel_values"], 2, "--image-encoder", path("vision0"))


def vaes():
    cases = [
        dict(block_out_channels=(16, 24), layers_per_block=1, norm_num_groups=8, latent_channels=4, sample_size=32),
        dict(block_out_channels=(8, 16, 12, 20), layers_per_block=2, norm_num_groups=4, latent_channels=4, sample_size=64, force_upcast=True),
        dict(block_out_channels=(12,), layers_per_block=1, norm_num_groups=3, latent_channels=4),
        dict(block_out_channels=(10, 15), layers_per_block=3, norm_num_groups=5, latent_channels=4, mid_block_add_attention=False),
    ]
    for n, (config, kind) in enumerate(zip(cases, ("fp16 variant", "fp32 shard", "fp32 bin", "fp32"))):
        torch.manual_seed(200 + n)
        levels = len(config["block_out_channels"])
        folder = path(f"vae{n}", "vae")
        model = save(roughen(AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels, **config)), folder, kind)
        for h, w in ((32, 32), (24, 40), (29, 37)):
            image = torch.rand(2, 3, h, w).half() * 2 - 1
            latent = torch.randn(2, 4, h // 4 + 1, w // 4)
            with torch.no_grad():
                moments = model.encode(image.double()).latent_dist
                picture = model.decode(latent.double()).sample
            ours = probe("vae_encode", {"sample": image}, "--model", path(f"vae{n}"))
            if ours:
                compare(f"vae_encode:{n} mean", ours["mean"], moments.mean)
                compare(f"vae_encode:{n} logvar", ours["logvar"], moments.logvar)
            ours = probe("vae_decode", {"latent": latent}, "--model", path(f"vae{n}"))
            if ours:
                compare(f"vae_decode:{n}", ours["sample"], picture, 3e-5)
    refused("latent of 5 channels", "vae_decode", {"latent": torch.zeros(1, 5, 4, 4)}, ["latent"], 2, "--model", path("vae0"))
    change_config(path("vae2", "vae"), down_block_types=["AttnDownEncoderBlock2D"])
    refused("vae block", "vae_encode", {"sample": torch.zeros(1, 3, 8, 8)}, ["down_block_types"], 4, "--model", path("vae2"))


COMMON = dict(addition_embed_type="text_time", in_channels=4, out_channels=4)
UNETS = [
    dict(COMMON, block_out_channels=[16, 24, 40], down_block_types=[PLAIN, CROSS, CROSS], up_block_types=[CROSS_UP, CROSS_UP, PLAIN_UP],
         layers_per_block=2, attention_head_dim=[2, 3, 5], transformer_layers_per_block=[1, 1, 2], use_linear_projection=True, norm_num_groups=8,
         cross_attention_dim=24, addition_time_embed_dim=8, projection_class_embeddings_input_dim=20 + 48),
    dict(COMMON, block_out_channels=[12, 18], down_block_types=[CROSS, CROSS], up_block_types=[CROSS_UP, CROSS_UP], layers_per_block=1,
         attention_head_dim=3, transformer_layers_per_block=1, use_linear_projection=False, norm_num_groups=6, cross_attention_dim=10,
         addition_time_embed_dim=6, projection_class_embeddings_input_dim=9 + 36),
    dict(COMMON, block_out_channels=[8, 20, 28, 16], down_block_types=[CROSS, PLAIN, CROSS, PLAIN], up_block_types=[PLAIN_UP, CROSS_UP, PLAIN_UP, CROSS_UP],
         layers_per_block=[1, 2, 1, 3], attention_head_dim=[4, 5, 7, 2], transformer_layers_per_block=[2, 1, 1, 3], use_linear_projection=False,
         norm_num_groups=4, cross_attention_dim=20, addition_time_embed_dim=4, projection_class_embeddings_input_dim=11 + 24),
    dict(COMMON, block_out_channels=[30], down_block_types=[CROSS], up_block_types=[CROSS_UP], layers_per_block=2, attention_head_dim=[6],
         transformer_layers_per_block=2, use_linear_projection=True, norm_num_groups=10, cross_attention_dim=17, addition_time_embed_dim=10,
         projection_class_embeddings_input_dim=5 + 60),
]


def make_unet(n, kind):
    torch.manual_seed(300 + n)
    return save(roughen(UNet2DConditionModel(**UNETS[n])), path(f"unet{n}", "unet"), kind)


def unet_inputs(n, batch, h, w, subjects=0, queries=0):
    config = UNETS[n]
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    i = dict(sample=torch.randn(batch, 4, h, w), timestep=torch.randint(0, 1000, (batch,)),
             encoder_hidden_states=torch.randn(batch, 11, config["cross_attention_dim"]).half(), text_embeds=torch.randn(batch, pooled).bfloat16(),
             time_ids=torch.tensor([[512, 768, 0, 64, 1024, 512 + 128 * b] for b in range(batch)], dtype=torch.int32))
    if subjects:
        low = torch.rand(batch, subjects, 2) * 0.6
        boxes = torch.cat([low, (low + 0.2 + torch.rand(batch, subjects, 2) * 0.5).clamp(max=1)], -1)
        if subjects > 1:
            boxes[0, 1] = 0
        i.update(ip_tokens=torch.randn(batch, subjects * queries, config["cross_attention_dim"]), boxes=boxes)
    return i


def run_unet(unet, i):
    return unet(i["sample"].double(), i["timestep"], i["encoder_hidden_states"].double(), added_cond_kwargs=dict(
        text_embeds=i["text_embeds"].double(), time_ids=i["time_ids"].double())).sample


def sizes_of_levels(n, h, w):
    grids = {}
    for _ in UNETS[n]["block_out_channels"]:
        grids[h * w] = (h, w)
        h, w = (h + 1) // 2, (w + 1) // 2
    return grids


def random_adapter(n, unet, file, dtype, sizes):
    """An adapter for this UNet from the reference's Resampler and random K/V, in one of the two file forms."""
    Resampler = reference_modules.load(options.reference)[0]
    resampler = roughen(Resampler(dim_head=64, latent_init_mode="grounding", fourier_freqs=8, output_dim=UNETS[n]["cross_attention_dim"], **sizes))
    with torch.no_grad():  # the sinusoids' frequencies, a buffer, stay f32
        for p in resampler.parameters():
            p.copy_(p.to(dtype))
    kv = {}
    for number, _, module in reference_modules.cross_attentions(unet):
        for which in "kv":
            kv[f"{number}.to_{which}_ip.weight"] = (torch.randn(module.to_k.out_features, module.to_k.in_features) / module.to_k.in_features ** 0.5).to(dtype)
    dummy = torch.randn(1, 4, UNETS[n]["cross_attention_dim"]).to(dtype)
    stored = {k: v.to(dtype) for k, v in resampler.state_dict().items()}
    if file.endswith(".bin"):
        torch.save({"image_proj": stored, "ms_adapter": kv, "dummy_image_tokens": dummy}, file)
    else:
        flat = {f"image_proj.{k}": v for k, v in stored.items()} | {f"ms_adapter.{k}": v for k, v in kv.items()}
        save_file(dict(flat, dummy_image_tokens=dummy), file)
    return resampler.double(), {k: v.double() for k, v in kv.items()}


SIZES = [dict(dim=24, depth=2, heads=1, num_queries=3, embedding_dim=20, ff_mult=4, phrase_embeddings_dim=12),
         dict(dim=20, depth=1, heads=3, num_queries=2, embedding_dim=14, ff_mult=2, phrase_embeddings_dim=7),
         dict(dim=48, depth=3, heads=2, num_queries=5, embedding_dim=13, ff_mult=3, phrase_embeddings_dim=9),
         dict(dim=16, depth=1, heads=1, num_queries=1, embedding_dim=8, ff_mult=1, phrase_embeddings_dim=6)]


def with_subjects(n, unet, kv, i, scale, subject_scales):
    h, w = i["sample"].shape[2:]
    state = dict(ip_tokens=i["ip_tokens"].double(), boxes=i["boxes"].float(), grids=sizes_of_levels(n, h, w), scale=scale, subject_scales=subject_scales)
    processors, before = dict(unet.attn_processors), dict(unet.attn_processors)
    for number, name, _ in reference_modules.cross_attentions(unet):
        processors[name] = reference_modules.MultiSubjectProcessor(kv[f"{number}.to_k_ip.weight"], kv[f"{number}.to_v_ip.weight"], state)
    unet.set_attn_processor(processors)
    out = run_unet(unet, i)
    unet.set_attn_processor(before)
    return out


def unets():
    for n, kind in enumerate(("fp16 variant shard", "fp32", "fp32 bin", "fp16 shard")):
        unet = make_unet(n, kind)
        duplicate_key(path(f"unet{n}", "unet"), "cross_attention_dim", 3)
        model = ("--model", path(f"unet{n}"))
        file = path(f"adapter{n}." + ("bin" if n % 2 else "safetensors"))
        resampler, kv = random_adapter(n, unet, file, torch.float16 if n == 2 else torch.float32, SIZES[n])
        with torch.no_grad():
            for batch, h, w in ((1, 16, 16), (2, 16, 24), (3, 9, 13), (1, 7, 5)):
                i = unet_inputs(n, batch, h, w, 3, SIZES[n]["num_queries"])
                plain = {k: v for k, v in i.items() if k not in ("ip_tokens", "boxes")}
                ours = probe("unet", plain, *model)
                if ours:
                    compare(f"unet plain:{n} {batch}x{h}x{w}", ours["noise_pred"], run_unet(unet, i))
                if len({a * b for a, b in sizes_of_levels(n, h, w).values()}) < len(UNETS[n]["block_out_channels"]):
                    continue
                ours = probe("unet", i, *model, "--adapter", file)
                if ours:
                    compare(f"unet adapter:{n} {batch}x{h}x{w}", ours["noise_pred"], with_subjects(n, unet, kv, i, 0.6, None))
                ours = probe("unet", i, *model, "--adapter", file, "--set", "scale=1.25")
                if ours:
                    compare(f"unet scale:{n} {batch}x{h}x{w}", ours["noise_pred"], with_subjects(n, unet, kv, i, 1.25, None))
                scales = torch.tensor([0.4, 1.5, 0.0])
                ours = probe("unet", dict(i, subject_scales=scales), *model, "--adapter", file)
                if ours:
                    compare(f"unet subject_scales:{n} {batch}x{h}x{w}", ours["noise_pred"], with_subjects(n, unet, kv, i, 0.6, scales))
            resamplers(n, resampler, file)
        train_steps(n, unet, resampler, kv, file, i)
    wrong = unet_inputs(0, 2, 8, 8)
    for name in wrong:
        refused(f"no {name}", "unet", {k: v for k, v in wrong.items() if k != name}, [name], 2, "--model", path("unet0"))
    refused("time_ids of 5", "unet", dict(wrong, time_ids=torch.zeros(2, 5)), ["time_ids"], 2, "--model", path("unet0"))
    refused("another width", "unet", dict(wrong, encoder_hidden_states=torch.zeros(2, 4, 5)), ["encoder_hidden_states"], 2, "--model", path("unet0"))
    for key, value in (("down_block_types", [PLAIN, "AttnDownBlock2D", CROSS]), ("addition_embed_type", "text_image"), ("act_fn", "mish"),
                       ("class_embed_type", "timestep"), ("resnet_time_scale_shift", "scale_shift"), ("dual_cross_attention", True),
                       ("only_cross_attention", True), ("encoder_hid_dim_type", "text_proj"), ("mid_block_type", "UNetMidBlock2DSimpleCrossAttn"),
                       ("time_embedding_type", "fourier"), ("num_attention_heads", 7), ("norm_num_groups", 7)):
        shutil.rmtree(path("refused"), ignore_errors=True)
        shutil.copytree(path("unet0"), path("refused"))
        change_config(path("refused", "unet"), **{key: value})
        refused(f"unet {key}", "unet", wrong, [key], 4, "--model", path("refused"))


def resamplers(n, resampler, file):
    sizes = SIZES[n]
    for rows in (1, 4):
        low = torch.rand(rows, 2) * 0.5
        i = dict(image_hidden=torch.randn(rows, 9, sizes["embedding_dim"]), phrase_embeds=torch.randn(rows, sizes["phrase_embeddings_dim"]).half(),
                 boxes=torch.cat([low, low + 0.4], -1), drop_grounding_tokens=torch.tensor([0, 1, 0, 1][:rows]))
        theirs = resampler(i["image_hidden"].double(), grounding_kwargs=dict(boxes=i["boxes"].double(), phrase_embeds=i["phrase_embeds"].double(),
                                                                             drop_grounding_tokens=i["drop_grounding_tokens"].tolist()))
        ours = probe("resampler", i, "--adapter", file)
        if ours:
            compare(f"resampler:{n} {rows}", ours["image_prompt_embeds"], theirs)


def train_steps(n, unet, resampler, kv, file, i):
    torch.manual_seed(400 + n)
    sizes = SIZES[n]
    batch, subjects = (2, 3) if n != 3 else (3, 1)
    u = unet_inputs(n, batch, 9, 13, subjects, sizes["num_queries"])
    i = {k: u[k] for k in ("encoder_hidden_states", "text_embeds", "time_ids", "boxes")}
    i.update(latents=u["sample"], noise=torch.randn_like(u["sample"]), timesteps=u["timestep"], image_hidden=torch.randn(batch, subjects, 6, sizes["embedding_dim"]),
             phrase_embeds=torch.randn(batch, subjects, sizes["phrase_embeddings_dim"]), drop_grounding_tokens=torch.tensor([0, 1, 0][:batch]))
    unet.requires_grad_(False)
    trained = {"image_proj." + k: v for k, v in resampler.named_parameters()}
    kv = {k: torch.nn.Parameter(v.clone()) for k, v in kv.items()}
    trained.update({"ms_adapter." + k: v for k, v in kv.items()})
    schedule = DDPMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")

    def forward():
        tokens = resampler(i["image_hidden"].flatten(0, 1).double(), grounding_kwargs=dict(
            boxes=i["boxes"].flatten(0, 1).double(), phrase_embeds=i["phrase_embeds"].flatten(0, 1).double(), drop_grounding_tokens=i["drop_grounding_tokens"].tolist()))
        noisy = schedule.add_noise(i["latents"].double(), i["noise"].double(), i["timesteps"])
        predicted = with_subjects(n, unet, kv, dict(u, sample=noisy, ip_tokens=tokens.reshape(batch, -1, tokens.shape[-1])), 1.0, None)
        for p in trained.values():
            p.grad = torch.zeros_like(p)
        loss = torch.nn.functional.mse_loss(predicted, i["noise"].double())
        loss.backward()
        return predicted.detach(), loss.item()

    predicted, loss = forward()
    common = ("--model", path(f"unet{n}"), "--adapter", file)
    ours = probe("train_step", i, *common)
    if ours:
        compare(f"train_step noise_pred:{n}", ours["noise_pred"], predicted)
        compare(f"train_step loss:{n}", ours["loss"], torch.tensor(loss), 3e-5)
        expect(f"train_step:{n}", {k[5:] for k in ours if k.startswith("grad.")} == set(trained), "gradients of other names")
        for k, v in trained.items():
            compare(f"train_step grad:{n} {k}", ours["grad." + k], v.grad, 3e-5)
    o = [dict(lr=1e-4, weight_decay=0.01, beta1=0.9, beta2=0.999, max_grad_norm=1.0), dict(lr=1e-3, weight_decay=0.1, beta1=0.8, beta2=0.95, max_grad_norm=0.1),
         dict(lr=5e-4, weight_decay=0, beta1=0.0, beta2=0.99, max_grad_norm=1000), dict(lr=1e-2, weight_decay=0.5, beta1=0.5, beta2=0.5, max_grad_norm=0.01)][n]
    adamw = torch.optim.AdamW(trained.values(), lr=o["lr"], betas=(o["beta1"], o["beta2"]), eps=1e-8, weight_decay=o["weight_decay"])
    losses, norms = [], []
    for _ in range(5):
        losses.append(forward()[1])
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained.values(), o["max_grad_norm"])))
        adamw.step()
    flags = [f for k, v in dict(o, updates=5).items() for f in ("--set", f"{k}={v}")]
    ours = probe("train_step", i, *common, *flags)
    if ours:
        compare(f"updates loss:{n}", ours["loss"], torch.tensor(losses), 3e-5)
        compare(f"updates grad_norm:{n}", ours["grad_norm"], torch.tensor(norms), 1e-4)
        for k, v in trained.items():
            compare(f"updates param:{n} {k}", ours["param." + k], v.detach(), 1e-4, relative_norm)
    for name in i:
        if n == 0:
            refused(f"train_step without {name}", "train_step", {k: v for k, v in i.items() if k != name}, [name], 2, *common)


def samplers():
    for n, spacing in enumerate(("leading", "trailing", "linspace")):
        config = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1 if n == 0 else 0, timestep_spacing=spacing)
        if n == 2:
            config.update(beta_schedule="linear", beta_start=0.0001, beta_end=0.02)
        EulerDiscreteScheduler(**config).save_pretrained(path(f"scheduler{n}", "scheduler"))
        for scheduler_name in ("discrete",):
            for steps in (1, 7, 30):
                euler = EulerDiscreteScheduler.from_config(config)
                euler.set_timesteps(steps)
                noise, outputs = torch.randn(2, 4, 5, 6), torch.randn(steps, 2, 4, 5, 6)
                x, handed = noise.double() * float(euler.init_noise_sigma), []
                for k, t in enumerate(euler.timesteps):
                    handed.append(euler.scale_model_input(x, t))
                    x = euler.step(outputs[k].double(), t, x).prev_sample
                ours = probe("sampler", dict(noise=noise, model_outputs=outputs), "--model", path(f"scheduler{n}"), "--set", "sampling_method=euler", "--set",
                             f"scheduler={scheduler_name}", "--set", f"steps={steps}")
                if ours:
                    for name, theirs in dict(timesteps=euler.timesteps, sigmas=euler.sigmas, model_inputs=torch.stack(handed), latents=x).items():
                        compare(f"sampler {name}:{spacing} {scheduler_name} {steps}", ours[name], theirs)
    for seed, shape in ((0, "1,4,16,16"), (12345678901, "2,3,5"), (7, "17"), (4294967295, "15")):
        theirs = torch.randn([int(v) for v in shape.split(",")], generator=torch.Generator().manual_seed(seed))
        ours = probe("noise", None, "--set", f"seed={seed}", "--set", f"shape={shape}", "--set", "rng=torch-cpu")
        if ours:
            compare(f"noise:{seed} {shape}", ours["noise"], theirs)


def main():
    global options
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--msd", required=True)
    a.add_argument("--reference", required=True)
    a.add_argument("--work", required=True)
    a.add_argument("--only", help="one of text_encoders, image_encoders, vaes, unets, samplers")
    options = a.parse_args()
    os.makedirs(options.work, exist_ok=True)
    for part in (text_encoders, image_encoders, vaes, samplers, unets):
        if options.only in (None, part.__name__):
            part()
    for group, error in sorted(worst.items()):
        print(f"{group:28s} worst error {error:.2e}")
    print(f"{len(failures)} failed")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
