"""The counter formula of data/counter.h, to the bit.

fill(name, shape) gives a weight, uniform(name, shape) plain values in [-1, 1), both float32.
Run as a program it prints the values that tests/data/test_counter.c expects.
"""

import math

import numpy

MASK = (1 << 64) - 1


def key(name):
    h = 0xCBF29CE484222325
    for byte in name.encode("utf-8"):
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def values(name, first, count):
    """float32 (count): value(name, i) for i in [first, first + count)."""
    with numpy.errstate(over="ignore"):
        i = numpy.arange(first + 1, first + count + 1, dtype=numpy.uint64)
        z = numpy.uint64(key(name)) + i * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z ^= z >> numpy.uint64(31)
    steps = (z >> numpy.uint64(40)).astype(numpy.int64) - (1 << 23)
    return steps.astype(numpy.float32) * numpy.float32(2.0**-23)


def uniform(name, shape):
    return values(name, 0, math.prod(shape)).reshape(shape)


def fill(name, shape):
    scale, shift = numpy.float32(0.1), numpy.float32(0)
    if len(shape) >= 2:
        scale = numpy.float32(math.sqrt(3.0 / math.prod(shape[1:])))
    elif len(shape) == 1 and name.endswith("weight"):
        shift = numpy.float32(1)
    return uniform(name, shape) * scale + shift


if __name__ == "__main__":
    for name, shape in [
        ("unet.conv_in.weight", (3, 4, 3, 3)),
        ("norm1.weight", (5,)),
        ("norm1.bias", (5,)),
        ("größe#7", ()),
    ]:
        flat = fill(name, shape).ravel()
        print(name, shape, f"{key(name):#x}", [float(v).hex() for v in flat[[0, 1, -1] if flat.size > 2 else [0]]])
    print([float(v).hex() for v in values("x", (1 << 40) + 3, 2)])
