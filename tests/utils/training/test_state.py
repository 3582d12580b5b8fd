"""Resuming from a checkpoint: what is restored, and its messages."""

import os
import signal
from pathlib import Path

import pytest
import torch
from runs import in_a_child, random_batch

from config import UserError
from utils.checkpoint import read_checkpoint, save_checkpoint
from utils.distributed import DistributedContext
from utils.training.build import find_checkpoint
from utils.training.state import LossSums, rotate_checkpoints
from utils.training.trainer import train_one_epoch


@pytest.fixture
def resumed(new_state, trained):
    """A function that restores the trained run's checkpoint with some overrides; returns state and messages."""

    def start(*overrides: str, content: dict | None = None):
        state = new_state(*overrides)
        content = read_checkpoint(trained / "last.pth") if content is None else content
        return state, "\n".join(state.load_state_dict(content, trained / "last.pth"))

    return start


def test_overrides_count_on_resume(resumed):
    state, message = resumed("train.epochs=3", "train.weight_decay=0.25", "train.momentum=0.5")
    assert (state.optimizer.param_groups[0]["weight_decay"], state.optimizer.param_groups[0]["betas"][0]) == (0.25, 0.5)
    assert "another configuration: train.epochs 2 -> 3; train.momentum 0.9 -> 0.5; train.weight_decay" in message
    assert "starts anew" not in message and state.best < float("inf")


@pytest.mark.parametrize("change", ["loss.keypoint_weight=99", "data.input_size=[96, 96]", "train.best=AP"])
def test_another_validation_metric_chooses_the_best_anew(resumed, change):
    state, message = resumed("train.epochs=3", "train.evaluate_every=1", change)
    assert f"{change.split('=')[0]} " in message and "the best checkpoint starts anew" in message
    assert state.best == float("inf")


def test_an_ap_is_comparable_only_with_the_same_inference(resumed, trained):
    content, change = read_checkpoint(trained / "last.pth"), ("train.best=AP", "train.evaluate_every=1")
    content["config"]["train"] |= {"best": "AP", "evaluate_every": 1}
    content |= {"best": -0.5, "best_epoch": 1}
    state = resumed(*change, content=content)[0]
    assert (state.best, state.best_epoch) == (-0.5, 1)
    state = resumed(*change, "inference.flip=false", content=content)[0]
    assert (state.best, state.best_epoch) == (float("inf"), 2)


def test_keys_that_came_or_went_since_are_no_change(resumed, trained):
    content = read_checkpoint(trained / "last.pth")
    for key in ("model.backbone", "data.train_weights", "train.milestones", "train.freeze", "loss.foreground"):
        section, _, name = key.partition(".")
        del content["config"][section][name]
    content["config"]["assignment"] |= {"keypoint_sigma": 2.25, "trace_margin": 1.0}
    message = resumed("train.epochs=3", content=content)[1]
    assert message.endswith("was trained with another configuration: train.epochs 2 -> 3")


def test_another_optimizer_or_other_frozen_parameters_need_a_new_start(new_state, tmp_path):
    frozen = ("train.freeze=[front.dilated.0.*]", "train.optimizer=adam")
    content = new_state(*frozen).state_dict()
    new_state(*frozen).load_state_dict(content, tmp_path)
    for override in ("optimizer=sgd", "freeze=[]", "freeze=[front.dilated.1.*]"):  # the last one: as many parameters, and as large
        with pytest.raises(UserError, match=f"was trained with train.{override.split('=')[0]}=.*; take only its weights with --init"):
            new_state(*frozen, f"train.{override}").load_state_dict(content, tmp_path)
    with pytest.raises(UserError, match="has weights but no training state; start from it with --init"):
        new_state(*frozen).load_state_dict({"weights": content["weights"]}, tmp_path)


def test_everything_of_a_state_is_restored(new_state, tmp_path):
    """In the middle of an epoch, after a skipped step; the gradient scaler too."""
    overrides = ("train.ema_decay=0.5", "train.log_every=9")
    state = new_state(*overrides, scale=64.0)
    train_one_epoch(state, [random_batch(state), random_batch(state)], 0)
    state.sums.add(torch.ones(1, 3))
    state.count_step(0, False, [0])
    state.skipped_before = 5
    save_checkpoint(tmp_path / "last.pth", **state.state_dict())
    other = new_state(*overrides, scale=1.0)
    assert "resuming after epoch 0 and 6 samples of the next" in other.load_state_dict(read_checkpoint(tmp_path / "last.pth"), tmp_path)[0]
    assert (other.samples_seen, other.steps, other.skipped, other.skipped_before) == (6, 3, 1, 5)
    assert other.skipped_in_row == state.skipped_in_row == [(0, 4, [0])]
    assert other.scaler.get_scale() == 64 and other.averages["ema"].n_averaged == 2
    assert torch.equal(other.sums.epoch, state.sums.epoch) and torch.equal(other.sums.terms, state.sums.terms) and other.sums.count == 1


def test_sums_of_the_losses_on_another_number_of_ranks():
    """Each rank of fewer takes several ranks' sums."""
    rows = torch.tensor([[10.0, 2], [30, 2], [50, 3]])
    of_three, restored = {"epoch": rows, "parts": rows / 2, "count": torch.tensor([2, 2, 3])}, []
    for rank, size in [(1, 3), (0, 2), (1, 2), (3, 4)]:
        sums, context = LossSums(torch.device("cpu")), DistributedContext("distributed", torch.device("cpu"), rank, size)
        sums.load_state_dict(of_three, context)
        restored.append((sums.epoch.tolist(), sums.terms.tolist(), sums.count))
    assert restored == [([30, 2], [15, 1], 2), ([60, 5], [30, 2.5], 5), ([30, 2], [15, 1], 2), ([0, 0], [0, 0], 0)]


def test_a_kill_at_any_rename_leaves_a_checkpoint_to_resume_from(tmp_path, monkeypatch):
    """Kill -9 before the n-th rename: the one before or the new one."""
    replace, found = Path.replace, []

    def write(renames: int) -> None:
        remaining = iter(range(renames))

        def replace_or_die(self: Path, target: Path) -> Path:
            if next(remaining, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", replace_or_die)
        rotate_checkpoints(tmp_path, {"epoch": renames + 1})

    def epoch() -> int:
        return find_checkpoint(tmp_path, "auto")[0].content["epoch"]

    for number in (-1, 0):
        rotate_checkpoints(tmp_path, {"epoch": number})
    while os.waitpid(in_a_child(lambda: write(len(found))), 0)[1]:
        found.append(epoch())
    assert found == [0, 0, 0]
    assert epoch() == 4
    assert read_checkpoint(tmp_path / "previous.pth")["epoch"] == 0
