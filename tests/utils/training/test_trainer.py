"""Training: it learns, bad steps leave no trace, and whatever ends a run, it resumes as if nothing had been, bit for bit."""

import math
import multiprocessing
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from devices import GPU
from runs import ALONE, OFTEN, copied, fix_norms, fresh_state, parameters_of, points, random_batch, same, stopped_after, weighted, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from config import Config, UserError, load_config
from config.files import file_lock
from models import build_model
from utils.checkpoint import read_checkpoint
from utils.distributed import DistributedContext
from utils.training import build, trainer
from utils.training.build import open_run_dir
from utils.training.data import build_loaders
from utils.training.state import TrainState
from utils.training.trainer import finish_epoch, readable_errors, train_one_epoch

PLAIN = ("train.optimizer=sgd", "train.momentum=0", "train.weight_decay=0", "train.learning_rate=1")
SLOW = (*PLAIN, "train.learning_rate=1e-6")


def assert_same_run(folder: Path, other: Path) -> None:
    """Weights, averages, the optimizer's state, the random numbers to come, every logged loss."""
    for name in ("last.pth", "best.pth", "ema.pth", "swa.pth"):
        assert same(weights(folder, name), weights(other, name)), name
    one, two = (read_checkpoint(path / "last.pth") for path in (folder, other))
    for moments, others in zip(one["optimizer"]["state"].values(), two["optimizer"]["state"].values()):
        assert same(moments, others)
    assert same(one["random"][0], two["random"][0])
    assert [one[key] for key in ("epoch", "taken", "steps", "best")] == [two[key] for key in ("epoch", "taken", "steps", "best")]
    assert points(folder) == points(other)


def test_the_cause_of_a_failed_rank_is_told(new_state):
    """PyTorch's message about a lost connection looks alike on the rank that caused it and on all others."""
    state = new_state()
    state.context = DistributedContext("distributed", ALONE.device, 0, 2)
    with pytest.raises(UserError, match="NCCL error: cable 7 is loose; .*--resume auto"), readable_errors(state):
        raise RuntimeError("NCCL error:\ncable 7 is loose")


# Single steps


@pytest.mark.parametrize(("accumulate", "value"), [(1, torch.nan), (1, 1e4), (2, torch.nan)])
def test_a_step_with_too_large_a_loss_leaves_no_trace(new_state, accumulate, value):
    """Neither in the weights nor in the batch-norm statistics, where a NaN would stay for ever. All batches of the step are lost."""
    state, only_good = (new_state("train.max_loss=1e5", f"train.accumulate={accumulate}") for _ in range(2))
    good = [random_batch(state, seed=seed) for seed in range(accumulate)]
    bad = [*good[1:], weighted(good[0], value)]
    loss = train_one_epoch(only_good, good, 0)
    assert train_one_epoch(state, [*bad, *good, *bad], 0) == loss
    assert same(copied(state), copied(only_good))


def test_an_epoch_without_an_accepted_step_ends_the_training(new_state):
    state = new_state("train.max_loss=null")
    with pytest.raises(UserError, match="all steps were skipped, their loss was not finite; lower train.learning_rate"):
        train_one_epoch(state, [weighted(random_batch(state), torch.nan)], 0)


@pytest.mark.parametrize("scale", [None, 1024.0])
def test_gradients_are_clipped(new_state, scale):
    """With plain SGD the weights move by the learning rate times the gradient, whose norm is known then; however it was scaled."""
    state = new_state(*PLAIN, "train.clip_norm=0.5", scale=scale)
    before = torch.cat([parameter.detach().flatten() for parameter in state.network.parameters()])
    train_one_epoch(state, [random_batch(state)], 0)
    moved = torch.cat([parameter.detach().flatten() for parameter in state.network.parameters()]) - before
    assert moved.norm().item() == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("device", GPU)
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 0.01), ("bfloat16", 0.05)])
def test_a_gpu_trains_as_the_cpu(tiny, tmp_path, device, precision, tolerance):
    losses = []
    for keys, on in (("train.precision=float32", "cpu"), (f"train.precision={precision}", device)):
        state = fresh_state(tiny, tmp_path, (*SLOW, keys), DistributedContext("none", torch.device(on)))
        losses.append(train_one_epoch(state, [random_batch(state)] * 3, 0))
    assert losses[1] == pytest.approx(losses[0], rel=tolerance)


