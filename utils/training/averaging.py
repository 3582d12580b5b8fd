"""Stochastic weight averaging (Izmailov et al. 2018): the mean of the weights at the end of each cycle."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from config.schema import SwaConfig


def cycle_ends(epoch: int, settings: SwaConfig) -> bool:
    """Whether the epoch, counted from 0, is the last one of a cycle."""
    start = settings.start_epoch
    return start is not None and epoch >= start and (epoch + 1 - start) % settings.cycle == 0


def take_into_mean(averaged: dict[str, Tensor], averages: int, state: dict[str, Tensor]) -> int:
    """Take a state into the mean of `averages` earlier ones, in place; the number of them afterwards. Whole numbers are the last's."""
    averages += 1
    for name, tensor in state.items():
        mean = averaged.setdefault(name, torch.zeros_like(tensor, device="cpu"))
        if tensor.is_floating_point():
            mean += (tensor.cpu() - mean) / averages
        else:
            mean.copy_(tensor)
    return averages


@torch.no_grad()
def refresh_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Batch-norm statistics anew, as a plain mean over batches of images; they belong to the weights, and a mean of them to none."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            module.reset_running_stats()
            module.momentum = None  # a plain mean
    for images in batches:
        network(images)
