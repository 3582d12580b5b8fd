"""Measure inference from image files to people: images per second, and the time of each part.

    python benchmarks/inference.py [--config C ... | --checkpoint F] [--images DIR [--annotations A.json]] [--batches 1 8] [--flip on off]
        [--count N] [--rounds N] [--device cpu] [--save] [key=value ...]

Without --images, data/synthetic.py renders them. A system that needs person boxes gets the annotated ones, or without annotations the whole
image. In the table

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
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.report import report
from config import Config, UserError, load_config
from config.errors import check_minimum, run_cli
from config.files import existing_folder, read_json
from config.load import with_overrides
from data.images import IMAGE_SUFFIXES, read_image, read_images
from data.synthetic import write_synthetic
from utils.checkpoint import config_for
from utils.inference import PoseEstimator

RECIPES = [f"config/{name}quickstart.yaml" for name in ("", "dekr_", "simple_baselines_")]


@dataclass(frozen=True)
class Images:
    """Image files, and the boxes (B, 4) of the people in each."""

    files: list[Path]
    boxes: list[np.ndarray]


def find_images(folder: Path, annotations: Path | None, count: int) -> Images:
    """Return the first `count` images of a folder, with the boxes of COCO annotations, or else one box around the whole image."""
    files = sorted(path for path in existing_folder(folder, "--images").iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)[:count]
    if not files:
        raise UserError(f"--images {folder}: no images in it")
    if annotations is None:
        return Images(files, [np.array([[0, 0, *read_image(file).shape[1::-1]]], float) for file in files])
    content = read_json(annotations, "annotations")
    names = {image["id"]: image["file_name"] for image in content["images"]}
    boxes: dict[str, list] = {file.name: [] for file in files}
    for person in content["annotations"]:
        boxes.get(names[person["image_id"]], []).append(person["bbox"])
    return Images(files, [np.reshape(boxes[file.name], (-1, 4)) for file in files])


def measure(estimator: PoseEstimator, images: Images, batch_size: int, rounds: int) -> dict[str, Any]:
    """Measure images per second, milliseconds per batch, and milliseconds per image of each part."""
    boxes, count = images.boxes if estimator.needs_boxes else None, len(images.files)

    def stream() -> float:
        start = time.perf_counter()
        deque(estimator.stream(read_images(images.files), batch_size, boxes), 0)
        return time.perf_counter() - start

    stream()  # the first run also loads and plans what the others reuse
    before = dict(estimator.seconds)
    best = min(stream() for _ in range(rounds))
    spent = {part: seconds - before[part] for part, seconds in estimator.seconds.items() if part != "detection"}
    parts = {f"{part}, ms": 1000 * seconds / count / rounds for part, seconds in spent.items()}
    median, slow = np.percentile(_batch_seconds(estimator, images, batch_size), (50, 99))
    return {"images/s": count / best, "latency, ms": f"{1000 * median:.0f} / {1000 * slow:.0f}", **parts}


def _batch_seconds(estimator: PoseEstimator, images: Images, batch_size: int) -> Sequence[float]:
    seconds = []
    for first in range(0, len(images.files), batch_size):
        files, boxes = (of_all[first : first + batch_size] for of_all in (images.files, images.boxes))
        start = time.perf_counter()
        estimator.batch([read_image(file) for file in files], boxes if estimator.needs_boxes else None)
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", nargs="+", default=RECIPES, help="default: the three quickstarts")
    parser.add_argument("--checkpoint", type=Path, help="default: randomly initialized weights, which find no person or very many")
    parser.add_argument("--images", type=Path, help="folder; default: synthetic images")
    parser.add_argument("--annotations", type=Path, help="COCO annotations of the images: boxes for a system that needs them")
    parser.add_argument("--count", type=int, default=16, help="images, at most")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], metavar="N", help="images in a batch")
    parser.add_argument("--flip", nargs="+", choices=("on", "off"), default=["on", "off"], help="flip test")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", help="such as cpu or cuda:0")
    parser.add_argument("--save", action="store_true", help="append the rows to benchmarks/results/")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args()
    check_minimum(1, count=options.count, rounds=options.rounds, batches=min(options.batches))
    configs: dict[str, Config] = {Path(path).stem: load_config(path, options.overrides) for path in options.config}
    if options.checkpoint is not None:
        own = None if options.config is RECIPES else options.config[0]
        configs = {options.checkpoint.stem: config_for(options.checkpoint, own, options.overrides)}
    rows = []
    with TemporaryDirectory() as folder:
        annotations, directory = options.annotations, options.images
        if directory is None:
            annotations = write_synthetic(Path(folder), options.count, seed=2)
            directory = annotations.parent / "images"
        images = find_images(directory, annotations, options.count)
        for (name, config), flip in product(configs.items(), options.flip):
            chosen = with_overrides(config, [f"inference.flip={str(flip == 'on').lower()}"])
            estimator = PoseEstimator(chosen, options.checkpoint, options.device)
            for size in options.batches:
                rows.append({"network, flip, batch": f"{name}, {flip}, {size}", **measure(estimator, images, size, options.rounds)})
    report("inference", f"Inference, {len(images.files)} images", rows, estimator.device, options.save)


if __name__ == "__main__":
    run_cli(main)
