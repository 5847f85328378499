"""SDXL's UNet and VAE decoder in plain PyTorch, for machines that have torch and nothing else: the arithmetic and the names
of weights of diffusers' UNet2DConditionModel and AutoencoderKL, attention by scaled_dot_product_attention. `check` holds
both against diffusers where that is installed:

    python tests/bench/sdxl_torch.py check --model tiny      # a folder of `msd synth`

A cross-attention may have a second pair of projections for subjects' tokens (SubjectAttention), masked by their boxes.
"""
import argparse
import json
import math
import mmap
import os
import struct

import torch
import torch.nn.functional as F
from torch import nn


def split(t, heads):
    return t.unflatten(-1, (heads, -1)).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, width, context, heads, bias=False):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=bias)
        self.to_k = nn.Linear(context, width, bias=bias)
        self.to_v = nn.Linear(context, width, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.subjects = None  # a SubjectAttention

    def forward(self, x, context):
        q = split(self.to_q(x), self.heads)
        y = F.scaled_dot_product_attention(q, split(self.to_k(context), self.heads), split(self.to_v(context), self.heads))
        if self.subjects is not None:
            y = y + self.subjects(q)
        return self.to_out[0](y.transpose(1, 2).flatten(2))


class SubjectAttention(nn.Module):
    """Attention to the subjects' tokens: four dummy tokens for places that no box covers, then 16 for each subject."""

    def __init__(self, attention, shared, scale):
        super().__init__()
        sizes = attention.to_k.in_features, attention.to_k.out_features
        self.k, self.v = nn.Linear(*sizes, bias=False), nn.Linear(*sizes, bias=False)
        self.shared, self.scale, self.heads = shared, scale, attention.heads

    def forward(self, q):
        tokens = self.shared["tokens"]  # (A, tokens, width): the last A samples have subjects
        mine = q[-tokens.shape[0]:]
        y = F.scaled_dot_product_attention(mine, split(self.k(tokens), self.heads), split(self.v(tokens), self.heads),
                                           attn_mask=self.shared["masks"][q.shape[2]])
        y = self.scale * y
        return y if mine.shape[0] == q.shape[0] else torch.cat([torch.zeros_like(q[:-tokens.shape[0]]), y])


def box_mask(boxes, places, tokens_each, like):
    """(1, 1, places, 4 + tokens_each * subjects) of 0 and -inf."""
    side = math.isqrt(places)
    at = (torch.arange(side) + 0.5) / side
    inside = [((at >= y0) & (at < y1))[:, None] & ((at >= x0) & (at < x1))[None] for x0, y0, x1, y1 in boxes]
    columns = torch.stack([~torch.stack(inside).any(0)] + inside).flatten(1).T
    keep = columns.repeat_interleave(torch.tensor([4] + [tokens_each] * len(boxes)), dim=1)
    return torch.zeros(keep.shape).masked_fill(~keep, float("-inf"))[None, None].to(like)


class Block(nn.Module):
    def __init__(self, width, heads, context):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attn1, self.attn2 = Attention(width, width, heads), Attention(width, context, heads)
        first = nn.Module()
        first.proj = nn.Linear(width, 8 * width)
        self.ff = nn.Module()
        self.ff.net = nn.ModuleList([first, nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x, context):
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        x = x + self.attn2(self.norm2(x), context)
        a, b = self.ff.net[0].proj(self.norm3(x)).chunk(2, -1)
        return x + self.ff.net[2](a * F.gelu(b))


class Transformer(nn.Module):
    def __init__(self, width, heads, depth, context, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.proj_in, self.proj_out = nn.Linear(width, width), nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList(Block(width, heads, context) for _ in range(depth))

    def forward(self, x, context):
        y = self.proj_in(self.norm(x).permute(0, 2, 3, 1).flatten(1, 2))
        for block in self.transformer_blocks:
            y = block(y, context)
        return x + self.proj_out(y).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


class Resnet(nn.Module):
    def __init__(self, a, b, time, groups, eps):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, a, eps=eps), nn.GroupNorm(groups, b, eps=eps)
        self.conv1, self.conv2 = nn.Conv2d(a, b, 3, padding=1), nn.Conv2d(b, b, 3, padding=1)
        self.time_emb_proj = nn.Linear(time, b) if time else None
        self.conv_shortcut = nn.Conv2d(a, b, 1) if a != b else None

    def forward(self, x, time=None):
        y = self.conv1(F.silu(self.norm1(x)))
        if self.time_emb_proj is not None:
            y = y + self.time_emb_proj(F.silu(time))[:, :, None, None]
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (x if self.conv_shortcut is None else self.conv_shortcut(x))


def sampler(width, stride):
    m = nn.Module()
    m.conv = nn.Conv2d(width, width, 3, stride=stride, padding=1)
    return nn.ModuleList([m])


class Level(nn.Module):
    """Resnets, each with a transformer where depth is not 0."""

    def __init__(self, pairs, depth, heads, c, stride=None):
        super().__init__()
        groups, context, width = c["norm_num_groups"], c["cross_attention_dim"], pairs[0][1]
        self.resnets = nn.ModuleList(Resnet(a, b, 4 * c["block_out_channels"][0], groups, 1e-5) for a, b in pairs)
        if depth:
            self.attentions = nn.ModuleList(Transformer(width, heads, depth, context, groups) for _ in pairs)
        if stride == 2:
            self.downsamplers = sampler(width, 2)
        elif stride == 1:
            self.upsamplers = sampler(width, 1)

    def step(self, i, x, time, context):
        x = self.resnets[i](x, time)
        return self.attentions[i](x, context) if hasattr(self, "attentions") else x


def sinusoids(values, width):
    angle = values.float()[..., None] * torch.exp(-math.log(10000.0) * torch.arange(width // 2, device=values.device) / (width // 2))
    return torch.cat([angle.cos(), angle.sin()], -1)


def embedding(a, b):
    m = nn.Module()
    m.linear_1, m.linear_2 = nn.Linear(a, b), nn.Linear(b, b)
    return m


class UNet(nn.Module):
    def __init__(self, config):
        super().__init__()
        c, w = config, config["block_out_channels"]
        heads, depth, layers = c["attention_head_dim"], c["transformer_layers_per_block"], c["layers_per_block"]
        kind = [t.startswith("CrossAttn") for t in c["down_block_types"]]
        depth = [d if k else 0 for d, k in zip(depth, kind)]
        self.config, self.layers = c, layers
        self.conv_in = nn.Conv2d(c["in_channels"], w[0], 3, padding=1)
        self.time_embedding = embedding(w[0], 4 * w[0])
        self.add_embedding = embedding(c["projection_class_embeddings_input_dim"], 4 * w[0])
        last = len(w) - 1
        self.down_blocks = nn.ModuleList()
        for i in range(len(w)):
            pairs = [(w[max(i - 1, 0)] if j == 0 else w[i], w[i]) for j in range(layers)]
            self.down_blocks.append(Level(pairs, depth[i], heads[i], c, 2 if i < last else None))
        self.mid_block = Level([(w[-1], w[-1])] * 2, 0, 0, c)
        self.mid_block.attentions = nn.ModuleList([Transformer(w[-1], heads[-1], c["transformer_layers_per_block"][-1],
                                                               c["cross_attention_dim"], c["norm_num_groups"])])
        skips = [w[0]] + [k for i in range(len(w)) for k in [w[i]] * (layers + (i < last))]
        self.up_blocks = nn.ModuleList()
        x = w[-1]
        for i in reversed(range(len(w))):
            pairs = []
            for _ in range(layers + 1):
                pairs.append((x + skips.pop(), w[i]))
                x = w[i]
            self.up_blocks.append(Level(pairs, depth[i], heads[i], c, 1 if i else None))
        self.conv_norm_out = nn.GroupNorm(c["norm_num_groups"], w[0], eps=1e-5)
        self.conv_out = nn.Conv2d(w[0], c["out_channels"], 3, padding=1)

    def embed(self, timestep, pooled, time_ids):
        dtype, c = self.conv_in.weight.dtype, self.config
        two = lambda m, x: m.linear_2(F.silu(m.linear_1(x)))
        ids = sinusoids(time_ids.flatten(), c["addition_time_embed_dim"]).reshape(pooled.shape[0], -1).to(dtype)
        return (two(self.time_embedding, sinusoids(timestep.expand(pooled.shape[0]), c["block_out_channels"][0]).to(dtype)) +
                two(self.add_embedding, torch.cat([pooled, ids], -1)))

    def forward(self, sample, timestep, context, pooled, time_ids):
        time = self.embed(timestep, pooled, time_ids)
        x = self.conv_in(sample)
        skips = [x]
        for level in self.down_blocks:
            for i in range(len(level.resnets)):
                x = level.step(i, x, time, context)
                skips.append(x)
            if hasattr(level, "downsamplers"):
                x = level.downsamplers[0].conv(x)
                skips.append(x)
        x = self.mid_block.resnets[1](self.mid_block.attentions[0](self.mid_block.resnets[0](x, time), context), time)
        for level in self.up_blocks:
            for i in range(len(level.resnets)):
                x = level.step(i, torch.cat([x, skips.pop()], 1), time, context)
            if hasattr(level, "upsamplers"):
                x = level.upsamplers[0].conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.conv_norm_out(x)))

    def add_subjects(self, boxes, scale, tokens_each=16, places=()):
        """Gives every cross-attention its second pair. shared["tokens"] is set before each call."""
        shared = {"tokens": None, "masks": {}}
        like = self.conv_in.weight
        for p in places:
            shared["masks"][p] = box_mask(boxes, p, tokens_each, like)
        for module in list(self.modules()):
            if isinstance(module, Block):
                module.attn2.subjects = SubjectAttention(module.attn2, shared, scale).to(like)
        return shared


class Decoder(nn.Module):
    """Latents, divided by the scaling factor, to a picture in -1..1."""

    def __init__(self, config):
        super().__init__()
        w, groups, layers = config["block_out_channels"], config["norm_num_groups"], config["layers_per_block"]
        resnet = lambda a, b: Resnet(a, b, 0, groups, 1e-6)
        self.config = config
        self.post_quant_conv = nn.Conv2d(config["latent_channels"], config["latent_channels"], 1)
        d = self.decoder = nn.Module()
        d.conv_in = nn.Conv2d(config["latent_channels"], w[-1], 3, padding=1)
        d.mid_block = nn.Module()
        d.mid_block.resnets = nn.ModuleList([resnet(w[-1], w[-1]) for _ in range(2)])
        attention = Attention(w[-1], w[-1], 1, bias=True)
        attention.group_norm = nn.GroupNorm(groups, w[-1], eps=1e-6)
        d.mid_block.attentions = nn.ModuleList([attention])
        d.up_blocks = nn.ModuleList()
        x = w[-1]
        for i, width in enumerate(reversed(w)):
            level = nn.Module()
            level.resnets = nn.ModuleList([resnet(x if j == 0 else width, width) for j in range(layers + 1)])
            if i < len(w) - 1:
                level.upsamplers = sampler(width, 1)
            d.up_blocks.append(level)
            x = width
        d.conv_norm_out = nn.GroupNorm(groups, w[0], eps=1e-6)
        d.conv_out = nn.Conv2d(w[0], config["out_channels"], 3, padding=1)

    def forward(self, latent):
        d = self.decoder
        x = d.mid_block.resnets[0](d.conv_in(self.post_quant_conv(latent)))
        attention = d.mid_block.attentions[0]
        y = attention.group_norm(x).flatten(2).transpose(1, 2)
        x = x + attention(y, y).transpose(1, 2).unflatten(2, x.shape[2:])
        x = d.mid_block.resnets[1](x)
        for level in d.up_blocks:
            for resnet in level.resnets:
                x = resnet(x)
            if hasattr(level, "upsamplers"):
                x = level.upsamplers[0].conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return d.conv_out(F.silu(d.conv_norm_out(x)))


SDXL_UNET = dict(in_channels=4, out_channels=4, block_out_channels=[320, 640, 1280], attention_head_dim=[5, 10, 20],
                 transformer_layers_per_block=[1, 2, 10], layers_per_block=2, norm_num_groups=32, cross_attention_dim=2048,
                 projection_class_embeddings_input_dim=2816, addition_time_embed_dim=256, sample_size=128,
                 down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"])
SDXL_VAE = dict(block_out_channels=[128, 256, 512, 512], norm_num_groups=32, layers_per_block=2, latent_channels=4, out_channels=3,
                scaling_factor=0.13025)


def read_config(model, part):
    with open(os.path.join(model, part, "config.json")) as f:
        return json.load(f)


def make(kind, config, dtype, device):
    """Of that type there at once, with random weights of a size that keeps activations in bounds."""
    with torch.device("meta"):
        module = kind(config)
    module.to_empty(device=device)
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim == 1:
                p.fill_(0.0)
            else:
                p.normal_(std=1.0 / math.sqrt(p[0].numel()))
        for m in module.modules():
            if isinstance(m, (nn.GroupNorm, nn.LayerNorm)):
                m.weight.fill_(1.0)
    return module.to(dtype).eval().requires_grad_(False).to(memory_format=torch.channels_last)


TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I32": torch.int32, "I64": torch.int64}


def read_tensors(path):
    """Its tensors, which share the file's pages."""
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        pages = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)
    header.pop("__metadata__", None)
    return {name: torch.frombuffer(pages, dtype=TYPES[t["dtype"]], offset=8 + size + t["data_offsets"][0],
                                   count=math.prod(t["shape"])).reshape(t["shape"]) for name, t in header.items() if 0 not in t["shape"]}


def write_tensors(path, tensors):
    """A safetensors file of f32 tensors on the CPU."""
    header, at = {}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + 4 * t.numel()]}
        at += 4 * t.numel()
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            f.write(bytes(t.float().contiguous().flatten().view(torch.uint8).untyped_storage()))


