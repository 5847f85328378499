"""The reference implementation's modules, imported from a checkout of it, and a processor of our own for grids that are
not square (the reference takes the square root of the number of queries for both sides)."""

import sys

import torch


def load(checkout):
    """(Resampler, MaskedIPAttnProcessor2_0, AttnProcessor2_0) of a checkout of MS-Diffusion."""
    import diffusers.pipelines.controlnet as controlnet
    from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel

    controlnet.MultiControlNetModel = MultiControlNetModel
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
    from msdiffusion.models.attention_processor import AttnProcessor2_0, MaskedIPAttnProcessor2_0
    from msdiffusion.models.projection import Resampler

    return Resampler, MaskedIPAttnProcessor2_0, AttnProcessor2_0


def cross_attentions(unet):
    """[(number, name, attention module)]: the number is the place in the list of attention processors."""
    return [(i, name, unet.get_submodule(name[: -len(".processor")]))
            for i, name in enumerate(unet.attn_processors) if name.endswith("attn2.processor")]


class MultiSubjectProcessor(torch.nn.Module):
    """Text attention plus scale * one softmax over the tokens of the subjects whose box covers the query; f64-exact
    and written from the formula. `state` holds ip_tokens (A,S*N,X), boxes (A,S,4), grids {h*w: (h,w)}, scale,
    subject_scales."""

    def __init__(self, key, value, state):
        super().__init__()
        self.key, self.value, self.state = key, value, state

    def covered(self, box, h, w):
        x0, y0, x1, y1 = [float(v) for v in torch.stack([box[0] * w, box[1] * h, box[2] * w, box[3] * h]).double()]
        inside = torch.zeros(h, w, dtype=torch.bool)
        for i in range(h):
            for j in range(w):
                inside[i, j] = int(torch.tensor(x0).floor()) <= j < int(torch.tensor(x1).ceil()) and \
                    int(torch.tensor(y0).floor()) <= i < int(torch.tensor(y1).ceil())
        return inside.flatten()

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
        heads = attn.heads
        split = lambda x: x.unflatten(-1, (heads, -1)).transpose(1, 2)
        q = split(attn.to_q(hidden_states))
        k, v = split(attn.to_k(encoder_hidden_states)), split(attn.to_v(encoder_hidden_states))
        scale = q.shape[-1] ** -0.5
        out = torch.softmax(q @ k.transpose(-1, -2) * scale, dim=-1) @ v
        s = self.state
        h, w = s["grids"][hidden_states.shape[1]]
        ip_k, ip_v = split(s["ip_tokens"] @ self.key.T), split(s["ip_tokens"] @ self.value.T)
        subjects = s["boxes"].shape[1]
        tokens = ip_k.shape[2] // subjects
        for a in range(s["boxes"].shape[0]):
            inside = torch.stack([self.covered(box, h, w) for box in s["boxes"][a]])  # (S, h*w)
            allowed = inside.T.repeat_interleave(tokens, dim=1)                      # (h*w, S*N)
            scores = (q[a] @ ip_k[a].transpose(-1, -2) * scale).masked_fill(~allowed, float("-inf"))
            weight = torch.nan_to_num(torch.softmax(scores, dim=-1), nan=0.0)        # rows without a subject
            each = s["subject_scales"] if s["subject_scales"] is not None else torch.full((subjects,), s["scale"]).to(q)
            weight = weight * each.to(q).repeat_interleave(tokens)
            out[a] = out[a] + weight @ ip_v[a]
        out = out.transpose(1, 2).flatten(2)
        return attn.to_out[0](out)
