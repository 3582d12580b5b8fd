"""train.py as a user runs it: new, resumed, and dry."""

from __future__ import annotations

import re

import pytest
from places import ROOT
from runs import same, weights

from utils.checkpoint import read_checkpoint


def test_a_resumed_run_ends_as_an_uninterrupted_one(train, trained):
    """From the configuration that the first run has written."""
    halfway = train("run", "train.epochs=1")[0]
    assert not same(weights(halfway), weights(trained))
    folder, out = train("run", "--resume", "auto", "--config", trained / "config.yaml", "--init", trained / "best.pth")
    assert "resuming after epoch 1" in out and "best.pth: not used, the run resumes from" in out
    assert same(weights(folder), weights(trained))
    assert "all 2 epochs are done" in train("run", "--resume", "auto")[1]
    elsewhere = train("elsewhere", "--resume", folder / "best.pth", "train.epochs=3")[0]
    assert read_checkpoint(elsewhere / "last.pth")["epoch"] == 3


@pytest.mark.parametrize("system", ["quickstart", "dekr_quickstart", "simple_baselines_quickstart"])
def test_a_dry_run_prints_shapes_memory_and_time_and_writes_nothing(run, hdf5, tmp_path, monkeypatch, system):
    monkeypatch.chdir(tmp_path)
    small = {"dekr_quickstart": ("data.input_size=[64, 64]",)}.get(system, ())
    data = (f"data.train={hdf5}", f"data.val={hdf5}", "train.batch_size=2", "train.accumulate=2", "data.workers=0", *small)
    ended = run("train.py", "--config", ROOT / "config" / f"{system}.yaml", "--dry-run", *data)
    assert ended.status == 0, ended.err
    for pattern in (
        r"parameters: [\d,]+, [\d,]+ of them trainable",
        r"images: 2 x 3 x \d+ x \d+ float32",
        r"targets: \w+ 2 x",
        r"output: 2 x",
        r"memory: [\d,]+ MiB",
    ):
        assert re.search(pattern, ended.out), ended.out
    assert list(tmp_path.iterdir()) == []
    samples = int(re.search(r"samples: (\d+) for training", ended.out)[1])
    second, reading, steps, minutes, seconds = re.search(
        r"then ([\d.]+) s; its samples: ([\d.]+) s with 0 .*\nepoch: (\d+) steps, about 0:(\d\d):(\d\d); \d+ epochs: \d", ended.out
    ).groups()
    assert int(steps) == samples // 4
    assert 60 * int(minutes) + int(seconds) == pytest.approx(int(steps) * (float(second) + float(reading)), rel=0.1, abs=0.6)


def test_a_dry_run_loads_initial_weights(run, fails, tiny, trained, tmp_path):
    ended = run("train.py", "--config", tiny, "--dry-run", "--init", trained / "best.pth")
    assert (ended.status, "tensors loaded, 0 newly initialized" in ended.out) == (0, True)
    assert "not found" in fails("train.py", "--config", tiny, "--dry-run", "--init", tmp_path / "nowhere.pth")
