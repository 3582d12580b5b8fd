"""Several processes are of one mind: real ones, over gloo."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from places import ROOT
from runs import ALONE, EQUAL, STEADY, fresh_run, points, random_batch, same, samples_taken, weights

from config import UserError, load_config
from data.datasets import MixedDataset
from utils.checkpoint import read_checkpoint
from utils.distributed import DistributedContext
from utils.training import state, trainer
from utils.training.validation import validate

pytestmark = pytest.mark.slow
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


class Outcome(NamedTuple):
    """What so many processes saw and said, and the folder of their runs."""

    ranks: list[dict]
    said: str
    folder: Path


def outcome_of(count: int, *arguments: Path) -> Outcome:
    folder = arguments[1]
    command = [*TORCHRUN, "--standalone", f"--nproc_per_node={count}", ROOT / "tests" / "processes.py", *arguments]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return Outcome([torch.load(folder / f"rank{rank}.pth", weights_only=True) for rank in range(count)], ended.stdout, folder)


@pytest.fixture(scope="module")
def two(tiny, tmp_path_factory) -> Outcome:
    return outcome_of(2, tiny, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def three(tiny, two, tmp_path_factory) -> Outcome:
    """They also take over what two left unfinished."""
    return outcome_of(3, tiny, tmp_path_factory.mktemp("three"), two.folder / "killed")


@pytest.fixture(params=["two", "three"])
def outcome(request) -> Outcome:
    return request.getfixturevalue(request.param)


def last(folder: Path) -> dict:
    return read_checkpoint(folder / "last.pth")


# What every process knows


def test_one_of_them_speaks_and_the_rate_grows_with_their_number(outcome):
    count = len(outcome.ranks)
    assert outcome.said.count(f"straight: 32,317 parameters, 11 training and 11 validation samples, {count} x batch 1 on cpu") == 1
    settings = yaml.safe_load((outcome.folder / "straight" / "config.yaml").read_text())["train"]
    (group,) = last(outcome.folder / "straight")["optimizer"]["param_groups"]
    assert group["lr"] == pytest.approx(count * settings["learning_rate"])


def test_a_batch_that_is_broken_in_one_process_is_dropped_in_all(outcome):
    """Else the others would take the gradient that the broken one has spoilt, or wait for ever."""
    first, *others = outcome.ranks
    assert all(torch.isfinite(tensor).all() for tensor in first["broken weights"].values())
    for other in others:
        assert same(first["broken weights"], other["broken weights"])
        assert first["broken loss"] == other["broken loss"]


def test_gradients_that_are_added_to_are_shared_once(outcome):
    """The first batch of each of two steps is not."""
    assert [rank["unshared"] for rank in outcome.ranks] == [2] * len(outcome.ranks)


def test_several_dropped_steps_stop_all_and_name_the_images(outcome, tiny):
    """Those of the process whose losses were bad."""
    config = load_config(tiny)
    images = MixedDataset(config.data.train_files, config, augment=True)
    named = ", ".join(dict.fromkeys(str(images.image_id(number)) for number in outcome.ranks[-1]["dropped"][:2]))
    for rank in outcome.ranks:
        assert rank["dropped said"] == (
            "epoch 1: 2 steps in a row were dropped, their loss was not finite or over 200000 (train.max_loss);"
            f" lower train.learning_rate, or look at their images: {named}"
        )


def test_validation_is_the_same_to_the_last_bit_in_any_number_of_processes(two, three, tiny, tmp_path):
    """Though some have more batches than others, and batch-norm statistics of their own; the first process's count."""
    run = fresh_run(tiny, tmp_path)
    whole = random_batch(run, 7, seed=99)
    batches = [[tensor[some] for tensor in whole] for some in (slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 7))]
    alone = validate(run, batches, 0)
    assert {rank["validation"] for outcome in (two, three) for rank in outcome.ranks} == {alone}


# Exact


def test_processes_that_share_a_batch_are_as_good_as_one(outcome, tiny, tmp_path):
    """In double precision, over two epochs, with fixed batch-norm statistics: CPU ranks do not synchronize them."""
    count = len(outcome.ranks)
    trainer.train(load_config(tiny, (*EQUAL, f"train.batch_size={count}")), tmp_path, ALONE)
    one, many = weights(tmp_path), weights(outcome.folder / "double")
    assert all(tensor.dtype == torch.float64 for tensor in many.values() if tensor.is_floating_point())
    assert max((one[name] - many[name]).abs().max().item() for name in one) <= 1e-9
    assert last(tmp_path)["best"] == pytest.approx(last(outcome.folder / "double")["best"], rel=1e-9)


