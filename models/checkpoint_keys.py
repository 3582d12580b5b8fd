"""What tensors are called: in our networks and in checkpoints of other origin."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Shapes = Mapping[str | None, tuple[int, ...]]
PART = re.compile(r"(.+)\[(\d+)\]")


def without_prefix(name: str) -> str:
    """The name without the 'module.' that DataParallel and DistributedDataParallel put before it."""
    return name.removeprefix("module.")


@dataclass(frozen=True)
class CheckpointKeys:
    """Pure functions on names, beside each network as `NAMES`.

    ours: a tensor's name in a checkpoint, ours or of another origin -> its name in our network; None for one that ours has no use for.
        A name with [k] after it is the part number k of one of our tensors, along its first axis.
    is_output: whether the shape of one of our tensors depends on the skeleton, so that fine-tuning on another one draws it anew.
    recipe: the shapes of a published checkpoint's tensors by our names -> the recipe in `config/` that it was trained with; None: it is
        none of this network.
    trunk: whether one of our tensors belongs to the part that is trained beforehand, on other tasks; None: all but the outputs do.
    """

    ours: Callable[[str], str | None] = without_prefix
    is_output: Callable[[str], bool] = lambda name: False
    recipe: Callable[[Shapes], str | None] = lambda shapes: None
    trunk: Callable[[str], bool] | None = None

    def is_backbone(self, name: str) -> bool:
        """Whether `model.backbone` fills one of our tensors."""
        return not self.is_output(name) if self.trunk is None else self.trunk(name)


def joined(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors whose names end in [0], [1], ... as one each, along the first axis; the others as they are."""
    whole, parts = {}, {}
    for name, tensor in tensors.items():
        part = PART.fullmatch(name)
        if part:
            parts.setdefault(part[1], {})[int(part[2])] = tensor
        else:
            whole[name] = tensor
    return whole | {name: torch.cat([of_name[k] for k in sorted(of_name)]) for name, of_name in parts.items()}
