"""Makes ops_basic.safetensors: forward and gradients, in f64, of linear, conv2d, norms, elementwise ops and AdamW.

    python make_ops_basic.py GOLDENS_FOLDER

Input i of a case is counter.uniform("CASE.i") times a factor, the gradient of its output counter.uniform("CASE.dy"), so
that neither is stored; what is stored is CASE.y, CASE.grad<i> of the inputs that get one, and CASE.<i> of given ones.
tests/autograd/cases_basic.c has a row of the same name, with the same shapes, for each case.
"""

import argparse

import numpy
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

import counter

torch.set_num_threads(1)
tensors = {}


def f32(t):
    return numpy.ascontiguousarray(t.detach().float().numpy())


def case(name, inputs, op, trainable=None):
    """inputs: None, a shape, (shape, factor), or a tensor (stored). trainable: indices; all floats unless given."""
    values = []
    for i, given in enumerate(inputs):
        if isinstance(given, torch.Tensor):
            tensors[f"{name}.{i}"] = f32(given)
            x = given.double()
        elif given is None:
            values.append(None)
            continue
        else:
            shape, factor = given if given and isinstance(given[0], tuple) else (given, 1)
            x = torch.from_numpy(counter.uniform(f"{name}.{i}", shape) * numpy.float32(factor)).double()
        values.append(x.requires_grad_(trainable is None or i in trainable))
    y = op(*values)
    tensors[f"{name}.y"] = f32(y)
    leaves = [(i, x) for i, x in enumerate(values) if x is not None and x.requires_grad]
    dy = torch.from_numpy(counter.uniform(f"{name}.dy", tuple(y.shape))).double()
    for (i, _), g in zip(leaves, torch.autograd.grad(y, [x for _, x in leaves], dy)):
        tensors[f"{name}.grad{i}"] = f32(g)
    print(f"{name}: {tuple(y.shape)}")


# ---- linear ----


def linear(x, w, bias=None, residual=None):
    y = F.linear(x, w, bias)
    return y if residual is None else y + residual


def linear_cases():
    case("linear", [(3, 4), (5, 4), None, None], linear)
    case("linear_all", [(2, 3, 7), (5, 7), (5,), (2, 3, 5)], linear)
    case("linear_one_row", [(1, 33), (17, 33), (17,), None], linear)
    case("linear_vector", [(13,), (6, 13), (6,), (6,)], linear)
    case("linear_one_column", [(19, 8), (1, 8), (1,), None], linear)
    case("linear_one_term", [(4, 1), (3, 1), None, (4, 3)], linear)
    case("linear_narrow", [(77, 40), (3, 40), None, (77, 3)], linear)
    case("linear_large", [(70, 129), (33, 129), (33,), None], linear)
    case("linear_pictures", [(2, 3, 4, 5), (9, 5), (9,), (2, 3, 4, 9)], linear)
    case("linear_frozen", [(2, 6, 16), (24, 16), (24,), (2, 6, 24)], linear, trainable=(0, 3))
    case("linear_onto_itself", [(5, 6), (6, 6)], lambda x, w: linear(x, w, None, x))


# ---- conv2d: x (B,H,W,I), w (O,KH,KW,I) ----


def conv2d(stride, top, left, bottom, right):
    def op(x, w, bias=None, residual=None):
        padded = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
        y = F.conv2d(padded, w.permute(0, 3, 1, 2), bias, stride).permute(0, 2, 3, 1)
        return y if residual is None else y + residual
    return op


def conv2d_cases():
    def add(name, inputs, *geometry):
        case(name, inputs, conv2d(*geometry), trainable=(0, 3))
    add("conv_3x3", [(2, 9, 7, 5), (6, 3, 3, 5), (6,), None], 1, 1, 1, 1, 1)
    add("conv_residual", [(1, 6, 5, 16), (32, 3, 3, 16), (32,), (1, 6, 5, 32)], 1, 1, 1, 1, 1)
    add("conv_1x1", [(2, 5, 4, 7), (9, 1, 1, 7), None, (2, 5, 4, 9)], 1, 0, 0, 0, 0)
    add("conv_stride", [(1, 9, 8, 4), (5, 3, 3, 4), (5,), None], 2, 1, 1, 1, 1)
    add("conv_vae_even", [(1, 8, 10, 3), (7, 3, 3, 3), (7,), None], 2, 0, 0, 1, 1)
    add("conv_vae_odd", [(2, 7, 9, 16), (16, 3, 3, 16), (16,), None], 2, 0, 0, 1, 1)
    add("conv_in", [(1, 7, 6, 4), (32, 3, 3, 4), (32,), None], 1, 1, 1, 1, 1)
    add("conv_out", [(1, 7, 6, 32), (4, 3, 3, 32), (4,), None], 1, 1, 1, 1, 1)
    add("conv_patches", [(1, 28, 42, 3), (8, 14, 14, 3), None, None], 14, 0, 0, 0, 0)
    add("conv_pixel", [(3, 1, 1, 3), (2, 3, 3, 3), (2,), None], 1, 1, 1, 1, 1)
    add("conv_uneven", [(1, 5, 6, 3), (4, 2, 3, 3), (4,), (1, 7, 7, 4)], 1, 2, 0, 1, 3)


# ---- norms ----


def group_norm(groups, eps, silu):
    def op(x, vec, w, b):
        channels = x.shape[-1]
        z = x if vec is None else x + vec.reshape(vec.shape[0], *[1] * (x.dim() - 2), channels)
        y = F.group_norm(z.movedim(-1, 1), groups, w, b, eps).movedim(1, -1)
        return F.silu(y) if silu else y
    return op


