"""How well drawn people who walk and cross are tracked, by what is found of them and by the tracker's settings, and what it costs.

    python benchmarks/tracking.py [--seeds 1 2 3 4 5] [--frames 200] [--people 4] [--checkpoint F] [key=value ...]

What is found is the truth, or made worse, or with --checkpoint what a network finds. Summed over the seeds' videos; one thread.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import argparse
import time
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from config import Skeleton
from config.errors import run_script
from config.load import load_skeleton
from config.progress import track
from config.schema import TrackingConfig
from data.drawn.place import background
from data.drawn.walkers import draw_frame, random_walkers
from utils.checkpoint import config_for
from utils.evaluation.tracking import TrackingFigures
from utils.inference import PoseEstimator
from utils.tracking import Tracker, extents

SIZE = 360, 480  # height, width of the drawn videos
LARGE = 1920, 1080  # width, height of frames whose cost is measured
METHODS = {
    "as it is": {},
    "greedy": {"matching": "greedy"},
    "without flow": {"flow": False},
    "without colours": {"appearance": 0.0},
    "without flow and colours": {"flow": False, "appearance": 0.0},
    "boxes": {"similarity": "box", "min_similarity": 0.1},
    "greedy, boxes": {"matching": "greedy", "similarity": "box", "min_similarity": 0.1},
}
JITTER, MISSED = 0.02, 0.1  # of a person's height: the keypoints' standard deviation; the share of people not found
KINDS = {
    "perfect": {"jitter": 0, "missed": 0, "hidden": True},
    "jitter": {"jitter": JITTER, "missed": 0, "hidden": True},
    "people missed": {"jitter": 0, "missed": MISSED, "hidden": True},
    "hidden keypoints left out": {"jitter": 0, "missed": 0, "hidden": False},
    "all three": {"jitter": JITTER, "missed": MISSED, "hidden": False},
}


@dataclass(frozen=True)
class Frame:
    """A frame of a video and who is in it."""

    image: np.ndarray  # (H, W, 3) uint8 BGR
    joints: np.ndarray  # (G, 17, 3) x, y, v: 2 seen, 1 hidden, 0 not labelled
    areas: np.ndarray  # (G,)
    boxes: np.ndarray  # (G, 4)
    tracks: np.ndarray  # (G,)


def drawn_frames(count: int, people: int, seed: int) -> list[Frame]:
    """The frames of data/synthetic.py's video."""
    rng = np.random.default_rng(seed)
    place, light = background(rng, *SIZE), rng.uniform(-1, 1)
    walkers, frames = random_walkers(rng, people, place), []
    for number in range(count):
        image, annotations = draw_frame(place, walkers, number, light)
        joints = np.array([a["keypoints"] for a in annotations], float).reshape(-1, 17, 3)
        boxes = np.array([a["bbox"] for a in annotations], float).reshape(-1, 4)
        frames.append(Frame(image, joints, boxes[:, 2:].prod(1), boxes, np.array([a["track_id"] for a in annotations], int)))
    return frames


# What is found


