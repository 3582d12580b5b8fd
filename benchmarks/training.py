"""What a training step costs: samples a second and peak memory, by number type, memory format and torch.compile.

    python benchmarks/training.py [--config C] [--batch-size N] [--precisions float32 bfloat16 ...] [--no-compile] [--steps N] [--rounds N]
        [key=value ...]

The step is the trainer's, from a batch that lies in memory to changed weights: samples of drawn people sent to the device, their targets
drawn there, network, loss, gradients, optimizer; not in it are the reading of samples and the dropping of bad batches. Each variant runs in
a process of its own, whose peak memory is told (on a CPU with that of Python and PyTorch, which the last line tells). They take turns of
some steps, and a variant's speed is the median of its turns. Beside it stands the speed at which matrices are multiplied in the same
numbers, in the same turns.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import itertools
import json
import platform
import resource
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from config import Config, UserError, load_config
from config.errors import at_least, run_script
from config.load import load_skeleton
from data.coco_masks_hdf5 import build_hdf5
from data.datasets import MixedDataset, collate
from data.synthetic import write_synthetic
from losses import build_loss
from models import build_model
from utils.device import default_device
from utils.training.loader import keep_freed_memory
from utils.training.optimizer import build_optimizer
from utils.training.step import TrainingStep, batch_on

PICTURES, SIZE = 8, (480, 640)  # drawn for the samples; height, width
MATRIX = {"cuda": 8192, "cpu": 1024}  # rows and columns of the matrices that are multiplied
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Variant:
    """One way to run the step. numbers: float32, tf32 (products of float32 with 10 bits; GPU), or what torch.amp casts to."""

    numbers: str
    channels_last: bool
    compiled: bool

    @property
    def memory_format(self) -> str:
        """In words."""
        return "channels_last" if self.channels_last else "contiguous"


# One variant, in a process of its own


class Step:
    """A training step as the trainer has it, of a batch as the loader gives it: sending it and drawing its targets included."""

    def __init__(self, config: Config, variant: Variant, batch: list[Tensor], device: torch.device):
        torch.manual_seed(0)
        precision = "float32" if variant.numbers == "tf32" else variant.numbers
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = variant.numbers == "tf32"
        memory_format = torch.channels_last if variant.channels_last else torch.contiguous_format
        self.network = build_model(config).to(device, memory_format=memory_format)
        self.step = TrainingStep(self.network, build_loss(config).to(device), precision).train()
        if variant.compiled:
            self.step.compile()
        self.settings = config.train.model_copy(update={"channels_last": variant.channels_last})
        self.optimizer = build_optimizer(self.network.parameters(), config.train, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
        self.config, self.device = config.model_copy(update={"train": self.settings}), device
        self.batch = [tensor.pin_memory() for tensor in batch] if device.type == "cuda" else batch

    def __call__(self) -> None:
        images, targets = batch_on(self.device, self.batch, self.config)
        loss = self.step(images, targets).sum() / len(images)
        self.scaler.scale(loss).backward()
        if self.settings.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)


def seconds_of(work: object, repeats: int, device: torch.device) -> float:
    """Seconds of one of so many calls, after one for nothing."""
    work()
    _wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    _wait(device)
    return (time.perf_counter() - start) / repeats


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(numbers: str, device: torch.device) -> float:
    """Operations a second of the product of two large square matrices."""
    side = MATRIX[device.type]
    a, b = (torch.randn(side, side, device=device, dtype=DTYPES[numbers]) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: a @ b, 5, device)


def peak_memory(device: torch.device) -> int:
    """Bytes: of a GPU, what this process's tensors took; of a CPU, all that this process took."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def take_turns(config: Config, variant: Variant, batch: list[Tensor], steps: int, device: torch.device) -> None:
    """Run `steps` steps for every line of the standard input, and answer with what they took as a line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    if device.type == "cpu":
        keep_freed_memory()  # as the trainer does
    step, before = None, peak_memory(device)
    for _ in sys.stdin:
        answer: dict[str, float | str] = {"memory_before": before}
        try:
            step = step or Step(config, variant, batch, device)
            answer["seconds"] = seconds_of(step, steps, device)
            answer["memory"] = peak_memory(device)
            answer["matrix_rate"] = matrix_rate(variant.numbers, device)
        except Exception as error:  # one that cannot be run here is a row of the table that says why
            answer["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if device.type == "cuda":
            torch.cuda.empty_cache()  # others want their turn in the same memory
        print(json.dumps(answer), file=answers, flush=True)


# All of them


def drawn_batch(config: Config, size: int, folder: Path) -> list[Tensor]:
    """A batch of the system's own training samples, images first, of drawn people."""
    annotations = write_synthetic(folder, PICTURES, seed=1, size=SIZE)
    build_hdf5(annotations, folder / "images", folder / "people.h5", load_skeleton("coco"), workers=1)
    samples = MixedDataset([folder / "people.h5"], config, augment=True)
    return collate([samples[0, number] for number in range(size)])


def operations(config: Config, batch: list[Tensor], device: torch.device) -> float:
    """Floating-point operations of a step on one sample, forth and back, as far as PyTorch counts them: convolutions, matrix products."""
    step = Step(config, Variant("float32", False, False), [tensor[:2] for tensor in batch], device)
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / min(2, len(batch.image))


