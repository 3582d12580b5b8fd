"""Whatever ends a training, it goes on as if nothing had been: the same losses and weights, bit for bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from holding import held_elsewhere
from runs import ALONE, losses, points, same, samples_taken, stopped_after, weights
from torch import nn

from config import UserError, load_config
from models import build_model
from utils.checkpoint import read_checkpoint
from utils.distributed import DistributedContext
from utils.training import prepare, run_folder, state, trainer
from utils.training.interrupts import Interrupts

OFTEN = ("train.epochs=3", "train.checkpoint_every=1", "train.log_every=1", "train.ema_decay=0.9")
OFTEN += ("train.swa.start_epoch=1", "train.swa.cycle=1", "train.swa.high=1e-3", "train.swa.low=5e-4")
FILES = ("last.pth", "best.pth", "ema.pth", "averaged.pth")


@pytest.fixture(scope="module")
def straight(tiny) -> Path:
    """The folder of a run that nothing disturbed. Not to be written to."""
    folder = tiny.parent / "straight"
    trainer.train(load_config(tiny, OFTEN), folder, ALONE)
    return folder


def assert_same_run(folder: Path, other: Path) -> None:
    """Weights, averages, the optimizer's moments, the chance to come, every loss that was told."""
    for name in FILES:
        assert same(weights(folder, name), weights(other, name)), name
    one, two = (read_checkpoint(path / "last.pth") for path in (folder, other))
    for moments, others in zip(one["optimizer"]["state"].values(), two["optimizer"]["state"].values()):
        assert same(moments, others)
    assert all(torch.equal(a, b) for a, b in zip(one["random"][0].values(), two["random"][0].values()))
    assert [one[key] for key in ("epoch", "taken", "steps", "best")] == [two[key] for key in ("epoch", "taken", "steps", "best")]
    assert points(folder) == points(other)
    assert losses((folder / "train.log").read_text())[-1:] == losses((other / "train.log").read_text())[-1:]


def test_loader_processes_that_stay_read_what_the_trainer_would(tiny, straight, tmp_path):
    """From within an epoch, over the next ones, and once more for the average; and end with it."""
    config = load_config(tiny, (*OFTEN, "data.workers=2"))
    stopped_after(7, lambda: trainer.train(config, tmp_path, ALONE))
    assert multiprocessing.active_children() == []
    trainer.train(config, tmp_path, ALONE, "auto")
    assert multiprocessing.active_children() == []
    assert same(weights(tmp_path), weights(straight))
    assert points(tmp_path) == points(straight)


@pytest.mark.parametrize("steps", [1, 3, 5, 8])
def test_a_run_that_is_killed_goes_on_at_the_next_sample(tiny, straight, tmp_path, steps):
    """Also at the end of an epoch (the fifth step), before its validation."""
    config = load_config(tiny, OFTEN)
    stopped_after(steps, lambda: trainer.train(config, tmp_path, ALONE))
    with samples_taken() as taken:
        trainer.train(config, tmp_path, ALONE, "auto")
    assert len(taken) == (15 - steps) * 2 + 10  # and once more an epoch for the average's statistics
    assert_same_run(tmp_path, straight)


def test_checkpoints_come_every_so_many_steps(train):
    folder = train("run", "train.epochs=1", "train.checkpoint_every=2")[0]
    assert [read_checkpoint(folder / name)["steps"] for name in ("last.pth", "previous.pth")] == [5, 5]
    assert [read_checkpoint(folder / name)["taken"] for name in ("last.pth", "previous.pth")] == [0, 10]
    assert read_checkpoint(train("none", "train.epochs=2", "train.checkpoint_every=null")[0] / "previous.pth")["epoch"] == 1


def test_sums_of_the_losses_when_processes_come_and_go():
    """The first of those that go on has the sums of all before."""
    of_two = {"epoch": torch.tensor([[10.0, 2], [30, 2]]), "parts": torch.tensor([[1.0, 2], [3, 4]]), "count": torch.tensor([2, 2])}
    taken = []
    for rank, size in [(1, 2), (0, 3), (2, 3)]:
        sums = state.LossSums(torch.device("cpu"))
        sums.load(of_two, DistributedContext("distributed", torch.device("cpu"), rank, size))
        taken.append((sums.epoch.tolist(), sums.parts.tolist(), sums.count))
    assert taken == [([30, 2], [3, 4], 2), ([40, 4], [4, 6], 4), ([0, 0], [0, 0], 0)]


