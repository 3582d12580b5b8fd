"""What a run says: a line at a time on the terminal and in its log, and curves in TensorBoard with a JSON line for each point."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from config.files import write_text

CURVES_NAME = "curves.jsonl"


def run_log(path: Path | None) -> logging.Logger:
    """The run's log, on the terminal and in train.log; silent where `path` is None (all processes but the first)."""
    log = logging.getLogger("simplepose")
    for handler in list(log.handlers):
        handler.close()
        log.removeHandler(handler)
    log.propagate = False
    log.setLevel(logging.INFO if path is not None else logging.CRITICAL)
    if path is not None:
        for handler in (logging.StreamHandler(sys.stdout), logging.FileHandler(path / "train.log", encoding="utf-8")):
            handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
            log.addHandler(handler)
    return log


class Curves:
    """Points of a run's curves, by optimizer step.

    Those beyond `step` and `epoch`, of a run that was killed after its last checkpoint, are removed.
    """

    def __init__(self, folder: Path, step: int, epoch: int):
        self.board = SummaryWriter(str(folder), purge_step=step + 1 if step else 0)
        path = folder / CURVES_NAME
        write_text(path, "".join(_lines_until(path, step, epoch)))
        self._lines = path.open("a", encoding="utf-8", buffering=1)

    def add(self, step: int, values: dict[str, float]) -> None:
        """One point of each named curve."""
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        self._lines.write(json.dumps({"step": step, **{name: _finite(value) for name, value in values.items()}}) + "\n")

    def pictures(self, step: int, name: str, pictures: list[np.ndarray]) -> None:
        """Pictures, each (H, W, 3) uint8 BGR."""
        for number, picture in enumerate(pictures):
            self.board.add_image(f"{name}/{number}", picture[..., ::-1].copy(), step, dataformats="HWC")

    def flush(self) -> None:
        """Have everything on the disk."""
        self.board.flush()

    def close(self) -> None:
        self.board.close()
        self._lines.close()


def _lines_until(path: Path, step: int, epoch: int) -> list[str]:
    if not path.exists() or not step:
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    points = [(line, _point(line)) for line in lines if line.endswith("\n")]
    return [line for line, point in points if point is not None and point["step"] <= step and point.get("epoch/number", 0) <= epoch]


def _point(line: str) -> dict[str, float] | None:
    """A line's point; None where a power cut has left a hole."""
    try:
        point = json.loads(line)
    except json.JSONDecodeError:
        return None
    return point if isinstance(point, dict) and "step" in point else None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None  # JSON has no word for it


def loss_values(loss: nn.Module, parts: Tensor) -> dict[str, float]:
    """A loss by its terms, as `terms` of the loss gives them, and their sum."""
    named = {f"parts/{loss.term_name(*index)}": float(value) for index, value in np.ndenumerate(parts.cpu().numpy())}
    return {"train/loss": sum(named.values()), **named}


def memory_peak(device: torch.device) -> float:
    """Return the most memory that this process has taken so far, in MiB: of the GPU, else of the machine; NaN on Windows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