def test_accumulated_batches_are_as_good_as_one(new_state):
    """With batch norms that keep their statistics, because each batch has its own otherwise."""
    whole, parts = new_state(*SLOW), new_state(*SLOW, "train.accumulate=3")
    batch = random_batch(whole, size=6)
    for state, batches in ((whole, [batch]), (parts, [batch._make(tensor[n : n + 2] for tensor in batch) for n in (0, 2, 4)])):
        fix_norms(state.network)
        train_one_epoch(state, batches, 0)
    assert (whole.steps, parts.steps) == (1, 1)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(whole.network.parameters(), parts.network.parameters()))


def test_a_step_that_the_scaler_skips_counts_as_skipped(new_state):
    """For the EMA, the mean loss, the log, the metrics, and the warm-up of the learning rate, also in later epochs."""
    state = new_state(*SLOW, "train.ema_decay=0.5", "train.warmup_epochs=2", "train.log_every=1", scale=1e38)
    messages, logged = [], []
    state.log, state.metrics = SimpleNamespace(info=messages.append), SimpleNamespace(add=lambda _, metrics: logged.append(metrics))
    before = [parameter.detach().clone() for parameter in state.network.parameters()]
    assert math.isnan(train_one_epoch(state, [random_batch(state)] * 2, 0))
    assert "epoch 1: 2 of 2 steps skipped" in messages[0] and "gradient was not finite in float16" in messages[0]
    assert state.averages["ema"].n_averaged == 0
    assert all(torch.equal(a, b) for a, b in zip(state.network.parameters(), before))
    state.samples_seen = 0
    state.scaler.update(1.0)
    train_one_epoch(state, [random_batch(state)] * 2, 1)
    assert state.averages["ema"].n_averaged == 2
    assert [metrics["train/skipped_steps"] for metrics in logged] == [1, 2, 0, 0]
    assert [metrics["train/grad_scale"] for metrics in logged] == pytest.approx([0.5e38, 0.25e38, 1, 1])
    assert ["train/loss" in metrics for metrics in logged] == [False, False, True, True]
    assert [metrics["train/lr"] for metrics in logged] == pytest.approx([0.25e-6, 0.25e-6, 0.25e-6, 0.5e-6])


@pytest.mark.parametrize(("epoch", "scale", "steps", "message"), [(1, 1e38, 3, "3 steps in a row"), (0, 1.5, 1, "scale of 0.75")])
def test_gradients_that_stay_infinite_in_float16_are_an_error(new_state, epoch, scale, steps, message):
    """But not the first epoch's, in which the scaler looks for a scale, as long as there is one."""
    state = new_state(*SLOW, "train.max_dropped=3", scale=scale)
    for parameter in state.network.parameters():
        parameter.register_hook(lambda gradient: gradient * torch.inf)
    loader = build_loaders(state.config, ALONE)[0]
    if epoch:
        train_one_epoch(state, loader, 0)
        state.samples_seen = 0
    before = state.steps
    with pytest.raises(UserError, match=f"epoch {epoch + 1}: .*{message}.*train.precision=bfloat16"):
        train_one_epoch(state, loader, epoch)
    assert state.steps == before + steps


def test_frozen_parts_stay_as_they_are(new_state):
    """Their batch-norm statistics too, and they are no part of the optimizer."""
    state = new_state("train.freeze=[front.*, stages.0.hourglass.*]")
    before = copied(state)
    train_one_epoch(state, [random_batch(state)], 0)
    changed = {name for name, tensor in copied(state).items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if not name.startswith(("front.", "stages.0.hourglass."))}
    assert len(state.optimizer.param_groups[0]["params"]) == sum(p.requires_grad for p in state.network.parameters())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns(new_state, precision):
    state = new_state(f"train.precision={precision}", "train.learning_rate=1e-2", scale=1.0 if precision == "float16" else None)
    first, *_, last = [train_one_epoch(state, [random_batch(state)], 0) for _ in range(4)]
    assert last < 0.9 * first


# Whole runs


def test_a_run_is_fixed_by_its_seed_alone_with_workers_and_train_parallel_too(tiny, straight, tmp_path, train):
    """Workers that stay read what the trainer would: resumed within an epoch, over the next ones, for SWA. They end with the run."""
    config = load_config(tiny, (*OFTEN, "data.workers=2"))
    stopped_after(3, lambda: trainer.train(config, tmp_path / "run", ALONE))
    assert multiprocessing.active_children() == []
    train("run", *OFTEN, "data.workers=1", "--resume", "auto", script="train_parallel.py")
    assert multiprocessing.active_children() == []
    assert_same_run(tmp_path / "run", straight)