def load(kind, model, part, dtype, device):
    """The weights of a folder as diffusers saves it, in one file or several."""
    folder = os.path.join(model, part)
    module = make(kind, read_config(model, part), dtype, device)
    wanted, found = module.state_dict(), set()
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            for key, value in read_tensors(os.path.join(folder, name)).items():
                if key in wanted:
                    wanted[key].copy_(value)
                    found.add(key)
    missing = set(wanted) - found
    if missing:
        raise SystemExit(f"{folder}: {len(missing)} weights are missing, {sorted(missing)[0]} for one")
    return module


@torch.inference_mode()
def check(a):
    from diffusers import AutoencoderKL, UNet2DConditionModel
    torch.manual_seed(0)
    unet, c = load(UNet, a.model, "unet", torch.float32, "cpu"), read_config(a.model, "unet")
    side, pooled = c["sample_size"], c["projection_class_embeddings_input_dim"] - 6 * c["addition_time_embed_dim"]
    given = (torch.randn(2, 4, side, side), torch.tensor(500.0), torch.randn(2, 77, c["cross_attention_dim"]))
    extra = {"text_embeds": torch.randn(2, pooled), "time_ids": torch.rand(2, 6) * 1000}
    theirs = UNet2DConditionModel.from_pretrained(a.model, subfolder="unet", torch_dtype=torch.float32).eval()
    x, y = unet(*given, extra["text_embeds"], extra["time_ids"]), theirs(*given, added_cond_kwargs=extra).sample
    unet_apart = ((x - y).norm() / y.norm()).item()
    vae = load(Decoder, a.model, "vae", torch.float32, "cpu")
    theirs = AutoencoderKL.from_pretrained(a.model, subfolder="vae", torch_dtype=torch.float32).eval()
    x, y = vae(given[0]), theirs.decode(given[0]).sample
    vae_apart = ((x - y).norm() / y.norm()).item()
    print(f"against diffusers: UNet {unet_apart:.2e}, VAE decoder {vae_apart:.2e}")
    raise SystemExit(not (unet_apart < 1e-5 and vae_apart < 1e-5))


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["check"])
    p.add_argument("--model", required=True)
    check(p.parse_args())
