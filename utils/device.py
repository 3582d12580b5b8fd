"""Where and how a network computes: device, precision, number of threads."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from config import UserError


def default_device(name: str | None = None) -> torch.device:
    """Return the named device, or a GPU if there is one. Raises UserError where the named one is not available."""
    if name is None:
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r}: not available; use cpu, or cuda on a machine with an NVIDIA GPU") from error
    return device


def as_images(pixels: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Return (N, 3, h, w) float32 in [0, 1] on the device, channels last, of (N, h, w, 3) uint8: bytes are sent, not floats."""
    return torch.as_tensor(pixels).to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)


def in_precision(precision: str, device: torch.device) -> torch.autocast:
    """Return a context in which networks run in this floating-point type where that is safe."""
    half = precision != "float32"
    # No cache of converted weights: each is used once, and threads would share it
    return torch.autocast(device.type, getattr(torch, precision) if half else None, enabled=half, cache_enabled=False)


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # finds PyTorch's OpenMP library, which takes milliseconds


def limit_threads(count: int) -> AbstractContextManager:
    """Limit PyTorch to `count` threads in the calling thread: from now on, or as a context until its end.

    Other threads keep their number. `torch.set_num_threads` would change that of all threads that begin to compute later.
    """
    torch.get_num_threads()  # PyTorch sets a thread's number at its first use, and would override the limit
    return _libraries().limit(limits=count, user_api="openmp")
