"""Measure a training step: samples per second and peak memory.

    python benchmarks/training.py [--config C] [--steps N] [--device cpu] [--save] [key=value ...]

The steps are those of `train_one_epoch`: a batch of synthetic people, already in memory, is sent to the device; targets, network, loss,
gradients and optimizer follow. To compare number types, memory formats or torch.compile, run it once for each, for example with
train.precision=bfloat16, train.channels_last=true or train.compile=true: the peak memory is that of the whole process on a CPU, and that
of the tensors on a GPU.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.data import synthetic_hdf5
from benchmarks.report import benchmark_parser, report, wait_for
from config import Config, load_config
from config.errors import check_minimum, run_cli
from config.load import with_overrides
from data.datasets import MixedDataset, collate
from utils.device import default_device
from utils.distributed import DistributedContext
from utils.training.build import build_state, open_run_dir, set_precision
from utils.training.logging import peak_memory
from utils.training.trainer import train_one_epoch


class Repeated:
    """Yields one batch for every step of an epoch, and records the time of each request."""

    def __init__(self, batch: Any, steps: int, device: torch.device):
        self.batch, self.steps, self.device = batch, steps, device
        self.moments: list[float] = []

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        for step in range(self.steps + 1):
            wait_for(self.device)
            self.moments.append(time.perf_counter())
            if step < self.steps:
                yield self.batch


def measure(config: Config, hdf5: Path, steps: int, device: torch.device) -> dict[str, Any]:
    """Measure samples per second, the median step, the first step in seconds, and the peak memory, on a batch of the training HDF5."""
    config = with_overrides(config, ["train.checkpoint_every=null", "train.accumulate=1"])
    set_precision(config)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    torch.compiler.reset()  # a first step compiles
    dataset = MixedDataset([hdf5], config, augment=True)
    batch = collate([dataset[0, number] for number in range(config.train.batch_size)])
    if device.type == "cuda":
        batch = batch._make(tensor.pin_memory() for tensor in batch)  # as the loader does
    with TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        state, messages = build_state(config, Path(folder) / "run", DistributedContext("none", device))
        (Path(folder) / "run").mkdir()
        open_run_dir(state, messages)
        loader = Repeated(batch, steps + 1, device)
        train_one_epoch(state, loader, 0)
        state.metrics.close()
    first, *others = np.diff(loader.moments)
    height, width = config.data.input_size
    return {
        "batch": f"{config.train.batch_size} x {height} x {width}",
        "samples/s": config.train.batch_size / float(np.median(others)),
        "step, ms": 1000 * float(np.median(others)),
        "first step, s": float(first),
        "peak, MiB": peak_memory(device),
    }


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--config", default="config/quickstart.yaml")
    parser.add_argument("--steps", type=int, default=5, help="after a first one, which also compiles and plans")
    options = parser.parse_intermixed_args()
    check_minimum(1, steps=options.steps)
    config, device = load_config(options.config, options.overrides), default_device(options.device)
    name = " ".join([Path(options.config).stem, *options.overrides])
    with TemporaryDirectory() as folder:
        row = measure(config, synthetic_hdf5(Path(folder), 8), options.steps, device)
    report("training", "A training step", [{"recipe": name, **row}], device, options.save)


if __name__ == "__main__":
    run_cli(main)
