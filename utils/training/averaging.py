"""Averages of the weights: an exponential one over steps (EMA), and the mean at the ends of cycles (SWA; Izmailov et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from config.schema import SwaConfig, TrainConfig
from utils.distributed import DistributedContext


class ExponentialAverage(AveragedModel):
    """PyTorch's, without its copy of the number of updates to the device, for which every step would wait there, and of shorter memory at
    first: with the full one a fresh network's weights and batch-norm statistics would be a part of it for thousands of steps.
    """

    def __init__(self, network: nn.Module, decay: float):
        super().__init__(network, use_buffers=True)
        self.decay = decay

    def decay_now(self) -> float:
        """Of the next update, a step: as TensorFlow's ExponentialMovingAverage has it where it is told the number of updates."""
        return min(self.decay, (1 + int(self.n_averaged)) / (10 + int(self.n_averaged)))

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        if self.n_averaged == 0:  # on the host; here PyTorch's own only copies
            super().update_parameters(model)
            return
        pairs = [*zip(self.module.parameters(), model.parameters()), *zip(self.module.buffers(), model.buffers())]
        averages, values = zip(*(pair for pair in pairs if pair[0].is_floating_point()))
        get_ema_multi_avg_fn(self.decay_now())(averages, values, self.n_averaged)
        counters = [pair for pair in pairs if not pair[0].is_floating_point()]
        if counters:
            torch._foreach_copy_(*zip(*counters))
        self.n_averaged += 1


def build_averages(network: nn.Module, settings: TrainConfig) -> dict[str, AveragedModel]:
    """The averages that are configured, by name: "ema" follows every step, batch-norm statistics too; "swa" the ends of cycles."""
    averages = {}
    if settings.ema_decay is not None:
        averages["ema"] = ExponentialAverage(network, settings.ema_decay)
    if settings.swa.start_epoch is not None:
        averages["swa"] = AveragedModel(network)
    return averages


def cycle_ends(epoch: int, settings: SwaConfig) -> bool:
    """Whether the epoch, counted from 0, is the last one of a cycle."""
    start = settings.start_epoch
    return start is not None and epoch >= start and (epoch + 1 - start) % settings.cycle == 0


@torch.no_grad()
def refresh_statistics(network: nn.Module, batches: Iterable[Tensor], world: DistributedContext) -> None:
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
            world.all_reduce(statistic).div_(world.size)
