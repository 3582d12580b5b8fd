"""Networks as `.safetensors`, tensors and text without any code; `utils.export` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from config import UserError
from config.files import existing_file

SUFFIX = ".safetensors"
# The one entry of the metadata, JSON: the format keeps several in no order, and the same network is to be the same bytes
ENTRY = "simplepose"


def is_safetensors(path: str | Path) -> bool:
    """Whether a file is named as such."""
    return Path(path).suffix.lower() == SUFFIX


def read_safetensors(path: str | Path) -> dict[str, Any]:
    """A checkpoint's dictionary: "weights", numbers as float32, and what the file says of itself, such as "config" and "name".

    Raises UserError where it is missing, cut short or damaged; a file of another origin holds weights alone.
    """
    with _opened(path) as file:
        about, weights = _about(file, path), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return {**about, "weights": {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}}


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What a file says of itself, without its weights. Raises UserError as `read_safetensors`."""
    with _opened(path) as file:
        return _about(file, path)


def _about(file: Any, path: str | Path) -> dict[str, Any]:
    about = json.loads((file.metadata() or {}).get(ENTRY, "{}"))
    if not isinstance(about, Mapping):
        raise UserError(f"checkpoint {path}: what it says of itself is a {type(about).__name__}, not a dictionary")
    return dict(about)


def write_safetensors(path: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any], half: bool = False) -> None:
    """Weights by their names with `about`, which JSON can hold.

    half: in float16, but for those of one axis, biases and batch norms: they are few, and variances may be too large or too small for it.
    Raises UserError where a number is too large for it.
    """
    kept = {
        name: _halved(name, tensor) if half and tensor.ndim > 1 and tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
    alone = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in kept.items()}
    path.write_bytes(save(alone, {ENTRY: json.dumps(about, sort_keys=True)}))


def _halved(name: str, tensor: Tensor) -> Tensor:
    small = tensor.half()
    if (small.isinf() & tensor.isfinite()).any():
        raise UserError(f"nothing was written: {name} has numbers too large for float16; leave --half out")
    return small


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    path = existing_file(path, "checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, ValueError) as error:
        raise UserError(f"checkpoint {path}: cannot be read, cut short, damaged or no file of safetensors") from error
