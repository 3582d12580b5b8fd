"""Several processes are of one mind: real ones, over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from places import ROOT


@pytest.fixture(scope="module")
def outcomes(tiny, tmp_path_factory) -> list[dict]:
    """What each of two processes has to tell."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [ROOT / "tests" / "two_processes.py", tiny, folder]
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    ended = subprocess.run(command, env={**os.environ, **path}, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_a_batch_that_is_broken_in_one_process_is_dropped_in_all(outcomes):
    """Else the others would take the gradient that the broken one has spoilt, or wait for ever."""
    assert all(outcome["finite"] for outcome in outcomes)
    assert outcomes[0]["fingerprint"] == outcomes[1]["fingerprint"]
    assert outcomes[0]["loss"] == outcomes[1]["loss"]


@pytest.mark.slow
def test_validation_is_the_mean_over_the_samples_of_all_processes(outcomes):
    """Though one has three batches of two and the other one of one."""
    assert outcomes[0]["shared"] == outcomes[1]["shared"]
    assert outcomes[0]["shared"] == pytest.approx(outcomes[0]["alone"], rel=1e-5)
