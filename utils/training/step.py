"""One step's work as a module, so that every kind of parallel training spreads it over its devices."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from config import Config
from data.targets import render_batch
from utils.device import as_images


def batch_on(device: torch.device, batch: NamedTuple, config: Config) -> tuple[Tensor, NamedTuple]:
    """Return a batch's images (N, 3, H, W) float32 BGR in [0, 1] and the targets of `config.system`, on the device."""
    return images_on(device, batch.image, config), render_batch(batch, config, device)


def images_on(device: torch.device, pixels: Tensor, config: Config) -> Tensor:
    """Pixels (N, H, W, 3) uint8 as images (N, 3, H, W) float32 in [0, 1], in the network's memory format."""
    images = as_images(pixels, device)
    return images if config.train.channels_last else images.contiguous()


class TrainingStep(nn.Module):
    """Network and loss together."""

    def __init__(self, network: nn.Module, loss: nn.Module, precision: str):
        super().__init__()
        self.network, self.loss = network, loss
        self.dtype = torch.float64 if precision == "float64" else torch.float32  # of weights and images
        self.autocast = getattr(torch, precision) if precision in ("bfloat16", "float16") else None

    def forward(self, images: Tensor, targets: NamedTuple) -> Tensor:
        """Return (1, ...) the loss's terms times the number of images: what DataParallel gathers sums to the whole batch's."""
        return self.loss.terms(self.outputs(images), **targets._asdict())[None] * len(images)

    def outputs(self, images: Tensor) -> Any:
        """The network's answer in the configured precision."""
        with self._precision(images.device):
            return self.network(images.to(self.dtype))

    def predict(self, images: Tensor) -> tuple[Tensor, ...]:
        """What the network answers in inference, in the configured precision."""
        with self._precision(images.device):
            outputs = self.network.predict(images.to(self.dtype))
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _precision(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, self.autocast, enabled=self.autocast is not None)
