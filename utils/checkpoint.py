"""Checkpoints: written whole or not at all, read without running code, ours and the published format."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from config import Config, UserError, load_config
from config.files import atomic_write, existing_file
from config.load import parse_config, with_overrides
from models import build_model, checkpoint_keys_of, download_backbone, published_recipe
from models.checkpoint_keys import merge_branches
from models.skip_init import SkipInit
from utils.device import default_device, in_one_thread
from utils.onnx_network import OnnxNetwork, is_onnx, onnx_config
from utils.safetensors_file import is_safetensors, read_safetensors

SHOWN = 3  # names in a message
DOWNLOAD = "timm"  # in the place of a file of backbone weights
RECIPES = Path(__file__).parents[1] / "config"
EXPORTED = (".onnx", ".pt2")


def save_checkpoint(path: Path, **content: Any) -> None:
    """Write a checkpoint; a kill while saving leaves the former one as it was."""
    with atomic_write(path) as partial:
        try:
            torch.save(content, partial)
        except RuntimeError as error:  # its writer, in C++, does not pass on what the system said
            raise UserError(f"checkpoint {path}: cannot be written; is the disk full?") from error


def read_checkpoint(path: str | Path, checksums: bool = False) -> dict[str, Any]:
    """Read a checkpoint's dictionary, tensors on the CPU and mapped from the file rather than read where the format allows it.

    checksums: compare those that the file holds, which reads all of it. Raises UserError where it is missing, cut short, damaged, not a
    checkpoint, or holds pickled objects.
    """
    path = existing_file(path, "checkpoint")
    if path.suffix.lower() in EXPORTED:
        raise UserError(f"checkpoint {path}: weights of an exported network cannot be loaded; name its checkpoint")
    if is_safetensors(path):
        return read_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol of a damaged file
            content = _mapped(path)
        damaged = zipfile.ZipFile(path).testzip() if checksums and zipfile.is_zipfile(path) else None  # PyTorch compares none
        if damaged is not None:
            raise ValueError(f"{damaged} has another checksum")
    except Exception as error:  # a damaged pickle can raise anything
        pickled = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"cut short, or it holds {pickled[1]}, which could run code" if pickled else "cut short, damaged or not a checkpoint"
        raise UserError(f"checkpoint {path}: cannot be read, {reason}") from error
    if not isinstance(content, Mapping):
        raise UserError(f"checkpoint {path}: holds a {type(content).__name__}, not a dictionary with 'weights'")
    return dict(content)


def _mapped(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
    return torch.load(path, map_location="cpu", weights_only=True)  # files of PyTorch before 1.6 cannot be mapped


class Checkpoint:
    """A checkpoint's file, read once, when its content is first asked for: for its configuration and then for its weights."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The dictionary in it."""
        return read_checkpoint(self.path)


def opened(checkpoint: str | Path | Checkpoint) -> Checkpoint:
    """Return a `Checkpoint` as it is, or that of a path."""
    return checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)


