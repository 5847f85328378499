#!/usr/bin/env python3
"""Reads a run's event files by TensorBoard's own reader and holds the scalars to log.jsonl and the pictures to samples/.

    check_events.py RUN          (needs: pip install tensorboard pillow)
"""
import io
import json
import math
import pathlib
import sys

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run = pathlib.Path(sys.argv[1])
events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0})
events.Reload()
tags = events.Tags()
print("scalars:", *tags["scalars"])
print("pictures:", *tags["images"])

log = [json.loads(line) for line in open(run / "log.jsonl")]


def hold(tag, value_of):
    wanted = {line["step"]: value_of(line) for line in log if value_of(line) is not None}
    found = [(event.step, event.value) for event in events.Scalars(tag)]
    assert [step for step, _ in found] == sorted(wanted), (tag, found, sorted(wanted))
    for step, value in found:
        assert math.isclose(value, wanted[step], rel_tol=1e-6, abs_tol=1e-7), (tag, step, value, wanted[step])
    print(f"ok   {tag}: {len(found)} values")


hold("train/loss", lambda line: line["loss"])
hold("train/grad_norm", lambda line: line["grad_norm"])
hold("train/lr", lambda line: line["lr"])
hold("train/skipped_steps", lambda line: line["skipped"])
hold("speed/images_per_second", lambda line: line["images_per_second"])
hold("speed/wait_share", lambda line: line["wait"] / line["seconds"])
if any("validation" in line for line in log):
    hold("validation/loss", lambda line: line.get("validation", {}).get("loss"))
    for tag in tags["scalars"]:
        if tag.startswith("validation/timesteps_"):
            first = int(tag.split("_")[1].split("-")[0])
            hold(tag, lambda line: line["validation"]["bins"][line["validation"]["timesteps"].index(first)]
                 if "validation" in line else None)

for tag in tags["images"]:
    for event in events.Images(tag):
        job = tag.split("/")[1]
        path = run / "samples" / f"step-{event.step:06d}_{job}.png"
        path = path if path.exists() else path.with_name(f"step-{event.step:06d}_{job}_0.png")
        assert event.encoded_image_string == path.read_bytes(), (tag, event.step)
        picture = Image.open(io.BytesIO(event.encoded_image_string))
        assert (event.width, event.height) == picture.size, (tag, event.step)
    print(f"ok   {tag}: {len(events.Images(tag))} pictures, the files of samples/")
