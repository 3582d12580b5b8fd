"""DataLoader workers, of the builder and of training."""

import gc
from typing import Any

from torch.utils.data import DataLoader


class WorkerLoader(DataLoader):
    """A DataLoader that hides this process's garbage from its forked workers.

    To collect a video or an ONNX Runtime session ends their threads, which a fork lacks: the worker would wait for them forever.
    """

    def __iter__(self) -> Any:
        gc.freeze()  # before the fork: its hooks allocate, and may start a collection
        try:
            return super().__iter__()
        finally:
            gc.unfreeze()