def test_chance_in_the_network_goes_on_too(tiny, tmp_path, monkeypatch):
    """A dropout draws from PyTorch's common generator."""

    class Forgetful(nn.Module):
        def __init__(self, network: nn.Module):
            super().__init__()
            self.network, self.dropout = network, nn.Dropout(0.3)

        def forward(self, images: torch.Tensor) -> list:
            return self.network(self.dropout(images))

    config = load_config(tiny, ("train.epochs=2", "train.checkpoint_every=1"))
    monkeypatch.setattr(prepare, "build_model", lambda config: Forgetful(build_model(config)))
    monkeypatch.setattr(prepare, "load_weights", lambda network, path: network.load_state_dict(read_checkpoint(path)["weights"]))
    trainer.train(config, tmp_path / "straight", ALONE)
    stopped_after(3, lambda: trainer.train(config, tmp_path / "killed", ALONE))
    trainer.train(config, tmp_path / "killed", ALONE, "auto")
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "straight"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_every_step(run, tiny, straight, tmp_path, monkeypatch, number):
    """Without a checkpoint in sight."""
    command = ("train.py", "--config", tiny, "--output", tmp_path / "run", "--resume", "auto", *OFTEN, "train.checkpoint_every=1000")
    add = trainer.add_gradients
    with monkeypatch.context() as patched:
        patched.setattr(
            trainer, "add_gradients", lambda run, batches: (run.steps == 7 and os.kill(os.getpid(), number), add(run, batches))[1]
        )
        status, _, err = run(*command)
    assert (status, "interrupted in epoch 2; all up to step 8 of the run is kept" in err) == (130, True), err
    ended = run(*command)
    assert (ended.status, "going on after epoch 1 and 6 samples of the next" in ended.out) == (0, True), ended.err
    assert_same_run(tmp_path / "run", straight)


def test_a_second_interrupt_is_heard_at_once():
    interrupts, noted = Interrupts(), []
    with pytest.raises(KeyboardInterrupt), interrupts, interrupts.held():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
            time.sleep(0.01)
            noted.append(interrupts.asked)
    assert noted == [True, True]


# Kill -9


def in_a_child(work: Callable[[], None]) -> int:
    """Run it in a copy of this process, which has everything loaded already; its process number."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        try:
            work()
        finally:
            os._exit(0)
    return child


@pytest.mark.parametrize("written", ["save_checkpoint", "save_average"])
def test_killed_while_an_epochs_checkpoints_are_written(tiny, straight, tmp_path, monkeypatch, written):
    """The run that goes on writes what is missing: the best, the average, the epoch's figures."""
    config = load_config(tiny, OFTEN)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, written, lambda *_, **__: os._exit(1))
        os.waitpid(in_a_child(lambda: trainer.train(config, tmp_path, ALONE)), 0)
    trainer.train(config, tmp_path, ALONE, "auto")
    assert_same_run(tmp_path, straight)


def test_an_epochs_steps_are_kept_before_its_validation(tiny, tmp_path, monkeypatch):
    """Also where none of them has a checkpoint of its own."""
    config = load_config(tiny, (*OFTEN, "train.checkpoint_every=null"))
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "validate", lambda *_: os._exit(1))
        os.waitpid(in_a_child(lambda: trainer.train(config, tmp_path, ALONE)), 0)
    last = read_checkpoint(tmp_path / "last.pth")
    assert (last["epoch"], last["taken"] > 0, last["steps"]) == (0, True, 5)


def test_two_runs_do_not_share_a_folder(tiny, tmp_path):
    with held_elsewhere(tmp_path), pytest.raises(UserError, match="another process is writing to it"):
        trainer.train(load_config(tiny, OFTEN), tmp_path, ALONE)
    assert not (tmp_path / "config.yaml").exists()


