"""Networks without first weights, for those that are filled from a file at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode


class Undrawn(TorchFunctionMode):
    """Within, what `torch.nn.init` draws at random is not drawn, and tensors hold anything: the published network's takes two seconds."""

    def __torch_function__(self, function: Callable, types: Sequence[type], args: Sequence = (), kwargs: Mapping | None = None) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__module__", None) == "torch.nn.init":
            return kwargs.get("tensor", args[0] if args else None)
        return function(*args, **kwargs)
