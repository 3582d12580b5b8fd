"""Checkpoints: written atomically, read without running code, in this project's and the published formats."""

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
from config.load import first_names, parse_config, with_overrides
from models import build_model, checkpoint_keys_of, download_backbone, published_recipe
from models.checkpoint_keys import merge_branches
from models.skip_init import SkipInit
from utils.device import default_device, limit_threads
from utils.onnx_network import SUFFIX as ONNX
from utils.onnx_network import OnnxNetwork, open_session, stored_config
from utils.safetensors_file import SUFFIX as SAFETENSORS
from utils.safetensors_file import read_safetensors

DOWNLOAD = "timm"  # instead of a file of backbone weights
RECIPES = Path(__file__).parents[1] / "config"


def save_checkpoint(path: Path, **content: Any) -> None:
    """Write a checkpoint; a process that is killed while saving leaves the former one intact."""
    with atomic_write(path) as partial:
        try:
            torch.save(content, partial)
        except RuntimeError as error:  # PyTorch's writer does not pass on the system's message
            raise UserError(f"checkpoint {path}: cannot be written; is the disk full?") from error


def read_checkpoint(path: str | Path, checksums: bool = False) -> dict[str, Any]:
    """Return a checkpoint's dictionary, tensors on the CPU, memory-mapped where the format allows it.

    checksums: verify the file's, which reads all of it. Raises UserError where the file is missing, cut short, damaged, not a checkpoint,
    or holds pickled objects.
    """
    path = existing_file(path, "checkpoint")
    if path.suffix.lower() in (".onnx", ".pt2"):
        raise UserError(f"checkpoint {path}: weights of an exported network cannot be loaded; name its checkpoint")
    if path.suffix.lower() == SAFETENSORS:
        return read_safetensors(path)
    try:
        is_zip = zipfile.is_zipfile(path)  # files of PyTorch before 1.6 are not, and cannot be mapped
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol, in damaged files
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
        if checksums and is_zip and zipfile.ZipFile(path).testzip() is not None:  # PyTorch compares none
            raise ValueError("wrong checksum")
    except Exception as error:  # a damaged pickle can raise anything
        pickled = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"cut short, or it holds {pickled[1]}, which could run code" if pickled else "cut short, damaged or not a checkpoint"
        raise UserError(f"checkpoint {path}: cannot be read, {reason}") from error
    if not isinstance(content, Mapping):
        raise UserError(f"checkpoint {path}: holds a {type(content).__name__}, not a dictionary with 'weights'")
    return dict(content)


class Checkpoint:
    """A checkpoint's file, opened once for both its configuration and its weights."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.is_onnx = self.path.suffix.lower() == ONNX

    @cached_property
    def content(self) -> dict[str, Any]:
        return read_checkpoint(self.path)

    @cached_property
    def session(self) -> Any:
        """Return an exported network's session of ONNX Runtime on the CPU."""
        return open_session(self.path)


def opened(checkpoint: str | Path | Checkpoint) -> Checkpoint:
    """Return a `Checkpoint` as it is, or that of a path."""
    return checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)


