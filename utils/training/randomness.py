"""One seed fixes a run, and a resumed run goes on with the random numbers that would have come.

Samples and their order draw from generators of their own, which follow from seed, epoch and sample (`data.datasets`,
`utils.training.loader`). The states here are PyTorch's common ones, from which a dropout draws.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from utils.distributed import DistributedContext


def seed(number: int, rank: int) -> None:
    """Seed PyTorch's common generators, differently in each rank."""
    torch.manual_seed(int(np.random.SeedSequence([number, rank]).generate_state(1)[0]))


def random_states(world: DistributedContext) -> list[dict[str, Tensor]]:
    """Return the generators' states of all ranks, by rank."""
    states = {"torch": torch.get_rng_state()}
    if world.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(world.device)
    gathered = {name: world.all_gather(state[None]) for name, state in states.items()}
    return [{name: of_ranks[rank][0] for name, of_ranks in gathered.items()} for rank in range(world.size)]


def restore_random_states(states: list[dict[str, Tensor]], world: DistributedContext) -> None:
    """Take over what `random_states` returned; nothing where there were other ranks or another kind of device.

    Older checkpoints also hold states of NumPy and Python, from which nothing draws.
    """
    if len(states) != world.size or ("cuda" in states[world.rank]) != (world.device.type == "cuda"):
        return
    torch.set_rng_state(states[world.rank]["torch"])
    if world.device.type == "cuda":
        torch.cuda.set_rng_state(states[world.rank]["cuda"], world.device)
