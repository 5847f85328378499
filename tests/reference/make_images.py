"""Goldens of data/image, data/resize and data/preprocess, from Pillow and transformers.

    python make_images.py tests/goldens/images

Writes tiny pictures of every form and images.json: what Pillow makes of them, hashes of Pillow's resizing of a picture made by
a formula (picture below, the same in tests/data/support_picture.c), and hashes of CLIP's preprocessing by CLIPImageProcessorPil.
Needs pillow, numpy, torch, transformers.
"""

import io
import json
import pathlib
import struct
import sys
import warnings
import zlib

import numpy
import torch
from PIL import Image, ImageOps
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

warnings.simplefilter("ignore")


def picture(width, height, channels=3, seed=0):
    y, x, c = numpy.meshgrid(numpy.arange(height), numpy.arange(width), numpy.arange(channels), indexing="ij")
    v = x * (7 + c) + y * (13 - c) + ((x * y * (c + 1)) >> 3)
    return ((v ^ (x * 31 + y * 57 + seed * 101)) & 255).astype(numpy.uint8)


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


# ---------------------------------------------------------------- files


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, color, rows, before=(), after=(), interlace=0):
    """rows: raw bytes of each row (of each pass), without filter byte."""
    raw = b"".join(b"\0" + row for row in rows)
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace))
    for kind, data in before:
        out += chunk(kind, data)
    out += chunk(b"IDAT", zlib.compress(raw, 9))
    for kind, data in after:
        out += chunk(kind, data)
    return out + chunk(b"IEND", b"")


