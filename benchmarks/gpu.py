"""Measure a GPU: inference, training data, keypoint assignment and training steps, each beside its roofline.

    python benchmarks/gpu.py [--minutes 7] [--device cuda:0] [--tiny] [--save] [key=value ...]

    roofline   samples a second, or ms a sample, that the GPU's rates allow: the network's multiplications and additions at the rate of
               matrix products of that number type, the maps' bytes at the rate of copies. This run measures both rates.
    of it, %   what is reached: in inference from image files to people, in training from a batch in memory to new weights

The networks have the sizes of the papers and random weights, which find people or not by chance. A training step counts as three forward
passes. A measurement that would begin after `--minutes` is skipped, and one that ends in an error of PyTorch, such as too little memory;
stderr names them. `--tiny` takes small networks and sizes, on any device.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import assignment, data, inference, training
from benchmarks.report import benchmark_parser, fastest, report
from config import Config, UserError, load_config
from config.errors import check_minimum, run_cli
from config.load import with_overrides
from data.images import read_image
from data.synthetic import write_synthetic
from models import build_model
from utils.device import default_device
from utils.inference import PoseEstimator

Row = dict[str, Any]
RECIPES = "simplepose_coco_512", "dekr_w32_coco", "simple_baselines_r50_256x192"
TINY_RECIPES = "quickstart", "dekr_quickstart", "simple_baselines_quickstart"
TINY = "data.input_size=[64, 64]", "train.batch_size=2"
KINDS = "float32", "TF32", "bfloat16"  # of matrix products
# What is measured: overrides by name, which begins with the kind of the matrix products. PyTorch's convolutions take TF32 by default.
INFERENCE = {
    "TF32": ["inference.flip=false"],
    "TF32, flip": ["inference.flip=true"],
    "bfloat16": ["inference.flip=false", "inference.precision=bfloat16"],
    "bfloat16, flip": ["inference.flip=true", "inference.precision=bfloat16"],
}
COMPILED_INFERENCE = {"bfloat16, compile": [*INFERENCE["bfloat16"], "inference.compile=true"]}
TRAINING = {
    "float32": ["train.channels_last=false", "train.tf32=false"],
    "TF32": ["train.channels_last=false"],
    "TF32, channels_last": ["train.channels_last=true"],
    "bfloat16": ["train.channels_last=false", "train.precision=bfloat16"],
    "bfloat16, channels_last": ["train.channels_last=true", "train.precision=bfloat16"],
}
COMPILED_TRAINING = {"bfloat16, channels_last, compile": [*TRAINING["bfloat16, channels_last"], "train.compile=true"]}
BATCHES = 1, 8, 32  # of inference: the first and the fastest are shown


class Benchmark:
    """The networks, the images, the rates of the device and the time that is left."""

    def __init__(self, options: argparse.Namespace, device: torch.device, folder: Path):
        self.options, self.device = options, device
        self.end = time.perf_counter() + 60 * options.minutes
        recipes, overrides = (TINY_RECIPES, TINY) if options.tiny else (RECIPES, ())
        self.configs = {name: load_config(f"config/{name}.yaml", [*overrides, *options.overrides]) for name in recipes}
        self.batches = BATCHES[:1] if options.tiny else BATCHES
        images = write_synthetic(folder, max(self.batches), seed=2, size=(480, 640)).parent / "images"
        self.files = sorted(images.iterdir())
        self.hdf5 = data.synthetic_hdf5(folder / "training", 2 if options.tiny else 32)
        self.side = 256 if options.tiny else 8192
        self.flop_rates = {kind: 2 * self.side**3 / product_seconds(kind, self.side, device) for kind in KINDS}
        values = torch.ones(self.side, self.side, device=device)
        self.byte_rate = 2 * values.nbytes / fastest(values.clone, device, 10)

    def report(self, title: str, rows: list[Row]) -> None:
        where = "a GPU" if self.device.type == "cuda" else f"device {self.device.type}"
        report("gpu", f"{title} on {where}", rows, self.device, self.options.save)

    def run(self, title: str, tasks: dict[str, Callable[[], list[Row]]]) -> None:
        """Report the rows of the tasks that begin in time and end without an error of PyTorch."""
        rows: list[Row] = []
        for name, task in tasks.items():
            if time.perf_counter() > self.end:
                print(f"{title}, {name}: skipped after {self.options.minutes:g} minutes", file=sys.stderr, flush=True)
                continue
            try:
                rows += [{"measured": name, **row} for row in task()]
            except RuntimeError as error:  # not enough memory, or PyTorch cannot compile: the others go on
                print(f"{title}, {name}: skipped, {str(error).partition(chr(10))[0]}", file=sys.stderr, flush=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        if rows:
            self.report(title, rows)

    def run_networks(self, title: str, variants: dict[str, list[str]], measure: Callable[[Config, float], list[Row]]) -> None:
        """Report the rows of `measure(configuration, rate of matrix products)` for each network and variant."""
        tasks = {}
        for name, config in self.configs.items():
            for variant, overrides in list(variants.items())[: 1 if self.options.tiny else None]:
                rate = self.flop_rates[variant.partition(",")[0]]
                tasks[f"{name}, {variant}"] = partial(measure, with_overrides(config, overrides), rate)
        self.run(title, tasks)

    def inference(self, config: Config, flop_rate: float) -> list[Row]:
        """Measure the first batch size and the fastest."""
        eager = PoseEstimator(with_overrides(config, ["inference.compile=false"]), None, str(self.device))
        image = read_image(self.files[0])
        boxes = [np.array([[0, 0, *image.shape[1::-1]]])] if eager.needs_boxes else None
        with FlopCounterMode(display=False) as counter:
            eager.decoder.forward(eager.decoder.preprocess([image], boxes))
        estimator = PoseEstimator(config, None, str(self.device)) if config.inference.compile else eager
        rows = []
        for size in self.batches:
            row = inference.measure(estimator, self.files, size, rounds=1)
            rows.append({"batch": size, **beside(row.pop("images/s"), flop_rate / counter.get_total_flops()), **row})
        best = max(rows[1:], key=lambda row: row["samples/s"], default=None)
        return [rows[0], best] if best else rows

    def training(self, config: Config, flop_rate: float) -> list[Row]:
        with FakeTensorMode(), FlopCounterMode(display=False) as counter, torch.no_grad():
            build_model(config).eval()(torch.empty(1, 3, *config.data.input_size))
        row = training.measure(config, self.hdf5, 1 if self.options.tiny else 10, self.device)
        return [{"batch": row.pop("batch"), **beside(row.pop("samples/s"), flop_rate / (3 * counter.get_total_flops())), **row}]

    def data(self, config: Config) -> list[Row]:
        workers = [0] if self.options.tiny else sorted({1, max(1, (os.cpu_count() or 1) - 1)})
        row = data.measure(self.hdf5, config, workers, 2 if self.options.tiny else 512, self.device)
        return [{**row, "roofline, ms a sample": 1e9 * row["MB of targets a sample"] / self.byte_rate}]

    def assignment(self, config: Any, people: int) -> list[Row]:
        height, width = (side // config.targets.stride for side in assignment.SIZE)
        row = assignment.growth(config, people, assignment.BATCH, self.device)
        return [{**row, "roofline, ms": 4000 * config.channels.count * height * width / self.byte_rate}]


def product_seconds(kind: str, side: int, device: torch.device) -> float:
    """Return the seconds of a product of two square matrices."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if kind == "TF32" else "highest")
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16 if kind == "bfloat16" else None) for _ in range(2))
    seconds = fastest(lambda: a @ b, device, 10)
    torch.set_float32_matmul_precision(before)
    return seconds