def test_a_run_that_is_killed_goes_on_as_if_nothing_had_been(outcome):
    for name in ("last.pth", "ema.pth", "best.pth"):
        assert same(weights(outcome.folder / "resumed", name), weights(outcome.folder / "straight", name))
    resumed, straight = last(outcome.folder / "resumed"), last(outcome.folder / "straight")
    assert [resumed[key] for key in ("epoch", "steps", "best")] == [straight[key] for key in ("epoch", "steps", "best")]
    assert points(outcome.folder / "resumed") == points(outcome.folder / "straight")  # every loss is the mean over all processes
    assert len(resumed["random"]) == len(outcome.ranks)
    assert all(same(a, b) for a, b in zip(resumed["random"], straight["random"]))


def test_another_number_of_processes_goes_on_with_the_samples_that_are_left(two, three, tiny, tmp_path):
    """Two processes took four of eleven; of the other seven three take six, one takes all."""
    before = list(chain(*(rank["before"] for rank in two.ranks)))
    after = list(chain(*(rank["after"] for rank in three.ranks)))
    assert (len(before), len(after), len({*before, *after})) == (4, 6, 10)
    assert "2 processes before, 3 now: the same samples in new shares" in three.said
    assert last(three.folder / "taken_over")["epoch"] == 1
    with samples_taken() as alone:
        config = load_config(tiny, (*STEADY, "train.epochs=1"))
        trainer.train(config, tmp_path / "alone", ALONE, str(two.folder / "killed" / "last.pth"))
    assert (len(alone), {*before, *alone}) == (7, set(range(11)))


# As torchrun starts it


def torchrun(tiny: Path, output: Path, *options: str) -> subprocess.Popen:
    command = [*TORCHRUN, *options, ROOT / "train_distributed.py", "--config", tiny, "--output", output, "--resume", "auto", *STEADY]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process: subprocess.Popen) -> str:
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 0, said
    return said


def workers_of(process: subprocess.Popen) -> list[int]:
    """The processes that torchrun has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"train_distributed.py" in Path(f"/proc/{child}/cmdline").read_bytes()]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_two_nodes_of_one_process(two, tiny, tmp_path):
    """They meet on the loopback."""
    meeting = ("--nnodes=2", "--nproc_per_node=1", "--master-addr=127.0.0.1", f"--master-port={free_port()}")
    nodes = [torchrun(tiny, tmp_path / "run", f"--node-rank={rank}", *meeting) for rank in range(2)]
    said = [ended(node) for node in nodes]
    assert [text.count("2 x batch 1 on cpu") for text in said] == [1, 0]
    assert same(weights(tmp_path / "run"), weights(two.folder / "straight"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux to find torchrun's processes")
def test_processes_that_are_killed_are_started_again_by_torchrun(two, tiny, tmp_path):
    """One, then another one; the training ends by itself, with the weights of one that nothing disturbed."""
    output = tmp_path / "run"
    process = torchrun(tiny, output, "--standalone", "--nproc_per_node=2", "--max-restarts=3")
    for victim in range(2):
        known = last(output)["steps"] if victim else 0
        while not (output / "previous.pth").exists() or last(output)["steps"] < known + 2:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        os.kill(workers_of(process)[victim], signal.SIGKILL)
    said = ended(process)
    assert said.count("32,317 parameters") == 3
    assert said.count("going on after epoch") == 2
    assert same(weights(output), weights(two.folder / "straight"))
    assert same(weights(output, "ema.pth"), weights(two.folder / "straight", "ema.pth"))


def test_machines_that_do_not_see_the_same_checkpoint(tiny, tmp_path, monkeypatch):
    """As where the output folder is not shared: one would start anew beside the others."""
    run = fresh_run(tiny, tmp_path)
    monkeypatch.setattr(DistributedContext, "all_gather", lambda self, rows: [rows, rows + torch.tensor([3, 0, 15])])
    with pytest.raises(UserError, match="not every machine sees the same checkpoint in it; all of them must share it"):
        state.check_agreement(run)
