"""Which steps may change the network: one with a loss that is not finite, or too large, leaves no trace."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from utils.distributed import DistributedContext


class Acceptance:
    """Whether a step may change the weights, and whether to stop after it: agreed by all processes, and brought to the host without
    stopping the device.

    losses (B,): of the batches of this process. limit: the largest that is accepted; None: any that is finite. stop: whether somebody
    asked this process to end.
    """

    def __init__(self, losses: Tensor, limit: float | None, stop: bool, world: DistributedContext):
        losses = losses.detach()
        good = torch.isfinite(losses) if limit is None else torch.isfinite(losses) & (losses <= limit)
        flags = torch.zeros(world.size + 1, device=losses.device)  # of each process: its losses are bad; at the end: stop
        flags[world.rank] = (~good.all()).float()
        flags[world.size] = float(stop)
        self._flags, self._event = world.all_reduce(flags), None
        if flags.device.type == "cuda":
            self._flags = torch.empty_like(flags, device="cpu", pin_memory=True).copy_(flags, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def known(self) -> tuple[list[int], bool]:
        """Wait for the answer: the processes whose losses are bad, none if the step is accepted; and whether to stop."""
        if self._event is not None:
            self._event.synchronize()
        *bad, stop = self._flags.tolist()
        return [rank for rank, flag in enumerate(bad) if flag], bool(stop)


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
