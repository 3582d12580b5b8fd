"""What a run says: a line at a time on the terminal and in its log, and curves in TensorBoard."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter


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


def log_step(board: SummaryWriter | None, loss: nn.Module, step: int, parts: Tensor, rate: float, speed: float) -> None:
    """A point of every curve. parts: the loss's; rate: the learning rate; speed: samples a second."""
    if board is None:
        return
    for index, value in np.ndenumerate(parts.cpu().numpy()):
        board.add_scalar(f"parts/{loss.part_name(*index)}", value, step)
    board.add_scalar("train/loss", parts.sum().item(), step)
    board.add_scalar("train/learning rate", rate, step)
    board.add_scalar("train/samples a second", speed, step)


def log_pictures(board: SummaryWriter, pictures: list[np.ndarray], epoch: int) -> None:
    """Validation pictures, each (H, W, 3) uint8 BGR."""
    for number, picture in enumerate(pictures):
        board.add_image(f"validation/{number}", picture[..., ::-1].copy(), epoch, dataformats="HWC")
