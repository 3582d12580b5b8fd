"""Images a second from files to people, beside what the network alone and the machine could do, and where the time goes.

    python benchmarks/inference.py [--config C] [--checkpoint F] [--images DIR | --annotations A.json --images DIR] [--batches 1 4 8]
        [--precisions float32] [--flip on off] [--count N] [--rounds N] [--device cpu] [key=value ...]

Without --images, pictures are drawn as data/synthetic.py draws them. A system that must be told where people are gets the annotated boxes,
or where there are none the whole picture. In the tables

    floor     the network's operations, as torch.utils.flop_counter counts them, at the rate of a product of large matrices
    network   the network alone, its inputs ready, in the threads of PoseEstimator.stream
    stream    files decoded, PoseEstimator.stream, to people; in brackets how much of the network's rate that is

are images a second, the best of some rounds in turns; then come, for a batch at a time with nothing beside it, the milliseconds of each
part and of all: the median, and after a slash the 99th percentile.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import math
import platform
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from config import UserError, load_config
from config.errors import at_least, run_script
from config.files import existing_folder, read_json
from config.load import with_overrides
from config.schema import Precision
from data.images import IMAGE_SUFFIXES, read_image, read_images
from data.synthetic import write_synthetic
from utils.checkpoint import config_for
from utils.device import default_device
from utils.inference import PoseEstimator

PARTS = ("decode", "input", "network", "assignment", "all")


@dataclass(frozen=True)
class Pictures:
    """Files, the images in them, and of each the boxes (B, 4) of its people."""

    files: list[Path]
    images: list[np.ndarray]
    boxes: list[np.ndarray]


def find_pictures(folder: Path, annotations: Path | None, count: int) -> Pictures:
    """The first pictures of a folder, with the boxes of COCO's annotations, or one around all of it where there are none."""
    files = sorted(path for path in existing_folder(folder, "--images").iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)[:count]
    if not files:
        raise UserError(f"--images {folder}: no pictures in it")
    images = [read_image(file) for file in files]
    boxes = {file.name: [[0, 0, image.shape[1], image.shape[0]]] for file, image in zip(files, images)}
    if annotations is not None:
        content = read_json(annotations, "annotations")
        names = {image["id"]: image["file_name"] for image in content["images"]}
        boxes |= {name: [] for name in names.values()}
        for person in content["annotations"]:
            boxes[names[person["image_id"]]].append(person["bbox"])
    return Pictures(files, images, [np.reshape(boxes[file.name], (-1, 4)) for file in files])


def matrix_rate(precision: str, device: torch.device) -> float:
    """Operations a second of a product of large matrices."""
    side = 2048 if device.type == "cpu" else 8192
    a, b = torch.rand(2, side, side, device=device, dtype=getattr(torch, precision))

    def multiply() -> None:
        a @ b
        wait_for(device)

    return 2 * side**3 / min(_seconds(multiply) for _ in range(8))


def operations(estimator: PoseEstimator, inputs: Any) -> float:
    """The network's, for one batch."""
    with FlopCounterMode(display=False) as counter:
        estimator.decoder.forward(inputs)
    return float(counter.get_total_flops())


def _seconds(task: Callable[[], object]) -> float:
    begun = time.perf_counter()
    task()
    return time.perf_counter() - begun


