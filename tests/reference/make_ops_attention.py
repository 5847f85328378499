"""Makes ops_attention.safetensors: forward and gradients, in f64, of attention, embeddings, views and loss.

    python make_ops_attention.py GOLDENS_FOLDER --reference MS-DIFFUSION-CHECKOUT

Input i of a case is counter.uniform("CASE.i") and the gradient of its output counter.uniform("CASE.dy"), so that
neither is stored; what is stored is CASE.y, CASE.grad<i> of every float input, and CASE.<i> of the inputs that are
given (ids, boxes).
tests/autograd/cases_attention.c has a row of the same name for each case.
"""

import argparse
import math

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import get_timestep_embedding
from safetensors.numpy import save_file

import counter
import reference_modules

torch.set_num_threads(1)
tensors = {}


def store(name, value):
    tensors[name] = value.contiguous().numpy()


def case(name, inputs, op):
    """inputs: a shape (from the counter, differentiable), a tensor (stored, constant) or None."""
    values = []
    for i, given in enumerate(inputs):
        if given is None:
            values.append(None)
        elif isinstance(given, torch.Tensor):
            store(f"{name}.{i}", given)
            values.append(given)
        else:
            values.append(torch.from_numpy(counter.uniform(f"{name}.{i}", given)).double().requires_grad_())
    y = op(*values)
    stored = y.detach()
    store(f"{name}.y", stored.float() if stored.is_floating_point() else stored)
    leaves = [(i, x) for i, x in enumerate(values) if x is not None and x.requires_grad]
    if leaves:
        dy = torch.from_numpy(counter.uniform(f"{name}.dy", tuple(y.shape))).double()
        for (i, _), g in zip(leaves, torch.autograd.grad(y, [x for _, x in leaves], dy)):
            store(f"{name}.grad{i}", g.float())
    print(f"{name}: {tuple(y.shape)}")


# ---- attention: (B,T,H,D) as in the C code; scales so large that the softmax is far from flat, and exact in f32 ----


def attention(scale, causal=False):
    def op(q, k, v):
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=causal,
                                           scale=scale)
        return y.transpose(1, 2)
    return op


def attention_cases():
    for name, b, t, s, h, d, scale in [
            ("d8", 2, 70, 33, 3, 8, 1.5), ("d40", 1, 65, 77, 1, 40, 0.625), ("tiles", 1, 130, 300, 1, 16, 1.0),
            ("d64", 1, 20, 257, 1, 64, 0.5), ("d80", 1, 9, 77, 3, 80, 0.4375), ("d512", 1, 14, 21, 1, 512, 0.1875),
            ("one", 1, 1, 2, 1, 8, 1.5), ("d9", 3, 5, 6, 7, 9, 1.25)]:
        case(f"attention_{name}", [(b, t, h, d), (b, s, h, d), (b, s, h, d)], attention(scale))
    for name, b, t, s, h, d in [("clip", 1, 77, 77, 3, 8), ("tiles", 1, 300, 300, 1, 8), ("more_keys", 2, 5, 9, 1, 8),
                                ("more_queries", 1, 70, 6, 1, 8), ("unseen_tile", 1, 3, 260, 1, 8)]:
        case(f"causal_{name}", [(b, t, h, d), (b, s, h, d), (b, s, h, d)], attention(1.5, causal=True))
    # q, k, v as views of one projection (B,T,3C), which gets one gradient
    packed = lambda x: attention(1.5)(*[part.unflatten(-1, (3, 8)) for part in x.chunk(3, dim=-1)])
    case("attention_packed", [(2, 11, 72)], packed)


# ---- layout and multi-subject attention ----


def covered(boxes, h, w):
    """u8 (B,S,h*w) from f32 boxes: products in f32, whole columns and rows."""
    edge = lambda i, n: boxes[..., i] * n  # f32
    x, y = torch.arange(w), torch.arange(h)
    inside = lambda at, low, high: (at >= torch.floor(low)[..., None]) & (at < torch.ceil(high)[..., None])
    columns, rows = inside(x, edge(0, w), edge(2, w)), inside(y, edge(1, h), edge(3, h))
    return (rows[..., :, None] & columns[..., None, :]).flatten(2).to(torch.uint8)