def group_norm_cases():
    def add(name, x, vec, channels, *parameters):
        case(name, [x, vec, (channels,), (channels,)], group_norm(*parameters), trainable=(0, 1))
    add("group_norm", (2, 5, 3, 12), None, 12, 4, 1e-5, False)
    add("group_norm_silu", (1, 4, 7, 10), None, 10, 5, 1e-6, True)
    add("group_norm_vec", (2, 4, 3, 8), (2, 8), 8, 2, 1e-5, False)
    add("group_norm_vec_silu", (3, 3, 5, 9), (3, 9), 9, 3, 1e-5, True)
    add("group_norm_one_group", (2, 3, 3, 7), (2, 7), 7, 1, 1e-5, True)
    add("group_norm_single_channels", (1, 6, 5, 5), None, 5, 5, 1e-5, True)
    add("group_norm_rows", (2, 17, 31, 6), (2, 6), 6, 3, 1e-5, True)
    add("group_norm_tokens", (3, 7, 10), None, 10, 5, 1e-6, False)
    # f32 inputs of size 100 and deviation 0.6; the same with no deviation at all
    add("group_norm_far", 100 + torch.from_numpy(counter.uniform("far", (2, 6, 5, 8))), None, 8, 2, 1e-5, False)
    add("group_norm_flat", torch.full((1, 2, 3, 4), 0.5), None, 4, 2, 1e-5, False)


def layer_norm(eps):
    return lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b, eps)


def layer_norm_cases():
    case("layer_norm", [(3, 5, 7), (7,), (7,)], layer_norm(1e-5))
    case("layer_norm_plain", [(4, 9), None, None], layer_norm(1e-5))
    case("layer_norm_weight", [(4, 6), (6,), None], layer_norm(1e-6))
    case("layer_norm_bias", [(4, 6), None, (6,)], layer_norm(1e-5))
    case("layer_norm_vector", [(37,), (37,), (37,)], layer_norm(1e-5))
    case("layer_norm_large", [(70, 133), (133,), (133,)], layer_norm(1e-5))
    case("layer_norm_frozen", [(2, 3, 16), (16,), (16,)], layer_norm(1e-5), trainable=(0,))
    case("layer_norm_far", [100 + torch.from_numpy(counter.uniform("far", (5, 32))), (32,), (32,)], layer_norm(1e-5))
    case("layer_norm_flat", [torch.full((3, 8), 0.5), (8,), (8,)], layer_norm(1e-5))


# ---- elementwise ----


def geglu(x):
    a, b = x.chunk(2, dim=-1)
    return a * F.gelu(b)


def elementwise_cases():
    far = torch.tensor([-100, -88, -50, -20, -10, -5, -1e-3, -1e-20, 0, 1e-20, 1e-3, 0.5, 5, 10, 20, 50, 88, 89, 100.0])
    for name, op in [("silu", F.silu), ("gelu", F.gelu), ("quick_gelu", lambda x: x * torch.sigmoid(1.702 * x))]:
        case(name, [((7, 13), 8)], op)
        case(f"{name}_far", [far], op)
    case("gelu_long", [((130, 127), 4)], F.gelu)
    case("geglu", [((3, 4, 10), 4)], geglu)
    case("geglu_one", [(5, 2)], geglu)
    case("geglu_large", [((9, 134), 6)], geglu)
    for name, op in [("add", torch.add), ("mul", torch.mul)]:
        case(name, [(3, 4, 5), (3, 4, 5)], op)
        case(f"{name}_bias", [(300, 33), (33,)], op)
        case(f"{name}_middle", [(2, 3, 4), (2, 1, 4)], op)
        case(f"{name}_column", [(2, 3, 4), (3, 1)], op)
        case(f"{name}_first", [(4, 5, 6), (1, 5, 6)], op)
        case(f"{name}_mixed", [(2, 3, 4, 5), (3, 1, 5)], op)
        case(f"{name}_one", [(2, 3, 4), (1,)], op)
        case(f"{name}_itself", [(3, 5)], lambda x: op(x, x))
    case("scale", [(3, 5)], lambda x: numpy.float64(numpy.float32(0.7)) * x)
    case("scale_negative", [(2, 2, 3)], lambda x: -2.5 * x)
    # one tensor read by four ops: gradients meet
    case("meeting", [(4, 6), (6, 6)], lambda x, w: linear(F.silu(x) * x, w, None, x) + 0.5 * x)


# ---- AdamW: three steps, the third without a gradient ----


def adamw_case():
    options = dict(lr=3e-3, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    p = torch.nn.Parameter(torch.from_numpy(counter.uniform("adamw.p", (37,))).double())
    optimizer = torch.optim.AdamW([p], **options)
    for step in range(3):
        g = torch.from_numpy(counter.uniform(f"adamw.g{step}", (37,))).double()
        p.grad = torch.zeros_like(g) if step == 2 else 0.25 * g
        optimizer.step()
    state = optimizer.state[p]
    for name, t in [("p", p), ("m", state["exp_avg"]), ("v", state["exp_avg_sq"])]:
        tensors[f"adamw.{name}"] = f32(t)


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("folder")
    args = a.parse_args()
    linear_cases()
    conv2d_cases()
    group_norm_cases()
    layer_norm_cases()
    elementwise_cases()
    adamw_case()
    save_file(tensors, f"{args.folder}/ops_basic.safetensors")
    print(f"{sum(t.nbytes for t in tensors.values())} bytes in {len(tensors)} tensors")
