"""What a run tells of itself: curves, figures of the people found, and what a run would take before there is one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import h5py
import pytest
import torch
from places import ROOT
from runs import ALONE, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from config import load_config
from data.people_file import PeopleFile
from utils.training.curves import Curves
from utils.training.dry_run import duration
from utils.training.validation import annotated_boxes, validation_metrics


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]


# Curves


def test_every_point_stands_in_both_places(train):
    folder = train("run", "train.epochs=1", "train.log_every=2", "train.precision=float16", "train.ema_decay=0.5")[0]
    scalars = EventAccumulator(str(folder)).Reload()
    *points, epoch = lines(folder)
    assert [point["step"] for point in points] == [2, 4, 5]  # and the epoch's last one
    wanted = {"train/loss", "train/learning rate", "train/gradient norm", "train/scaler", "train/dropped steps", "memory/peak MiB"}
    wanted |= {"speed/samples a second", "speed/waiting for data", *(f"parts/stage 0, scale {scale}" for scale in range(3))}
    for point in points:
        assert set(point) == wanted | {"step"}
        assert 0 <= point["speed/waiting for data"] <= 1 and point["memory/peak MiB"] > 50
    assert lines(train("float32", "train.epochs=1")[0])[0]["train/gradient norm"] > 0  # infinite as long as float16's scale is too large
    for name in wanted - {"train/gradient norm"}:
        assert [point.value for point in scalars.Scalars(name)] == pytest.approx([point[name] for point in points], rel=1e-6)
    assert (epoch["epoch/number"], epoch["step"]) == (1, 5)
    assert epoch["epoch/training loss"] == pytest.approx(
        (2 * points[0]["train/loss"] + 2 * points[1]["train/loss"] + points[2]["train/loss"]) / 5
    )
    assert {"epoch/validation loss", "epoch/validation loss of the EMA"} <= set(epoch)


def test_a_point_is_the_mean_since_the_one_before(train):
    each = lines(train("each", "train.epochs=1", "train.log_every=1")[0])[:5]
    together = lines(train("together", "train.epochs=1", "train.log_every=5")[0])[0]
    assert together["train/loss"] == pytest.approx(sum(point["train/loss"] for point in each) / 5, rel=1e-6)


def test_points_after_the_last_checkpoint_are_made_anew(tmp_path):
    """And a line that a kill has cut."""
    curves = Curves(tmp_path, 0, 0)
    for step in range(1, 5):
        curves.add(step, {"train/loss": 1.0})
    curves.add(4, {"epoch/number": 1})
    curves.close()
    with (tmp_path / "curves.jsonl").open("a") as file:
        file.write('{"step": 5, "train')
    curves = Curves(tmp_path, 3, 0)
    curves.add(4, {"train/loss": 2.0})
    curves.close()
    assert [(line["step"], line["train/loss"]) for line in lines(tmp_path)] == [(1, 1), (2, 1), (3, 1), (4, 2)]
    assert [(point.step, point.value) for point in EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")][-1] == (4, 2.0)


def test_a_new_run_has_no_points_of_another(tmp_path):
    (tmp_path / "curves.jsonl").write_text('{"step": 1}\n')
    Curves(tmp_path, 0, 0).close()
    assert lines(tmp_path) == []


def test_a_run_without_a_checkpoint_begins_its_curves_anew(tmp_path):
    for value in (1.0, 2.0):
        curves = Curves(tmp_path, 0, 0)
        curves.add(1, {"train/loss": value})
        curves.close()
    assert [point.value for point in EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")] == [2.0]


@pytest.mark.parametrize("hole", [b'\0\0\0\0ep": 2}\n', b'"step"\n', b"{}\n", b"\xff\n"])
def test_a_hole_that_a_power_cut_has_left_costs_its_own_line(tmp_path, hole):
    (tmp_path / "curves.jsonl").write_bytes(b'{"step": 1}\n' + hole + b'{"step": 3}\n')
    Curves(tmp_path, 3, 0).close()
    assert lines(tmp_path) == [{"step": 1}, {"step": 3}]


# Averages and figures


def test_the_exponential_average_follows_every_step(train):
    """By hand from the weights after each epoch of one step; batch-norm statistics too."""
    often = ("train.batch_size=11", "train.ema_decay=0.75")
    first, second, third = (weights(train(f"{n} steps", *often, f"train.epochs={n}")[0]) for n in (1, 2, 3))
    average = weights(train("again", *often, "train.epochs=3")[0], "ema.pth")
    for name in (name for name in average if average[name].is_floating_point()):
        second_average = 2 / 11 * first[name] + 9 / 11 * second[name]  # the memory grows from a short one
        wanted = 3 / 12 * second_average + 9 / 12 * third[name]
        assert torch.allclose(average[name], wanted, atol=1e-6), name
    assert not torch.equal(average["front.stem.bn.running_mean"], third["front.stem.bn.running_mean"])


@pytest.fixture(scope="module")
def seen(hdf5, tiny) -> PeopleFile:
    return PeopleFile(hdf5, load_config(tiny).skeleton)


class Knowing:
    """Finds whom the people file has, each picture's first person not."""

    def __init__(self, people: PeopleFile, spare: int):
        self.people, self.spare, self.given = people, spare, []
        self.needs_boxes = True

    def alike(self, image_size):
        return image_size[0] % 2

    def __call__(self, images, boxes):
        self.given += boxes
        found = []
        for image in images:
            (number,) = (n for n in range(len(self.people)) if (self.people.image(n) == image).all())
            joints = self.people.joints(range(*self.people.first[number : number + 2]))[self.spare :]
            joints[..., 2] = joints[..., 2] != 2
            found.append((joints, torch.linspace(1, 0.5, len(joints)).numpy()))
        return found


