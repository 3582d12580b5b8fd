"""Frames a second of keypoint assignment on drawn people, beside a plain loop over pairs, and its growth with their number.

    python benchmarks/assignment.py [--config C] [--people 1 2 5 10 20 50 100 200] [--frames N] [--loop-up-to N] [--batches 1 4 16 64]
        [key=value ...]

The people are the figures of data/synthetic.py, standing at random in a 512 x 704 input; the maps are the training targets
(data/targets/simplepose.py) with some noise. Everything runs on one thread.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import argparse
import math
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch

from config import Config, load_config
from config.errors import run_script
from config.skeleton import UNLABELLED, VISIBLE
from data.synthetic import random_body
from data.targets import render_targets
from utils.assignment import assign_people
from utils.assignment.device_maps import assign_people_batch

HEIGHT, WIDTH = 512, 704  # network input
NOISE = 0.005  # standard deviation of a map's noise
People = tuple[np.ndarray, np.ndarray]  # keypoints (P, K, 3), scores (P,)
Assigner = Callable[[np.ndarray], People]


def crowd(rng: np.random.Generator, count: int, config: Config) -> np.ndarray:
    """(P, K, 3) joints of figures at random places, input pixels; the more there are, the smaller they are."""
    joints = np.zeros((count, len(config.skeleton.dataset), 3))
    for person in joints:
        body = random_body(rng)[:, :2]
        corner, extent = body.min(0), np.ptp(body, 0)
        stature = rng.uniform(0.5, 0.9) * HEIGHT / extent[1] / max(1.0, math.sqrt(count / 4))
        person[:, :2] = (body[: len(person)] - corner) * stature + rng.uniform(0, 1, 2) * ([WIDTH, HEIGHT] - stature * extent).clip(0)
        person[:, 2] = VISIBLE
    return config.skeleton.from_dataset(joints)


def drawn(rng: np.random.Generator, joints: np.ndarray, config: Config) -> np.ndarray:
    """Noisy maps (C, h, w) of these people."""
    maps = render_targets(joints, np.zeros((HEIGHT // config.targets.stride, WIDTH // config.targets.stride), np.float32), config)
    return maps + rng.normal(0, NOISE, maps.shape).astype(np.float32)


def loop_over_pairs(maps: np.ndarray, config: Config) -> People:
    """What is to be beaten: peaks with OpenCV, then every pair of every limb scored by itself, and limbs merged in their order."""
    skeleton, stride = config.skeleton, config.targets.stride
    peaks = []
    for channel in maps[config.channels.keypoints]:
        rows, columns = np.nonzero((channel >= 0.1) & (channel == cv2.dilate(channel, np.ones((3, 3), np.uint8))))
        peaks.append([(x, y, channel[y, x]) for y, x in zip(rows, columns)])
    people: list[dict[int, int]] = []
    for limb, (a, b) in enumerate(skeleton.limb_ends.tolist()):
        pairs = []
        for i, (x0, y0, _) in enumerate(peaks[a]):
            for j, (x1, y1, _) in enumerate(peaks[b]):
                steps = np.linspace(0, 1, 20)
                xs, ys = np.rint(x0 + (x1 - x0) * steps).astype(int), np.rint(y0 + (y1 - y0) * steps).astype(int)
                samples = maps[limb][ys, xs]
                if (samples > 0.1).mean() >= 0.8:
                    pairs.append((samples.mean(), i, j))
        starts, ends = set(), set()
        for _, i, j in sorted(pairs, reverse=True):
            if i in starts or j in ends:
                continue
            starts.add(i)
            ends.add(j)
            owners = [person for person in people if person.get(a) == i or person.get(b) == j]
            if not owners:
                people.append({a: i, b: j})
            elif len(owners) == 1:
                owners[0].setdefault(a, i)
                owners[0].setdefault(b, j)
            elif not owners[0].keys() & owners[1].keys():
                owners[0].update(owners[1])
                people = [person for person in people if person is not owners[1]]
    keypoints = np.zeros((len(people), skeleton.num_keypoints, 3), np.float32)
    for row, person in zip(keypoints, people):
        for kind, peak in person.items():
            x, y, score = peaks[kind][peak]
            row[kind] = (x + 0.5) * stride - 0.5, (y + 0.5) * stride - 0.5, score
    return keypoints, keypoints[..., 2].sum(1)


def recalled(found: np.ndarray, joints: np.ndarray) -> int:
    """Labelled keypoints that the best found person for each drawn one has within 4 input pixels; a found person counts once."""
    labelled = joints[..., 2] != UNLABELLED
    near = np.hypot(*np.moveaxis(found[None, ..., :2] - joints[:, None, :, :2], -1, 0)) < 4
    hits = (near & (found[None, ..., 2] > 0) & labelled[:, None]).sum(2)
    total = 0
    while hits.size and hits.max() > 0:
        person, match = np.unravel_index(hits.argmax(), hits.shape)
        total += int(hits[person, match])
        hits[person], hits[:, match] = 0, 0
    return total


def timed(assign: Callable[[], People], repeats: int = 3) -> tuple[float, People]:
    """Least seconds of some runs, and the answer."""
    least, answer = math.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        answer = assign()
        least = min(least, time.perf_counter() - start)
    return least, answer


def batch_seconds(config: Config, sizes: list[int], device: str) -> dict[int, float]:
    """Seconds an image of batches of these sizes: frames of five people of whom every twentieth keypoint has no peak."""
    rng, stride = np.random.default_rng(0), float(config.targets.stride)
    frames = []
    for _ in range(max(sizes)):
        joints = crowd(rng, 5, config)
        maps = drawn(rng, joints, config)
        missed = joints.copy()
        missed[rng.random(joints.shape[:2]) < 0.05, 2] = UNLABELLED
        keypoints = config.channels.keypoints
        frames.append(np.concatenate([maps[: keypoints.start], drawn(rng, missed, config)[keypoints.start :]]))
    seconds = {}
    for size in sizes:
        batch = torch.from_numpy(np.stack(frames[:size])).to(device)
        common = (config.skeleton, config.assignment, [(HEIGHT, WIDTH)] * size, [(stride, stride)] * size)
        seconds[size] = timed(lambda batch=batch, common=common: assign_people_batch(batch, *common))[0] / size
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config/simplepose_coco_512.yaml")
    parser.add_argument("--people", type=int, nargs="+", default=[1, 2, 5, 10, 20, 50, 100, 200], help="people in a frame")
    parser.add_argument("--frames", type=int, default=10, help="frames for each number of people")
    parser.add_argument("--loop-up-to", type=int, default=20, metavar="N", help="the loop over pairs is run up to N people")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4, 16, 64], metavar="N", help="images in a batch on a device")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    config = load_config(options.config, options.overrides)
    stride = float(config.targets.stride)
    common = {"skeleton": config.skeleton, "parameters": config.assignment}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assigners: dict[str, Assigner] = {
        config.assignment.preset: lambda maps: assign_people(maps, **common, image_size=(HEIGHT, WIDTH), map_to_image=(stride, stride)),
        f"batch of 1, {device}": lambda maps: assign_people_batch(
            torch.from_numpy(maps[None]).to(device), **common, image_sizes=[(HEIGHT, WIDTH)], map_to_images=[(stride, stride)]
        )[0],
        "loop over pairs": lambda maps: loop_over_pairs(maps, config),
    }
    print(f"{'people':>6}  {'keypoints':>9}  " + "  ".join(f"{name + ': ms, frames/s, recall':>36}" for name in assigners))
    for count in options.people:
        rng = np.random.default_rng(count)
        seconds, hits, labelled = dict.fromkeys(assigners, 0.0), dict.fromkeys(assigners, 0), 0
        for _ in range(options.frames):
            joints = crowd(rng, count, config)
            labelled += int((joints[..., 2] != UNLABELLED).sum())
            maps = drawn(rng, joints, config)
            for name, assign in assigners.items():
                if name == "loop over pairs" and count > options.loop_up_to:
                    continue
                repeats = 1 if name == "loop over pairs" else 3
                least, (keypoints, _) = timed(lambda assign=assign, maps=maps: assign(maps), repeats)
                seconds[name] += least
                hits[name] += recalled(keypoints, joints)
        row = [(seconds[name] / options.frames, hits[name] / labelled) for name in assigners if seconds[name]]
        figures = "  ".join(f"{1000 * second:15.2f} {1 / second:11.1f} {recall:8.3f}" for second, recall in row)
        print(f"{count:6}  {labelled / options.frames:9.1f}  {figures}", flush=True)
    for size, second in batch_seconds(config, options.batches, device).items() if options.batches else ():
        print(f"batch of {size:3}, {device}, 5 people: {1000 * second:.2f} ms an image", flush=True)


if __name__ == "__main__":
    run_script(main)