def noisy(joints: np.ndarray, rng: np.random.Generator, jitter: float, missed: float, hidden: bool) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (P, 17, 3) and scores (P,) of the people (G, 17, 3), with noise, some missed, and what is hidden only if `hidden`."""
    found = joints[rng.random(len(joints)) >= missed].copy()
    found = found[rng.permutation(len(found))]
    heights = extents(found)[:, 3, None, None]
    found[..., 2] = found[..., 2] > (0 if hidden else 1)
    found[..., :2] += jitter * heights * rng.normal(0, 1, found[..., :2].shape)
    found *= found[..., 2:]
    return found, (found[..., 2] > 0).any(1).astype(float)


def tracked(frames: list[Frame], found: list[tuple], skeleton: Skeleton, settings: TrackingConfig) -> tuple[TrackingFigures, float]:
    """The figures of one video, and milliseconds a frame."""
    tracker, figures, seconds = Tracker(skeleton, settings), TrackingFigures(skeleton.oks_sigmas), 0.0
    for frame, (keypoints, scores) in zip(frames, found):
        start = time.perf_counter()
        ids = tracker(frame.image, keypoints, scores)
        seconds += time.perf_counter() - start
        figures.add(frame.joints, frame.areas, frame.boxes, frame.tracks, skeleton.to_dataset(keypoints), ids)
    return figures, 1000 * seconds / len(frames)


def without_hidden(frame: Frame) -> Frame:
    """The same, where what is hidden is not to be found."""
    return replace(frame, joints=frame.joints * (frame.joints[..., 2:] > 1))


def of_videos(videos: list[list[Frame]], everybody: list[list[tuple]], skeleton: Skeleton, base: TrackingConfig) -> None:
    """Print a line for each method. everybody: keypoints and scores of each frame of each video."""
    for method, changes in METHODS.items():
        settings = base.model_copy(update=changes)
        results = [tracked(frames, found, skeleton, settings) for frames, found in zip(videos, everybody)]
        counts = [[f.people, f.misses, f.false_positives, f.switches] for f, _ in results]
        people, misses, false_positives, switches = np.sum(counts, 0).tolist()
        mota = 1 - (misses + false_positives + switches) / people
        each = " ".join(str(f.switches) for f, _ in results)
        cost = np.median([ms for _, ms in results])
        print(f"  {method:26} MOTA {mota:.3f}  misses {misses:5}  false {false_positives:5}  switches {switches:4} ({each})  {cost:.1f} ms",
              flush=True)  # fmt: skip


def cost_of_large_frames(frames: list[Frame], skeleton: Skeleton) -> None:
    """Print milliseconds a frame of 1920 x 1080, at the beginning and at the end of a video."""
    tracker, seconds = Tracker(skeleton), []
    for frame in frames:
        image = cv2.resize(frame.image, LARGE)
        keypoints = frame.joints * [LARGE[0] / SIZE[1], LARGE[1] / SIZE[0], 1]
        start = time.perf_counter()
        tracker(image, keypoints, np.ones(len(keypoints)))
        seconds.append(time.perf_counter() - start)
    quarter = len(frames) // 4
    first, last = (1000 * float(np.median(part)) for part in (seconds[1 : quarter + 1], seconds[-quarter:]))
    people = np.mean([len(frame.joints) for frame in frames])
    print(f"{people:.1f} people in {LARGE[0]} x {LARGE[1]}: {first:.1f} ms a frame in the first quarter, {last:.1f} ms in the last")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--checkpoint", type=Path, help="a network of COCO's keypoints, as the quickstart's")
    parser.add_argument("--device", help="of the network")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the network's configuration")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    drawn = (drawn_frames(options.frames, options.people, seed) for seed in options.seeds)
    videos = list(track(drawn, len(options.seeds), "drawing", "video"))
    print(f"{len(videos)} videos of {options.frames} frames of {SIZE[1]} x {SIZE[0]}, {options.people} people")
    if options.checkpoint is not None:
        config = config_for(options.checkpoint, None, options.overrides)
        estimator = PoseEstimator(config, options.checkpoint, options.device)
        print(options.checkpoint)
        finding = ([estimator(frame.image) for frame in frames] for frames in videos)
        of_videos(videos, list(track(finding, len(videos), "finding", "video")), config.skeleton, config.tracking)
        return
    skeleton = load_skeleton("coco17")
    for kind, noise in KINDS.items():
        print(kind)
        truth = videos if noise["hidden"] else [list(map(without_hidden, frames)) for frames in videos]
        found = []
        for seed, frames in zip(options.seeds, videos):
            rng = np.random.default_rng(seed)
            found.append([noisy(frame.joints, rng, **noise) for frame in frames])
        of_videos(truth, found, skeleton, TrackingConfig())
    cost_of_large_frames(drawn_frames(options.frames, 10, options.seeds[0]), skeleton)


if __name__ == "__main__":
    run_script(main)
