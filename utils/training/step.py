"""One step's work as a module, so that every kind of parallel training spreads it over its devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from config import Config
from data.targets import targets_of
from utils.device import as_images


def batch_on(device: torch.device, batch: Sequence[Tensor], config: Config) -> tuple[Tensor, ...]:
    """What the loader sent: images (N, 3, H, W) float32 BGR in [0, 1] and the targets of `config.system`, drawn there."""
    pixels, *annotated = batch
    return images_on(device, pixels, config), *targets_of(config)(config, device, *annotated)


def images_on(device: torch.device, pixels: Tensor, config: Config) -> Tensor:
    """Pixels (N, H, W, 3) uint8 as images (N, 3, H, W) float32 in [0, 1], in the network's memory format."""
    images = as_images(pixels, device)
    return images if config.train.channels_last else images.contiguous()


class TrainingStep(nn.Module):
    """Network and loss together."""

    def __init__(self, network: nn.Module, loss: nn.Module, precision: str):
        super().__init__()
        self.network, self.loss = network, loss
        self.dtype = torch.float64 if precision == "float64" else torch.float32  # of weights, images and targets
        self.autocast = getattr(torch, precision) if precision in ("bfloat16", "float16") else None

    def forward(self, images: Tensor, *targets: Tensor) -> Tensor:
        """(1, ...) the loss's parts, times the number of images: what DataParallel gathers then sums to the whole batch's."""
        targets = tuple(target.to(self.dtype) if target.is_floating_point() else target for target in targets)
        return self.loss.parts(self.outputs(images), *targets)[None] * len(images)

    def outputs(self, images: Tensor) -> Any:
        """The network's answer in the configured precision."""
        with self._precision(images.device):
            return self.network(images.to(self.dtype))

    def predict(self, images: Tensor) -> tuple[Tensor, ...]:
        """What the network answers in inference, in the configured precision."""
        with self._precision(images.device):
            outputs = self.network.answer(images.to(self.dtype))
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _precision(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, self.autocast, enabled=self.autocast is not None)