def config_for(checkpoint: str | Path | Checkpoint, path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """The configuration to run a checkpoint with: the named one; else its own; else, for a published checkpoint, its recipe.

    Raises UserError where it has none of them.
    """
    if path is not None:
        return load_config(path, overrides)
    checkpoint = opened(checkpoint)
    values = onnx_config(checkpoint.path) if is_onnx(checkpoint.path) else checkpoint.content.get("config")
    if isinstance(values, Mapping):
        return with_overrides(parse_config(values, f"configuration in {checkpoint.path}"), overrides)
    recipe = published_recipe(_tensors(checkpoint))
    if recipe is None:
        raise UserError(
            f"checkpoint {checkpoint.path}: holds no configuration and is no published one that is known; give one with --config"
        )
    return load_config(RECIPES / f"{recipe}.yaml", overrides)


def load_network(config: Config, checkpoint: str | Path | Checkpoint | None, device: str | None) -> nn.Module:
    """The configured network on a device, not in training: what decoders take.

    checkpoint: ours, as `.pth` or `.safetensors`, or the published format, whose weights it has; an exported `.onnx`, which ONNX Runtime
    runs in its place; None leaves the freshly drawn weights. device: such as "cuda:0"; None takes a GPU if there is one.
    """
    place, checkpoint = default_device(device), None if checkpoint is None else opened(checkpoint)
    if checkpoint is not None and is_onnx(checkpoint.path):
        network = OnnxNetwork(checkpoint.path, config, place)
        if device is not None and network.device != place:
            raise UserError(f"device {device!r}: the installed onnxruntime has none; leave it out, or pip install onnxruntime-gpu")
        return network.eval()
    with in_one_thread():
        with nullcontext() if checkpoint is None else SkipInit():
            network = build_model(config)
        if checkpoint is not None:
            load_weights(network, checkpoint)
    return network.to(place).eval()


def load_weights(model: nn.Module, path: str | Path | Checkpoint) -> None:
    """Fill the network from a checkpoint of ours or of the published format: every tensor used, none missing.

    Raises UserError that counts and names what differs.
    """
    checkpoint = opened(path)
    weights = _weights(checkpoint, model)
    wanted = model.state_dict()
    differences = _differences(wanted, weights, lambda name: True)
    if differences:
        raise UserError(f"checkpoint {checkpoint.path}: does not fit the configured network: {'; '.join(differences)}")
    _copy(weights, wanted)


def init_weights(model: nn.Module, path: str | Path) -> tuple[list[str], list[str]]:
    """Fill the network for fine-tuning: output layers of another number of channels are left as they are.

    Returns the names taken and the names newly initialized. Raises UserError where anything but output layers differs.
    """
    weights = _weights(Checkpoint(path), model)
    wanted = model.state_dict()
    is_output = checkpoint_keys_of(model).is_output
    fresh = [name for name in wanted if is_output(name) and (name not in weights or weights[name].shape != wanted[name].shape)]
    differences = _differences(wanted, weights, lambda name: not is_output(name))
    if differences:
        raise UserError(f"checkpoint {path}: does not fit the configured network: {'; '.join(differences)}")
    taken = [name for name in wanted if name not in set(fresh)]
    _copy({name: weights[name] for name in taken}, wanted)
    return taken, fresh


def load_backbone(model: nn.Module, path: str | Path) -> tuple[list[str], list[str]]:
    """Fill the network's trunk; everything else in the file is left alone, everything else in the network as it was drawn.

    path: a file, or "timm" to download ImageNet weights where the network can. Returns the names taken and the others. Raises UserError
    where part of the trunk is missing or of another shape.
    """
    wanted, is_backbone = model.state_dict(), checkpoint_keys_of(model).is_backbone
    trunk = {name: tensor for name, tensor in wanted.items() if is_backbone(name)}
    checkpoint = Checkpoint(path)
    if str(path) == DOWNLOAD:
        checkpoint.content = download_backbone(model)
    weights = {name: tensor for name, tensor in _weights(checkpoint, model).items() if name in trunk}
    # Batch norm counts its batches since PyTorch 0.4.1 only; many a file of ImageNet weights is older
    differences = _differences(trunk, weights, lambda name: not name.endswith(".num_batches_tracked"))
    if differences:
        raise UserError(f"model.backbone {path}: does not fit the network's trunk: {'; '.join(differences)}")
    _copy(weights, wanted)
    return list(weights), [name for name in wanted if name not in weights]


def _weights(checkpoint: Checkpoint, model: nn.Module) -> dict[str, Tensor]:
    """The checkpoint's tensors by the network's own names."""
    weights, convert_key, path = _tensors(checkpoint), checkpoint_keys_of(model).convert_key, checkpoint.path
    used = [(name, value) for name, value in ((convert_key(name), value) for name, value in weights.items()) if name is not None]
    named = dict(used)
    if len(named) != len(used):
        raise UserError(f"checkpoint {path}: holds some tensors twice, with and without a prefix such as 'module.'")
    try:
        return merge_branches(named)
    except RuntimeError as error:
        raise UserError(f"checkpoint {path}: parts of a tensor do not fit together: {str(error).splitlines()[0]}") from error


def _tensors(checkpoint: Checkpoint) -> Mapping[str, Tensor]:
    """The checkpoint's tensors by the names that they have there."""
    weights = checkpoint.content.get("weights", checkpoint.content.get("state_dict", checkpoint.content))
    if not isinstance(weights, Mapping) or not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"checkpoint {checkpoint.path}: has no 'weights', a dictionary of tensors")
    return weights


def _differences(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], counts: Callable[[str], bool]) -> list[str]:
    """What stands between two sets of tensors, among the names that count."""
    missing = [name for name in wanted if name not in found and counts(name)]
    unknown = [name for name in found if name not in wanted and counts(name)]
    reshaped = [
        f"{name} {tuple(found[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape and counts(name)
    ]
    kinds = (("missing", missing), ("unknown", unknown), ("of another shape", reshaped))
    return [f"{len(names)} tensors {kind} ({_first(names)})" for kind, names in kinds if names]


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in source.items():
        target[name].copy_(tensor)
