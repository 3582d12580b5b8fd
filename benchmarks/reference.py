"""Reference numbers, which lie beside the project, and differences from them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@dataclass(frozen=True)
class Difference:
    """The largest absolute difference of one piece at one place, and the largest that is accepted."""

    piece: str
    place: str
    value: float
    limit: float
    unit: str


def fill_weights(shared: Path) -> Callable[[Mapping[str, torch.Tensor], str], dict[str, torch.Tensor]]:
    """What gives the reference networks their weights: from names and tensors, and a salt."""
    spec = importlib.util.spec_from_file_location("fill_weights", shared / "fixtures" / "fill_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fill


def filled(shared: Path, shapes: str) -> dict[str, torch.Tensor]:
    """The reference weights by their published names. shapes: a file of names and shapes."""
    of_names = json.loads((shared / "fixtures" / shapes).read_text())
    kinds = {name: torch.int64 if name.endswith("num_batches_tracked") else torch.float32 for name in of_names}
    return fill_weights(shared)({name: torch.zeros(shape, dtype=kinds[name]) for name, shape in of_names.items()}, "")


def largest(ours: ArrayLike, reference: ArrayLike) -> float:
    """The largest absolute difference of two arrays of one shape."""
    difference = np.asarray(ours, np.float64) - np.asarray(reference, np.float64)
    return float(np.abs(difference).max())


def as_markdown(differences: list[Difference]) -> str:
    """Each piece's largest difference, where it is and in how many places it was looked for, as a table."""
    rows = []
    for piece in dict.fromkeys(d.piece for d in differences):
        places = [d for d in differences if d.piece == piece]
        worst = max(places, key=lambda d: d.value)
        rows.append(f"| {piece} | {worst.value:.1e} | {worst.limit:.0e} | {worst.unit} | {worst.place} | {len(places)} |")
    return "\n".join(["| piece | largest difference | accepted | unit | where | places |", "|---|---:|---:|---|---|---:|", *rows])


def check(differences: list[Difference], places: int) -> None:
    """Raise AssertionError where a difference is larger than accepted, or not so many places were looked at."""
    too_large = [d for d in differences if not d.value <= d.limit]
    assert not too_large, "\n" + as_markdown(too_large)
    assert len(differences) == places
