"""What OKS NMS costs: that of utils/oks.py beside a plain loop over pairs of people, in one run, on one thread.

    python benchmarks/oks.py [--people 100 1000] [--threshold 0.9]

The people of a picture are drawn at random: far from each other, in a crowd, and ten found for everybody who is there.
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
from collections.abc import Callable

import numpy as np

from config.errors import run_script
from config.load import load_skeleton
from utils.oks import oks_nms

People = tuple[np.ndarray, np.ndarray, np.ndarray]  # keypoints (P, K, 2), areas (P,), scores (P,)

SIGMAS = load_skeleton("coco17").oks_sigmas
KINDS = {"far apart": (2000, 1, 0), "in a crowd": (50, 1, 0), "ten of each": (500, 10, 1)}  # pixels between people, times found, noise
ROUNDS = 5


def drawn_people(rng: np.random.Generator, count: int, kind: str) -> People:
    """So many people, 100 pixels tall and wide."""
    apart, times, noise = KINDS[kind]
    poses = rng.uniform(0, 100, (-(-count // times), 17, 2)) + rng.normal(0, apart, (-(-count // times), 1, 2))
    keypoints = np.repeat(poses, times, 0)[:count] + rng.normal(0, noise, (count, 17, 2))
    return keypoints, rng.uniform(3000, 8000, count), rng.uniform(0, 1, count)


def loop_over_pairs(keypoints: np.ndarray, areas: np.ndarray, scores: np.ndarray, sigmas: np.ndarray, threshold: float) -> np.ndarray:
    """What `oks_nms` gives, one pair after the other."""
    kept: list[int] = []
    for person in np.argsort(-scores, kind="stable"):
        for better in kept:
            squared = np.square(keypoints[person] - keypoints[better]).sum(1)
            area = (areas[person] + areas[better]) / 2 + np.spacing(1)
            if np.exp(-squared / (2 * sigmas) ** 2 / area / 2).mean() > threshold:
                break
        else:
            kept.append(person)
    return np.array(kept, np.intp)


def measured(nms: Callable[..., np.ndarray], people: People, threshold: float, rounds: int) -> tuple[np.ndarray, float]:
    """What it keeps, and the median seconds of processor time, after a first round for nothing."""
    seconds = []
    for _ in range(rounds + 1):
        start = time.process_time()
        kept = nms(*people, SIGMAS, threshold)
        seconds.append(time.process_time() - start)
    return kept, float(np.median(seconds[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, nargs="+", default=[100, 1000], help="people found in a picture")
    parser.add_argument("--threshold", type=float, default=0.9)
    options = parser.parse_args()
    for count in options.people:
        for kind in KINDS:
            people = drawn_people(np.random.default_rng(count), count, kind)
            kept, blocks = measured(oks_nms, people, options.threshold, ROUNDS)
            same, loop = measured(loop_over_pairs, people, options.threshold, 1)
            np.testing.assert_array_equal(kept, same)
            figures = f"utils/oks.py {1000 * blocks:.1f} ms, loop {1000 * loop:.0f} ms"
            print(f"{count:5} people, {kind:11}, {len(kept):5} kept: {figures}", flush=True)


if __name__ == "__main__":
    run_script(main)
