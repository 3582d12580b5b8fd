"""Checkpoints: written atomically, read without running code, in this project's and the published formats."""

import pickle
import re
import sys
import textwrap
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from config import Config, UserError, load_config
from config.files import atomic_write, existing_file, parse_json
from config.load import first_names, parse_config, restore_order, with_overrides
from models import PoseNetwork, build_model, published_recipe
from models.checkpoint_keys import find_weights, preferred, unwrapped
from models.skip_init import SkipInit
from utils import inert_pickle
from utils.device import PerProcess, default_device, limit_threads
from utils.onnx_network import SUFFIX as ONNX
from utils.onnx_network import OnnxNetwork, open_session, stored_config
from utils.zoo import network_file, recipe_name

DOWNLOAD = "timm"  # instead of a file of backbone weights
RECIPES = Path(__file__).parents[1] / "config"
SAFETENSORS = ".safetensors"
# The only metadata entry of a .safetensors, JSON: the format stores several in arbitrary order, and equal networks must give equal bytes
METADATA = "simplepose"
STATE_DICT = "where it was written, save its state dict instead: torch.save(network.state_dict(), FILE)"
WARNINGS = PerProcess(Lock)
BRANCH = re.compile(r"(.+)\[(\d+)\]")


def save_checkpoint(path: Path, **content: Any) -> None:
    """Write a checkpoint; a process that is killed while saving leaves the former one intact."""
    with atomic_write(path) as partial:
        try:
            torch.save(content, partial)
        except RuntimeError as error:  # PyTorch's writer does not pass on the system's message
            raise UserError(f"checkpoint {path}: cannot be written; is the disk full?") from error


def read_checkpoint(path: str | Path, checksums: bool = False) -> dict[str, Any]:
    """Return a checkpoint's dictionary, tensors on the CPU, memory-mapped where the format allows it.

    No code of the file runs: other objects than tensors and plain values become inert placeholders. checksums: verify the file's, which
    reads all of it. Raises UserError where the file is missing, cut short, damaged, not a checkpoint, a pickled network, or would run code.
    """
    path = existing_file(path, "checkpoint")
    if path.suffix.lower() in (".onnx", ".pt2"):
        raise UserError(f"checkpoint {path}: weights of an exported network cannot be loaded; name its checkpoint")
    if path.suffix.lower() == SAFETENSORS:
        return _read_safetensors(path)
    try:
        is_zip = zipfile.is_zipfile(path)  # files of PyTorch before 1.6 are not, and cannot be mapped
        with WARNINGS(), warnings.catch_warnings():  # which change for the whole process
            warnings.simplefilter("ignore")  # about the pickle protocol, in damaged files
            load = partial(torch.load, path, map_location="cpu", mmap=is_zip)
            try:
                content = load(weights_only=True)
            except pickle.UnpicklingError:  # it holds more than tensors and plain values
                content = load(weights_only=False, pickle_module=inert_pickle)
        if checksums and is_zip and zipfile.ZipFile(path).testzip() is not None:  # PyTorch compares none
            raise ValueError("wrong checksum")
    except inert_pickle.CodeError as error:
        raise UserError(f"checkpoint {path}: cannot be read, it holds {error}, which could run code; {STATE_DICT}") from error
    except Exception as error:  # a damaged pickle can raise anything
        reason = f"it is a TorchScript archive; {STATE_DICT}" if "TorchScript" in str(error) else "cut short, damaged or not a checkpoint"
        raise UserError(f"checkpoint {path}: cannot be read, {reason}") from error
    if isinstance(content, inert_pickle.Inert) and content.is_network:
        raise UserError(f"checkpoint {path}: is a pickled network, {type(content).__name__}, which only its code can read; {STATE_DICT}")
    if not isinstance(content, Mapping):
        raise UserError(f"checkpoint {path}: holds a {type(content).__name__}, not a dictionary with 'weights'")
    return dict(content)


