"""train.py as a user runs it: new, resumed, and dry."""

import re

import pytest
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


def test_a_run_resumes_from_its_own_configuration_before_its_first_checkpoint(train, trained, copy_of, fails, tmp_path):
    """Which the run writes again; a file that somebody else has written would be lost."""
    folder = copy_of(trained)
    for checkpoint in folder.glob("*.pth"):
        checkpoint.unlink()
    own = folder / "config.yaml"
    before, command = own.read_text(), ("--config", own, "--resume", "auto")
    train(folder.name, *command, "train.epochs=1")
    assert own.read_text() == before.replace("epochs: 2", "epochs: 1", 1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text(f"# mine\n{before}")
    err = fails("train.py", "--config", tmp_path / "other" / "config.yaml", "--output", tmp_path / "other", "--resume", "auto")
    assert "would overwrite the input" in err


def test_initial_weights_can_be_configured(train, trained, copy_of, fails, tiny):
    """`--init` replaces them; a run does not overwrite them."""
    best = trained / "best.pth"
    assert f"{best}: " in train("run", "train.epochs=1", f"train.init={best}")[1]
    assert f"{best}: " in train("again", "train.epochs=1", "train.init=elsewhere.pth", "--init", best)[1]
    folder = copy_of(trained)
    for checkpoint in (folder / "last.pth", folder / "previous.pth"):
        checkpoint.unlink()
    assert "would overwrite the input" in fails("train.py", "--config", tiny, "--output", folder, f"train.init={folder / 'best.pth'}")


def test_a_dry_run_prints_shapes_memory_and_time_and_writes_nothing(run, tiny, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--init", trained / "best.pth", "train.accumulate=2", "train.freeze=[front.*]")
    ended = run("train.py", "--config", tiny, "--dry-run", *options)
    assert ended.status == 0, ended.err
    for line in (
        "tensors loaded, 0 newly initialized",
        "parameters: 32,317, 27,657 of them trainable",
        "images: 2 x 3 x 64 x 64 float32",
        "targets: heatmaps 2 x 50 x 16 x 16 float32",
        "output: 2 x 50 x 8 x 8 float32",
        " MiB of ",
    ):
        assert line in ended.out, ended.out
    assert list(tmp_path.iterdir()) == []
    samples = int(re.search(r"samples: (\d+) for training", ended.out)[1])
    second, reading, steps, minutes, seconds = re.search(
        r"then ([\d.]+) s; its samples: ([\d.]+) s with 0 .*\nepoch: (\d+) steps, about 0:(\d\d):(\d\d); \d+ epochs: \d", ended.out
    ).groups()
    assert int(steps) == samples // 4
    assert 60 * int(minutes) + int(seconds) == pytest.approx(int(steps) * (float(second) + float(reading)), rel=0.1, abs=0.6)