class Measured:
    """One estimator on some pictures, in batches of one size."""

    def __init__(self, estimator: PoseEstimator, pictures: Pictures, batch_size: int):
        self.estimator, self.pictures, self.batch_size = estimator, pictures, batch_size
        alike: dict[Any, list[int]] = defaultdict(list)
        for number, image in enumerate(pictures.images):
            alike[estimator.decoder.alike(image.shape[:2])].append(number)
        self.batches = [group[n : n + batch_size] for group in alike.values() for n in range(0, len(group), batch_size)]
        self.inputs = [self._inputs(batch, [pictures.images[n] for n in batch]) for batch in self.batches]

    def _inputs(self, batch: Sequence[int], images: Sequence[np.ndarray]) -> Any:
        return self.estimator.decoder.preprocess(images, [self.pictures.boxes[n] for n in batch] if self.estimator.needs_boxes else None)

    def floor(self, rate: float) -> float:
        """Images a second, were the network as fast as a product of matrices; NaN where its operations are not PyTorch's."""
        total = sum(operations(self.estimator, inputs) for inputs in self.inputs)
        return len(self.pictures.files) * rate / total if total else math.nan

    def network(self) -> float:
        """Images a second of the network alone."""

        def answer(inputs: Any) -> None:
            self.estimator.decoder.forward(inputs)
            wait_for(self.estimator.device)

        return len(self.pictures.files) / _seconds(lambda: list(self.estimator._pool.map(answer, self.inputs)))

    def stream(self) -> float:
        """Images a second of everything."""
        boxes = self.pictures.boxes if self.estimator.needs_boxes else None
        return len(self.pictures.files) / _seconds(
            lambda: deque(self.estimator.stream(read_images(self.pictures.files), self.batch_size, boxes), 0)
        )

    def latencies(self) -> list[list[float]]:
        """Of each batch the milliseconds of the parts, and of all of it."""
        decoder, found = self.estimator.decoder, []
        for batch in self.batches:
            moments = [time.perf_counter()]
            images = [read_image(self.pictures.files[n]) for n in batch]
            moments.append(time.perf_counter())
            inputs = self._inputs(batch, images)
            moments.append(time.perf_counter())
            maps = decoder.forward(inputs)
            wait_for(self.estimator.device)
            moments.append(time.perf_counter())
            decoder.decode(maps)
            moments.append(time.perf_counter())
            found.append([*(1000 * np.diff(moments)), 1000 * (moments[-1] - moments[0])])
        return found

    def row(self, rate: float, rounds: int) -> list[str]:
        """Of the table: images a second, then the median and the 99th percentile of each part's milliseconds."""
        latencies, best = [], {"network": 0.0, "stream": 0.0}
        self.latencies()  # for nothing: what is slow the first time
        for _ in range(rounds):
            best = {"network": max(best["network"], self.network()), "stream": max(best["stream"], self.stream())}
            latencies += self.latencies()
        floor, part = self.floor(rate), best["stream"] / best["network"]
        speeds = ["-" if math.isnan(floor) else f"{floor:.3g}", f"{best['network']:.3g}", f"{best['stream']:.3g} ({100 * part:.0f} %)"]
        return speeds + [f"{median:.1f} / {most:.1f}" for median, most in np.percentile(latencies, (50, 99), axis=0).T]


def wait_for(device: torch.device) -> None:
    """Until what this thread asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def machine(device: torch.device) -> str:
    """What everything runs on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")] or [platform.processor()]
    return f"{names[0]}, {torch.get_num_threads()} threads"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="default: the one stored in the checkpoint, or config/quickstart.yaml")
    parser.add_argument("--checkpoint", type=Path, help="default: weights as they are drawn, which find nobody or everybody")
    parser.add_argument("--images", type=Path, help="folder; default: drawn pictures")
    parser.add_argument("--annotations", type=Path, help="COCO's, of the images: boxes for a system that needs them")
    parser.add_argument("--count", type=int, default=64, help="pictures, at most")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8], metavar="N", help="images in a batch")
    parser.add_argument("--precisions", nargs="+", choices=get_args(Precision), default=["float32"])
    parser.add_argument("--flip", nargs="+", choices=("on", "off"), default=["on", "off"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", help="such as cpu or cuda:0")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args()
    at_least(1, count=options.count, rounds=options.rounds, batches=min(options.batches))
    if options.checkpoint is None:
        config = load_config(options.config or "config/quickstart.yaml", options.overrides)
    else:
        config = config_for(options.checkpoint, options.config, options.overrides)
    device = default_device(options.device)
    with TemporaryDirectory() as folder:
        annotations, images = options.annotations, options.images
        if images is None:
            annotations = write_synthetic(Path(folder), options.count, seed=2)
            images = annotations.parent / "images"
        pictures = find_pictures(images, annotations, options.count)
        print(f"{config.system}, {len(pictures.files)} pictures, {machine(device)}\n")
        print("| precision, flip, batch | floor | network | stream | " + " | ".join(f"{part}, ms" for part in PARTS) + " |")
        print("|---" * (4 + len(PARTS)) + "|")
        rates = {precision: matrix_rate(precision, device) for precision in options.precisions}
        for precision, flip in product(options.precisions, options.flip):
            chosen = with_overrides(config, [f"inference.precision={precision}", f"inference.flip={str(flip == 'on').lower()}"])
            estimator = PoseEstimator(chosen, options.checkpoint, options.device)
            for size in options.batches:
                row = Measured(estimator, pictures, size).row(rates[precision], options.rounds)
                print(f"| {precision}, {flip}, {size} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    run_script(main)
