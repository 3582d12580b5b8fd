"""What tensors are called: in our networks and in checkpoints of other origin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def without_prefix(name: str) -> str:
    """The name without the 'module.' that DataParallel and DistributedDataParallel put before it."""
    return name.removeprefix("module.")


@dataclass(frozen=True)
class TensorNames:
    """Pure functions on names, beside each network as `NAMES`.

    ours: a tensor's name in a checkpoint, ours or of another origin -> its name in our network; None for one that ours has no use for.
    is_output: whether the shape of one of our tensors depends on the skeleton, so that fine-tuning on another one draws it anew.
    """

    ours: Callable[[str], str | None] = without_prefix
    is_output: Callable[[str], bool] = lambda name: False
