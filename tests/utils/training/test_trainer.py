"""Training: it learns, it can be repeated bit for bit, and what ends it costs at most the running epoch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from places import ROOT
from runs import losses, parameters_of, same, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from config import load_config
from config.load import load_skeleton
from data.coco_masks_hdf5 import build_hdf5
from data.datasets import MixedDataset
from utils.checkpoint import read_checkpoint
from utils.training import trainer

# Learning


def test_loss_falls(train):
    said = train("run", "train.epochs=5", "augmentation.flip_probability=0")[1]
    first, *_, last = losses(said)
    assert last < 0.8 * first


def test_published_recipe_learns_from_photographs(run, shared, hdf5, tmp_path):
    """With a network and an input small enough for a CPU."""
    mini, path = shared / "data" / "coco_mini", tmp_path / "mini.h5"
    config = ROOT / "config" / "simplepose_coco_512.yaml"
    build_hdf5(mini / "annotations" / "person_keypoints_val2017.json", mini / "val2017", path, load_config(config).skeleton, workers=1)
    small = ["model.stages=1", "model.channels=16", "model.channels_increase=0", "data.input_size=[128, 128]", "data.workers=0"]
    small += [f"data.train={path}", f"data.val={hdf5}", "train.batch_size=2", "train.precision=float32", "train.learning_rate=2e-4"]
    small += ["train.warmup_epochs=0", "train.momentum=0"]
    arguments = ("--config", config, "--output", tmp_path / "run", "--resume", "auto", *small)
    said = run("train.py", *arguments, "train.epochs=1").out
    said += run("train.py", *arguments, "train.epochs=2").out
    first, second = losses(said)
    assert second < first
    assert "going on after epoch 1" in said


def test_a_skeleton_without_limbs_can_be_trained(train, tmp_path):
    skeleton = load_skeleton("coco").model_dump(mode="json") | {"limbs": [], "drawn": []}
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump(skeleton, sort_keys=False))
    assert losses(train("run", "train.epochs=1", f"skeleton={tmp_path / 'bare.yaml'}")[1])


def test_same_seed_same_weights_with_any_number_of_workers(train):
    # OpenCV's threads, once used, must not stop the workers
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.zeros((2048, 2048, 3), np.uint8), (0, 0), 2)
    time.sleep(0.2)
    one = weights(train("one", "train.epochs=1")[0])
    assert same(one, weights(train("two", "train.epochs=1", "data.workers=2")[0]))
    assert not same(one, weights(train("other", "train.epochs=1", "train.seed=1")[0]))


def test_resumed_training_ends_as_uninterrupted_training_does(train, trained):
    halfway = train("run", "train.epochs=1")[0]
    assert not same(weights(halfway), weights(trained))
    folder, said = train("run", "--resume", "auto")
    assert "going on after epoch 1" in said
    assert same(weights(folder), weights(trained))
    state, straight = (read_checkpoint(path / "last.pth") for path in (folder, trained))
    assert (state["epoch"], state["best"]) == (straight["epoch"], straight["best"])
    elsewhere = train("elsewhere", "--resume", folder / "best.pth", "train.epochs=3")[0]
    assert read_checkpoint(elsewhere / "last.pth")["epoch"] == 3


def test_a_finished_run_says_so(train):
    train("run", "train.epochs=1")
    assert "all 1 epochs are done" in train("run", "train.epochs=1", "--resume", "auto")[1]


def test_overrides_count_on_resume(train, trained):
    """And may stand before other options."""
    folder = train("run", "train.epochs=3", "train.weight_decay=0.25", "--resume", trained / "last.pth", "train.momentum=0.5")[0]
    (group,) = read_checkpoint(folder / "last.pth")["optimizer"]["param_groups"]
    assert (group["weight_decay"], group["betas"][0]) == (0.25, 0.5)


def test_what_changes_on_resume_is_told(train, trained):
    start = ("--resume", trained / "last.pth", "train.epochs=3")
    folder, said = train("same", *start, "train.learning_rate=1e-9", "--init", trained / "best.pth")
    assert "another configuration: train.epochs 2 -> 3; train.learning_rate 0.001 -> 1e-09\n" in said
    assert "chosen anew" not in said
    assert f"{trained / 'best.pth'}: not used, the run goes on from {trained / 'last.pth'}" in said
    assert read_checkpoint(folder / "last.pth")["best"] <= read_checkpoint(trained / "last.pth")["best"]


@pytest.mark.parametrize("change", ["loss.keypoint_weight=99", "data.input_size=[96, 96]", "augmentation.person_size=0.9"])
def test_another_validation_loss_chooses_the_best_anew(train, trained, copy_of, change):
    """However much larger it is."""
    folder = copy_of(trained)
    said = train(folder.name, "--resume", "auto", "train.epochs=3", "train.learning_rate=1e-9", change)[1]
    assert f"{change.split('=')[0]} " in said
    assert "the best checkpoint is chosen anew" in said
    best = read_checkpoint(folder / "best.pth")
    assert (best["epoch"], best["best"]) == (3, read_checkpoint(folder / "last.pth")["best"])


def test_init_takes_weights_and_starts_at_the_first_epoch(train, trained):
    folder, said = train("run", "--init", trained / "best.pth", "train.epochs=1", "train.learning_rate=1e-12", "train.weight_decay=0")
    assert "tensors taken, 0 newly initialised" in said
    assert read_checkpoint(folder / "last.pth")["epoch"] == 1
    start, end = weights(trained, "best.pth"), weights(folder)
    assert all(torch.allclose(start[name], end[name], atol=1e-6) for name in parameters_of(start))


def test_every_epoch_draws_anew(train, monkeypatch):
    taken = []
    sample = MixedDataset.__getitem__
    monkeypatch.setattr(MixedDataset, "__getitem__", lambda self, item: taken.append((self.augment, item)) or sample(self, item))
    train("run")
    first, second = ([n for augment, (e, n) in taken if e == epoch and augment] for epoch in range(2))
    assert len(first) == len(second) > 2
    assert first != second


# Epochs


def test_a_nan_in_validation_does_not_end_the_search_for_the_best(train, monkeypatch):
    values = iter([float("nan"), 3.0, 4.0])
    monkeypatch.setattr("utils.training.trainer.validate", lambda *_: next(values))
    folder = train("run", "train.epochs=3")[0]
    assert read_checkpoint(folder / "best.pth")["epoch"] == 2
    assert read_checkpoint(folder / "last.pth")["best"] == 3.0


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_and_resumes(train, precision):
    first = train("run", "train.epochs=1", f"train.precision={precision}")[0]
    assert all(torch.isfinite(tensor).all() for tensor in weights(first).values())
    assert bool(read_checkpoint(first / "last.pth")["scaler"]) == (precision == "float16")
    train("run", "--resume", "auto", f"train.precision={precision}")


# The run's folder


def test_folder_holds_what_is_needed_to_understand_the_run(trained, tiny, samples):
    assert load_config(trained / "config.yaml") == load_config(tiny)
    versions = json.loads((trained / "versions.json").read_text())
    assert {"python", "torch", "device", "command"} <= set(versions)
    log = (trained / "train.log").read_text()
    assert f"32,317 parameters, {samples} training and {samples} validation samples" in log
    assert len(losses(log)) == 2
    events = EventAccumulator(str(trained)).Reload()
    shown = events.Tags()
    assert {f"parts/stage 0, scale {scale}" for scale in range(3)} <= set(shown["scalars"])
    assert {"train/loss", "train/learning rate", "speed/samples a second"} <= set(shown["scalars"])
    assert "validation/0" in shown["images"]
    parts = [events.Scalars(f"parts/stage 0, scale {scale}")[0].value for scale in range(3)]
    assert sum(parts) == pytest.approx(events.Scalars("train/loss")[0].value, rel=1e-5)


def test_resolved_configuration_can_be_trained_again(run, trained, tmp_path):
    assert run("train.py", "--config", trained / "config.yaml", "--output", tmp_path / "again").status == 0
    assert same(weights(tmp_path / "again"), weights(trained))


# Ends from outside, and several processes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_python_drops_is_not_lost(run, tiny, tmp_path, monkeypatch, number):
    """Raised while an object is deleted, as a loader is after each epoch, it goes no further."""

    class Deleted:
        def __del__(self):
            os.kill(os.getpid(), number)
            time.sleep(0.01)  # for Python to notice

    finish = trainer._finish_epoch
    monkeypatch.setattr(trainer, "_finish_epoch", lambda *arguments: (finish(*arguments), Deleted())[0])
    status, _, err = run("train.py", "--config", tiny, "--output", tmp_path / "run", "train.epochs=9")
    assert (status, "interrupted in epoch 2; all up to step " in err, "Traceback" in err) == (130, True, False), err


def started(tiny: Path, output: Path, *more: str) -> subprocess.Popen:
    """train.py in a process group of its own, as a terminal starts it, for longer than any test waits."""
    command = [sys.executable, "train.py", "--config", tiny, "--output", output, "data.workers=1", "train.epochs=100000", *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    for _ in range(3600):
        if path.exists():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise AssertionError(f"no {path} after three minutes")


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_an_end_costs_the_running_epoch_at_most(run, tiny, tmp_path, ending):
    output = tmp_path / "a run"
    process = started(tiny, output)
    wait_for(output / "best.pth", process)
    os.killpg(process.pid, ending)
    _, err = process.communicate(timeout=60)
    if ending == signal.SIGKILL:
        assert process.returncode == -ending
    else:
        assert process.returncode == 130
        last = err.splitlines()[-1]
        assert last.startswith("error: interrupted in epoch "), err
        assert f"--resume auto --output {output}" in last
        assert "Traceback" not in err
    done = read_checkpoint(output / "last.pth")["epoch"]
    ended = run("train.py", "--config", tiny, "--output", output, "--resume", "auto", f"train.epochs={done + 1}")
    assert (ended.status, f"going on after epoch {done}" in ended.out) == (0, True)
    assert read_checkpoint(output / "last.pth")["epoch"] == done + 1


def test_train_parallel_does_the_same_on_a_cpu(train, trained):
    assert same(weights(train("run", script="train_parallel.py")[0]), weights(trained))


def test_train_distributed_asks_for_torchrun(fails, tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert "torchrun --nproc_per_node=N" in fails("train_distributed.py", "--config", tiny, "--output", tmp_path / "run")
