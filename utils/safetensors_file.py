"""Networks as `.safetensors`: tensors and text, no code; `utils.export` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from config import UserError
from config.files import existing_file

SUFFIX = ".safetensors"
# The only metadata entry, JSON: the format stores several in arbitrary order, and equal networks must give equal bytes
ENTRY = "simplepose"


def read_safetensors(path: str | Path) -> dict[str, Any]:
    """Return a checkpoint's dictionary: "weights", numbers as float32, and the metadata, such as "config" and "name".

    Files of other tools hold weights alone. Raises UserError where the file is missing, cut short or damaged.
    """
    path = existing_file(path, "checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            about = dict(json.loads((file.metadata() or {}).get(ENTRY, "{}")))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError) as error:
        raise UserError(f"checkpoint {path}: cannot be read, cut short, damaged or not in safetensors format") from error
    return {**about, "weights": {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}}


def write_safetensors(path: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any], half: bool = False) -> None:
    """Write weights by their names, and `about`, which JSON must be able to hold.

    half: in float16, except for biases and batch norms: they are few, and variances may exceed its range. Raises UserError where another
    number does.
    """
    halved = {name for name, tensor in weights.items() if half and tensor.ndim > 1 and tensor.is_floating_point()}
    stored = {name: (tensor.half() if name in halved else tensor).contiguous() for name, tensor in weights.items()}
    for name in halved:
        if (stored[name].isinf() & weights[name].isfinite()).any():
            raise UserError(f"nothing was written: {name} has numbers too large for float16; omit --half")
    path.write_bytes(save(stored, {ENTRY: json.dumps(about, sort_keys=True)}))
