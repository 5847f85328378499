"""Makes adamw8.safetensors: AdamW with block-wise dynamic 8-bit moments (Dettmers et al., 2021), written out in numpy.

    python make_adamw8.py GOLDENS_FOLDER

The code's map is built as the paper describes it: in every decade the middles of equal parts of [0.1, 1]. Gradients are
0.3 * uniform("g#k")^5, so that a block holds five decades and more; the third update has none. Everything in f32, in the
order of torch's AdamW. A second moment above 0 never takes the code of 0.
"""
import sys

import numpy as np
from safetensors.numpy import save_file

import counter

N, BLOCK, STEPS = 5000, 256, 5
LR, BETA1, BETA2, EPS, DECAY = 1e-2, 0.9, 0.999, 1e-8, 0.1
f32 = np.float32


def make_map(signed):
    values = [0.0, 1.0]
    for decade in range(7):
        ends = np.linspace(0.1, 1, (2**decade if signed else 2 ** (decade + 1)) + 1)
        middles = 10.0 ** (decade - 6) * (ends[:-1] + ends[1:]) / 2
        values += list(middles) + (list(-middles) if signed else [])
    assert len(values) == 256
    return np.sort(np.array(values)).astype(f32)


def encode(x, table, positive):
    codes, sizes = [], []
    for block in np.split(x, range(BLOCK, N, BLOCK)):
        most = np.abs(block).max()
        unit = block / most if most > 0 else 0 * block
        code = np.abs(unit[:, None].astype(np.float64) - table[None].astype(np.float64)).argmin(1)
        if positive:
            code[(code == 0) & (block > 0)] = 1
        codes.append(code)
        sizes.append(most)
    return np.concatenate(codes).astype(np.uint8), np.array(sizes, f32)


def decode(codes, sizes, table):
    return table[codes] * np.repeat(sizes, BLOCK)[:N]


def main(folder):
    first, second = make_map(True), make_map(False)
    p = counter.uniform("p", (N,)).astype(f32)
    m, v = encode(np.zeros(N, f32), first, False), encode(np.zeros(N, f32), second, True)
    for step in range(1, STEPS + 1):
        g = f32(0.3) * counter.uniform(f"g#{step}", (N,)).astype(f32) ** 5 if step != 3 else np.zeros(N, f32)
        a = decode(*m, first) * f32(BETA1) + g * f32(1 - BETA1)
        b = decode(*v, second) * f32(BETA2) + g * g * f32(1 - BETA2)
        p = p * f32(1 - LR * DECAY) - f32(LR / (1 - BETA1**step)) * a / (np.sqrt(b) / f32((1 - BETA2**step) ** 0.5) + f32(EPS))
        m, v = encode(a, first, False), encode(b, second, True)
    print("codes used:", len(set(m[0])), len(set(v[0])), " p moved by", np.abs(p - counter.uniform("p", (N,))).max())
    save_file({"p": p.astype(f32), "map.m": first, "map.v": second, "m_absmax": m[1], "v_absmax": v[1], "m": m[0], "v": v[0]},
              f"{folder}/adamw8.safetensors")


if __name__ == "__main__":
    main(sys.argv[1])