def reference_processor(Processor, boxes, heads, size, tokens, subject_scales, scale=0.6):
    """MaskedIPAttnProcessor2_0 with q, k, v given instead of projected: identity for q and the output, halves of a
    token for k and v; its text has one token of zeros, whose attention is zero."""
    inner = heads * size
    attn = Attention(query_dim=inner, cross_attention_dim=2 * inner, heads=heads, dim_head=size, out_bias=False)
    attn = attn.double()
    processor = Processor(inner, 2 * inner, scale=scale, num_tokens=tokens, text_tokens=1,
                          subject_scales=None if subject_scales is None else subject_scales.tolist()).double()
    one, none = torch.eye(inner).double(), torch.zeros(inner, inner).double()
    with torch.no_grad():
        attn.to_q.weight.copy_(one)
        attn.to_out[0].weight.copy_(one)
        processor.to_k_ip.weight.copy_(torch.cat([one, none], dim=1))
        processor.to_v_ip.weight.copy_(torch.cat([none, one], dim=1))

    def op(base, q, k, v):
        b = q.shape[0]
        dummy = torch.from_numpy(counter.uniform("dummy", (b, processor.num_dummy_tokens, 2 * inner))).double()
        image = torch.cat([k.flatten(2), v.flatten(2)], dim=-1)
        states = torch.cat([torch.zeros(b, 1, 2 * inner).double(), dummy, image], dim=1)
        return base + processor(attn, q.flatten(2), states, boxes=boxes).unflatten(-1, (heads, size))
    return op


def formula(boxes, h, w, subject_scales, scale=0.6):
    """The same from the formula, for any grid, and for k and v of fewer samples than q."""
    def op(base, q, k, v):
        samples, subjects = boxes.shape[:2]
        tokens = k.shape[1] // subjects
        each = torch.full((subjects,), scale) if subject_scales is None else subject_scales
        each = each.double().repeat_interleave(tokens)
        allowed = covered(boxes, h, w).bool().repeat_interleave(tokens, dim=1).transpose(1, 2)[:, None]  # (A,1,T,S*N)
        score = torch.einsum("bthd,bshd->bhts", q[:samples], k) / math.sqrt(q.shape[-1])
        weight = torch.exp(score - score.amax(-1, keepdim=True)) * allowed
        weight = weight / torch.where(allowed.any(-1, keepdim=True), weight.sum(-1, keepdim=True), 1.0) * each
        image = torch.einsum("bhts,bshd->bthd", weight, v)
        image = torch.cat([image, torch.zeros_like(q[samples:])])
        return image if base is None else base + image
    return op


OVERLAPPING = [[0.0, 0.0, 0.6, 0.6], [0.4, 0.3, 1.0, 0.9]]
ALONE = [[0.3, 0.1, 0.55, 0.35], [0.0, 0.0, 0.0, 0.0]]
LARGE = [[0.0, 0.0, 1.0, 0.93], [0.5, 0.5, 0.7, 0.7], [0.0, 0.0, 0.0, 0.0]]
ODD = [[0.7, 0.2, 1.0, 0.8], [0.05, 0.4, 0.75, 1.2], [0.9, 0.0, 1.3, 0.21]]
NOTHING = [[0.0, 0.0, 0.0, 0.0]] * 3


def subjects_cases(Processor):
    f32 = lambda *rows: torch.tensor(list(rows), dtype=torch.float32)

    def add(name, boxes, op, scales, b, t, n, h, d, base=True):
        a, s = boxes.shape[:2]
        like_q, like_k = (b, t, h, d), (a, s * n, h, d)
        case(name, [like_q if base else None, like_q, like_k, like_k, boxes, scales], lambda *x: op(*x[:4]))

    boxes = f32(OVERLAPPING, ALONE)
    add("subjects_reference", boxes, reference_processor(Processor, boxes, 3, 8, 4, None), None, 2, 49, 4, 3, 8)
    boxes, scales = f32(LARGE), f32(0.3, 1.5, 0.7)
    add("subjects_scales", boxes, reference_processor(Processor, boxes, 1, 40, 2, scales), scales, 1, 100, 2, 1, 40)
    boxes = f32(ODD, NOTHING)
    add("subjects_wide", boxes, formula(boxes, 6, 11, None), None, 3, 66, 3, 2, 8)
    boxes, scales = f32(ODD), f32(1.2, 0.0, 0.5)
    add("subjects_tall", boxes, formula(boxes, 13, 5, scales), scales, 2, 65, 16, 1, 8)
    boxes = f32([[0.1, 0.1, 0.9, 0.9]])
    add("subjects_no_base", boxes, formula(boxes, 4, 4, None), None, 1, 16, 5, 5, 6, base=False)


