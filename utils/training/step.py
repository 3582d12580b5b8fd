"""One training step: network and loss as one module, and the check that lets the step change the weights."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from config import Config
from data.targets import render_batch
from utils.device import as_images, uses_channels_last
from utils.distributed import DistributedContext


def to_device(device: torch.device, batch: Any, config: Config) -> tuple[Tensor, NamedTuple]:
    """Return a batch's images (N, 3, H, W) float32 BGR in [0, 1] and the targets of `config.system`, on the device."""
    return images_to_device(device, batch.image, config), render_batch(batch, config, device)


def images_to_device(device: torch.device, pixels: Tensor, config: Config) -> Tensor:
    """Return pixels (N, H, W, 3) uint8 as images (N, 3, H, W) float32 in [0, 1], in the network's memory format."""
    images = as_images(pixels, device)
    return images if uses_channels_last(config.train, device) else images.contiguous()


class TrainingStep(nn.Module):
    """Network and loss together, so that every kind of parallel training spreads both over its devices."""

    def __init__(self, network: nn.Module, loss: nn.Module, precision: str):
        super().__init__()
        self.network, self.loss = network, loss
        self.dtype = torch.float64 if precision == "float64" else torch.float32  # of weights and images
        self.autocast = getattr(torch, precision) if precision in ("bfloat16", "float16") else None

    def forward(self, images: Tensor, targets: NamedTuple) -> Tensor:
        """Return (1, ...) the loss's terms times the number of images: what DataParallel gathers sums to the whole batch's."""
        return self.loss.terms(self.outputs(images), **targets._asdict())[None] * len(images)

    def outputs(self, images: Tensor) -> Any:
        """Return the network's outputs in the configured precision."""
        with self._precision(images.device):
            return self.network(images.to(self.dtype))

    def predict(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what the network predicts in inference, in the configured precision."""
        with self._precision(images.device):
            outputs = self.network.predict(images.to(self.dtype))
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _precision(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, self.autocast, enabled=self.autocast is not None)


class StepCheck:
    """Whether a step may change the weights, and whether to stop after it: the same on all ranks, and read without stalling the device.

    losses (B,): of this rank's batches. limit: the largest accepted loss; None: any finite one. stop: whether this rank got a signal.
    """

    def __init__(self, losses: Tensor, limit: float | None, stop: bool, context: DistributedContext):
        losses = losses.detach()
        good = torch.isfinite(losses) if limit is None else torch.isfinite(losses) & (losses <= limit)
        flags = torch.zeros(context.size + 1, device=losses.device)  # for each rank: a loss is bad; at the end: stop
        flags[context.rank] = (~good.all()).float()
        flags[context.size] = float(stop)
        self._flags, self._event = context.all_reduce(flags), None
        if flags.device.type == "cuda":
            self._flags = torch.empty_like(flags, device="cpu", pin_memory=True).copy_(flags, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def result(self) -> tuple[list[int], bool]:
        """Wait for and return the ranks whose losses are bad, none if the step is accepted; and whether to stop."""
        if self._event is not None:
            self._event.synchronize()
        *bad, stop = self._flags.tolist()
        return [rank for rank, flag in enumerate(bad) if flag], bool(stop)


class BatchNormBackup:
    """A copy of the batch-norm statistics: a batch has changed them before its step is skipped, and a NaN would stay for ever."""

    def __init__(self, network: nn.Module):
        self.live = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        self.saved = [buffer.clone() for buffer in self.live]

    @torch.no_grad()
    def save(self) -> None:
        torch._foreach_copy_(self.saved, self.live)  # one kernel for hundreds of small tensors

    @torch.no_grad()
    def restore(self) -> None:
        torch._foreach_copy_(self.live, self.saved)
