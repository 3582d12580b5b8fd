"""What exported networks cost and how far they are from PyTorch's: ONNX Runtime beside PyTorch, in turns, on one thread of the CPU.

Both as `PoseEstimator` has them.

    python benchmarks/export.py [runs/quickstart/best.pth config/dekr_w32_coco.yaml ...] [--batch 1] [--rounds 5]

Of a checkpoint its network; of a configuration one with drawn weights, as far from zero as trained ones are.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import argparse
import math
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor

from config import load_config
from config.errors import at_least, run_script
from models import build_model
from utils.checkpoint import config_for, save_checkpoint
from utils.export import export, photographs
from utils.inference import PoseEstimator

QUICKSTARTS = [f"runs/{name}/best.pth" for name in ("quickstart", "dekr_quickstart", "simple_baselines_quickstart")]
PUBLISHED = [f"config/{name}.yaml" for name in ("simplepose_coco_512", "dekr_w32_coco", "dekr_w48_coco", "simple_baselines_r50_256x192")]


def drawn_weights(network: torch.nn.Module) -> dict[str, Tensor]:
    """Weights with which signals stay about as large from layer to layer."""
    generator, weights = torch.Generator().manual_seed(0), network.state_dict()
    for name, tensor in weights.items():
        if tensor.ndim > 1:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (0.7 / math.sqrt(tensor[0].numel())))
        elif tensor.ndim:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + (0.5 if name.endswith(("var", "weight")) else -0.5))
    return weights


def compare(source: Path, folder: Path, batch: int, rounds: int) -> None:
    """Print a row: sizes, parameters, megabytes, the best milliseconds of each, the largest difference relative to the largest value."""
    checkpoint, exported = source, folder / "model.onnx"
    config = load_config(source) if source.suffix == ".yaml" else config_for(source)
    if source.suffix == ".yaml":
        checkpoint = folder / "model.pth"
        save_checkpoint(checkpoint, weights=drawn_weights(build_model(config)), config=config.model_dump(mode="json"))
    differences = export(config, checkpoint, exported)
    network, runtime = (PoseEstimator(config, path, "cpu").network for path in (checkpoint, exported))
    images = photographs(batch, config.data.input_size).contiguous(memory_format=torch.channels_last)  # as decoders give them
    with torch.inference_mode():
        ours, theirs = best_seconds([lambda: network.answer(images), lambda: runtime.answer(images)], rounds)
    name = source.stem if source.suffix == ".yaml" else source.parent.name
    parameters, size = sum(p.numel() for p in build_model(config).parameters()) / 1e6, exported.stat().st_size / 1e6
    far = max(difference.largest / difference.of for difference in differences)
    cells = [name, "{} x {}".format(*images.shape[2:]), f"{parameters:.1f} M", f"{size:.1f} MB"]
    cells += [f"{1000 * seconds:.0f} ms" for seconds in (ours, theirs)]
    print(f"| {' | '.join([*cells, f'{far:.1e}'])} |", flush=True)


def best_seconds(tasks: list[Callable[[], object]], rounds: int) -> list[float]:
    """The least seconds of each task, run in turns after a first round for nothing: on a machine with other work the truest."""
    seconds: list[list[float]] = [[] for _ in tasks]
    for _ in range(rounds + 1):
        for task, of_task in zip(tasks, seconds):
            start = time.perf_counter()
            task()
            of_task.append(time.perf_counter() - start)
    return [min(of_task[1:]) for of_task in seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", type=Path, default=[Path(path) for path in QUICKSTARTS + PUBLISHED], metavar="FILE")
    parser.add_argument("--batch", type=int, default=1, help="images that are run together")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    at_least(1, batch=options.batch, rounds=options.rounds)
    torch.set_num_threads(1)
    print("| network | image | parameters | file | PyTorch | ONNX Runtime | largest difference |")
    for source in options.sources:
        with tempfile.TemporaryDirectory() as folder:
            compare(source, Path(folder), options.batch, options.rounds)


if __name__ == "__main__":
    run_script(main)
