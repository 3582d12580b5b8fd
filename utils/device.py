"""Where and how a network computes: device, precision, number of threads."""

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from config import UserError
from config.schema import TrainConfig
from config.section import Switch

T = TypeVar("T")


def default_device(name: str | None = None) -> torch.device:
    """Return the named device; None: an NVIDIA GPU, else Apple's (MPS), else the CPU. Raises UserError where it is not available."""
    if name is None:
        found = (torch.cuda.is_available(), "cuda"), (torch.backends.mps.is_available(), "mps"), (True, "cpu")
        kind = next(kind for is_there, kind in found if is_there)
        return torch.device(kind) if kind == "cpu" else torch.device(kind, 0)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r}: not available; use cpu, cuda with an NVIDIA GPU, or mps with Apple's") from error
    return device


def check_fork(device: torch.device) -> None:
    """Raise UserError where a GPU cannot be used since the process is a fork of one that has used it."""
    if getattr(torch.get_device_module(device), "_is_in_bad_fork", bool)():
        raise fork_error(f"device {device}")


def fork_error(what: str) -> UserError:
    """Return the error of something that does not survive a fork."""
    remedy = "build the PoseEstimator in the new process only, or start processes by multiprocessing's 'spawn'"
    return UserError(f"{what}: unusable in a process that was forked from one that had used it; {remedy}")


def precise_dtype(device: torch.device) -> torch.dtype:
    """Return the device's most exact floating-point type: Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def as_images(pixels: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Return (N, 3, h, w) float32 in [0, 1] on the device, channels last, of (N, h, w, 3) uint8: bytes are sent, not floats."""
    return torch.as_tensor(pixels).to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)


def in_precision(precision: str, device: torch.device) -> torch.autocast:
    """Return a context in which networks run in this floating-point type where that is safe."""
    half = precision != "float32"
    # No cache of converted weights: each is used once, and threads would share it
    return torch.autocast(device.type, getattr(torch, precision) if half else None, enabled=half, cache_enabled=False)


def uses_channels_last(settings: TrainConfig, device: torch.device) -> bool:
    """Return whether a network in training is in that memory format. auto: on CPUs, and on NVIDIA GPUs where tensor cores compute."""
    if settings.channels_last != "auto":
        return settings.channels_last
    on_tensor_cores = settings.precision in ("bfloat16", "float16") or settings.precision == "float32" and settings.tf32
    return device.type == "cpu" or device.type == "cuda" and on_tensor_cores


def uses_compile(setting: Switch, device: torch.device) -> bool:
    """Return whether torch.compile is used. auto: on NVIDIA GPUs for which Triton, and the C compiler that it needs, are there."""
    if setting != "auto":
        return setting
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0) and bool(find_spec("triton") and compiler)


@cache
def _libraries() -> ThreadpoolController:
    """Return PyTorch's OpenMP library. Its limits hold for one thread; those of BLAS libraries would hold for all."""
    return ThreadpoolController().select(user_api="openmp")  # takes milliseconds


def limit_threads(count: int) -> AbstractContextManager:
    """Limit PyTorch to `count` threads in the calling thread: from now on, or as a context until its end.

    Other threads keep their number. `torch.set_num_threads` would change that of all threads that begin to compute later.
    """
    torch.get_num_threads()  # PyTorch sets a thread's number at its first use, and would override the limit
    return _libraries().limit(limits=count)


class PerProcess(Generic[T]):
    """A value that each process makes for itself when it first calls, as `make(*args)`: threads, a lock, or what has threads.

    A fork copies no threads, and locks as they are, perhaps taken. Pickling leaves the value behind.
    """

    def __init__(self, make: Callable[..., T], *args: Any):
        self._make, self._args = make, args
        self._values: dict[int, T] = {}

    def __call__(self) -> T:
        process = os.getpid()
        if process not in self._values:
            self._values.setdefault(process, self._make(*self._args))  # of several threads, one sets it
        return self._values[process]

    def __reduce__(self) -> tuple[Any, ...]:
        return PerProcess, (self._make, *self._args)
