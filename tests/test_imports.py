"""One fresh process: imports and constructors change nothing global, the demo starts fast, and a script's error is its last word."""

import json
import subprocess
import sys

import pytest
from places import ROOT

SLOW = ("torchvision", "timm", "scipy", "h5py", "tensorboard", "onnxruntime", "matplotlib", "torch._dynamo")  # 0.3 to 2 s each
CODE = """
import sys
sys.path[0] = root = sys.argv[1]
import utils.assignment
result = {"torch": "torch" in sys.modules}
import cv2, gc, importlib, json, logging, multiprocessing, numpy, os, pathlib, PIL.Image
import pydantic, runpy, signal, torch, tqdm, warnings, yaml

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
result |= {"modules": sorted(sys.modules), "demo": changes(before)}

import h5py, pycocotools.coco, scipy.optimize, scipy.io, timm, torchvision
before = state()
for folder in ("config", "data", "models", "losses", "utils"):
    for path in sorted(pathlib.Path(root, folder).rglob("*.py")):
        importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"))
from config import load_config
from data.datasets import MixedDataset
from utils.inference import PoseEstimator
for name in ("quickstart", "dekr_quickstart"):
    config = load_config(pathlib.Path(root, f"config/{name}.yaml"))
    MixedDataset([pathlib.Path(sys.argv[2])], config, augment=True)[0, 0]
    PoseEstimator(config, device="cpu")
result["all"] = changes(before)
print(json.dumps(result))
sys.argv = ["train.py", "--config", f"{root}/config/quickstart.yaml", "--resume", "auto"]
runpy.run_path(f"{root}/train.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def ended(hdf5, tmp_path_factory) -> subprocess.CompletedProcess:
    """The process, which ran in an empty folder."""
    folder = tmp_path_factory.mktemp("elsewhere")
    ended = subprocess.run([sys.executable, "-c", CODE, ROOT, hdf5], cwd=folder, capture_output=True, text=True)
    assert ended.stdout, ended.stderr
    assert list(folder.iterdir()) == []
    return ended


def test_assignment_and_demo_import_nothing_slow_that_they_do_not_need(ended):
    result = json.loads(ended.stdout)
    assert not result["torch"]
    assert "demo_image" in result["modules"] and not set(result["modules"]) & set(SLOW)


@pytest.mark.parametrize("part", ["demo", "all"])
def test_importing_and_constructing_change_nothing_global(ended, part):
    assert json.loads(ended.stdout)[part] == []


def test_a_script_from_another_folder_ends_with_one_line_and_status_2(ended):
    assert (ended.returncode, ended.stderr) == (2, "error: training file runs/quickstart/data/train.h5: not found; check its path\n")
