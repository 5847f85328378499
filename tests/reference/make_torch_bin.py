"""Makes the fixtures of tests/data/test_torch_bin.c: python make_torch_bin.py tests/goldens/torch_bin"""

import collections
import pathlib
import sys

import torch

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)


def save(value, name, **options):
    torch.save(value, folder / name, **options)


count = torch.arange(24, dtype=torch.float32)

# The form of ms_adapter.bin: modules' state dicts (OrderedDicts), a parameter, half types.
module = torch.nn.ModuleDict({"norm": torch.nn.LayerNorm(3), "proj_in": torch.nn.Linear(3, 2)})
with torch.no_grad():
    for i, p in enumerate(module.parameters()):
        p.copy_((torch.arange(p.numel()) + 10 * i).reshape(p.shape))
save(
    {
        "image_proj": module.state_dict(),
        "ms_adapter": {
            "1.to_k_ip.weight": count[:6].reshape(2, 3).half(),
            "1.to_v_ip.weight": count[6:12].reshape(2, 3).bfloat16(),
        },
        "dummy_image_tokens": torch.nn.Parameter(count[:8].reshape(1, 4, 2)),
    },
    "nested.bin",
)
# Views: shared storages, transposed, sliced, a scalar, an empty tensor, non-tensors beside them.
square = count[:12].reshape(3, 4)
save(
    collections.OrderedDict(
        whole=square, transposed=square.t(), middle=square[1:, 1:3], every_second=count[::2], tail=count[20:],
        scalar=torch.tensor(7, dtype=torch.int64), empty=torch.zeros(0, 5),
        step=120000, rate=1e-4, big=1 << 40, flag=True, nothing=None, text="größe", deep={3: [torch.ones(1), {"x": (2,)}]},
    ),
    "views.bin",
)
# Every number type of the subset.
types = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
         torch.uint8, torch.bool]
save({str(t)[6:]: torch.tensor([0, 1], dtype=t) for t in types}, "types.bin")
# Refused: the form before torch 1.6; a class; protocol 4; a tensor expanded from one element.
save({"a": count[:2]}, "legacy.bin", _use_new_zipfile_serialization=False)
save(torch.nn.Linear(1, 1), "module.bin")
save({"a": count[:2]}, "protocol4.bin", pickle_protocol=4)
save({"a": torch.ones(1).expand(5)}, "expanded.bin")
save(count[:2], "tensor.bin")