def _read_safetensors(path: Path) -> dict[str, Any]:
    """Return "weights", numbers as float32, and the metadata, such as "config" and "name"; files of other tools hold weights alone."""
    try:
        with safe_open(path, framework="pt") as file:
            about = dict(parse_json((file.metadata() or {}).get(METADATA, "{}"), f"checkpoint {path}: metadata"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError) as error:
        raise UserError(f"checkpoint {path}: cannot be read, cut short, damaged or not in safetensors format") from error
    with limit_threads(1):  # in a fork, several may hang
        return {**about, "weights": {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}}


class Checkpoint:
    """A checkpoint's file, opened once for both its configuration and its weights. A name of `utils.zoo` stands for the network's file."""

    def __init__(self, path: str | Path):
        self.path = network_file(path)

    @cached_property
    def content(self) -> dict[str, Any]:
        return read_checkpoint(self.path)

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The file's only state dict, by its own names. Averaged weights beside others are taken, and announced in a line on stderr.

        Raises UserError where there is none, or more than one.
        """
        found = find_weights(self.content)
        chosen = preferred(found)
        if not found:
            network = inert_pickle.find_network(self.content)
            holds = f"a pickled network, {network}: {STATE_DICT}" if network else f"only {first_names(list(self.content)) or 'nothing'}"
            raise UserError(f"checkpoint {self.path}: has no 'weights', a dictionary of tensors, under any usual key; it holds {holds}")
        if len(chosen) > 1:
            raise UserError(f"checkpoint {self.path}: holds the weights of several networks ({', '.join(chosen)}); save one of them alone")
        key, weights = next(iter(chosen.items()))
        if len(found) > 1 and key != "weights":
            print(f"checkpoint {self.path}: the averaged weights are used, {key!r}", file=sys.stderr, flush=True)
        return weights

    @cached_property
    def session(self) -> Any:
        """An exported network's session of ONNX Runtime on the CPU; None for other files."""
        return open_session(self.path) if self.path.suffix.lower() == ONNX else None


def opened(checkpoint: str | Path | Checkpoint) -> Checkpoint:
    """Return a `Checkpoint` as it is, or that of a path or a network's name."""
    return checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)


