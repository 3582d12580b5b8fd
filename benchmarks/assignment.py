"""Measure SimplePose's keypoint assignment: COCO AP from ground-truth maps, frames per second, and the growth with the number of people.

    python benchmarks/assignment.py [--config C] [--oracle DIR] [--seeds 1 2] [--limit N] [--people 1 5 20] [--save] [key=value ...]

The decoder benchmark (`--oracle`, not published with the project) renders the maps from COCO annotations: "perfect", or degraded by a seed
with missing and false peaks and uneven strength. The frames of the second table hold synthetic people at random positions. Everything runs
on one thread.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.report import benchmark_parser, fastest, report
from config import UserError, load_config
from config.errors import run_cli
from config.skeleton import VISIBLE
from config.systems.simplepose import SimplePoseConfig
from data.synthetic import random_body
from data.targets import render_targets
from utils.assignment import assign_people
from utils.assignment.torch_heatmaps import assign_people_batch
from utils.device import default_device

ORACLE = Path(__file__).resolve().parents[2] / "shared" / "oracle"
SIZE = 512, 704  # height, width of the network's input
BATCH = 4  # images of a batch on a device


def accuracy(oracle: ModuleType, config: SimplePoseConfig, seed: int | None, limit: int | None) -> dict[str, Any]:
    """Assign the people of every image of the decoder benchmark. seed: of degraded maps; None: perfect ones."""

    def assign(maps: np.ndarray, image: dict, map_to_image: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        size = image["height"], image["width"]
        keypoints, scores = assign_people(maps, config.skeleton, config.assignment, image_size=size, map_to_image=map_to_image)
        return config.skeleton.to_dataset(keypoints), scores

    measured = oracle.run(assign, limit, seed)
    row = {"maps": "perfect" if seed is None else f"seed {seed}", "images": measured["images"]}
    names = {"AP": "AP", "AR": "AR", "detections": "detections", "frames/s": "fps", "slowest, ms": "worst_ms"}
    return row | {name: measured[key] for name, key in names.items()}


def crowd(rng: np.random.Generator, count: int, config: SimplePoseConfig) -> np.ndarray:
    """Return keypoints (count, K, 3) of people at random positions, input pixels; more people are smaller."""
    joints = np.full((count, len(config.skeleton.dataset), 3), VISIBLE, float)
    for person in joints:
        body = random_body(rng)[:, :2]
        height = rng.uniform(0.5, 0.9) * SIZE[0] / max(1.0, (count / 4) ** 0.5)
        body = (body - body.min(0)) * height / np.ptp(body[:, 1])
        person[:, :2] = (body + rng.uniform(0, 1, 2) * (SIZE[::-1] - body.max(0)).clip(0))[: len(person)]
    return config.skeleton.from_dataset(joints)


def growth(config: SimplePoseConfig, count: int, frames: int, device: torch.device) -> dict[str, Any]:
    """Measure frames with a number of people: one by one in NumPy, and in batches on the device."""
    rng, everywhere = np.random.default_rng(count), np.zeros([side // config.targets.stride for side in SIZE], np.float32)
    batch = np.stack([render_targets(crowd(rng, count, config), everywhere, config) for _ in range(frames)])
    batch = (batch + rng.normal(0, 0.005, batch.shape)).astype(np.float32)
    stride = (float(config.targets.stride),) * 2
    common = config.skeleton, config.assignment
    alone = [fastest(lambda maps=maps: assign_people(maps, *common, SIZE, stride), device) for maps in batch]
    together = torch.from_numpy(batch[:BATCH]).to(device)
    seconds = fastest(lambda: assign_people_batch(together, *common, [stride] * len(together)), device) / len(together)
    return {"people": count, "ms": 1000 * float(np.mean(alone)), f"ms in batches of {len(together)}, {device.type}": 1000 * seconds}


def main() -> None:
    parser = benchmark_parser(__doc__, "of the batches, such as cpu or cuda:0")
    parser.add_argument("--config", default="config/simplepose_coco_512.yaml")
    parser.add_argument("--oracle", type=Path, default=ORACLE, metavar="DIR", help="folder of the decoder benchmark")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1], help="of degraded maps")
    parser.add_argument("--limit", type=int, help="only the first N images")
    parser.add_argument("--people", type=int, nargs="+", default=[1, 5, 20, 100], help="in a frame of the second table")
    parser.add_argument("--frames", type=int, default=4, help="for each number of people")
    options = parser.parse_intermixed_args()
    config, device = load_config(options.config, options.overrides), default_device(options.device)
    if config.system != "simplepose":
        raise UserError(f"system {config.system!r}: has no keypoint assignment; benchmarks/inference.py measures its decoding")
    torch.set_num_threads(1)
    if (options.oracle / "oracle.py").is_file():
        sys.path.insert(0, str(options.oracle))
        import oracle

        rows = [accuracy(oracle, config, seed, options.limit) for seed in (None, *options.seeds)]
        report("assignment", "Keypoint assignment of ground-truth maps, one thread", rows, save=options.save)
    else:
        print(f"--oracle {options.oracle}: no oracle.py in it; accuracy is not measured", file=sys.stderr)
    rows = [growth(config, count, options.frames, device) for count in options.people]
    title = f"Keypoint assignment by number of people, input {SIZE[0]} x {SIZE[1]}, one thread"
    report("assignment_people", title, rows, device, options.save)


if __name__ == "__main__":
    run_cli(main)
