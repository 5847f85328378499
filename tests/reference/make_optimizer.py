"""Makes optimizer.safetensors: torch's AdamW and clip_grad_norm_ on gradients by the counter formula.

    python make_optimizer.py GOLDENS_FOLDER

Parameters begin as counter.fill(NAME); the gradient of step k is size * counter.uniform("NAME#k"), zero for `idle`
always and for `bias` at step 2 (a tensor that takes no part). Computed in f64, stored as f32; settings in the metadata.
"""

import json
import sys

import torch
from safetensors.torch import save_file

import counter

torch.set_num_threads(1)
SHAPES = {"weight": (7, 13), "bias": (5,), "idle": (3, 4), "norm.weight": (1,)}
RATES = [1e-2, 3e-3, 1e-2, 2e-2]
CASES = {
    # gradients far above, far below, at and above the limit; RUN.yaml's defaults
    "plain": dict(betas=[0.9, 0.999], eps=1e-8, weight_decay=0.01, max_norm=1.0, sizes=[2.0, 1e-3, 0.3, 5.0]),
    # eps large enough to tell inside the root from outside; strong decay; no clipping
    "eps": dict(betas=[0.8, 0.95], eps=1e-2, weight_decay=0.3, max_norm=0.0, sizes=[2.0, 1e-3, 0.3, 5.0]),
}


def gradient(name, k, size):
    if name == "idle" or (name == "bias" and k == 1):
        return torch.zeros(SHAPES[name], dtype=torch.float64)
    return (size * torch.from_numpy(counter.uniform(f"{name}#{k + 1}", SHAPES[name]))).double()


def run(label, case, out):
    p = {n: torch.from_numpy(counter.fill(n, s)).double().requires_grad_() for n, s in SHAPES.items()}
    optimizer = torch.optim.AdamW(p.values(), betas=case["betas"], eps=case["eps"], weight_decay=case["weight_decay"])
    norms = []
    for k, rate in enumerate(RATES):
        for n, t in p.items():
            t.grad = gradient(n, k, torch.tensor(case["sizes"][k], dtype=torch.float32))
        norms.append(float(torch.nn.utils.clip_grad_norm_(p.values(), case["max_norm"] or float("inf"))))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    out[f"{label}.norms"] = torch.tensor(norms).float()
    for n, t in p.items():
        state = optimizer.state[t]
        out.update({f"{label}.p.{n}": t.detach().float(), f"{label}.m.{n}": state["exp_avg"].float(),
                    f"{label}.v.{n}": state["exp_avg_sq"].float()})
    print(label, norms)


if __name__ == "__main__":
    tensors = {}
    for label, case in CASES.items():
        run(label, case, tensors)
    numbers = lambda v: [repr(float(x)) for x in (v if isinstance(v, list) else [v])]
    text = {label: json.dumps({k: numbers(v) for k, v in case.items()}) for label, case in CASES.items()}
    save_file(tensors, f"{sys.argv[1]}/optimizer.safetensors", {"rates": json.dumps([repr(r) for r in RATES]), **text})