def config_for(checkpoint: str | Path | Checkpoint, path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Return the configuration to run a checkpoint with: that at `path`; else its own; else, for a published checkpoint, its recipe.

    Raises UserError where there is none.
    """
    if path is not None:
        return load_config(path, overrides)
    checkpoint = opened(checkpoint)
    values = stored_config(checkpoint.session, checkpoint.path) if checkpoint.session else checkpoint.content.get("config")
    if isinstance(values, Mapping) and {"model", "skeleton"} <= values.keys():  # other trainers' have other keys
        config = parse_config(values, f"configuration in {checkpoint.path}")
        return with_overrides(config.model_copy(update={"skeleton": restore_order(config.skeleton)}), overrides)
    with _conversion(checkpoint.path):
        recipe = recipe_name(checkpoint.path) or next(filter(None, map(published_recipe, unwrapped(checkpoint.weights))), None)
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
    if checkpoint is not None and checkpoint.session:
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
    checkpoint = opened(path)
    weights = _converted(checkpoint.weights, model, checkpoint.path)
    _network(model).add_optional(weights)
    _fill(model, weights, lambda name: True, f"checkpoint {checkpoint.path}: does not fit the configured network")


def init_weights(model: nn.Module, path: str | Path) -> tuple[list[str], list[str]]:
    """Fill the network for fine-tuning, except for output layers of another number of channels.

    Return the names of loaded and of newly initialized tensors. Raises UserError where anything but output layers differs.
    """
    weights, is_output = _converted(Checkpoint(path).weights, model, path), _network(model).is_output
    return _fill(model, weights, lambda name: not is_output(name), f"checkpoint {path}: does not fit the configured network")


def load_backbone(model: nn.Module, path: str | Path) -> tuple[list[str], list[str]]:
    """Fill the network's backbone; other tensors of the file are ignored, others of the network stay as initialized.

    path: a file, or "timm" to download ImageNet weights where the network can. Return the names of loaded and of other tensors. Raises
    UserError where part of the backbone is missing or of another shape.
    """
    network, target = _network(model), model.state_dict()
    tensors = network.download_backbone() if str(path) == DOWNLOAD else Checkpoint(path).weights
    weights = {name: t for name, t in _converted(tensors, model, path).items() if network.is_backbone(name) and name in target}
    return _fill(model, weights, network.is_backbone, f"model.backbone {path}: does not fit the network's backbone")


def _network(model: nn.Module) -> PoseNetwork:
    """Return the network, or for another nn.Module one with its defaults: own keys, no output layers."""
    return model if isinstance(model, PoseNetwork) else PoseNetwork()


def _converted(tensors: Mapping[str, Tensor], model: nn.Module, path: str | Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by the network's own names, without a prefix, with branches concatenated. path: for messages."""
    network, target = _network(model), model.state_dict()
    convert_key = network.convert_key
    with _conversion(path):
        candidates = map(network.convert_weights, unwrapped(tensors))
        fitting = next((weights for weights in candidates if any(convert_key(name) in target for name in weights)), None)
    if fitting is None:
        starts = [", ".join(dict.fromkeys(f"{name.partition('.')[0]}." for name in names)) for names in (tensors, target)]
        theirs, own = (textwrap.shorten(of_names, 60, placeholder=" ...") for of_names in starts)
        none = f"none of its {len(tensors)} tensors has a name of the network's; its names begin with {theirs}, the network's with {own}"
        raise UserError(f"checkpoint {path}: does not fit the configured network: {none}")
    used = [(key, tensor) for name, tensor in fitting.items() if (key := convert_key(name)) is not None]
    converted, branches = dict(used), dict[str, dict[int, Tensor]]()
    if len(converted) != len(used):
        raise UserError(f"checkpoint {path}: holds some tensors twice, with and without a prefix such as 'module.'")
    for match in filter(None, map(BRANCH.fullmatch, list(converted))):
        branches.setdefault(match[1], {})[int(match[2])] = converted.pop(match[0])
    try:
        return converted | {key: torch.cat([of_key[k] for k in sorted(of_key)]) for key, of_key in branches.items()}
    except RuntimeError as error:
        raise UserError(f"checkpoint {path}: parts of a tensor do not fit together: {str(error).splitlines()[0]}") from error


@contextmanager
def _conversion(path: str | Path) -> Iterator[None]:
    """Raise UserError where another project's tensors cannot be converted. Those of unexpected shapes can raise any of these errors."""
    try:
        yield
    except (ValueError, RuntimeError, IndexError, TypeError) as error:
        raise UserError(f"checkpoint {path}: cannot be converted: {str(error).splitlines()[0]}") from error


def _fill(model: nn.Module, weights: Mapping[str, Tensor], counts: Callable[[str], bool], error: str) -> tuple[list[str], list[str]]:
    """Fill the network's tensors of the same names and shapes; return their names, and those of its other tensors.

    Raises UserError with all differences among the names that count.
    """
    target = model.state_dict()
    fitting = {name: tensor for name, tensor in weights.items() if name in target and tensor.shape == target[name].shape}
    reshaped = [name for name in target if name in weights and name not in fitting]
    differences = {
        # Files of PyTorch before 0.4.1 and of some trainers have no batch counters, which only count
        "missing": [name for name in target if name not in weights and counts(name) and not name.endswith(".num_batches_tracked")],
        "unknown": [name for name in weights if name not in target and counts(name)],
        "of another shape": [f"{n} {tuple(weights[n].shape)} for {tuple(target[n].shape)}" for n in reshaped if counts(n)],
    }
    texts = [f"{len(names)} tensors {kind} ({first_names(names)})" for kind, names in differences.items() if names]
    if texts:
        raise UserError(f"{error}: {'; '.join(texts)}")
    model.load_state_dict(fitting, strict=False)
    return [name for name in target if name in fitting], [name for name in target if name not in fitting]