@pytest.mark.parametrize("spare", [0, 1])
def test_figures_of_the_people_in_people_files(seen, spare):
    decoder = Knowing(seen, spare)
    figures = validation_metrics(decoder, [seen, seen], seen.skeleton, 3, ALONE)
    assert (figures["AP"] == 1) == (spare == 0)
    assert [boxes.shape[1] for boxes in decoder.given] == [5] * 2 * len(seen)
    assert (annotated_boxes(seen, 0)[:, 4] == 1).all()


def test_a_damaged_image_is_left_out_of_the_figures(seen, tmp_path, capsys):
    """Training goes on, as it does where such an image is a sample's."""
    path = tmp_path / "damaged.h5"
    shutil.copy(seen.path, path)
    with h5py.File(path, "r+") as file:
        start, end = file["images/ends"][0, -1], file["images/ends"][1, 0]
        file["images/bytes"][start:end] = 0
    decoder = Knowing(seen, 0)
    for _ in range(2):
        assert validation_metrics(decoder, [PeopleFile(path, seen.skeleton)], seen.skeleton, 3, ALONE)["AP"] == 1
    assert len(re.findall(r"warning: image .*damaged.h5.*; left out\n", capsys.readouterr().err)) == 1, "once, not in every epoch"
    assert len(decoder.given) == 2 * (len(seen) - 1)


def test_a_run_says_how_many_people_it_finds(train):
    folder, said = train("run", "train.epochs=2", "train.evaluate_every=2", "train.ema_decay=0.5")
    first, second = (line for line in said.splitlines() if "validation loss" in line and "epoch" in line)
    assert " AP " not in first
    assert re.search(r"epoch 2: training loss \S+, validation loss \S+, validation loss of the EMA \S+, AP \S+, AP of the EMA ", second)
    shown = EventAccumulator(str(folder)).Reload().Tags()
    assert {"people/0", "people/3"} <= set(shown["images"])
    assert {"epoch/AP", "epoch/AP of the EMA"} <= set(shown["scalars"])


def test_people_are_not_looked_for_in_double_precision(fails, tiny, tmp_path):
    said = fails("train.py", "--config", tiny, "--output", tmp_path / "run", "train.precision=float64", "train.evaluate_every=1")
    assert "train.evaluate_every: people are not looked for in float64" in said


# Before there is a run


@pytest.mark.parametrize("system", ["quickstart", "dekr_quickstart", "simple_baselines_quickstart"])
def test_a_dry_run_says_what_a_run_would_take_and_leaves_nothing(run, hdf5, tmp_path, monkeypatch, system):
    monkeypatch.chdir(tmp_path)
    config = ROOT / "config" / f"{system}.yaml"
    ended = run(
        "train.py", "--config", config, "--dry-run", f"data.train={hdf5}", f"data.val={hdf5}", "train.batch_size=2", "train.accumulate=2"
    )
    assert ended.status == 0, ended.err
    for pattern in (
        r"parameters: [\d,]+, of which",
        r"images: 2 x 3 x \d+ x \d+ float32",
        r"targets: \w+ 2 x",
        r"output: 2 x",
        r"memory: [\d,]+ MiB",
    ):
        assert re.search(pattern, ended.out), ended.out
    assert re.search(r"epoch: \d+ steps, about [\d.]+ \w+; \d+ epochs: [\d.]+ \w+\n", ended.out)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_takes_weights_to_start_from(run, fails, tiny, trained, tmp_path):
    ended = run("train.py", "--config", tiny, "--dry-run", "--init", trained / "best.pth")
    assert (ended.status, "tensors taken, 0 newly initialised" in ended.out) == (0, True)
    assert "not found" in fails("train.py", "--config", tiny, "--dry-run", "--init", tmp_path / "nowhere.pth")


def test_durations():
    assert [duration(seconds) for seconds in (5, 119, 120, 7199, 7200, 200000)] == [
        "5.0 seconds",
        "119.0 seconds",
        "2.0 minutes",
        "120.0 minutes",
        "2.0 hours",
        "2.3 days",
    ]