@pytest.mark.slow
def test_twenty_kills_at_random_moments(tiny, straight, tmp_path):
    """Never an unreadable last checkpoint; the run that is left to itself at last ends as if nothing had been."""
    config, rng = load_config(tiny, OFTEN), random.Random(0)
    for _ in range(20):
        child = in_a_child(lambda: trainer.train(config, tmp_path, ALONE, "auto"))
        time.sleep(rng.uniform(0.05, 0.6))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if (tmp_path / "last.pth").exists():
            read_checkpoint(tmp_path / "last.pth")
    trainer.train(config, tmp_path, ALONE, "auto")
    assert_same_run(tmp_path, straight)
    assert not list(tmp_path.glob("*partial*"))


@pytest.mark.parametrize("moment", ["torch.save", "os.fsync", "os.link", "pathlib.Path.replace"])
@pytest.mark.parametrize("call", [2, 3])
def test_a_kill_while_saving_loses_one_step_at_most(tiny, tmp_path, monkeypatch, moment, call):
    """At each moment of it: in the middle of the file, before it is on the disk, before and between its renames."""
    config, calls = load_config(tiny, ("train.epochs=1", "train.checkpoint_every=1")), []
    module, _, name = moment.rpartition(".")
    owner = {"torch": torch, "os": run_folder.os, "pathlib.Path": Path}[module]
    done = getattr(owner, name)

    def die(*arguments: object, **named: object) -> object:
        calls.append(arguments)
        if len(calls) > 6 * call:
            if name == "save":
                Path(arguments[1]).write_bytes(b"PK\x03\x04 half of it")
            os.kill(os.getpid(), signal.SIGKILL)
        return done(*arguments, **named)

    def work() -> None:
        monkeypatch.setattr(owner, name, die)
        trainer.train(config, tmp_path, ALONE)

    os.waitpid(in_a_child(work), 0)
    if (tmp_path / "last.pth").exists():
        read_checkpoint(tmp_path / "last.pth")
    trainer.train(config, tmp_path, ALONE, "auto")
    assert read_checkpoint(tmp_path / "last.pth")["epoch"] == 1


# Damaged checkpoints


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One bit of the largest tensor."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda record: record.file_size)
    data = bytearray(path.read_bytes())
    data[largest.header_offset + largest.file_size // 2 + 200] ^= 16
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [cut, flip, empty])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(run, tiny, straight, copy_of, harm):
    folder = copy_of(straight)
    harm(folder / "last.pth")
    ended = run("train.py", "--config", tiny, "--output", folder, "--resume", "auto", *OFTEN)
    assert ended.status == 0, ended.err
    assert f"checkpoint {folder / 'last.pth'}: cannot be read" in ended.out
    assert f"going on from the one before, {folder / 'previous.pth'}" in ended.out
    assert_same_run(folder, straight)


def test_a_last_checkpoint_that_is_gone(run, tiny, straight, copy_of):
    """As between two renames on a file system without hard links."""
    folder = copy_of(straight)
    (folder / "last.pth").unlink()
    assert run("train.py", "--config", tiny, "--output", folder, "--resume", "auto", *OFTEN).status == 0
    assert_same_run(folder, straight)


def test_two_damaged_checkpoints_are_an_error_and_no_new_start(run, tiny, straight, copy_of):
    folder = copy_of(straight)
    for name in ("last.pth", "previous.pth"):
        flip(folder / name)
    before = sorted(folder.iterdir())
    status, _, err = run("train.py", "--config", tiny, "--output", folder, "--resume", "auto", *OFTEN)
    assert (status, err.count("\n")) == (2, 1)
    assert f"checkpoint {folder / 'previous.pth'}: cannot be read, cut short, damaged" in err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("name", ["best.pth", "ema.pth"])
def test_flipped_bits_are_found_wherever_a_checkpoint_is_read(straight, copy_of, name):
    folder = copy_of(straight)
    flip(folder / name)
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(folder / name)


def test_without_hard_links_the_one_before_is_kept_too(train, monkeypatch):
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(run_folder.os, "link", refused)
    folder = train("run")[0]
    assert [read_checkpoint(folder / name)["epoch"] for name in ("last.pth", "previous.pth")] == [2, 1]
