"""What imports and constructors leave alone, and what the first image does not wait for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from places import ROOT

SLOW = ("torchvision", "timm", "scipy", "h5py", "tensorboard", "onnxruntime", "matplotlib", "torch._dynamo")  # 0.3 to 2 s each
CODE = """
import cv2, gc, importlib, json, logging, multiprocessing, numpy, os, pathlib, PIL.Image, pydantic, signal, sys, torch, tqdm, warnings, yaml

def state():
    return {
        "garbage collection": [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()],
        "threads": [torch.get_num_threads(), torch.get_num_interop_threads(), cv2.getNumThreads(), cv2.ocl.useOpenCL()],
        "environment": dict(os.environ),
        "hooks": [repr(hook) for hook in (sys.excepthook, sys.unraisablehook, sys.displayhook)],
        "warnings": [repr(rule) for rule in warnings.filters],
        "signals": {str(number): repr(signal.getsignal(number)) for number in signal.valid_signals()},
        "logging": [[repr(handler) for handler in logging.root.handlers], logging.root.level, cv2.utils.logging.getLogLevel()],
        "torch": [str(torch.get_default_dtype()), torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark,
                  torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.is_grad_enabled()],
        "other": [multiprocessing.get_start_method(allow_none=True), PIL.Image.MAX_IMAGE_PIXELS, sys.path, numpy.geterr()],
    }

def changes(before):
    after = state()
    return [f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]

before = state()
import demo_image
found = {"modules": sorted(sys.modules), "demo": changes(before)}

import h5py, matplotlib.figure, onnxruntime, pycocotools.coco, safetensors, scipy.optimize, scipy.io, timm, torch._dynamo, torchvision
from torch.utils import tensorboard
before = state()
for folder in ("config", "data", "models", "losses", "utils"):
    for path in sorted(pathlib.Path(folder).rglob("*.py")):
        importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
from config import load_config
from data.datasets import MixedDataset
from utils.inference import PoseEstimator
for name in ("quickstart", "dekr_quickstart"):
    config = load_config(f"config/{name}.yaml")
    MixedDataset([pathlib.Path(sys.argv[1])], config, augment=True)[0, 0]
    PoseEstimator(config, device="cpu")
found["all"] = changes(before)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(hdf5) -> dict:
    """A process of its own: here other tests have imported everything."""
    done = subprocess.run([sys.executable, "-c", CODE, hdf5], cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_demo_imports_what_simplepose_needs(found):
    assert "demo_image" in found["modules"]
    assert not set(found["modules"]) & set(SLOW)


@pytest.mark.parametrize("part", ["demo", "all"])
def test_importing_and_constructing_change_nothing_global(found, part):
    assert not found[part], "\n".join(found[part])
