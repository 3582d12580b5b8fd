"""Measure training data, from the training HDF5 to the device: samples per second, size on disk, and the rendering of targets.

    python benchmarks/data.py [--config C ...] [--annotations A.json --images DIR] [--workers 0 1 2] [--samples N] [--device cpu] [--save]
        [key=value ...]

Without annotations, data/synthetic.py renders people. The files are in the system's cache.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import time
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import torch

from benchmarks.report import benchmark_parser, report, wait_for
from config import Config, UserError, load_config
from config.errors import check_minimum, run_cli
from config.load import load_skeleton, with_overrides
from data.coco_masks_hdf5 import build_hdf5
from data.datasets import MixedDataset, collate
from data.synthetic import write_synthetic
from utils.device import default_device
from utils.distributed import DistributedContext
from utils.training.data import build_loader, set_malloc_thresholds, shutdown_workers
from utils.training.step import to_device

RECIPES = [f"config/{name}.yaml" for name in ("simplepose_coco_512", "dekr_w32_coco", "simple_baselines_r50_256x192")]


def batches_of(count: int, config: Config) -> list[list[tuple[int, int]]]:
    """Return the items of at least three batches. Indices beyond the data set repeat its samples with another augmentation."""
    size = config.train.batch_size
    return [[(0, number) for number in range(first, first + size)] for first in range(0, max(count, 3 * size), size)]


def with_workers(dataset: MixedDataset, batches: list[list[tuple[int, int]]], config: Config, workers: int) -> float:
    """Return samples per second of the trainer's DataLoader, after its first batch."""
    config = with_overrides(config, [f"data.workers={workers}"])
    loader = build_loader(dataset, batches, config, DistributedContext("none", torch.device("cpu")), persistent=False)
    with shutdown_workers(loader):
        iterator = iter(loader)
        next(iterator)
        start, rest = time.perf_counter(), sum(1 for _ in iterator)
        return rest * config.train.batch_size / (time.perf_counter() - start)


def targets_ms(batch: Any, config: Config, device: torch.device) -> float:
    """Return the milliseconds that the device needs for a batch's images and targets, once it has done so before."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        to_device(device, batch, config)
        wait_for(device)
        seconds.append(time.perf_counter() - start)
    return 1000 * min(seconds)


def measure(path: Path, config: Config, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Read and render the samples of one recipe."""
    dataset, batches = MixedDataset([path], config, augment=True), batches_of(options.samples, config)
    row: dict[str, Any] = {f"{count} workers, samples/s": with_workers(dataset, batches, config, count) for count in options.workers}
    row["KB a sample on disk"] = path.stat().st_size / len(dataset) / 1000
    batch = collate([dataset[item] for item in batches[0]])
    return row | {f"targets, ms a sample, {device.type}": targets_ms(batch, config, device) / len(batches[0])}


def main() -> None:
    parser = benchmark_parser(__doc__, "of the targets, such as cpu or cuda:0")
    parser.add_argument("--config", nargs="+", default=RECIPES, help="default: a recipe of each system")
    parser.add_argument("--annotations", type=Path, help="COCO's or CrowdPose's; default: synthetic people")
    parser.add_argument("--images", type=Path, help="folder or zip file of their images")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2], metavar="N", help="DataLoader workers (0 1 2)")
    parser.add_argument("--samples", type=int, default=96, help="to be read, in three batches at least")
    options = parser.parse_intermixed_args()
    check_minimum(1, samples=options.samples)
    if (options.annotations is None) != (options.images is None):
        raise UserError("--annotations and --images: one needs the other; give both, or none for synthetic people")
    configs, device, rows = [load_config(path, options.overrides) for path in options.config], default_device(options.device), []
    cv2.setNumThreads(1)
    set_malloc_thresholds()  # as a worker does
    with TemporaryDirectory() as folder:
        annotations, images, path = options.annotations, options.images, Path(folder) / "people.h5"
        if annotations is None:
            annotations = write_synthetic(Path(folder), 32, seed=1, size=(480, 640))
            images = annotations.parent / "images"
        start = time.process_time()
        build_hdf5(annotations, images, path, configs[0].skeleton if options.annotations else load_skeleton("coco"), workers=1)
        built = time.process_time() - start
        for recipe, config in zip(options.config, configs):
            rows.append({"recipe": Path(recipe).stem, **measure(path, config, options, device)})
    print(f"the training HDF5 was built in {built:.1f} s of one core", file=sys.stderr)
    report("data", "Training data", rows, device, options.save)


if __name__ == "__main__":
    run_cli(main)
