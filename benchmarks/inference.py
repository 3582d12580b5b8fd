"""Measure inference from image files to people: images per second, and the time of each part.

    python benchmarks/inference.py [--config C ... | --checkpoint F] [--images DIR] [--batches 1 8] [--count N] [--rounds N] [--device cpu]
        [--movenet] [--save] [key=value ...]

Without --images, data/synthetic.py renders them. A system that needs person boxes gets one of the whole image. In the table

    images/s       decoded files through `PoseEstimator.stream`, the best round
    latency        of one batch by itself: the median and the 99th percentile, ms
    other columns  ms an image that the parts of `PoseEstimator` take in the stream, where two threads may work at a time

A second table of --movenet has the time of decoding alone, on one thread: ours, and MoveNet's own of the same maps.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from benchmarks.report import benchmark_parser, fastest, report
from config import Config, UserError, load_config
from config.errors import check_minimum, run_cli
from config.files import existing_folder
from data.images import IMAGE_SUFFIXES, read_image, read_images
from data.synthetic import write_synthetic
from utils.checkpoint import Checkpoint, config_for
from utils.device import limit_threads
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


def compare_with_movenet(estimator: PoseEstimator, files: list[Path], rounds: int) -> list[dict[str, Any]]:
    """Measure `DekrDecoder.decode` and `movenet_people` of the same maps of one scale in turn; the best round of each."""
    decoder = estimator.decoder
    with limit_threads(1):
        outputs = [decoder.forward(decoder.preprocess([read_image(file)], None)) for file in files]
        maps = [(heatmaps[0].cpu().numpy(), offset[0].cpu().numpy()) for _, [(_, heatmaps, offset)] in outputs]
        found = np.mean([len(decoder.decode(output)[0].scores) for output in outputs])
        tasks: dict[str, Callable[[], object]] = {f"ours, {found:.0f} people on average": lambda: [decoder.decode(out) for out in outputs]}
        for people in (6, 20):  # as published, and about as many as ours
            tasks[f"MoveNet's, {people} people"] = partial(lambda people: [movenet_people(*item, people) for item in maps], people)
        seconds = [[fastest(task, estimator.device, 1) for task in tasks.values()] for _ in range(rounds)]
    return [{"decoding": name, "ms an image": 1000 * best / len(files)} for name, best in zip(tasks, np.min(seconds, 0))]


def movenet_people(heatmaps: np.ndarray, offset: np.ndarray, people: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode people as the published MoveNet MultiPose does, but without its boxes and subpixel offsets, which DEKR's network lacks.

    heatmaps (K + 1, h, w) in [0, 1], the center last; offset (2 K, h, w). Returns keypoints (people, K, 3) x, y in map pixels and score,
    and scores (people,).
    """
    *keypoint_maps, center = heatmaps
    height, width = center.shape
    peaks = np.where(center >= cv2.dilate(center, np.ones((5, 5), np.uint8)) - 1e-6, center, 0)
    cells = np.argpartition(-peaks.ravel(), min(people, peaks.size) - 1)[:people]
    y, x = np.divmod(cells, width)
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    guess_x, guess_y = (place.astype(np.float32) + 0.5 - offset[axis::2, y, x] for axis, place in enumerate((x, y)))  # (K, people)
    distance = np.square(rows - guess_y[..., None, None]) + np.square(columns - guess_x[..., None, None])
    values = np.stack(keypoint_maps)[:, None] * np.exp(distance * np.float32(-1 / 0.3 / min(height, width)))  # (K, people, h, w)
    best = values.reshape(*values.shape[:2], -1).argmax(2)
    scores = np.take_along_axis(values.max(1).reshape(len(values), -1), best, 1)  # the highest of anyone's at this pixel
    counted = scores > 0.127
    of_person = center[y, x] * (scores * counted).sum(0) / np.maximum(counted.sum(0), 1)
    return np.stack([best % width, best // width, scores], 2).swapaxes(0, 1), of_person


def main() -> None:
    parser = benchmark_parser(__doc__, count=16)
    parser.add_argument("--config", nargs="+", default=RECIPES, help="default: the three quickstarts")
    parser.add_argument("--checkpoint", type=Path, help="default: randomly initialized weights, which find no person or very many")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], metavar="N", help="images in a batch")
    parser.add_argument("--movenet", action="store_true", help="also measure MoveNet's own decoding, of a DEKR network with its trunk")
    options = parser.parse_intermixed_args()
    check_minimum(1, batches=min(options.batches))
    checkpoint = None if options.checkpoint is None else Checkpoint(options.checkpoint)
    if checkpoint is None:
        configs: dict[str, Config] = {Path(path).stem: load_config(path, options.overrides) for path in options.config}
    else:
        own = None if options.config is RECIPES else options.config[0]
        configs = {options.checkpoint.stem: config_for(checkpoint, own, options.overrides)}
    if options.movenet and any(config.model.name != "movenet" or vars(config.inference)["scales"] != (1,) for config in configs.values()):
        raise UserError("--movenet: needs MoveNet's network and one scale; add --checkpoint dekr_small inference.scales=[1]")
    rows, decoding = [], []
    with TemporaryDirectory() as folder:
        files = image_files(options, Path(folder))
        for name, config in configs.items():
            estimator = PoseEstimator(config, checkpoint, options.device)
            if options.movenet:
                decoding += compare_with_movenet(estimator, files, options.rounds)
            rows += [{"network, batch": f"{name}, {size}", **measure(estimator, files, size, options.rounds)} for size in options.batches]
    report("inference", f"Inference, {len(files)} images", rows, estimator.device, options.save)
    if options.movenet:
        report("decoding", f"Decoding people of DEKR's maps, {len(files)} images, one thread", decoding, estimator.device, options.save)


if __name__ == "__main__":
    run_cli(main)