def config_for(checkpoint: str | Path | Checkpoint, path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Return the configuration to run a checkpoint with: that at `path`; else its own; else, for a published checkpoint, its recipe.

    Raises UserError where there is none.
    """
    if path is not None:
        return load_config(path, overrides)
    checkpoint = opened(checkpoint)
    values = stored_config(checkpoint.session, checkpoint.path) if checkpoint.is_onnx else checkpoint.content.get("config")
    if isinstance(values, Mapping):
        return with_overrides(parse_config(values, f"configuration in {checkpoint.path}"), overrides)
    recipe = published_recipe(_tensors(checkpoint))
    if recipe is None:
        raise UserError(
            f"checkpoint {checkpoint.path}: holds no configuration and is no known published checkpoint; add a configuration with --config"
        )
    return load_config(RECIPES / f"{recipe}.yaml", overrides)


def load_network(config: Config, checkpoint: str | Path | Checkpoint | None, device: str | None) -> nn.Module:
    """Return the configured network on a device, in evaluation mode.

    checkpoint: this project's `.pth` or `.safetensors`, or the published format; an exported `.onnx` is run by ONNX Runtime instead; None
    keeps random weights. device: such as "cuda:0"; None takes a GPU if there is one.
    """
    target, checkpoint = default_device(device), None if checkpoint is None else opened(checkpoint)
    if checkpoint is not None and checkpoint.is_onnx:
        session = checkpoint.session if target.type == "cpu" else open_session(checkpoint.path, target)
        network = OnnxNetwork(session, config, checkpoint.path)
        if device is not None and network.device != target:
            raise UserError(f"device {device!r}: the installed onnxruntime has none; omit it, or pip install onnxruntime-gpu")
        return network.eval()
    with limit_threads(1):  # of many small steps: on a busy CPU, several threads take three times as long
        with nullcontext() if checkpoint is None else SkipInit():
            network = build_model(config)
        if checkpoint is not None:
            load_weights(network, checkpoint)
    return network.to(target).eval()


def load_weights(model: nn.Module, path: str | Path | Checkpoint) -> None:
    """Fill the network from a checkpoint of this project or the published format: every tensor used, none missing.

    Raises UserError that counts and names the differences.
    """
    checkpoint, target = opened(path), model.state_dict()
    weights = _converted(_tensors(checkpoint), model, checkpoint.path)
    _check_fit(target, weights, lambda name: True, f"checkpoint {checkpoint.path}: does not fit the configured network")
    _copy(weights, target)


def init_weights(model: nn.Module, path: str | Path) -> tuple[list[str], list[str]]:
    """Fill the network for fine-tuning, except for output layers of another number of channels.

    Return the names of loaded and of newly initialized tensors. Raises UserError where anything but output layers differs.
    """
    weights, target = _converted(_tensors(Checkpoint(path)), model, path), model.state_dict()
    is_output = checkpoint_keys_of(model).is_output
    _check_fit(target, weights, lambda name: not is_output(name), f"checkpoint {path}: does not fit the configured network")
    loaded = [name for name in target if name in weights and weights[name].shape == target[name].shape]
    _copy({name: weights[name] for name in loaded}, target)
    return loaded, [name for name in target if name not in set(loaded)]


def load_backbone(model: nn.Module, path: str | Path) -> tuple[list[str], list[str]]:
    """Fill the network's backbone; other tensors of the file are ignored, others of the network stay as initialized.

    path: a file, or "timm" to download ImageNet weights where the network can. Return the names of loaded and of other tensors. Raises
    UserError where part of the backbone is missing or of another shape.
    """
    target, is_backbone = model.state_dict(), checkpoint_keys_of(model).is_backbone
    backbone = {name: tensor for name, tensor in target.items() if is_backbone(name)}
    tensors = download_backbone(model) if str(path) == DOWNLOAD else _tensors(Checkpoint(path))
    weights = {name: tensor for name, tensor in _converted(tensors, model, path).items() if name in backbone}
    # Files of PyTorch before 0.4.1, as many of ImageNet weights are, have no batch counters
    error = f"model.backbone {path}: does not fit the network's trunk"
    _check_fit(backbone, weights, lambda name: not name.endswith(".num_batches_tracked"), error)
    _copy(weights, target)
    return list(weights), [name for name in target if name not in weights]


def _converted(tensors: Mapping[str, Tensor], model: nn.Module, path: str | Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by the network's own names. path: for messages."""
    convert_key = checkpoint_keys_of(model).convert_key
    used = [(convert_key(name), tensor) for name, tensor in tensors.items() if convert_key(name) is not None]
    named = dict(used)
    if len(named) != len(used):
        raise UserError(f"checkpoint {path}: holds some tensors twice, with and without a prefix such as 'module.'")
    try:
        return merge_branches(named)
    except RuntimeError as error:
        raise UserError(f"checkpoint {path}: parts of a tensor do not fit together: {str(error).splitlines()[0]}") from error


def _tensors(checkpoint: Checkpoint) -> Mapping[str, Tensor]:
    """Return the checkpoint's tensors by its own names."""
    weights = checkpoint.content.get("weights", checkpoint.content.get("state_dict", checkpoint.content))
    if not isinstance(weights, Mapping) or not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"checkpoint {checkpoint.path}: has no 'weights', a dictionary of tensors")
    return weights


def _check_fit(target: Mapping[str, Tensor], source: Mapping[str, Tensor], counts: Callable[[str], bool], error: str) -> None:
    """Raise UserError with the differences of two sets of tensors, among the names that count."""
    missing = [name for name in target if name not in source and counts(name)]
    unknown = [name for name in source if name not in target and counts(name)]
    reshaped = [
        f"{name} {tuple(source[name].shape)} for {tuple(target[name].shape)}"
        for name in target
        if name in source and source[name].shape != target[name].shape and counts(name)
    ]
    kinds = (("missing", missing), ("unknown", unknown), ("of another shape", reshaped))
    differences = [f"{len(names)} tensors {kind} ({first_names(names)})" for kind, names in kinds if names]
    if differences:
        raise UserError(f"{error}: {'; '.join(differences)}")


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in source.items():
        target[name].copy_(tensor)