def packed(values, depth):
    """values (height, width) to rows of `depth` bits."""
    rows = []
    for row in values:
        if depth == 16:
            rows.append(b"".join(struct.pack(">H", int(v)) for v in row))
            continue
        bits = "".join(format(int(v), f"0{depth}b") for v in row)
        bits += "0" * (-len(bits) % 8)
        rows.append(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    return rows


def adam7(values, depth):
    rows = []
    height, width = values.shape[:2]
    for x0, y0, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
        part = values[y0::dy, x0::dx]
        if part.size:
            rows += packed(part.reshape(part.shape[0], -1), depth)
    return rows


def exif(orientation, big=False, kind=3):
    e = ">" if big else "<"
    value = struct.pack(e + ("HH" if kind == 3 else "I"), *([orientation, 0] if kind == 3 else [orientation]))
    entries = struct.pack(e + "HHI", 0x0110, 2, 2) + b"x\0\0\0" + struct.pack(e + "HHI", 0x0112, kind, 1) + value
    return (b"MM\0*" if big else b"II*\0") + struct.pack(e + "I", 8) + struct.pack(e + "H", 2) + entries + b"\0\0\0\0"


def saved(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def files():
    w, h = 13, 9
    rgb = picture(w, h)
    im = Image.fromarray(rgb)
    grey = rgb[..., 0]
    rgba = numpy.dstack([rgb, picture(w, h, 1, 3)])
    wide = rgb.astype(int) * 256 + picture(w, h, 3, 5)
    palette = picture(16, 1, 3, 9).tobytes()
    out = {}
    out["rgb.png"] = saved(im, "PNG")
    out["rgba.png"] = saved(Image.fromarray(rgba, "RGBA"), "PNG")
    out["grey.png"] = saved(Image.fromarray(grey), "PNG")
    out["grey_alpha.png"] = saved(Image.fromarray(rgba[..., 2:], "LA"), "PNG")
    out["rgb16.png"] = png(w, h, 16, 2, packed(wide.reshape(h, -1), 16))
    out["rgba16.png"] = png(w, h, 16, 6, packed(numpy.dstack([wide, wide[..., :1]]).reshape(h, -1), 16))
    out["grey_alpha16.png"] = png(w, h, 16, 4, packed(wide[..., :2].reshape(h, -1), 16))
    for depth in (1, 2, 4):
        out[f"grey{depth}.png"] = png(w, h, depth, 0, packed(grey >> (8 - depth), depth))
        out[f"palette{depth}.png"] = png(w, h, depth, 3, packed(grey >> (8 - depth), depth), [(b"PLTE", palette)][:1]
                                         if depth == 4 else [(b"PLTE", palette[: 3 << depth])])
    out["palette8_tRNS.png"] = png(w, h, 8, 3, packed(grey & 15, 8), [(b"PLTE", palette), (b"tRNS", bytes(range(0, 160, 20)))])
    out["palette_index_beyond.png"] = png(w, h, 8, 3, packed(grey & 31, 8), [(b"PLTE", palette)])
    out["grey_tRNS.png"] = png(w, h, 8, 0, packed(grey, 8), [(b"tRNS", b"\0\x14")])
    out["rgb_tRNS.png"] = png(w, h, 8, 2, packed(rgb.reshape(h, -1), 8), [(b"tRNS", b"\0\x14\0\x15\0\x16")])
    out["adam7_rgb.png"] = png(w, h, 8, 2, adam7(rgb, 8), interlace=1)
    out["adam7_grey2.png"] = png(w, h, 2, 0, adam7(grey >> 6, 2), interlace=1)
    out["adam7_rgb_1x1.png"] = png(1, 1, 8, 2, adam7(rgb[:1, :1], 8), interlace=1)
    out["gamma_profile_text.png"] = png(
        w, h, 8, 2, packed(rgb.reshape(h, -1), 8),
        [(b"gAMA", struct.pack(">I", 100000)), (b"sRGB", b"\0"), (b"iCCP", b"x\0\0" + zlib.compress(b"not a profile")),
         (b"tEXt", b"Comment\0hello"), (b"zTXt", b"Big\0\0" + zlib.compress(bytes(1 << 20), 9))])
    out["animated.png"] = saved(im, "PNG", save_all=True, append_images=[im.transpose(Image.Transpose.ROTATE_180)])
    out["exif6.png"] = png(w, h, 8, 2, packed(rgb.reshape(h, -1), 8), [(b"eXIf", exif(6, True))])
    out["exif8_behind.png"] = png(w, h, 8, 2, packed(rgb.reshape(h, -1), 8), (), [(b"eXIf", exif(8))])
    smooth = Image.fromarray(picture(4, 3)).resize((21, 17), Image.Resampling.BICUBIC)
    for o in range(1, 9):
        out[f"exif{o}.jpg"] = saved(smooth, "JPEG", quality=80, exif=b"Exif\0\0" + exif(o, o % 2 == 1))
    out["exif0.jpg"] = saved(smooth, "JPEG", quality=80, exif=b"Exif\0\0" + exif(0))
    out["exif9.jpg"] = saved(smooth, "JPEG", quality=80, exif=b"Exif\0\0" + exif(9))
    out["exif_beyond.jpg"] = saved(smooth, "JPEG", quality=80, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(4))
    out["exif_long6.jpg"] = saved(smooth, "JPEG", quality=80, exif=b"Exif\0\0" + exif(6, kind=4))
    for name, subsampling in [("444", 0), ("422", 1), ("420", 2)]:
        out[f"baseline{name}.jpg"] = saved(smooth, "JPEG", quality=70, subsampling=subsampling)
        out[f"progressive{name}.jpg"] = saved(smooth, "JPEG", quality=70, subsampling=subsampling, progressive=True)
    out["grey.jpg"] = saved(smooth.convert("L"), "JPEG", quality=75)
    out["restart.jpg"] = saved(smooth, "JPEG", quality=75, restart_marker_blocks=2)
    out["rgb_adobe.jpg"] = saved(smooth, "JPEG", quality=90, keep_rgb=True)
    cmyk = Image.fromarray(numpy.array(Image.fromarray(picture(4, 3, 4), "CMYK").resize((21, 17))), "CMYK")
    out["cmyk_adobe.jpg"] = saved(cmyk, "JPEG", quality=90)
    out["cmyk_plain.jpg"] = strip_adobe(out["cmyk_adobe.jpg"])
    out["ycck.jpg"] = out["cmyk_adobe.jpg"].replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\2")
    assert out["ycck.jpg"] != out["cmyk_adobe.jpg"] != out["cmyk_plain.jpg"]
    out["lossy.webp"] = saved(smooth, "WEBP", quality=80)
    out["lossless_alpha.webp"] = saved(Image.fromarray(rgba, "RGBA"), "WEBP", lossless=True, exact=True)
    out["exif6.webp"] = saved(smooth, "WEBP", quality=80, exif=b"Exif\0\0" + exif(6))
    return out


def strip_adobe(data):
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0] :]


def decoded(data):
    stored = Image.open(io.BytesIO(data))
    form = {"PNG": "PNG", "JPEG": "JPEG", "WEBP": "WebP"}[stored.format]
    upright = ImageOps.exif_transpose(stored)
    rgb = numpy.array(upright.convert("RGB"))
    grey = numpy.array(Image.open(io.BytesIO(data)).convert("L"))
    return {"format": form, "width": rgb.shape[1], "height": rgb.shape[0], "rgb": rgb.tobytes().hex(), "grey": grey.tobytes().hex()}


# ---------------------------------------------------------------- resizing


