"""Measure inference from image files to people: images per second, and the time of each part.

    python benchmarks/inference.py [--config C ... | --checkpoint F] [--images DIR] [--batches 1 8] [--count N] [--rounds N] [--device cpu]
        [--save] [key=value ...]

Without --images, data/synthetic.py renders them. A system that needs person boxes gets one of the whole image. In the table

    images/s       decoded files through `PoseEstimator.stream`, the best round
    latency        of one batch by itself: the median and the 99th percentile, ms
    other columns  ms an image that the parts of `PoseEstimator` take in the stream, where two threads may work at a time
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import time
from collections import deque
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.report import benchmark_parser, report
from config import Config, UserError, load_config
from config.errors import check_minimum, run_cli
from config.files import existing_folder
from data.images import IMAGE_SUFFIXES, read_image, read_images
from data.synthetic import write_synthetic
from utils.checkpoint import Checkpoint, config_for
from utils.inference import PoseEstimator

RECIPES = [f"config/{name}quickstart.yaml" for name in ("", "dekr_", "simple_baselines_")]
PARTS = "input", "network", "assignment"


def image_files(options: argparse.Namespace, folder: Path) -> list[Path]:
    """Return the files of --images, at most --count; by default synthetic ones, which are written to the folder."""
    check_minimum(1, count=options.count, rounds=options.rounds)
    images = options.images or write_synthetic(folder, options.count, seed=2).parent / "images"
    files = sorted(path for path in existing_folder(images, "--images").iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise UserError(f"--images {images}: no images in it; name another folder")
    return files[: options.count]


def measure(estimator: PoseEstimator, files: list[Path], batch_size: int, rounds: int) -> dict[str, Any]:
    """Measure images per second, milliseconds per batch, and milliseconds per image of each part."""
    boxes = [np.array([[0, 0, *read_image(file).shape[1::-1]]]) for file in files] if estimator.needs_boxes else None

    def stream() -> float:
        start = time.perf_counter()
        deque(estimator.stream(read_images(files), batch_size, boxes), 0)
        return time.perf_counter() - start

    stream()  # the first run also loads and plans what the others reuse
    before = dict(estimator.seconds)
    best = min(stream() for _ in range(rounds))
    parts = {f"{part}, ms": 1000 * (estimator.seconds[part] - before[part]) / len(files) / rounds for part in PARTS}
    latencies = []
    for first in range(0, len(files), batch_size):
        start = time.perf_counter()
        images = [read_image(file) for file in files[first : first + batch_size]]
        estimator.batch(images, boxes and boxes[first : first + batch_size])
        latencies.append(1000 * (time.perf_counter() - start))
    median, slow = np.percentile(latencies, (50, 99))
    return {"images/s": len(files) / best, "latency, ms": f"{median:.0f} / {slow:.0f}", **parts}


def main() -> None:
    parser = benchmark_parser(__doc__, count=16)
    parser.add_argument("--config", nargs="+", default=RECIPES, help="default: the three quickstarts")
    parser.add_argument("--checkpoint", type=Path, help="default: randomly initialized weights, which find no person or very many")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], metavar="N", help="images in a batch")
    options = parser.parse_intermixed_args()
    check_minimum(1, batches=min(options.batches))
    checkpoint = None if options.checkpoint is None else Checkpoint(options.checkpoint)
    if checkpoint is None:
        configs: dict[str, Config] = {Path(path).stem: load_config(path, options.overrides) for path in options.config}
    else:
        own = None if options.config is RECIPES else options.config[0]
        configs = {options.checkpoint.stem: config_for(checkpoint, own, options.overrides)}
    rows = []
    with TemporaryDirectory() as folder:
        files = image_files(options, Path(folder))
        for name, config in configs.items():
            estimator = PoseEstimator(config, checkpoint, options.device)
            rows += [{"network, batch": f"{name}, {size}", **measure(estimator, files, size, options.rounds)} for size in options.batches]
    report("inference", f"Inference, {len(files)} images", rows, estimator.device, options.save)


if __name__ == "__main__":
    run_cli(main)