def test_a_run_that_is_killed_before_a_validation_resumes_with_it(tiny, straight, tmp_path, samples):
    config = load_config(tiny, OFTEN)
    stopped_after(samples // 2, lambda: trainer.train(config, tmp_path, ALONE))
    trainer.train(config, tmp_path, ALONE, "auto")
    assert_same_run(tmp_path, straight)


def test_an_interrupt_saves_every_step(run, tiny, straight, samples, tmp_path, monkeypatch):
    """Without a checkpoint in sight."""
    command = ("train.py", "--config", tiny, "--output", tmp_path / "run", "--resume", "auto", *OFTEN, "train.checkpoint_every=1000")
    step, last = trainer.forward_backward, samples // 2 + 1

    def interrupted(state: TrainState, batches: list) -> tuple:
        if state.steps == last:
            os.kill(os.getpid(), signal.SIGINT)
        return step(state, batches)

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "forward_backward", interrupted)
        status, _, err = run(*command)
    assert (status, f"interrupted in epoch 2, after step {last + 1} of the run" in err) == (130, True), err
    ended = run(*command)
    assert (ended.status, "resuming after epoch 1 and 4 samples of the next" in ended.out) == (0, True), ended.err
    assert_same_run(tmp_path / "run", straight)


@pytest.mark.parametrize(("function", "late"), [("validate", False), ("validation_ap", False), ("validation_ap", True)])
def test_a_signal_is_heard_during_a_validation_and_after_it(run, tiny, tmp_path, monkeypatch, samples, function, late):
    validation, steps = getattr(trainer, function), samples // 2

    def interrupted(*arguments: object) -> float:
        return [late and validation(*arguments), os.kill(os.getpid(), signal.SIGTERM), late or validation(*arguments)][0]

    monkeypatch.setattr(trainer, function, interrupted)
    status, _, err = run("train.py", "--config", tiny, "--output", tmp_path / "run", "train.evaluate_every=1")
    assert (status, f"interrupted in epoch {1 + late}, after step {steps + late} of the run" in err) == (130, True), err
    assert read_checkpoint(tmp_path / "run" / "last.pth")["steps"] == steps + late


def test_randomness_in_the_network_resumes_too(tiny, tmp_path, monkeypatch):
    """A dropout draws from PyTorch's global generator."""

    def build_forgetful(config: Config) -> nn.Module:
        network = build_model(config)
        network.register_forward_pre_hook(lambda module, inputs: nn.functional.dropout(inputs[0], 0.3, module.training))
        return network

    config = load_config(tiny, ("train.epochs=1", "train.checkpoint_every=3"))
    monkeypatch.setattr(build, "build_model", build_forgetful)
    trainer.train(config, tmp_path / "straight", ALONE)
    stopped_after(3, lambda: trainer.train(config, tmp_path / "killed", ALONE))
    trainer.train(config, tmp_path / "killed", ALONE, "auto")
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "straight"))


def test_two_runs_do_not_share_a_folder(tiny, tmp_path):
    with file_lock(tmp_path), pytest.raises(UserError, match="another process is writing to it"):
        trainer.train(load_config(tiny), tmp_path, ALONE)
    assert not (tmp_path / "config.yaml").exists()


# The ends of epochs


def test_the_best_is_the_lowest_validation_loss(new_state, tmp_path):
    """A NaN does not end the search for it."""
    state = new_state("train.val_images=0")
    open_run_dir(state, [])
    for epoch, factor in enumerate([torch.nan, 2.0, 1.0, 3.0]):
        finish_epoch(state, epoch, 9.0 - epoch, [weighted(random_batch(state), factor)])
    assert read_checkpoint(tmp_path / "best.pth")["epoch"] == 3
    assert read_checkpoint(tmp_path / "last.pth")["best"] == read_checkpoint(tmp_path / "best.pth")["best"]
    log = (tmp_path / "train.log").read_text().splitlines()
    assert ["(best)" in line for line in log] == [False, True, True, False]


def test_the_best_can_be_the_highest_ap(new_state, tmp_path, monkeypatch):
    """An epoch without AP is none."""
    state = new_state("train.val_images=0", "train.best=AP", "train.evaluate_every=2")
    open_run_dir(state, [])
    monkeypatch.setattr(trainer, "validation_ap", lambda _, epoch, __: {1: 0.3, 3: 0.5, 5: 0.4}[epoch])
    for epoch in range(6):
        finish_epoch(state, epoch, 0.0, [random_batch(state, seed=epoch)])
    assert read_checkpoint(tmp_path / "best.pth")["epoch"] == 4
    log = (tmp_path / "train.log").read_text().splitlines()
    assert ["(best)" in line for line in log] == [False, True, False, True, False, False]


