"""Bad input to the scripts: one line that names the thing and the way out, exit status 2, and nothing half-written."""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import h5py
import pytest
import torch
from places import ROOT

from config import UserError
from data.datasets import MixedDataset

BUILD = "data/coco_masks_hdf5.py"


@pytest.fixture
def train(fails, tiny, tmp_path):
    """Runs train.py on something that must be refused."""
    return lambda *arguments: fails("train.py", "--config", tiny, "--output", tmp_path / "run", *arguments)


@pytest.fixture
def evaluate(fails, tiny, trained, annotations, images, tmp_path):
    """Runs evaluate.py with some of its arguments replaced by ones that must be refused."""
    usual = {"config": tiny, "checkpoint": trained / "last.pth", "annotations": annotations, "images": images, "output": tmp_path / "out"}

    def start(*more: object, **replaced: object) -> str:
        named = [word for name, value in {**usual, **replaced}.items() for word in (f"--{name}", value)]
        return fails("evaluate.py", *named, *more)

    return start


# Images


def test_image_folder_without_the_images(fails, evaluate, annotations, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    assert "has none of the images" in fails(BUILD, "--annotations", annotations, "--images", folder, "--output", tmp_path / "out.h5")
    assert "lacks 8 of the 8 images" in evaluate(images=folder)
    for missing in (tmp_path / "nowhere", annotations):
        assert "image folder" in evaluate(images=missing)


def test_truncated_jpeg(run, fails, evaluate, trained, annotations, images, tmp_path, copy_of):
    folder = copy_of(images)
    broken = folder / "000000000001.jpg"
    broken.write_bytes(broken.read_bytes()[:2000])
    arguments = ("--annotations", annotations, "--images", folder, "--workers", 1)
    assert "000000000001.jpg: cannot be decoded" in fails(BUILD, *arguments, "--output", tmp_path / "strict.h5", "--strict")
    status, out, err = run(BUILD, *arguments, "--output", tmp_path / "lenient.h5")
    assert (status, "1 images were skipped" in err, "000000000001.jpg" in err) == (0, True, True)
    assert "people in 7 images" in out
    message = evaluate("--limit", 1, images=folder, output=trained / "evaluation")  # an evaluation may leave what it has, to go on from
    assert "000000000001.jpg: cannot be decoded" in message
    demo = ("demo_image.py", "--checkpoint", trained / "last.pth", "--input", broken, "--output", tmp_path / "demo")
    assert "000000000001.jpg: cannot be decoded" in fails(*demo)


# Training files


@pytest.mark.parametrize("part", [0, 0.5, 0.99])
def test_training_file_cut_short(train, hdf5, tmp_path, part):
    content = hdf5.read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: int(part * len(content))])
    assert "cut.h5: not a whole HDF5 file" in train(f"data.train={tmp_path / 'cut.h5'}")


def test_training_file_without_samples(train, hdf5, tmp_path):
    path = tmp_path / "empty.h5"
    path.write_bytes(hdf5.read_bytes())
    with h5py.File(path, "r+") as file:
        file["people/area"][:] = 0  # too small, all of them
    for override in (f"data.train={path}", f"data.val={path}", f"data.train=[{hdf5}, {path}]"):
        assert "empty.h5: holds no sample" in train(override)


def test_several_training_files_that_do_not_fit(train, hdf5, tmp_path):
    assert "data.train: expected a path, or a list of paths, got [1, 2]" in train("data.train=[1, 2]")
    assert "data: train_weights: 1 weights for 2 training files" in train(f"data.train=[{hdf5}, {hdf5}]", "data.train_weights=[1]")
    assert "nowhere.h5: not found" in train(f"data.train=[{hdf5}, {tmp_path / 'nowhere.h5'}]")


def test_training_file_missing_or_not_configured(train, tmp_path):
    assert "nowhere.h5: not found" in train(f"data.train={tmp_path / 'nowhere.h5'}")
    assert "data.val: no training file is configured" in train("data.val=null")


def test_an_error_in_a_loader_process_is_one_line_too(run, tiny, tmp_path, monkeypatch):
    def broken(self, index):
        raise UserError(f"sample {index}: cannot be decoded")

    monkeypatch.setattr(MixedDataset, "__getitem__", broken)
    status, _, err = run("train.py", "--config", tiny, "--output", tmp_path / "run", "data.workers=1")
    assert (status, err.count("\n")) == (2, 1), err
    assert err.startswith("error: sample "), err
    assert err.endswith(": cannot be decoded\n")


# Configuration


def test_configurations_that_make_no_sense(fails, train, tiny, tmp_path):
    assert "unknown key 'train.batchsize'; did you mean 'train.batch_size'?" in train("train.batchsize=2")
    assert "Apex" in train("train.optimizer=apex_sgd")
    assert "no cycle of 5 epochs fits" in train("train.swa.start_epoch=1")
    path = tmp_path / "mine.yaml"
    path.write_text(tiny.read_text().replace("epochs:", "epoch:"))
    message = fails("train.py", "--config", path, "--output", tmp_path / "run")
    assert f"{path}: unknown key 'train.epoch'; did you mean 'train.epochs'?" in message


