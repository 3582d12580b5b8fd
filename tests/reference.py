"""Reference numbers of the published code, which lie beside the project, and the comparison with them."""

import json
import runpy
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike
from places import SHARED
from torch import Tensor

FIXTURES = SHARED / "fixtures"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no reference numbers: there is no folder {FIXTURES}")


def assert_near(what: str, ours: ArrayLike, reference: ArrayLike, tolerance: float, relative: bool = False) -> None:
    """Compare two arrays of one shape, and print their largest difference: pytest -s tests/fidelity shows all of them.

    relative: to the largest value of the reference.
    """
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    assert ours.shape == reference.shape, f"{what}: shape {ours.shape}, reference {reference.shape}"
    difference = np.abs(ours - reference).max() / (np.abs(reference).max() if relative else 1)
    print(f"{what}: {difference:.1e} (tolerance {tolerance:.0e}{', relative' if relative else ''})")
    assert difference <= tolerance, f"{what}: differs by {difference:.1e}, tolerance {tolerance:.0e}"


def case_arrays(record: Mapping[str, np.ndarray], case: int) -> dict[str, np.ndarray]:
    """The arrays of one case, by their names without "case0_"."""
    return {name.partition("_")[2]: record[name] for name in record if name.startswith(f"case{case}_")}


def reference_weights(name: str, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a published network by their published names, filled as the reference network was; prefix: of their names."""
    return fill_weights({key: torch.zeros(tensor.shape, dtype=tensor.dtype) for key, tensor in empty_weights(name, prefix).items()}, "")


def empty_weights(name: str, prefix: str = "") -> dict[str, Tensor]:
    """The tensors' shapes and types alone, on the meta device."""
    shapes = json.loads((FIXTURES / f"{name}_state_dict.json").read_text())
    kinds = {True: torch.int64, False: torch.float32}
    return {
        key: torch.zeros(shape, dtype=kinds[key.endswith("num_batches_tracked")], device="meta")
        for key, shape in shapes.items()
        if key.startswith(prefix)
    }


def fill_weights(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Fill tensors by their names, as those of the reference network `name` were."""
    return runpy.run_path(str(FIXTURES / "fill_weights.py"))["fill"](weights, name)