def test_a_run_ends_after_epochs_without_improvement_and_goes_on_with_more_patience(tiny, tmp_path, monkeypatch):
    losses = iter([3.0, 2.0, 5.0, 2.0, 1.0, 4.0, 4.0])
    monkeypatch.setattr(trainer, "validate", lambda *_: next(losses))

    def train_with(patience: str, resume: str | None = "auto") -> tuple[int, str]:
        trainer.train(load_config(tiny, ["train.epochs=7", f"train.patience={patience}"]), tmp_path, ALONE, resume)
        return read_checkpoint(tmp_path / "last.pth")["epoch"], (tmp_path / "train.log").read_text().splitlines()[-1]

    epoch, last = train_with("2", None)
    assert epoch == 4
    assert "train.patience: no better validation loss for 2 epochs, since epoch 2; the run ends" in last
    epoch, again = train_with("2")
    assert (epoch, again[21:]) == (4, last[21:])  # but for the time
    assert train_with("3")[0] == 7  # the fifth epoch is better


def test_compiling_is_announced_with_its_time(new_state, monkeypatch):
    """Once a process, around its first step."""
    monkeypatch.setattr(nn.Module, "compile", lambda _: None)
    monkeypatch.setattr("utils.distributed.check_compiler", lambda: None)
    state, messages = new_state("train.compile=true"), []
    state.log = SimpleNamespace(info=messages.append)
    state.step.register_forward_hook(lambda *_: messages.append("step"))
    train_one_epoch(state, [random_batch(state)] * 2, 0)
    first, step, took, *steps = messages
    assert "compiling network and loss in the first step" in first and "the first step took " in took
    assert [step, *steps] == ["step"] * 2


def test_checkpoints_are_written_every_n_steps_of_an_epoch(new_state):
    """Counted from the epoch's start, not from where a run resumed; and after the epoch's last step, before validation."""
    state, saved = new_state("train.checkpoint_every=3"), []
    state.samples_seen, state.steps = 4, 2
    state.save_last = lambda content: saved.append((content["steps"], content["taken"], content["epoch"]))
    train_one_epoch(state, [random_batch(state)] * 5, 0)
    assert saved == [(3, 6, 0), (6, 12, 0), (7, 14, 0)]


def test_swa_is_the_mean_of_the_cycles_ends(tiny, tmp_path):
    """Two cycles of one epoch; statistics are recomputed over the training samples."""
    swa = ("train.swa.start_epoch=0", "train.swa.cycle=1", "train.swa.high=1e-3", "train.swa.low=1e-3")
    for epochs in (1, 2):
        trainer.train(load_config(tiny, (*swa, f"train.epochs={epochs}")), tmp_path / str(epochs), ALONE)
    average, first, second = weights(tmp_path / "2", "swa.pth"), weights(tmp_path / "1"), weights(tmp_path / "2")
    assert all(torch.allclose(average[name], (first[name] + second[name]) / 2, atol=1e-6) for name in parameters_of(average))
    statistics = "stages.0.features.0.conv2.bn.running_var"  # neither the last weights' nor the mean of both
    assert not torch.allclose(average[statistics], second[statistics], rtol=1e-3)
    assert not torch.allclose(average[statistics], (first[statistics] + second[statistics]) / 2, rtol=1e-3)
    (tmp_path / "2" / "swa.pth").unlink()  # as where the end came while it was made
    trainer.train(load_config(tiny, (*swa, "train.epochs=2")), tmp_path / "2", ALONE, "auto")
    assert same(weights(tmp_path / "2", "swa.pth"), average)


def test_validation_ap_is_logged_every_n_epochs_with_images(train):
    folder, out = train("run", "train.epochs=2", "train.evaluate_every=2", "train.ema_decay=0.5", "train.val_images=3")
    first, second = (line for line in out.splitlines() if "validation loss" in line)
    assert " AP " not in first and " AP " in second and " AP of the EMA " in second
    assert {"epoch/ap", "epoch/ap_of_the_ema"} <= points(folder)[-1].keys()
    images = EventAccumulator(str(folder)).Reload().Tags()["images"]
    assert [name for name in images if name.startswith("people/")] == ["people/0", "people/1", "people/2"]
