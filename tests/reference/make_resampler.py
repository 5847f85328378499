"""Makes resampler_*.safetensors with the reference implementation's Resampler.

    python make_resampler.py GOLDENS_FOLDER --reference MS-DIFFUSION-CHECKOUT

Weights are the counter formula's under the names of an adapter file (image_proj....), so that they are not stored.
Computed in f64 but for the reference's softmax, which is f32.
"""

import argparse
import json

import numpy
import torch
from safetensors.numpy import save_file

import counter
import reference_modules

torch.set_num_threads(1)

CASES = {
    # heads x 64 larger than dim; samples of two subjects, one of them without grounding
    "a": dict(sizes=dict(dim=80, depth=2, heads=3, num_queries=5, embedding_dim=48, output_dim=64, ff_mult=4,
                         phrase_embeddings_dim=24), length=17, drop=[0, 1, 0], subjects=2),
    # one head, wide feed-forward, one query, nothing dropped
    "b": dict(sizes=dict(dim=72, depth=3, heads=1, num_queries=1, embedding_dim=30, output_dim=40, ff_mult=2,
                         phrase_embeddings_dim=7), length=4, drop=[0, 0], subjects=1),
}


def make(folder, name, Resampler):
    case = CASES[name]
    module = Resampler(dim_head=64, latent_init_mode="grounding", fourier_freqs=8, **case["sizes"])
    module.load_state_dict({k: torch.from_numpy(counter.fill("image_proj." + k, tuple(v.shape)))
                            for k, v in module.state_dict().items()}, strict=True)
    module = module.double().eval()
    rows = len(case["drop"]) * case["subjects"]
    make_input = lambda key, *shape: torch.from_numpy(counter.uniform(key, shape))
    inputs = dict(image_hidden=2 * make_input("image_hidden", rows, case["length"], case["sizes"]["embedding_dim"]),
                  phrase_embeds=2 * make_input("phrase_embeds", rows, case["sizes"]["phrase_embeddings_dim"]),
                  boxes=0.5 + 0.5 * make_input("boxes", rows, 4))
    with torch.no_grad():
        out = module(inputs["image_hidden"].double(), grounding_kwargs=dict(
            boxes=inputs["boxes"].double(), phrase_embeds=inputs["phrase_embeds"].double(),
            drop_grounding_tokens=case["drop"]))
    dropped = [d for d in case["drop"] for _ in range(case["subjects"])]
    inputs["drop_grounding_tokens"] = torch.tensor(dropped, dtype=torch.int32)
    tensors = {k: numpy.ascontiguousarray(v.numpy()) for k, v in inputs.items()}
    tensors["image_prompt_embeds"] = out.float().numpy()
    save_file(tensors, f"{folder}/resampler_{name}.safetensors", {"config": json.dumps(case["sizes"])})
    print(f"resampler_{name}: {tuple(out.shape)}, norm {float(out.norm()):.4f}")


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("folder")
    a.add_argument("--reference", required=True)
    args = a.parse_args()
    Resampler = reference_modules.load(args.reference)[0]
    for name in CASES:
        make(args.folder, name, Resampler)
