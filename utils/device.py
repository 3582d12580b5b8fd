"""The device that a network runs on, and what goes there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from config import UserError


def default_device(name: str | None = None) -> torch.device:
    """The named device, or a GPU if there is one. Raises UserError where the named one is not there."""
    if name is None:
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r}: not available here; use cpu, or cuda on a machine with an NVIDIA GPU") from error
    return device


def as_images(pixels: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """(N, h, w, 3) uint8 -> (N, 3, h, w) float32 in [0, 1] on the device, channels last: it is bytes that are sent there."""
    return torch.as_tensor(pixels).to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)


def in_precision(precision: str, device: torch.device) -> torch.autocast:
    """Within it, networks run in this floating-point type as far as that is safe."""
    half = precision != "float32"
    # No cache of converted weights: each is used once, and threads would share it
    return torch.autocast(device.type, getattr(torch, precision) if half else None, enabled=half, cache_enabled=False)


@contextmanager
def in_one_thread() -> Iterator[None]:
    """Within, PyTorch computes in one thread: of many small steps, where several would wait for each other, and in vain on a busy core.

    The number is the process's: other threads that begin to compute meanwhile have one too.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
