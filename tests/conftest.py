"""Fixtures of several test files: a few synthetic images, a network that trains in seconds, and the scripts as a user starts them."""

import os

# One thread for every process, also for those that tests start: two suites side by side would starve each other
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"))

import runpy
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch
from places import ROOT, SHARED

from config import load_config
from config.load import load_skeleton
from data.coco_masks_hdf5 import build_hdf5
from data.datasets.simplepose import SimplePoseDataset
from data.hdf5 import TrainingHDF5
from data.synthetic import write_synthetic
from utils.distributed import DistributedContext
from utils.training.trainer import train

torch.set_num_threads(1)
cv2.setNumThreads(1)
# In the background of a shell, the processes that tests start would ignore Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)

IMAGES, SIZE = 8, (128, 160)
MAX_SECONDS = 120  # of a script

TINY = """
skeleton: coco
model: {{stages: 1, channels: 16, channels_increase: 0, depth: 2}}
data: {{train: {hdf5!r}, val: {hdf5!r}, input_size: [64, 64], workers: 0}}
augmentation: {{shift: 4}}
loss: {{scale_weights: [1, 1, 1]}}
train: {{epochs: 2, batch_size: 2, optimizer: adamw, learning_rate: 1.0e-3, warmup_epochs: 0, log_every: 2}}
inference: {{pad_multiple: 16}}
"""


def _hangs(*_: object) -> None:
    raise AssertionError(f"the script still runs after {MAX_SECONDS} seconds")


class Ended(NamedTuple):
    """The exit status and the output of a script."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def _blank_curves() -> Iterator[None]:
    """Spare every tiny epoch the half second that matplotlib takes."""
    with patch("utils.training.logging.draw_curves", lambda points: np.zeros((9, 9, 3), np.uint8)):
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder shared/ with real photographs. Skips the test where it is missing."""
    if not (SHARED / "data" / "coco_mini").is_dir():
        pytest.skip("no real photographs: there is no folder shared/data/coco_mini beside the project")
    return SHARED


@pytest.fixture(scope="session")
def annotations(tmp_path_factory) -> Path:
    """The annotation file of a few synthetic images, which are in images/ beside it. The path has blanks on purpose."""
    return write_synthetic(tmp_path_factory.mktemp("synthetic") / "some people", IMAGES, seed=9, size=SIZE)


@pytest.fixture(scope="session")
def images(annotations) -> Path:
    return annotations.parent / "images"


@pytest.fixture(scope="session")
def hdf5(annotations, images) -> Path:
    """The training HDF5 of the synthetic images."""
    path = annotations.parent / "people.h5"
    build_hdf5(annotations, images, path, load_skeleton("coco"), workers=1)
    return path


@pytest.fixture(scope="session")
def samples(hdf5) -> int:
    """The number of samples of the training HDF5."""
    config = load_config(ROOT / "config" / "simplepose_coco_512.yaml")
    return len(SimplePoseDataset(TrainingHDF5(hdf5, config.skeleton), config))


@pytest.fixture(scope="session")
def tiny(hdf5) -> Path:
    """A configuration whose epoch takes a fraction of a second."""
    path = hdf5.parent / "tiny.yaml"
    path.write_text(TINY.format(hdf5=str(hdf5)))
    return path


@pytest.fixture(scope="session")
def trained(tiny) -> Path:
    """The run directory of two epochs with the tiny configuration. Tests write to a copy: see `copy_of`."""
    folder = tiny.parent / "trained"
    train(load_config(tiny), folder, DistributedContext("none", torch.device("cpu")))
    return folder


@pytest.fixture
def copy_of(tmp_path) -> Callable[[Path], Path]:
    """A function that copies a folder below tmp_path."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / folder.name))


@pytest.fixture
def run(monkeypatch, capsys) -> Callable[..., Ended]:
    """A function that runs a script of the project as a user does, but in this process: torch takes seconds to import."""

    def start(script: str, *arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        monkeypatch.setattr(sys, "path", list(sys.path))  # scripts below the project's root change it
        terminate = signal.getsignal(signal.SIGTERM)  # run_cli changes it
        signal.signal(signal.SIGALRM, _hangs)
        signal.alarm(MAX_SECONDS)
        capsys.readouterr()  # drop what fixtures wrote
        status = 0
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            status = end.code
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGTERM, terminate)
        return Ended(status, *capsys.readouterr())

    return start


@pytest.fixture
def fails(run, tmp_path) -> Callable[..., str]:
    """A function that runs a script with bad input: it must end with status 2, one line, and nothing new below tmp_path."""

    def start(script: str, *arguments: object) -> str:
        before = set(tmp_path.rglob("*"))
        status, _, err = run(script, *arguments)
        assert status == 2, err
        assert err.startswith("error: "), err
        assert err.count("\n") == 1, err
        assert set(tmp_path.rglob("*")) == before
        return err

    return start