# Checkpoints


class Malicious:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture(params=["missing", "cut", "pickle", "pickle in torch's format", "another architecture"])
def bad_checkpoint(request, trained, tmp_path) -> tuple[Path, str]:
    """A checkpoint that cannot be loaded, and what must be said about it."""
    path = tmp_path / "bad.pth"
    whole = (trained / "last.pth").read_bytes()
    if request.param == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif request.param == "pickle":
        path.write_bytes(pickle.dumps({"weights": Malicious(tmp_path / "run by the pickle")}))
    elif request.param == "pickle in torch's format":
        torch.save({"weights": Malicious(tmp_path / "run by the pickle")}, path)
    elif request.param == "another architecture":
        weights = torch.load(trained / "last.pth", weights_only=True)["weights"]
        torch.save({"weights": {name: tensor for name, tensor in weights.items() if "expand" not in name}}, path)
        return path, "tensors missing"
    return path, "bad.pth: not found" if request.param == "missing" else "bad.pth: cannot be read"


def test_checkpoints_that_cannot_be_loaded(train, evaluate, fails, images, bad_checkpoint, tmp_path):
    path, said = bad_checkpoint
    messages = [train("--resume", path), train("--init", path), evaluate(checkpoint=path)]
    messages.append(fails("demo_image.py", "--checkpoint", path, "--input", images, "--output", tmp_path / "demo"))
    for message in messages[:3] if said == "tensors missing" else messages:
        assert said in message


def test_weights_without_training_state_cannot_be_resumed(train, trained, tmp_path):
    content = torch.load(trained / "last.pth", weights_only=True)
    torch.save({"weights": content["weights"]}, tmp_path / "weights.pth")
    assert "start from it with --init" in train("--resume", tmp_path / "weights.pth")


def test_another_optimizer_cannot_be_resumed(train, trained):
    assert "trained with train.optimizer=adamw" in train("--resume", trained / "last.pth", "train.optimizer=sgd", "train.epochs=3")


# Outputs


def test_output_that_cannot_be_written(fails, train, evaluate, tiny, trained, annotations, images, tmp_path):
    """Below a regular file: permissions do not stop an administrator."""
    file = tmp_path / "a file"
    file.touch()
    below = file / "folder"
    messages = [
        fails("train.py", "--config", tiny, "--output", below),
        evaluate(output=below),
        fails("demo_image.py", "--checkpoint", trained / "last.pth", "--input", images, "--output", below),
        fails(BUILD, "--annotations", annotations, "--images", images, "--output", below / "out.h5", "--workers", 1),
        fails("data/synthetic.py", "--output", below, "--count", 1, "--seed", 1),
    ]
    for message in messages:
        assert f"output folder {below}: cannot be written" in message


def test_a_run_is_not_overwritten(fails, tiny, trained, copy_of, tmp_path):
    mine = copy_of(trained)
    assert "already holds a run; go on with --resume auto" in fails("train.py", "--config", tiny, "--output", mine)
    other = tmp_path / "elsewhere.pth"
    other.write_bytes((trained / "last.pth").read_bytes())
    assert "already holds a run" in fails("train.py", "--config", tiny, "--output", mine, "--resume", other)


@contextmanager
def largest_file(size: int):
    """The size in bytes of the largest file that may be written: stands for the space that is left on a disk.

    Only while the script runs: pytest's own output may be a file too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk(run, tiny, trained, annotations, images, copy_of):
    """The former checkpoint stays whole."""
    folder = copy_of(trained)
    former = (folder / "last.pth").read_bytes()
    train = ("train.py", "--config", tiny, "--output", folder, "--resume", "auto", "train.epochs=3", "train.val_images=0")
    evaluate = ("evaluate.py", "--config", tiny, "--checkpoint", folder / "best.pth", "--annotations", annotations, "--images", images)
    for size, arguments in ((len(former) // 2, train), (50, evaluate)):
        with largest_file(size):
            status, _, err = run(*arguments)
        assert status == 2, err
        assert err.splitlines()[-1].startswith("error: "), err
        assert "Traceback" not in err
        assert not list(folder.rglob(".*"))
    assert (folder / "last.pth").read_bytes() == former


# Devices


@pytest.mark.parametrize("device", ["cuda:99", "tpu?"])
def test_device_that_is_not_there(evaluate, device):
    assert f"device '{device}': not available" in evaluate("--device", device)


def test_from_another_folder_in_a_process_of_its_own(tmp_path):
    """As `fails`, without what it leaves out: the interpreter's own start and end."""
    command = [sys.executable, ROOT / "train.py", "--config", ROOT / "config" / "quickstart.yaml", "--resume", "auto"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: training file runs/quickstart/data/train.h5: not found\n"
    assert list(tmp_path.iterdir()) == []
