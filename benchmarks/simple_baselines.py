"""What it costs to read people in Simple Baselines' maps: by each rule for what lies between pixels, beside a plain search for the highest.

    python benchmarks/simple_baselines.py [--crops 100] [--rounds 50]

17 maps of 64 x 48 for each crop; one thread.
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

import numpy as np
import torch

from config.errors import run_script
from utils.systems.simple_baselines import decode

KEYPOINTS, HEIGHT, WIDTH = 17, 64, 48


def seconds(crops: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Median and least seconds of each way, run in turns."""
    generator = torch.Generator().manual_seed(0)
    heatmaps = torch.rand(crops, KEYPOINTS, HEIGHT, WIDTH, generator=generator)
    centres, sizes = np.full((crops, 2), 200.0), np.full((crops, 2), 300.0)
    tasks = {
        "decode, parabola": lambda: decode(heatmaps, centres, sizes, "parabola"),
        "decode, quarter": lambda: decode(heatmaps, centres, sizes, "quarter"),
        "a plain search alone": lambda: heatmaps.flatten(2).max(2),
    }
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            times[name].append(time.perf_counter() - start)
    return {name: (float(np.median(of_task)), min(of_task)) for name, of_task in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, (median, least) in seconds(options.crops, options.rounds).items():
        print(f"{name:>22}: median {1000 * median:.2f} ms, least {1000 * least:.2f} ms for {options.crops} crops")


if __name__ == "__main__":
    run_script(main)
