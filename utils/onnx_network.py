"""Exported networks, `.onnx`, run by ONNX Runtime; `utils.export` writes them. ONNX Runtime is optional: it is imported when asked for."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from config import Config, UserError
from config.files import existing_file
from config.load import changed_keys

SUFFIX = ".onnx"
IMAGES = "images"  # the input's name
CONFIG, SKELETON = "simplepose.config", "simplepose.skeleton"  # in the file's metadata
NAME, VERSION = "simplepose.name", "simplepose.version"
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def is_onnx(path: str | Path) -> bool:
    """Whether a file is named as an exported network."""
    return Path(path).suffix.lower() == SUFFIX


def required(*packages: str) -> list[ModuleType]:
    """The packages, imported. Raises UserError with the way to install them where one is missing."""
    modules = []
    for package in packages:
        try:
            modules.append(import_module(package))
        except ModuleNotFoundError as error:
            raise UserError(f"{package} is not installed, which exported networks need: pip install {' '.join(packages)}") from error
    return modules


def onnx_config(path: str | Path) -> dict[str, Any]:
    """The configuration that a network was exported with, as a nested dictionary. Raises UserError where the file holds none."""
    return _stored_config(_session(path, [CPU], optimized=False), path)


class OnnxNetwork(nn.Module):
    """Stands where a pose system has its network: `predict` gives the same, computed by ONNX Runtime. There are no layers in it.

    device: a GPU is used where ONNX Runtime can. Raises UserError where the file is damaged, not ours, or not of this configuration.
    """

    def __init__(self, path: str | Path, config: Config, device: torch.device):
        super().__init__()
        with_gpu = device.type == "cuda" and CUDA in required("onnxruntime")[0].get_available_providers()
        # Each size of image is new to cuDNN: a thorough search for the fastest algorithm would take seconds every time
        on_gpu = (CUDA, {"device_id": device.index or 0, "cudnn_conv_algo_search": "HEURISTIC"})
        self.session = _session(path, [on_gpu, CPU] if with_gpu else [CPU])
        self.device = device if CUDA in self.session.get_providers() else torch.device("cpu")
        # Decoders ask a network's parameters where it wants its images; there is nothing in this one
        self.place = nn.Parameter(torch.empty(0, device=self.device), requires_grad=False)
        self._check(config, path)

    def predict(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """images (N, 3, H, W) BGR in [0, 1], as the exported network's `predict` takes them."""
        found = self.session.run(None, {IMAGES: images.detach().cpu().float().contiguous().numpy()})
        answers = tuple(torch.from_numpy(maps).to(images.device) for maps in found)
        return answers[0] if len(answers) == 1 else answers

    def _check(self, config: Config, path: str | Path) -> None:
        stored, wanted = _stored_config(self.session, path), config.model_dump(mode="json")
        changed = changed_keys(_of_network(stored), _of_network(wanted))
        sides = self.session.get_inputs()[0].shape[2:]
        if all(isinstance(side, int) for side in sides) and sides != wanted["data"]["input_size"]:
            changed["data.input_size"] = sides, wanted["data"]["input_size"]
        if changed:
            key, (before, now) = next(iter(changed.items()))
            was, is_now = (textwrap.shorten(str(value), 60, placeholder=" ...") for value in (before, now))
            raise UserError(f"checkpoint {path}: was exported with {key} {was}, the configuration has {is_now}; export it anew with that")
        if config.inference.precision != "float32":
            raise UserError(f"checkpoint {path}: computes in float32; leave inference.precision={config.inference.precision} out")


def _session(path: str | Path, providers: list, optimized: bool = True) -> Any:
    (runtime,) = required("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what is wrong comes as an exception
    options.intra_op_num_threads = torch.get_num_threads()
    if not optimized:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return runtime.InferenceSession(str(existing_file(path, "checkpoint")), options, providers)
    except UserError:
        raise
    except Exception as error:  # each of ONNX Runtime's errors is a class of its own
        said = textwrap.shorten(str(error).rpartition(" : ")[2], 160, placeholder=" ...")
        raise UserError(f"checkpoint {path}: cannot be read by ONNX Runtime {runtime.__version__}, is it whole? {said}") from error


def _stored_config(session: Any, path: str | Path) -> dict[str, Any]:
    try:
        values = json.loads(session.get_modelmeta().custom_metadata_map[CONFIG])
    except (KeyError, ValueError):
        values = None
    if not isinstance(values, Mapping):
        raise UserError(f"checkpoint {path}: holds no configuration of this project; was it written by 'python -m utils.export'?")
    return dict(values)


def _of_network(values: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration decides what the network is, without the file that its training began with."""
    model = {key: value for key, value in values.get("model", {}).items() if key != "backbone"}
    skeleton = {key: values.get("skeleton", {}).get(key) for key in ("keypoints", "limbs")}
    return {"system": values.get("system"), "model": model, "skeleton": skeleton}