def resize_cases():
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
    sizes = [((1, 1), (1, 1)), ((1, 1), (5, 3)), ((7, 5), (1, 1)), ((1, 9), (4, 4)), ((9, 1), (3, 8)), ((16, 16), (16, 16)),
             ((16, 12), (16, 5)), ((16, 12), (31, 12)), ((33, 21), (16, 16)), ((33, 21), (64, 48)), ((100, 3), (17, 40)),
             ((61, 47), (60, 46)), ((61, 47), (62, 48)), ((128, 96), (7, 5)), ((5, 7), (96, 128)), ((200, 133), (56, 37)),
             ((37, 56), (133, 200)), ((2, 2), (3, 3)), ((97, 89), (13, 83)), ((256, 1), (9, 2)),
             # Pillow 13 begins with the columns in the second of each pair, and in the last two
             ((40, 40), (34, 28)), ((40, 40), (35, 28)), ((20, 61), (10, 41)), ((20, 61), (10, 40)), ((9, 300), (8, 20)), ((12, 40), (30, 39))]
    out = []
    for (w, h), (nw, nh) in sizes:
        for name, f in filters.items():
            rgb = Image.fromarray(picture(w, h)).resize((nw, nh), f)
            grey = Image.fromarray(picture(w, h, 1)[..., 0]).resize((nw, nh), f)
            out.append({"from": [w, h], "to": [nw, nh], "filter": name, "rgb": fnv1a(rgb.tobytes()), "grey": fnv1a(grey.tobytes())})
    return out


def crop_cases():
    out = []
    for left, top, width, height in [(0, 0, 13, 9), (2, 3, 5, 4), (-3, -2, 8, 8), (10, 7, 9, 9), (-5, -5, 30, 30), (40, 2, 3, 3), (-9, 0, 4, 4)]:
        part = Image.fromarray(picture(13, 9)).crop((left, top, left + width, top + height))
        out.append({"box": [left, top, width, height], "rgb": fnv1a(part.tobytes())})
    return out


# ---------------------------------------------------------------- preprocessing


def clip(image, side):
    p = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return p(images=image, return_tensors="np").pixel_values[0]


def target(image, side, top=None, left=None):
    """torchvision's Resize(side, BILINEAR), ToTensor, Normalize(.5, .5), crop; boxes as the reference's dataset."""
    w, h = image.size
    short, long = min(w, h), max(w, h)
    size = (side, int(side * long / short)) if w <= h else (int(side * long / short), side)
    t = torch.from_numpy(numpy.array(image.resize(size, Image.Resampling.BILINEAR))).permute(2, 0, 1).to(torch.float32).div(255)
    t = t.sub(0.5).div(0.5)
    top = (size[1] - side) // 2 if top is None else top
    left = (size[0] - side) // 2 if left is None else left
    return t[:, top : top + side, left : left + side].contiguous().numpy(), [h, w, top, left, side, side]


def follow(boxes, frame):
    h, w, top, left, side, _ = frame
    b = torch.tensor(boxes) * (side / w if w < h else side / h)
    return (torch.clamp(b - torch.tensor([left, top, left, top]), min=0, max=side) / side).tolist()


def preprocess_cases():
    clips, targets, references = [], [], []
    for (w, h), side in [((40, 30), 16), ((30, 40), 16), ((9, 31), 14), ((31, 9), 14), ((16, 16), 16), ((5, 7), 28), ((101, 67), 33), ((1, 3), 8)]:
        im = Image.fromarray(picture(w, h))
        stretched = im.resize((512, 512), Image.Resampling.BICUBIC)
        clips.append({"from": [w, h], "side": side, "clip": fnv1a(clip(im, side).tobytes()), "generate": fnv1a(clip(stretched, side).tobytes())})
        for top, left in [(None, None), (0, 0)]:
            pixels, frame = target(im, side, top, left)
            boxes = [[0.0, 0.0, float(w), float(h)], [w * 0.25, h * 0.125, w * 0.7, h * 0.9], [0.0, 0.0, 1.0, 1.0], [w - 0.5, h - 0.5, w, h]]
            targets.append({"from": [w, h], "side": side, "corner": top == 0, "pixels": fnv1a(pixels.tobytes()), "time_ids": frame,
                            "boxes": boxes, "followed": follow(boxes, frame)})
    for (w, h), box, masked, size, side in [((40, 30), (3, 4, 33, 29), False, 24, 16), ((40, 30), (3, 4, 33, 29), True, 24, 16),
                                            ((31, 50), (2.5, 3.5, 30.5, 47.4), True, 20, 14), ((31, 50), (0, 0, 31, 50), False, 33, 28)]:
        rgb = picture(w, h)
        if masked:
            rgb = rgb * (picture(w, h, 1, 4) >= 128)
        cut = Image.fromarray(rgb).crop(box).resize((size, size), Image.Resampling.BILINEAR)
        references.append({"from": [w, h], "box": box, "masked": masked, "resolution": size, "side": side,
                           "pixels": fnv1a(clip(cut, side).tobytes())})
    return {"clip": clips, "target": targets, "reference": references}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    goldens = {"files": {}, "resize": resize_cases(), "crop": crop_cases(), "preprocess": preprocess_cases()}
    for name, data in files().items():
        (folder / name).write_bytes(data)
        goldens["files"][name] = decoded(data)
    (folder / "images.json").write_text(json.dumps(goldens, indent=0, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
