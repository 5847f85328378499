"""Makes unet_*.safetensors: diffusers' UNet2DConditionModel, plain and with the adapter.

    python make_unet.py GOLDENS_FOLDER --reference MS-DIFFUSION-CHECKOUT

The square case runs the reference implementation's own attention processors, the other one a processor written from the
formula. Weights are the counter formula's under the names of the files (the adapter's under ms_adapter.<i>...), so that
they are not stored; config.json is in the metadata. Computed in f64, stored as f32. Sinusoids are f32 in diffusers
whatever the type.
"""

import argparse
import json

import numpy
import torch
from diffusers import UNet2DConditionModel
from safetensors.numpy import save_file

import counter
import reference_modules

torch.set_num_threads(1)

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
CROSS_UP, PLAIN_UP = "CrossAttnUpBlock2D", "UpBlock2D"
COMMON = dict(addition_embed_type="text_time", in_channels=4, out_channels=4)
CASES = {
    # SDXL's form: no attention at the finest level, linear projections, growing depth; odd numbers of heads
    "a": dict(
        config=dict(COMMON, block_out_channels=[32, 48, 80], down_block_types=[PLAIN, CROSS, CROSS],
                    up_block_types=[CROSS_UP, CROSS_UP, PLAIN_UP], layers_per_block=2, attention_head_dim=[2, 3, 5],
                    transformer_layers_per_block=[1, 1, 2], use_linear_projection=True, norm_num_groups=16,
                    cross_attention_dim=64, addition_time_embed_dim=16, projection_class_embeddings_input_dim=32 + 96),
        size=(16, 16), text=11, queries=3, timesteps=[999.0, 13.0],
        boxes=[[[0.1, 0.2, 0.62, 0.9], [0.4, 0.0, 1.0, 0.55]], [[0.0, 0.0, 1.0, 0.3], [0.0, 0.0, 0.0, 0.0]]],
        scales=[0.3, 1.2],
    ),
    # everything else: lists, convolutions as projections, sides that do not divide, attention at the finest
    # level, fewer samples with subjects than the batch has
    "b": dict(
        config=dict(COMMON, block_out_channels=[24, 40, 56], down_block_types=[CROSS, PLAIN, CROSS],
                    up_block_types=[CROSS_UP, PLAIN_UP, CROSS_UP], layers_per_block=[1, 2, 1],
                    attention_head_dim=[3, 5, 7],
                    transformer_layers_per_block=[2, 1, 3], use_linear_projection=False, norm_num_groups=8,
                    cross_attention_dim=40, addition_time_embed_dim=12, projection_class_embeddings_input_dim=20 + 72),
        size=(9, 13), text=7, queries=2, timesteps=[501.0, 0.0, 250.0],
        boxes=[[[0.0, 0.1, 0.35, 1.0], [0.3, 0.3, 0.9, 0.77], [0.86, 0.0, 1.0, 0.2]],
               [[0.5, 0.5, 0.51, 0.52], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]],
        scales=[1.5, 0.0, 0.7],
    ),
}


def weight(name, shape):
    return torch.from_numpy(counter.fill(name, tuple(shape)))


def build(settings):
    unet = UNet2DConditionModel(**settings)
    unet.load_state_dict({k: weight(k, v.shape) for k, v in unet.state_dict().items()})
    return unet.double().eval()


def inputs_of(case):
    config, boxes = case["config"], torch.tensor(case["boxes"])
    (h, w), batch = case["size"], len(case["timesteps"])
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    make = lambda name, *shape: torch.from_numpy(counter.uniform(name, shape))
    return dict(
        sample=1.7 * make("sample", batch, 4, h, w), timestep=torch.tensor(case["timesteps"]),
        encoder_hidden_states=2 * make("encoder_hidden_states", batch, case["text"], config["cross_attention_dim"]),
        text_embeds=2 * make("text_embeds", batch, pooled),
        time_ids=torch.tensor([[512, 768, 0, 64, 1024, 512 + 128 * i] for i in range(batch)], dtype=torch.float32),
        ip_tokens=2 * make("ip_tokens", boxes.shape[0], boxes.shape[1] * case["queries"],
                           config["cross_attention_dim"]),
        boxes=boxes, subject_scales=torch.tensor(case["scales"]),
    )


