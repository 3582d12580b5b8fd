"""The optimizer, the learning rate (paper section 4.1), frozen parameters, and averages of the weights."""

import importlib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from config import UserError
from config.schema import SwaConfig, TrainConfig
from utils.distributed import DistributedContext

APEX_INSTALL = (
    "APEX_CPP_EXT=1 APEX_CUDA_EXT=1 pip install --no-build-isolation git+https://github.com/NVIDIA/apex"
    " (PyPI's package 'apex' is a different project)"
)


def build_optimizer(parameters: Iterable[nn.Parameter], settings: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    """Return the optimizer of `train.optimizer`. Raises UserError where NVIDIA Apex is configured and not installed."""
    name = settings.optimizer
    values: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    values |= {"momentum": settings.momentum} if name.endswith("sgd") else {"betas": (settings.momentum, 0.999)}
    if not name.startswith("apex"):
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
        return kind(parameters, fused=device.type in ("cuda", "cpu"), **values)  # one kernel for all tensors instead of several each
    if device.type != "cuda":
        raise UserError(f"train.optimizer={name}: NVIDIA Apex's fused optimizers need a GPU; use sgd, adam or adamw")
    try:
        return getattr(importlib.import_module("apex.optimizers"), "FusedSGD" if name == "apex_sgd" else "FusedAdam")(parameters, **values)
    except (ImportError, AttributeError, RuntimeError) as error:  # the last where it was built without its kernels
        raise UserError(f"NVIDIA Apex is not installed ({error}); install it with: {APEX_INSTALL}, or set train.optimizer=sgd") from error


def learning_rate(epoch: int, step: float, steps_per_epoch: float, settings: TrainConfig, ranks: int = 1, skipped: int = 0) -> float:
    """Return the learning rate of one optimizer step. epoch and step (in the epoch) count from 0; skipped: those of the run so far.

    Linear warm-up over the steps that were not skipped, then a decay at each milestone, or else every `decay_every` epochs, from
    `late_epoch` on every `late_decay_every`; a saw-tooth while weights are averaged (SWA).
    """
    s = settings
    ranks = ranks if s.scale_rate_by_processes else 1
    if s.swa.start_epoch is not None and epoch >= s.swa.start_epoch:
        done = ((epoch - s.swa.start_epoch) % s.swa.cycle + step / steps_per_epoch) / s.swa.cycle
        return ranks * (s.swa.high + (s.swa.low - s.swa.high) * done)
    if s.milestones is not None:
        decays = sum(epoch >= milestone for milestone in s.milestones)
    else:
        decays = min(epoch, s.late_epoch) // s.decay_every + max(epoch - s.late_epoch, 0) // s.late_decay_every
    lr = s.learning_rate * ranks * s.decay**decays
    warmup_steps = s.warmup_epochs * steps_per_epoch
    return lr * min(1.0, (epoch * steps_per_epoch + step + 1 - skipped) / warmup_steps) if warmup_steps else lr


def frozen_names(network: nn.Module, patterns: Iterable[str]) -> set[str]:
    """Return the names of the parameters that match one of the patterns."""
    patterns = list(patterns)
    return {name for name, _ in network.named_parameters() if any(fnmatchcase(name, pattern) for pattern in patterns)}


def freeze(network: nn.Module, patterns: Iterable[str]) -> None:
    """Freeze the parameters that match one of the patterns. Raises UserError where a pattern matches none, or nothing is left."""
    parameters = dict(network.named_parameters())
    for pattern in patterns:
        names = frozen_names(network, [pattern])
        if not names:
            raise UserError(f"train.freeze: no parameter matches {pattern!r}; names are like {next(iter(parameters))}")
        for name in names:
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise UserError("train.freeze: no trainable parameters remain")


def set_train_mode(step: nn.Module, network: nn.Module) -> None:
    """Switch to training mode, except batch norms whose parameters are all frozen: their statistics stay too."""
    step.train()
    for module in network.modules():
        trainable = [parameter.requires_grad for parameter in module.parameters()]
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and trainable and not any(trainable):
            module.eval()


class EMA(AveragedModel):
    """PyTorch's exponential moving average, without its copy of the update count to the device, for which every step would wait there.

    Its memory is shorter at first; otherwise the initial weights and batch-norm statistics would be a part of it for thousands of steps.
    """

    def __init__(self, network: nn.Module, decay: float):
        super().__init__(network, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        if self.n_averaged == 0:  # on the host; here PyTorch's own only copies
            super().update_parameters(model)
            return
        pairs = [*zip(self.module.parameters(), model.parameters()), *zip(self.module.buffers(), model.buffers())]
        averages, values = zip(*(pair for pair in pairs if pair[0].is_floating_point()))
        decay = min(self.decay, (1 + int(self.n_averaged)) / (10 + int(self.n_averaged)))  # as TensorFlow's, with the number of updates
        get_ema_multi_avg_fn(decay)(averages, values, self.n_averaged)
        counters = [pair for pair in pairs if not pair[0].is_floating_point()]
        if counters:
            torch._foreach_copy_(*zip(*counters))
        self.n_averaged += 1


def build_averages(network: nn.Module, settings: TrainConfig) -> dict[str, AveragedModel]:
    """Return the configured averages by name: "ema" follows every step, "swa" the ends of cycles (Izmailov et al. 2018)."""
    averages: dict[str, AveragedModel] = {}
    if settings.ema_decay is not None:
        averages["ema"] = EMA(network, settings.ema_decay)
    if settings.swa.start_epoch is not None:
        averages["swa"] = AveragedModel(network)
    return averages


def cycle_ends(epoch: int, settings: SwaConfig) -> bool:
    """Return whether the epoch, counted from 0, is the last one of a cycle."""
    start = settings.start_epoch
    return start is not None and epoch >= start and (epoch + 1 - start) % settings.cycle == 0


@torch.no_grad()
def update_bn(network: nn.Module, batches: Iterable[Tensor], context: DistributedContext) -> None:
    """Recompute batch-norm statistics as a plain mean over the batches of images of all ranks; a mean of weights has none of its own.

    `torch.optim.swa_utils.update_bn`, for a network in training mode. Frozen batch norms keep their statistics.
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
            context.all_reduce(statistic).div_(context.size)
