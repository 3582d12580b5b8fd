"""Several processes are of one mind: real ones, over gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from places import ROOT
from runs import parameters_of, weights

from utils.checkpoint import read_checkpoint


class Outcome(NamedTuple):
    """What two processes wrote, what they said, and the folder of their run."""

    ranks: list[dict]
    said: str
    folder: Path


@pytest.fixture(scope="module")
def outcome(tiny, trained, tmp_path_factory) -> Outcome:
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [ROOT / "tests" / "two_processes.py", tiny, trained / "best.pth", folder]
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    ended = subprocess.run(command, env={**os.environ, **path}, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return Outcome([torch.load(folder / f"rank{rank}.pth", weights_only=True) for rank in range(2)], ended.stdout, folder / "run")


def same_parameters(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Batch-norm statistics are each process's own on the CPU."""
    return all(torch.equal(a[name], b[name]) for name in parameters_of(a))


@pytest.mark.slow
def test_processes_end_with_equal_weights_and_one_of_them_speaks(outcome):
    first, second = (rank["trained"] for rank in outcome.ranks)
    assert same_parameters(first, second)
    assert same_parameters(first, weights(outcome.folder))
    assert "2 x batch 2 on cpu" in outcome.said
    assert outcome.said.count("epoch 1: training loss") == 1
    settings = yaml.safe_load((outcome.folder / "config.yaml").read_text())["train"]
    (group,) = read_checkpoint(outcome.folder / "last.pth")["optimizer"]["param_groups"]
    assert group["lr"] == pytest.approx(2 * settings["learning_rate"])


@pytest.mark.slow
def test_what_is_frozen_stays_in_every_process(outcome, trained):
    start = weights(trained, "best.pth")
    for rank in outcome.ranks:
        changed = {name for name, tensor in rank["trained"].items() if not torch.equal(tensor, start[name])}
        assert changed == {name for name in rank["trained"] if not name.startswith("front.")}


@pytest.mark.slow
def test_a_batch_that_is_broken_in_one_process_is_dropped_in_all(outcome):
    """Else the others would take the gradient that the broken one has spoilt, or wait for ever."""
    first, second = (rank["broken"] for rank in outcome.ranks)
    assert all(torch.isfinite(tensor).all() for broken in (first, second) for tensor in broken["weights"].values())
    assert same_parameters(first["weights"], second["weights"])
    assert first["loss"] == second["loss"]


@pytest.mark.slow
def test_validation_is_the_mean_over_the_samples_of_all_processes(outcome):
    """Though one has three batches of two and the other one of one."""
    first, second = (rank["validation"] for rank in outcome.ranks)
    assert first["shared"] == second["shared"] == pytest.approx(first["alone"], rel=1e-5)
