"""Several processes, started by torchrun, that share the images of an evaluation."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from config import UserError
from config.progress import Progress
from utils.distributed import init_process_group
from utils.journal import Others

MEETING = timedelta(minutes=10)  # the longest wait for the other processes to start
PATIENCE = 1800.0  # seconds without a batch after which a process is taken for dead; torchrun itself ends all where it sees one die
LOOKS = 0.2  # seconds between two looks at what the others have done


@dataclass(frozen=True)
class Share:
    """This process's number among `count`, and among those of its machine."""

    number: int = 0
    count: int = 1
    local: int = 0

    @staticmethod
    def of_environment() -> Share:
        """As torchrun says it; without it, this process is alone."""
        return Share(*(int(os.environ.get(key, least)) for key, least in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))))

    @property
    def is_first(self) -> bool:
        """Whether this process writes the results."""
        return self.number == 0

    def device(self, named: str | None) -> str | None:
        """The named device; without a name, of several processes each takes the next of the machine's GPUs."""
        if named is not None or self.count == 1 or not torch.cuda.is_available():
            return named
        return f"cuda:{self.local % torch.cuda.device_count()}"

    def meet(self) -> None:
        """Wait until every process is here. Raises UserError where one has ended, or does not come."""
        if self.count == 1:
            return
        try:
            dist.barrier()
        except RuntimeError as error:
            raise UserError(f"process {self.number} of {self.count}: another one ended, or did not start in time") from error

    def wait_for(self, others: Others, progress: Progress, patience: float = PATIENCE) -> None:
        """Wait until the other processes have done what is left of the images. Raises UserError where they have long done nothing."""
        last = time.monotonic()
        while progress.count < progress.total:
            done = others.advanced()
            progress.advance(done, "waits for the other processes")
            if done:
                last = time.monotonic()
            elif time.monotonic() - last > patience:
                left = f"{progress.total - progress.count} of {progress.total} images are left"
                raise UserError(f"the other processes have done nothing for {patience:.0f} s, {left}; the same command goes on from here")
            else:
                time.sleep(LOOKS)


@contextmanager
def joined() -> Iterator[Share]:
    """Join the processes that torchrun started, if it did; a group that is there already is made use of."""
    share = Share.of_environment()
    if share.count == 1 or dist.is_initialized():
        yield share
        return
    try:
        init_process_group("gloo", MEETING)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"process {share.number} of {share.count}: cannot reach the others ({error}); did torchrun start them?") from error
    try:
        yield share
    finally:
        dist.destroy_process_group()
