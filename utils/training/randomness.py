"""Chance: one seed fixes a run, and a run goes on with the numbers that would have come.

Samples and their order draw from generators of their own, which follow from seed, epoch and sample (`data.datasets`,
`utils.training.loader`). The states here are those of what draws from the libraries' common generators, such as a dropout.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from utils.distributed import DistributedContext


def seed_all(seed: int, rank: int) -> None:
    """Seed the common generators; each process otherwise, and all alike in every run."""
    (mixed,) = np.random.SeedSequence([seed, rank]).generate_state(1).tolist()
    torch.manual_seed(mixed)
    np.random.seed(mixed)  # noqa: NPY002
    random.seed(mixed)


def random_states(world: DistributedContext) -> list[dict[str, Tensor]]:
    """The common generators' states in every process, by rank."""
    gathered = {name: world.all_gather(state[None]) for name, state in _own_states(world.device).items()}
    return [{name: states[rank][0] for name, states in gathered.items()} for rank in range(world.size)]


def restore_random_states(states: list[dict[str, Tensor]], world: DistributedContext) -> None:
    """What `random_states` gave; nothing where there were other processes."""
    own = _own_states(world.device)
    if len(states) != world.size or states[world.rank].keys() != own.keys():
        return
    state = states[world.rank]
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], world.device)
    *key, position, has_normal = state["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(key, np.uint32), position, has_normal, state["numpy_normal"].item()))  # noqa: NPY002
    version, has_normal, *words = state["python"].tolist()
    random.setstate((version, tuple(words), state["python_normal"].item() if has_normal else None))


def _own_states(device: torch.device) -> dict[str, Tensor]:
    _, key, position, has_normal, normal = np.random.get_state()  # noqa: NPY002
    version, words, python_normal = random.getstate()
    states = {
        "torch": torch.get_rng_state(),
        "numpy": torch.tensor([*key.tolist(), position, has_normal]),
        "numpy_normal": torch.tensor([normal], dtype=torch.float64),
        "python": torch.tensor([version, python_normal is not None, *words]),
        "python_normal": torch.tensor([python_normal or 0.0], dtype=torch.float64),
    }
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})
