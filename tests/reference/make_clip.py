"""Makes clip_text_*.safetensors and clip_vision_*.safetensors: inputs and outputs of transformers' CLIP encoders.

    python make_clip.py GOLDENS_FOLDER

Weights are the counter formula's under the names of the files, so that they are not stored; config.json is in the
metadata. Computed in f64, stored as f32: what is measured against it is the error of the other side alone.
"""

import json
import sys

import numpy
import torch
from safetensors.numpy import save_file
from transformers import (CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionConfig,
                          CLIPVisionModelWithProjection)

import counter

torch.set_num_threads(1)

TEXT = {
    # encoder 1's form: quick_gelu, no projection, pooling at the largest id
    "a": dict(hidden_size=48, num_attention_heads=3, num_hidden_layers=3, intermediate_size=112, vocab_size=99,
              max_position_embeddings=77, hidden_act="quick_gelu", eos_token_id=2, projection_dim=48),
    # encoder 2's form: gelu, projection, pooling at the first end-of-text; odd heads, another eps, few positions
    "b": dict(hidden_size=40, num_attention_heads=5, num_hidden_layers=2, intermediate_size=90, vocab_size=120,
              max_position_embeddings=20, hidden_act="gelu", eos_token_id=119, projection_dim=24, layer_norm_eps=1e-3),
    # one layer: the penultimate hidden state is the embedding itself
    "c": dict(hidden_size=24, num_attention_heads=1, num_hidden_layers=1, intermediate_size=24, vocab_size=17,
              max_position_embeddings=9, hidden_act="gelu", eos_token_id=2, projection_dim=5),
}
IDS = {
    "a": [[97] + list(range(40, 60)) + [98] + [98] * 55, [97, 3, 96, 12] + [98] + [0] * 72],
    "b": [[118, 5, 6, 119, 7, 119, 0, 0, 0, 0, 0, 0, 0], [118, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
          [119] + [118] * 12],
    "c": [[16, 1, 15, 2, 14, 2, 1, 0, 0]],
}
VISION = {
    "a": dict(hidden_size=56, num_attention_heads=7, num_hidden_layers=3, intermediate_size=75, image_size=28,
              patch_size=7, hidden_act="gelu", projection_dim=24),
    # bigG's heads of 104; an image side that the patches do not divide
    "b": dict(hidden_size=208, num_attention_heads=2, num_hidden_layers=2, intermediate_size=100, image_size=30,
              patch_size=8, hidden_act="quick_gelu", projection_dim=10, layer_norm_eps=1e-3),
}
PIXELS = {"a": (2, 3, 28, 28), "b": (3, 3, 30, 30)}


def load_counter(model, prefix=""):
    state = {k: torch.from_numpy(counter.fill(prefix + k, tuple(v.shape))) for k, v in model.state_dict().items()}
    model.load_state_dict(state, strict=True)
    return model.double().eval()


def save(path, config, tensors):
    tensors = {k: v.numpy().astype(numpy.float32) if torch.is_tensor(v) else v for k, v in tensors.items()}
    save_file({k: numpy.ascontiguousarray(v) for k, v in tensors.items()}, path, {"config": json.dumps(config)})


def make_text(folder, case):
    config, ids = TEXT[case], numpy.array(IDS[case], dtype=numpy.int32)
    projects = case != "a"
    model = (CLIPTextModelWithProjection if projects else CLIPTextModel)(CLIPTextConfig(**config))
    load_counter(model, "" if any(k.startswith("text_model.") for k in model.state_dict()) else "text_model.")
    with torch.no_grad():
        out = model(torch.from_numpy(ids).long(), output_hidden_states=True)
        pooled = model.text_model(torch.from_numpy(ids).long()).pooler_output if projects else out.pooler_output
    tensors = dict(input_ids=ids, hidden_states_penultimate=out.hidden_states[-2],
                   last_hidden_state=out.last_hidden_state, pooler_output=pooled)
    if projects:
        tensors["text_embeds"] = out.text_embeds
    save(f"{folder}/clip_text_{case}.safetensors", config, tensors)


def make_vision(folder, case):
    config = VISION[case]
    model = load_counter(CLIPVisionModelWithProjection(CLIPVisionConfig(**config)))
    pixels = 2 * counter.uniform("pixel_values", PIXELS[case])
    with torch.no_grad():
        out = model(torch.from_numpy(pixels).double(), output_hidden_states=True)
    save(f"{folder}/clip_vision_{case}.safetensors", config,
         dict(pixel_values=pixels, hidden_states_penultimate=out.hidden_states[-2], image_embeds=out.image_embeds))


if __name__ == "__main__":
    for case in TEXT:
        make_text(sys.argv[1], case)
    for case in VISION:
        make_vision(sys.argv[1], case)
