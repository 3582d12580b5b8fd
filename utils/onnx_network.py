"""Run exported networks, `.onnx`, by ONNX Runtime; `utils.export` writes them. ONNX Runtime is optional: it is imported when needed."""

import os
import textwrap
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from config import Config, UserError
from config.files import existing_file, parse_json
from config.load import changed_keys
from deploy.sessions import new_session
from utils.device import fork_error

SUFFIX = ".onnx"
IMAGES = "images"  # the input's name
CONFIG, SKELETON = "simplepose.config", "simplepose.skeleton"  # in the file's metadata
NAME, VERSION = "simplepose.name", "simplepose.version"
RUNNER = "simplepose.runner"  # what deploy/ needs besides
NETWORK_KEYS = ("system", "model.", "skeleton.keypoints", "skeleton.limbs", "inference.precision")  # files compute in float32
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def required(*packages: str) -> list[ModuleType]:
    """Return the imported packages. Raises UserError with the command that installs them where one is missing."""
    try:
        return [import_module(package) for package in packages]
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed, which exported networks need: pip install {' '.join(packages)}") from error


def open_session(path: str | Path, device: torch.device | None = None) -> Any:
    """Return ONNX Runtime's session of a file, on the CPU or a GPU that it can use. Raises UserError where the file cannot be read."""
    (runtime,) = required("onnxruntime")
    providers: list[Any] = [CPU]
    if device is not None and device.type == "cuda" and CUDA in runtime.get_available_providers():
        # Each image size is new to cuDNN: an exhaustive search for the fastest algorithm would take seconds every time
        providers.insert(0, (CUDA, {"device_id": device.index or 0, "cudnn_conv_algo_search": "HEURISTIC"}))
    path = existing_file(path, "checkpoint")
    try:
        return new_session(path, torch.get_num_threads(), providers)
    except Exception as error:  # each of ONNX Runtime's errors is a class of its own
        reason = textwrap.shorten(str(error).rpartition(" : ")[2], 160, placeholder=" ...")
        raise UserError(f"checkpoint {path}: cannot be read by ONNX Runtime {runtime.__version__}, is it whole? {reason}") from error


def stored_config(session: Any, path: str | Path) -> dict[str, Any]:
    """Return the configuration that a network was exported with. Raises UserError where the file holds none."""
    try:
        return dict(parse_json(session.get_modelmeta().custom_metadata_map[CONFIG], f"checkpoint {path}: configuration"))
    except (KeyError, ValueError, TypeError) as error:
        remedy = "was it written by 'python -m utils.export'?"
        raise UserError(f"checkpoint {path}: holds no configuration of this project; {remedy}") from error


class OnnxNetwork(nn.Module):
    """An exported network in the place of a system's: `predict` gives the same outputs, computed by ONNX Runtime. It has no layers.

    Raises UserError where the file at `path` was not exported with this configuration.
    """

    def __init__(self, session: Any, config: Config, path: str | Path, decode: bool = False):
        super().__init__()
        if not decode and "keypoints" in [output.name for output in session.get_outputs()]:
            remedy = "demo_image.py with other options, or an export without --decode"
            raise UserError(f"checkpoint {path}: was exported with --decode, so that deploy/ and demo_image.py run it alone; use {remedy}")
        self.session, self.path, self.process = session, path, os.getpid()
        on_gpu = session.get_provider_options().get(CUDA)
        self.device = torch.device("cpu") if on_gpu is None else torch.device("cuda", int(on_gpu["device_id"]))
        # Decoders look up the device of a network's first parameter
        self.device_parameter = nn.Parameter(torch.empty(0, device=self.device), requires_grad=False)
        current = config.model_dump(mode="json")
        changed = {
            key: values
            for key, values in changed_keys(stored_config(session, path), current).items()
            if key.startswith(NETWORK_KEYS) and key != "model.backbone"
        }
        sides = session.get_inputs()[0].shape[2:]
        if all(isinstance(side, int) for side in sides) and sides != current["data"]["input_size"]:
            changed["data.input_size"] = sides, current["data"]["input_size"]
        for key, values in changed.items():
            before, now = (textwrap.shorten(str(value), 60, placeholder=" ...") for value in values)
            raise UserError(
                f"checkpoint {path}: was exported with {key} {before}, the configuration has {now}; omit that, or export the network again"
            )

    def predict(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return what the exported network's `predict` does for images (N, 3, H, W) BGR in [0, 1]. Raises UserError in a fork."""
        if self.process != os.getpid():
            raise fork_error(f"checkpoint {self.path}, which ONNX Runtime runs")
        maps = self.session.run(None, {IMAGES: images.detach().cpu().float().contiguous().numpy()})
        outputs = tuple(torch.from_numpy(array).to(images.device) for array in maps)
        return outputs[0] if len(outputs) == 1 else outputs

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"session": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.session, self.process = open_session(self.path, self.device), os.getpid()