def measure(commands: dict[Variant, list[str]], rounds: int) -> dict[Variant, list[dict]]:
    """The answers of each variant's process, in turns; the first is that of the first step and of torch.compile's work."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    processes = {variant: subprocess.Popen(command, **pipes) for variant, command in commands.items()}
    answers: dict[Variant, list[dict]] = {variant: [] for variant in processes}
    try:
        for round_number, (variant, process) in itertools.product(range(rounds + 1), processes.items()):
            if any("error" in answer for answer in answers[variant]):
                continue
            print(f"round {round_number} of {rounds}: {_named(variant)}", file=sys.stderr, flush=True)
            start = time.perf_counter()
            try:
                process.stdin.write("turn\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except BrokenPipeError:
                line = ""
            answer = json.loads(line) if line else {"error": f"its process ended with status {process.wait()}"}
            answers[variant].append({**answer, "turn": time.perf_counter() - start})
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    return answers


def _named(variant: Variant) -> str:
    return ", ".join([variant.numbers, variant.memory_format, *["compiled"] * variant.compiled])


def table(answers: dict[Variant, list[dict]], batch_size: int, of_sample: float) -> list[str]:
    """The lines of a Markdown table; each speed also as a part of the first variant's that ran."""
    lines = [
        "| numbers | memory format | compiled | samples/s | of the first | peak MiB | first turn s | TFLOP/s | of matrix products' |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    first, failures = None, []
    for variant, (start, *turns) in answers.items():
        words = f"| {variant.numbers} | {variant.memory_format} | {'yes' if variant.compiled else 'no'} |"
        failed = [answer["error"] for answer in (start, *turns) if "error" in answer]
        if failed:
            lines.append(words + " – |" * 6)
            failures.append(f"{_named(variant)}: {failed[0]}")
            continue
        seconds, products = (float(np.median([turn[key] for turn in turns])) for key in ("seconds", "matrix_rate"))
        rate = batch_size / seconds
        first = first or rate
        memory = max(turn["memory"] for turn in (start, *turns)) / 2**20
        done = rate * of_sample
        figures = f" {rate:.2f} | {rate / first:.2f} | {memory:.0f} | {start['turn']:.1f} | {done / 1e12:.3f} | {done / products:.0%} |"
        lines.append(words + figures)
    return [*lines, *["", *failures] * bool(failures)]


def machine(device: torch.device) -> str:
    """What it was measured on, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"


def variants(precisions: list[str] | None, compiled: bool, device: torch.device) -> list[Variant]:
    """All combinations. tf32 is a GPU's; float16, of which a CPU makes slow work, is run there only by name."""
    numbers = precisions or (list(DTYPES) if device.type == "cuda" else ["float32", "bfloat16"])
    return [Variant(*choice) for choice in itertools.product(numbers, (False, True), (False, True) if compiled else (False,))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config/simplepose_coco_512.yaml")
    parser.add_argument("--batch-size", type=int, help="default: the configuration's")
    parser.add_argument("--precisions", nargs="+", choices=list(DTYPES), help="default: all; on a CPU float32 and bfloat16")
    parser.add_argument("--no-compile", action="store_true", help="leave the variants with torch.compile out")
    parser.add_argument("--steps", type=int, default=10, help="of a turn (10)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each variant (5)")
    parser.add_argument("--device", help="such as cpu or cuda:0")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)  # a variant as JSON, and the file of its batch
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args()
    at_least(1, batch_size=options.batch_size, steps=options.steps, rounds=options.rounds)
    config, device = load_config(options.config, options.overrides), default_device(options.device)
    if options.worker:
        variant, path = options.worker
        take_turns(config, Variant(**json.loads(variant)), torch.load(path, weights_only=True), options.steps, device)
        return
    size = options.batch_size or config.train.batch_size
    if device.type != "cuda" and "tf32" in (options.precisions or ()):
        raise UserError("--precisions tf32: is a GPU's; choose others")
    with tempfile.TemporaryDirectory() as folder:
        batch = drawn_batch(config, size, Path(folder))
        common = [sys.executable, __file__, "--config", options.config, "--steps", str(options.steps), "--device", str(device)]
        chosen = variants(options.precisions, not options.no_compile, device)
        file = str(Path(folder) / "batch.pt")
        torch.save(batch, file)
        commands = {variant: [*common, *options.overrides, "--worker", json.dumps(asdict(variant)), file] for variant in chosen}
        of_sample = operations(config, batch, device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        answers = measure(commands, options.rounds)
    height, width = batch.image.shape[1:3]
    print(f"{options.config}, {size} x {height} x {width}; {machine(device)}; {of_sample / 1e9:.1f} GFLOP a sample and step\n")
    print(*table(answers, size, of_sample), sep="\n")
    if device.type == "cpu":
        before = np.median([answer["memory_before"] for turns in answers.values() for answer in turns if "memory_before" in answer])
        print(f"\nOf the peak memory, {before / 2**20:.0f} MiB are Python, PyTorch and the batch, before there is a network.")


if __name__ == "__main__":
    run_script(main)