def run(unet, i, states, **more):
    with torch.no_grad():
        return unet(i["sample"].double(), i["timestep"], states, added_cond_kwargs=dict(
            text_embeds=i["text_embeds"].double(), time_ids=i["time_ids"]), **more).sample


def adapter_pair(number, module):
    shape = (module.to_k.out_features, module.to_k.in_features)
    return [weight(f"ms_adapter.{number}.to_{which}_ip.weight", shape).double() for which in "kv"]


def by_reference(unet, case, i, checkout):
    _, Masked, Plain = reference_modules.load(checkout)
    crosses = {name: (number, module) for number, name, module in reference_modules.cross_attentions(unet)}
    processors = {}
    for name in unet.attn_processors:
        if name not in crosses:
            processors[name] = Plain()
            continue
        number, module = crosses[name]
        p = Masked(hidden_size=module.to_q.out_features, cross_attention_dim=module.to_k.in_features,
                   num_tokens=case["queries"], text_tokens=case["text"])
        key, value = adapter_pair(number, module)
        p.load_state_dict({"to_k_ip.weight": key, "to_v_ip.weight": value})
        processors[name] = p.double()
    unet.set_attn_processor(dict(processors))  # it empties its argument
    batch = i["sample"].shape[0]
    dummy = 3 * torch.from_numpy(counter.uniform("dummy_image_tokens", (batch, 4, i["ip_tokens"].shape[-1]))).double()
    states = torch.cat([i["encoder_hidden_states"].double(), dummy, i["ip_tokens"].double()], dim=1)
    kwargs = dict(boxes=i["boxes"], phrase_idxes=torch.zeros(i["boxes"].shape[:2] + (2,), dtype=torch.long))

    def forward(scale, subject_scales):
        for name in crosses:
            processors[name].scale, processors[name].subject_scales = scale, subject_scales
        return run(unet, i, states, cross_attention_kwargs=kwargs)

    return forward(0.6, None), forward(0.6, [float(s) for s in i["subject_scales"]])


def by_formula(unet, case, i):
    h, w = case["size"]
    grids = {}
    for _ in case["config"]["block_out_channels"]:
        grids[h * w] = (h, w)
        h, w = (h + 1) // 2, (w + 1) // 2
    state = dict(ip_tokens=i["ip_tokens"].double(), boxes=i["boxes"], grids=grids, scale=0.6, subject_scales=None)
    processors = dict(unet.attn_processors)
    for number, name, module in reference_modules.cross_attentions(unet):
        processors[name] = reference_modules.MultiSubjectProcessor(*adapter_pair(number, module), state)
    unet.set_attn_processor(dict(processors))  # it empties its argument
    text = i["encoder_hidden_states"].double()
    one = run(unet, i, text)
    state["subject_scales"] = i["subject_scales"]
    return one, run(unet, i, text)


def make(folder, name, checkout):
    case = CASES[name]
    unet = build(case["config"])
    i = inputs_of(case)
    plain = run(unet, i, i["encoder_hidden_states"].double())
    square = case["size"][0] == case["size"][1]
    formula, formula_scaled = by_formula(unet, case, i)
    adapted, scaled = by_reference(unet, case, i, checkout) if square else (formula, formula_scaled)
    size = lambda x: float(x.norm())
    print(f"unet_{name}: plain {size(plain):.4f}, the adapter moves it by {size(adapted - plain):.4f}, scales by "
          f"{size(scaled - adapted):.4f}; reference against formula {size(adapted - formula):.2e} "
          f"{size(scaled - formula_scaled):.2e}")
    tensors = dict(i, noise_pred=plain, noise_pred_adapter=adapted, noise_pred_scales=scaled)
    tensors = {k: numpy.ascontiguousarray(v.numpy(), dtype=numpy.float32) for k, v in tensors.items()}
    config = json.dumps(dict(case["config"], _queries=case["queries"]))
    save_file(tensors, f"{folder}/unet_{name}.safetensors", {"config": config})


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("folder")
    a.add_argument("--reference", required=True)
    args = a.parse_args()
    for name in CASES:
        make(args.folder, name, args.reference)
