"""Averages of the weights: an exponential one over steps (EMA), and the mean at the ends of cycles (SWA; Izmailov et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from config.schema import SwaConfig, TrainConfig
from utils.distributed import World


def build_averages(network: nn.Module, settings: TrainConfig) -> dict[str, AveragedModel]:
    """The averages that are configured, by name: "ema" follows every step, batch-norm statistics too; "swa" the ends of cycles."""
    averages = {}
    if settings.ema_decay is not None:
        averages["ema"] = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay), use_buffers=True)
    if settings.swa.start_epoch is not None:
        averages["swa"] = AveragedModel(network)
    return averages


def cycle_ends(epoch: int, settings: SwaConfig) -> bool:
    """Whether the epoch, counted from 0, is the last one of a cycle."""
    start = settings.start_epoch
    return start is not None and epoch >= start and (epoch + 1 - start) % settings.cycle == 0


@torch.no_grad()
def refresh_statistics(network: nn.Module, batches: Iterable[Tensor], world: World) -> None:
    """Batch-norm statistics anew, as a plain mean over the batches of images of all processes; a mean of weights has none of its own.

    `torch.optim.swa_utils.update_bn` for a network in training mode whose frozen batch norms keep what they have.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
    for images in batches:
        network(images)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        for statistic in (norm.running_mean, norm.running_var):
            world.sum(statistic).div_(world.size)
