"""Convert a checkpoint's state-dict keys, own or published, to a network's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Shapes = Mapping[str | None, tuple[int, ...]]
BRANCH = re.compile(r"(.+)\[(\d+)\]")


def without_prefix(key: str) -> str:
    """Remove the 'module.' of DataParallel and DistributedDataParallel."""
    return key.removeprefix("module.")


@dataclass(frozen=True)
class CheckpointKeys:
    """Pure functions on state-dict keys, beside each network as `NAMES`.

    convert_key: a checkpoint's key -> the network's own key, or None if the network does not need the tensor. A key that ends in [k] is
        branch k of one of the network's tensors, along the first axis.
    is_output: whether a tensor's shape depends on the skeleton; fine-tuning on another skeleton initializes it newly.
    recipe: the shapes of a published checkpoint by own keys -> its recipe in `config/`; None: another network's checkpoint.
    is_backbone: whether `model.backbone` fills a tensor.
    """

    convert_key: Callable[[str], str | None] = without_prefix
    is_output: Callable[[str], bool] = lambda key: False
    recipe: Callable[[Shapes], str | None] = lambda shapes: None
    is_backbone: Callable[[str], bool] = lambda key: True


def merge_branches(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Concatenate the tensors whose keys end in [0], [1], ... along the first axis; keep the others."""
    merged, branches = {}, {}
    for key, tensor in tensors.items():
        match = BRANCH.fullmatch(key)
        if match:
            branches.setdefault(match[1], {})[int(match[2])] = tensor
        else:
            merged[key] = tensor
    return merged | {key: torch.cat([of_key[k] for k in sorted(of_key)]) for key, of_key in branches.items()}
