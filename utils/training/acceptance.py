"""Which batches may change the network: one whose loss is not finite, or too large, leaves no trace."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from utils.training.distributed import World


class Acceptance:
    """Whether a batch may change the weights, agreed by all processes and brought to the host without stopping the device.

    limit: the largest loss that is accepted; None: any that is finite.
    """

    def __init__(self, loss: Tensor, limit: float | None, world: World):
        loss = loss.detach()
        good = torch.isfinite(loss) if limit is None else loss <= limit  # NaN compares false
        bad = (~good).float()
        self.flag = world.sum(bad)
        self.event = None
        if bad.device.type == "cuda":
            self.flag = torch.empty_like(bad, device="cpu", pin_memory=True).copy_(bad, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()

    def known(self) -> bool:
        """Wait for the answer."""
        if self.event is not None:
            self.event.synchronize()
        return not self.flag.item()


class RunningStatistics:
    """A copy of the batch-norm statistics, which a batch has already changed by the time that it is dropped: a NaN would stay for ever."""

    def __init__(self, network: nn.Module):
        self.live = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        self.kept = [buffer.clone() for buffer in self.live]

    @torch.no_grad()
    def keep(self) -> None:
        torch._foreach_copy_(self.kept, self.live)  # one kernel for hundreds of small tensors

    @torch.no_grad()
    def restore(self) -> None:
        torch._foreach_copy_(self.live, self.kept)