def box_mask_cases(Processor):
    # 0.7*10 is 7 in f32 and less in f64; thirds and tenths on grids that they divide; edges outside; NaN
    edges = torch.tensor([[[0.7, 0.3, 0.9, 0.6], [0.1, 0.2, 0.3, 0.4], [1 / 3, 2 / 3, 2 / 3, 1.0]],
                          [[0.0, 0.0, 1.0, 1.0], [-0.2, 0.5, 0.5, 1.7], [float("nan"), 0.0, 1.0, 1.0]],
                          [[0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5], [0.8, 0.1, 0.2, 0.9]]], dtype=torch.float32)
    many = torch.from_numpy(counter.uniform("boxes", (3, 3, 4))).abs()
    for name, boxes in [("edges", edges), ("many", many)]:
        for h, w in [(10, 10), (9, 30)]:
            mask = covered(boxes, h, w)
            if h == w:
                processor = Processor(8, 8, num_tokens=1)
                image = processor.prepare_attention_mask_qk(boxes, None, h * w, 1, 3, 1, torch.float32, "cpu")[0]
                image = image[:, :, processor.num_dummy_tokens:] == 0
                assert torch.equal(image.transpose(1, 2).to(torch.uint8), mask)
            case(f"box_mask_{name}_{h}x{w}", [boxes], lambda _: mask)


# ---- embeddings ----


def embedding_cases(FourierEmbedder):
    ids = torch.tensor([[3, 0, 3], [6, 3, 1]], dtype=torch.int32)
    case("embedding", [(7, 70), ids], lambda table, i: table[i.long()])
    case("embedding_row", [(3, 5), torch.tensor([2], dtype=torch.int32)], lambda table, i: table[i.long()])
    for name, dim, t in [("unet", 320, [0, 1, 37, 500, 999]), ("ids", 256, [0, 512, 1024, 333]), ("two", 2, [7.5])]:
        t = torch.tensor(t, dtype=torch.float32)
        op = lambda t: get_timestep_embedding(t, dim, flip_sin_to_cos=True, downscale_freq_shift=0)
        case(f"time_{name}", [t], op)
    for freqs in (8, 3):
        boxes = torch.from_numpy(counter.uniform("boxes", (6, 4))).abs()
        case(f"box_{freqs}", [boxes], lambda b: FourierEmbedder(num_freqs=freqs)(b))


# ---- views, copies, selection, upsampling, loss ----


def other_cases():
    case("concat_last", [(2, 3, 4), (2, 3, 5)], lambda a, b: torch.cat([a, b], dim=2))
    case("concat_first", [(2, 3), (1, 3)], lambda a, b: torch.cat([a, b], dim=0))
    case("concat_middle", [(2, 3, 2, 2), (2, 4, 2, 2)], lambda a, b: torch.cat([a, b], dim=1))
    case("concat_same", [(2, 3)], lambda a: torch.cat([a, a], dim=1))
    pick = torch.tensor([1, 0, 5, 0], dtype=torch.int32)
    case("select_one_row", [pick, (1, 3, 5), (4, 3, 5)], lambda p, a, b: torch.where((p != 0)[:, None, None], a, b))
    case("select_rows", [pick, (4, 6), (4, 6)], lambda p, a, b: torch.where((p != 0)[:, None], a, b))
    for h, w in [(6, 10), (5, 9), (7, 13), (2, 5)]:
        up = lambda x: F.interpolate(x.permute(0, 3, 1, 2), size=(h, w), mode="nearest").permute(0, 2, 3, 1)
        case(f"upsample_{h}x{w}", [(2, 3, 5, 4)], up)
    case("reshape", [(2, 3, 4)], lambda x: x.reshape(6, 1, 4))
    case("reshape_view", [(2, 3, 8)], lambda x: x[:, :, 2:6].reshape(2, 3, 2, 2))
    case("reshape_twice", [(4, 3)], lambda x: x.reshape(12) * 1 + x.reshape(12))
    case("slice_first", [(5, 3)], lambda x: x[1:3])
    case("slice_last", [(2, 3, 5)], lambda x: x[:, :, 4:5])
    case("slice_overlapping", [(2, 6)], lambda x: x[:, 0:4] + x[:, 2:6])
    case("cast", [(3, 4, 5)], lambda x: x[:, 1:3].clone())
    case("mse", [(3, 4, 5), (3, 4, 5)], F.mse_loss)
    target = torch.from_numpy(counter.uniform("target", (16400,)))
    case("mse_long", [(16400,), target], lambda a, b: F.mse_loss(a, b.double()))


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("folder")
    a.add_argument("--reference", required=True)
    args = a.parse_args()
    Processor = reference_modules.load(args.reference)[1]
    from msdiffusion.models.projection import FourierEmbedder

    attention_cases()
    box_mask_cases(Processor)
    subjects_cases(Processor)
    embedding_cases(FourierEmbedder)
    other_cases()
    save_file(tensors, f"{args.folder}/ops_attention.safetensors")
    print(f"{sum(t.nbytes for t in tensors.values())} bytes in {len(tensors)} tensors")
