"""Random weights of a scale at which every layer changes the output; initial ones are so small that a missing layer goes unnoticed."""

import torch
from torch import Tensor, nn


def randomize_weights(weights: dict[str, Tensor], seed: int) -> None:
    """Sample all weights and statistics anew, in place, such that outputs neither vanish nor grow with depth. Counters stay."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in weights.items():
        if tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + (0.5 if name.endswith(("var", "weight")) else -0.5))
        elif tensor.ndim:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (0.7 / tensor[0].numel() ** 0.5))


def equal(a: nn.Module, b: nn.Module) -> bool:
    """Return whether two networks have the same tensors."""
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