def beside(rate: float, roofline: float) -> Row:
    """Return the columns of a rate beside its roofline, both in samples a second."""
    return {"samples/s": rate, "roofline": roofline, "of it, %": 100 * rate / roofline}


def main() -> None:
    parser = benchmark_parser(__doc__, "such as cuda:0")
    parser.add_argument("--minutes", type=float, default=7, help="after which nothing more begins (7)")
    parser.add_argument("--tiny", action="store_true", help="small networks and sizes, on any device: a test of this script")
    options = parser.parse_intermixed_args()
    check_minimum(0, minutes=options.minutes)
    device = default_device(options.device)
    if device.type != "cuda" and not options.tiny:
        raise UserError(f"device {device}: no NVIDIA GPU; benchmarks/inference.py and the others measure it, or try --tiny")
    with TemporaryDirectory() as folder:
        benchmark = Benchmark(options, device, Path(folder))
        rates = {f"{kind}, TFLOP/s": rate / 1e12 for kind, rate in benchmark.flop_rates.items()}
        benchmark.report("Matrix products and copies", [{"side": benchmark.side, **rates, "copies, GB/s": benchmark.byte_rate / 1e9}])
        benchmark.run_networks("Inference", INFERENCE, benchmark.inference)
        benchmark.run("Training data", {name: partial(benchmark.data, config) for name, config in benchmark.configs.items()})
        simplepose = next(iter(benchmark.configs.values()))
        numbers = (1,) if options.tiny else (1, 5, 20)
        benchmark.run("Keypoint assignment", {f"{n} people": partial(benchmark.assignment, simplepose, n) for n in numbers})
        benchmark.run_networks("A training step", TRAINING, benchmark.training)
        if not options.tiny:  # takes longest
            benchmark.run_networks("Compiled inference", COMPILED_INFERENCE, benchmark.inference)
            benchmark.run_networks("A compiled training step", COMPILED_TRAINING, benchmark.training)


if __name__ == "__main__":
    run_cli(main)
