"""A run's start: the checkpoint that it resumes, corrupt or not, or its initial weights."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from places import ROOT
from runs import ALONE, weights

from config import UserError, load_config
from config.version import VERSION
from utils.training.build import build_state, check_settings, find_checkpoint, git_commit

TEXT = {"capture_output": True, "text": True, "check": True}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_corrupt_last_checkpoint_is_replaced_by_the_previous_one(straight, copy_of):
    folder = copy_of(straight)
    cut(folder / "last.pth")
    checkpoint, (message,) = find_checkpoint(folder, "auto")
    assert checkpoint.path == folder / "previous.pth"
    assert f"checkpoint {folder / 'last.pth'}: cannot be read" in message
    assert f"resuming from the one before, {folder / 'previous.pth'}" in message
    cut(folder / "previous.pth")
    with pytest.raises(UserError, match="previous.pth: cannot be read, cut short"):
        find_checkpoint(folder, "auto")


def test_a_run_is_not_overwritten(trained, tmp_path):
    (tmp_path / "last.pth").touch()
    for folder, resume in ((trained, None), (tmp_path, str(trained / "last.pth"))):
        with pytest.raises(UserError, match="already holds a run; resume with --resume auto"):
            find_checkpoint(folder, resume)
    with pytest.raises(UserError, match="cannot be read"):
        find_checkpoint(trained, str(trained / "config.yaml"))
    assert find_checkpoint(tmp_path / "new", "auto") == find_checkpoint(tmp_path / "new", None) == (None, [])
    assert find_checkpoint(tmp_path / "new", str(trained / "best.pth"))[0].path == trained / "best.pth"


def test_the_run_directory_holds_configuration_and_versions(trained, tiny, samples):
    assert load_config(trained / "config.yaml") == load_config(tiny)
    versions = json.loads((trained / "versions.json").read_text())
    assert {"python", "torch", "device", "command"} <= set(versions)
    assert (versions["simplepose"], versions["commit"]) == (VERSION, git_commit())
    assert f"32,317 parameters, {samples} training and {samples} validation samples" in (trained / "train.log").read_text()


def test_the_commit_is_that_of_the_checkout_with_a_mark_where_files_differ(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *words], **TEXT).stdout.strip()

    assert git_commit(tmp_path) is None
    git("init")
    assert git_commit(tmp_path) is None  # nothing committed
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "a.py").touch()
    git("add", ".")
    git("commit", "-m", "first")
    git("tag", "v1")
    commit = git("rev-parse", "HEAD")
    assert (git_commit(tmp_path), git_commit(tmp_path / "package")) == (commit, None)
    (tmp_path / "package" / "a.py").write_text("changed")
    assert git_commit(tmp_path) == f"{commit}-dirty"
    monkeypatch.setenv("PATH", "")
    assert git_commit(tmp_path) is None


# Initial weights


def build(tiny: Path, tmp_path: Path, *overrides: str, init: Path | None = None):
    return build_state(load_config(tiny, overrides), tmp_path / "run", ALONE, init)


def test_a_backbone_is_loaded_from_a_file(tiny, trained, tmp_path):
    path = trained / "best.pth"
    state, (message,) = build(tiny, tmp_path, f"model.backbone={path}")
    given, loaded = weights(trained, "best.pth"), state.network.state_dict()
    outputs = {name for name in given if ".predictions." in name}
    assert message == f"{path}: {len(given) - len(outputs)} backbone tensors loaded, {len(outputs)} others newly initialized"
    assert all(torch.equal(given[name], loaded[name]) == (name not in outputs) for name in given if name.endswith("conv.weight"))
    message = build(tiny, tmp_path, f"model.backbone={path}", init=path)[1]
    assert f"{path}: not used, --init has the backbone too" in message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("train.precision=float64", "train.evaluate_every=1"), "train.evaluate_every: validation AP is not computed in float64"),
        (("train.swa.start_epoch=1", "train.swa.cycle=2"), "train.swa: no cycle of 2 epochs fits between start_epoch 1 and epoch 2"),
        (("train.best=AP",), "train.best: AP is not computed; set train.evaluate_every=1"),
        (("train.best=AP", "train.patience=2", "train.evaluate_every=3"), "train.patience: 2 epochs are fewer than those between two APs"),
    ],
)
def test_contradicting_settings_are_refused(tiny, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        build(tiny, tmp_path, *overrides)
    assert not (tmp_path / "run").exists()
    check_settings(load_config(tiny, ["train.best=AP", "train.patience=3", "train.evaluate_every=3"]), ALONE.device)


@pytest.mark.parametrize(
    ("recipe", "side", "more"),
    [
        ("quickstart", 64, ["model.depth=4", "loss.scale_weights=[.1, .2, .4, 1.6, 6.4]"]),
        ("dekr_quickstart", 32, []),
        ("simple_baselines_quickstart", 32, []),
    ],
)
def test_training_refuses_a_batch_of_one_whose_coarsest_map_is_one_pixel(recipe, side, more):
    """Batch norm has no variance there. Inference has no use for it, so the configuration itself is valid."""
    path, size = ROOT / "config" / f"{recipe}.yaml", f"data.input_size=[{side}, {side}]"
    with pytest.raises(UserError, match=rf"train\.batch_size: 1 with data\.input_size {side} x {side} leaves batch norm one pixel"):
        check_settings(load_config(path, [*more, size, "train.batch_size=1"]), ALONE.device)
    check_settings(load_config(path, [*more, size, "train.batch_size=2"]), ALONE.device)
    larger = f"[{side}, {2 * side}]" if recipe != "dekr_quickstart" else f"[{2 * side}, {2 * side}]"
    check_settings(load_config(path, [*more, f"data.input_size={larger}", "train.batch_size=1"]), ALONE.device)


def test_float64_is_refused_on_apples_gpu(tiny):
    with pytest.raises(UserError, match="train.precision: float64 is not computed on mps"):
        check_settings(load_config(tiny, ["train.precision=float64"]), torch.device("mps"))
    check_settings(load_config(tiny), torch.device("mps"))
