"""A run's log on the terminal and in train.log, and its metrics in TensorBoard and as JSON lines."""

import json
import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from config import Config
from config.files import write_text
from data.images import write_image
from utils.training.curves import draw_curves

METRICS, OLD_METRICS, CURVES = "metrics.jsonl", "curves.jsonl", "curves.png"
OF_INFERENCE = {"skeleton", "inference", "tracking", "assignment"}  # sections without hyperparameters of a training
COMPARED = ("epoch/training_loss", "epoch/validation_loss", "epoch/ap")  # metrics beside the hyperparameters
T = TypeVar("T")


def build_logger(run_dir: Path | None) -> logging.Logger:
    """Return a logger to the terminal and to train.log in `run_dir`; None: a silent one, for all ranks but rank 0."""
    log = logging.Logger("simplepose", logging.INFO)  # not registered: nothing global changes
    if run_dir is not None:
        for handler in (logging.StreamHandler(sys.stdout), logging.FileHandler(run_dir / "train.log", encoding="utf-8")):
            handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
            log.addHandler(handler)
    return log


class MetricsLogger:
    """Writes metrics by optimizer step to TensorBoard and to a file of JSON lines.

    Lines after `step` and `epoch`, of a run that was killed after its last checkpoint, are removed.
    """

    def __init__(self, run_dir: Path, step: int, epoch: int):
        self.board = SummaryWriter(str(run_dir), purge_step=step + 1 if step else 0)
        self._path = run_dir / (OLD_METRICS if step and (run_dir / OLD_METRICS).exists() else METRICS)
        write_text(self._path, "".join(_lines_until(self._path, step, epoch)))
        self._lines = self._path.open("a", encoding="utf-8", buffering=1)

    def add_config(self, step: int, config: Config, text: str) -> None:
        """Show the resolved configuration in TensorBoard: as a text, and as hyperparameters, by which it compares runs."""
        self.board.add_text("config", f"```yaml\n{text}```", step)
        values = hyperparameters(config.model_dump(mode="json", exclude=OF_INFERENCE))
        writer: Any = self.board.file_writer
        for summary in hparams(values, dict.fromkeys(COMPARED))[:2]:  # the last one says that the run has ended
            writer.add_summary(summary)

    def add(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self.board.add_scalar(name, value, step)
        finite = {name: value if np.isfinite(value) else None for name, value in metrics.items()}  # JSON has no NaN
        self._lines.write(json.dumps({"step": step, **finite}) + "\n")

    def add_images(self, step: int, name: str, images: list[np.ndarray]) -> None:
        """images: each (H, W, 3) uint8 BGR."""
        for number, image in enumerate(images):
            self.board.add_image(f"{name}/{number}", image[..., ::-1].copy(), step, dataformats="HWC")

    def draw_curves(self) -> None:
        """Plot all metrics so far, those of earlier parts of a resumed run included, in curves.png."""
        lines = self._path.read_text(encoding="utf-8").splitlines()
        write_image(self._path.with_name(CURVES), draw_curves([json.loads(line) for line in lines]))

    def close(self) -> None:
        self.board.close()
        self._lines.close()


def _lines_until(path: Path, step: int, epoch: int) -> list[str]:
    """Return the file's lines up to a step and an epoch, except what a kill has cut or a power cut damaged."""
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if step and path.exists() else ():
        with suppress(json.JSONDecodeError):
            metrics = json.loads(line)
            if metrics["step"] <= step and metrics.get("epoch/number", 0) <= epoch:
                lines.append(f"{line}\n")
    return lines


def hyperparameters(values: dict[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    """Return the values of a dumped configuration by dotted key, lists as text, without those that are None."""
    flat: dict[str, bool | float | str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= hyperparameters(value, f"{prefix}{key}.")
        elif value is not None:
            flat[prefix + key] = str(value) if isinstance(value, list) else value
    return flat


def tag(name: str) -> str:
    """Return a name without blanks and capitals, for TensorBoard."""
    return re.sub(r"\W+", "_", name.lower())


def loss_metrics(loss: nn.Module, terms: Tensor) -> dict[str, float]:
    """Return the terms of a loss by name, and their sum."""
    named = {f"loss/{tag(loss.term_name(*index))}": float(value) for index, value in np.ndenumerate(terms.cpu().numpy())}
    return {"train/loss": sum(named.values()), **named}


class StepTimer:
    """Measures steps per second, and the fraction of the time in which steps wait for their batches."""

    def __init__(self) -> None:
        self.waited, self.steps, self.since = 0.0, 0, time.perf_counter()

    def timed(self, steps: Iterable[T]) -> Iterator[T]:
        """Yield the steps' batches and measure how long each takes to come."""
        start = time.perf_counter()
        for batches in steps:
            self.waited += time.perf_counter() - start
            self.steps += 1
            yield batches
            start = time.perf_counter()

    def read(self) -> tuple[float, float]:
        """Return steps per second and the fraction of waiting since the last call."""
        seconds = time.perf_counter() - self.since
        rates = self.steps / seconds, self.waited / seconds
        self.__init__()
        return rates


def peak_memory(device: torch.device) -> float:
    """Return the most memory that this process has used, in MiB: of the GPU, else of the machine; NaN on Windows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
