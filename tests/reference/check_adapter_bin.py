"""Does PyTorch load what the C writer wrote?

    python check_adapter_bin.py ADAPTER.bin [ADAPTER.safetensors] [--reference MS-Diffusion-checkout]

Loads the .bin with weights_only True and False, compares it with the .safetensors to the bit, and, given a checkout of the
reference implementation, loads it strictly into its Resampler and a ModuleList of its attention processors.
The sizes come from the file; --counter also compares every value with the counter formula (tests/reference/counter.py).
"""

import argparse
import sys

import torch
from safetensors.torch import load_file

import counter

torch.set_num_threads(1)
parser = argparse.ArgumentParser()
parser.add_argument("bin")
parser.add_argument("safetensors", nargs="?")
parser.add_argument("--reference")
parser.add_argument("--counter", action="store_true")
options = parser.parse_args()

trusted = torch.load(options.bin, map_location="cpu", weights_only=False)
state = torch.load(options.bin, map_location="cpu", weights_only=True)
assert list(state) == ["image_proj", "ms_adapter", "dummy_image_tokens"], list(state)
flat = {f"{group}.{name}": t for group in ("image_proj", "ms_adapter") for name, t in state[group].items()}
flat["dummy_image_tokens"] = state["dummy_image_tokens"]
for name, t in flat.items():
    group, _, rest = name.partition(".")
    other = trusted[group][rest] if rest else trusted[group]
    assert torch.equal(t, other) and t.is_contiguous(), name
print(f"{len(flat)} tensors load with weights_only True and False, {sum(t.numel() for t in flat.values())} numbers")

if options.counter:
    for name, t in flat.items():
        assert torch.equal(t.float(), torch.from_numpy(counter.fill(name, tuple(t.shape))).to(t.dtype).float()), name
    print("every value is the counter formula's")

if options.safetensors:
    other = load_file(options.safetensors)
    assert sorted(other) == sorted(flat)
    for name, t in flat.items():
        assert t.dtype == other[name].dtype and t.shape == other[name].shape
        assert t.numpy(force=True).tobytes() == other[name].numpy(force=True).tobytes() if t.dtype != torch.bfloat16 else \
            torch.equal(t.view(torch.int16), other[name].view(torch.int16)), name
    print("the .safetensors holds the same bits")

if options.reference:
    import diffusers.pipelines.controlnet
    from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel

    diffusers.pipelines.controlnet.MultiControlNetModel = MultiControlNetModel
    sys.path.insert(0, options.reference)
    from msdiffusion.models.attention_processor import AttnProcessor2_0, MaskedIPAttnProcessor2_0
    from msdiffusion.models.projection import Resampler

    p = state["image_proj"]
    depth = 1 + max(int(name.split(".")[1]) for name in p if name.startswith("layers."))
    resampler = Resampler(
        dim=p["proj_in.weight"].shape[0], depth=depth, dim_head=64, heads=p["layers.0.0.to_q.weight"].shape[0] // 64,
        num_queries=p["grounding_latents"].shape[1], embedding_dim=p["proj_in.weight"].shape[1],
        output_dim=p["proj_out.weight"].shape[0],
        ff_mult=p["layers.0.1.1.weight"].shape[0] / p["proj_in.weight"].shape[0], latent_init_mode="grounding",
        phrase_embeddings_dim=p["latent_proj.0.weight"].shape[1] - 64,
    )
    resampler.load_state_dict(p, strict=True)
    pairs = {int(name.split(".")[0]): t.shape for name, t in state["ms_adapter"].items()}
    modules = torch.nn.ModuleList(
        MaskedIPAttnProcessor2_0(hidden_size=pairs[i][0], cross_attention_dim=pairs[i][1]) if i in pairs else AttnProcessor2_0()
        for i in range(max(pairs) + 1)
    )
    modules.load_state_dict(state["ms_adapter"], strict=True)
    assert list(resampler.state_dict()) == list(p), "order"
    assert list(modules.state_dict()) == list(state["ms_adapter"]), "order"
    print("loads strictly into the reference's Resampler and ModuleList, in its order")
