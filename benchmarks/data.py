"""Measure training data, from the training HDF5 to the device: samples per second, size on disk, and the rendering of targets.

    python benchmarks/data.py [--config C ...] [--annotations A.json --images DIR] [--workers 0 1 2] [--samples N] [--device cpu] [--save]
        [key=value ...]

Without annotations, data/synthetic.py renders people. The files are in the system's cache.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import time
from collections.abc import Iterable
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import torch

from benchmarks.report import benchmark_parser, fastest, report
from config import Config, UserError, load_config
from config.errors import check_minimum, run_cli
from config.load import load_skeleton, with_overrides
from data.coco_masks_hdf5 import build_hdf5
from data.datasets import MixedDataset, collate
from data.synthetic import write_synthetic
from utils.device import default_device
from utils.distributed import DistributedContext
from utils.training.data import build_loader, shutdown_workers
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


def synthetic_hdf5(folder: Path, count: int) -> Path:
    """Return a training HDF5 of COCO's keypoints with synthetic people in `count` images."""
    annotations = write_synthetic(folder, count, seed=1, size=(480, 640))
    build_hdf5(annotations, annotations.parent / "images", folder / "people.h5", load_skeleton("coco"), workers=1)
    return folder / "people.h5"


def measure(path: Path, config: Config, workers: Iterable[int], samples: int, device: torch.device) -> dict[str, Any]:
    """Read and render the samples of one recipe."""
    dataset, batches = MixedDataset([path], config, augment=True), batches_of(samples, config)
    row: dict[str, Any] = {f"{count} workers, samples/s": with_workers(dataset, batches, config, count) for count in workers}
    row["KB a sample on disk"] = path.stat().st_size / len(dataset) / 1000
    batch = collate([dataset[item] for item in batches[0]])
    images, targets = to_device(device, batch, config)
    row["MB of targets a sample"] = sum(tensor.nbytes for tensor in (images, *targets)) / len(images) / 1e6
    return row | {f"targets, ms a sample, {device.type}": 1000 * fastest(lambda: to_device(device, batch, config), device) / len(images)}


def main() -> None:
    parser = benchmark_parser(__doc__, "of the targets, such as cpu or cuda:0")
    parser.add_argument("--config", nargs="+", default=RECIPES, help="default: a recipe of each system")
    parser.add_argument("--annotations", type=Path, help="COCO's or CrowdPose's; default: synthetic people")
    parser.add_argument("--images", type=Path, help="folder or zip file of their images")
    parser.add_argument("--max-side", type=int, metavar="N", help="of the builder, for given images; default: they stay as they are")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2], metavar="N", help="DataLoader workers (0 1 2)")
    parser.add_argument("--samples", type=int, default=96, help="to be read, in three batches at least")
    options = parser.parse_intermixed_args()
    check_minimum(1, samples=options.samples)
    if (options.annotations is None) != (options.images is None):
        raise UserError("--annotations and --images: one needs the other; give both, or none for synthetic people")
    configs, device, rows = [load_config(path, options.overrides) for path in options.config], default_device(options.device), []
    cv2.setNumThreads(1)
    with TemporaryDirectory() as folder:
        if options.annotations is None:
            path = synthetic_hdf5(Path(folder), 32)
        else:
            path = Path(folder) / "people.h5"
            build_hdf5(options.annotations, options.images, path, configs[0].skeleton, workers=1, max_side=options.max_side)
        for recipe, config in zip(options.config, configs):
            rows.append({"recipe": Path(recipe).stem, **measure(path, config, options.workers, options.samples, device)})
    report("data", "Training data", rows, device, options.save)


if __name__ == "__main__":
    run_cli(main)
