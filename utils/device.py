"""The device that a network runs on."""

from __future__ import annotations

import torch

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
