"""Checkpoints: ours and the published format, whole or an error that says what differs, for fine-tuning, and within one copy's memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from places import ROOT
from reference import write_published_checkpoint
from torch import Tensor, nn

from config import Config, UserError, load_config
from models import build_model
from models.checkpoint_keys import CheckpointKeys
from models.imhn import from_published
from utils import checkpoint
from utils.checkpoint import config_for, init_weights, load_backbone, load_weights, read_checkpoint, save_checkpoint
from utils.inference import PoseEstimator
from utils.training.build import find_checkpoint

PUBLISHED = ROOT / "config" / "simplepose_coco_512.yaml"
SMALL = ("model.stages=2", "model.channels=32", "model.channels_increase=16", "model.depth=2", "loss.scale_weights=[1, 1, 1]")
FORMATS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])

# Our names to the published ones: the other way round than the code has it, and written down apart from it.
TO_PUBLISHED = [
    (r"^front\.stem\.(conv|bn)\.", r"pre.\g<1>1."),
    (r"^front\.residual(\d)\.", r"pre.res\1."),
    (r"^front\.dilated\.", "pre.dilation."),
    (r"^stages\.(\d+)\.hourglass\.levels\.(\d+)\.(\w+)\.", lambda m: f"hourglass.{m[1]}.hg.{m[2]}.{LEVEL_PARTS.index(m[3])}."),
    (r"(reduce|conv|expand)\.(conv|bn)\.(\w+)$", lambda m: f"convBlock.{RESIDUAL_PARTS.index(f'{m[1]}.{m[2]}')}.{m[3]}"),
    (r"skip\.(conv|bn)\.", lambda m: f"skipConv.{('conv', 'bn').index(m[1])}."),
    (r"^stages\.(\d+)\.features\.(\d+)\.conv(\d)\.", lambda m: f"features.{m[1]}.before_regress.{m[2]}.{int(m[3]) - 1}."),
    (r"^stages\.(\d+)\.features\.(\d+)\.excitation\.squeeze\.", r"features.\1.before_regress.\2.2.fc.0."),
    (r"^stages\.(\d+)\.features\.(\d+)\.excitation\.expand\.", r"features.\1.before_regress.\2.2.fc.2."),
    (r"^stages\.(\d+)\.predictions\.(\d+)\.", r"outs.\1.\2.conv."),
    (r"^stages\.(\d+)\.merge_features\.(\d+)\.", r"merge_features.\1.\2.conv."),
    (r"^stages\.(\d+)\.merge_predictions\.(\d+)\.", r"merge_preds.\1.\2.conv."),
]
LEVEL_PARTS = ["upper", "down", "up", "smooth", "bottom"]
RESIDUAL_PARTS = ["reduce.conv", "reduce.bn", "", "conv.conv", "conv.bn", "", "expand.conv", "expand.bn"]


def published_name(name: str) -> str:
    for pattern, theirs in TO_PUBLISHED:
        name = re.sub(pattern, theirs, name)
    return f"posenet.{name}"


def small_config(*overrides: str) -> Config:
    return load_config(PUBLISHED, [*SMALL, *overrides])


def lively(config: Config, seed: int = 0) -> nn.Module:
    """A network with another value in every place, batch-norm statistics too."""
    network, generator = build_model(config).eval(), torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * 100)
    return network


def equal(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def published_weights(network: nn.Module) -> dict[str, Tensor]:
    return {published_name(name): tensor for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return lively(small_config())


# Names


def test_names_are_the_published_ones(shared):
    network = build_model(load_config(PUBLISHED))
    names = json.loads((shared / "fixtures" / "simplepose_state_dict.json").read_text())
    assert {published_name(name) for name in network.state_dict()} == set(names)


def test_names_come_back_and_our_own_stay(network):
    for name in network.state_dict():
        assert from_published(published_name(name)) == name
        assert from_published(f"module.{published_name(name)}") == name
        assert from_published(name) == name


# Loading


@FORMATS
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_published_checkpoint_loads_whole(network, tmp_path, prefix, legacy):
    path = tmp_path / "PoseNet_52_epoch.pth"
    write_published_checkpoint(path, published_weights(network), prefix, legacy)
    other = lively(small_config(), seed=1)
    load_weights(other, path)
    assert equal(other, network)


@FORMATS
def test_a_bare_state_dictionary_loads_too(network, tmp_path, legacy):
    torch.save(network.state_dict(), tmp_path / "weights.pth", _use_new_zipfile_serialization=legacy)
    other = lively(small_config(), seed=1)
    load_weights(other, tmp_path / "weights.pth")
    assert equal(other, network)


def test_our_own_checkpoint_loads_and_brings_its_configuration(network, tmp_path):
    config = small_config("train.seed=7")
    save_checkpoint(tmp_path / "ours.pth", weights=network.state_dict(), config=config.model_dump(mode="json"))
    other = lively(small_config(), seed=1)
    load_weights(other, tmp_path / "ours.pth")
    assert equal(other, network)
    assert config_for(tmp_path / "ours.pth") == config


def test_a_loaded_network_does_not_hang_on_to_its_file(network, tmp_path):
    write_published_checkpoint(tmp_path / "a.pth", published_weights(network))
    other = lively(small_config(), seed=1)
    load_weights(other, tmp_path / "a.pth")
    (tmp_path / "a.pth").write_bytes(b"")
    assert equal(other, network)


# What differs is said


def test_missing_unknown_and_reshaped_tensors_are_counted_and_named(network, tmp_path):
    weights = published_weights(network)
    for name in [name for name in weights if name.startswith(("posenet.pre.conv1.", "posenet.pre.bn1."))]:
        del weights[name]
    weights["posenet.pre.spare.weight"] = torch.zeros(1)
    weights["posenet.outs.0.0.conv.bias"] = torch.zeros(7)
    write_published_checkpoint(tmp_path / "odd.pth", weights)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_weights(network, tmp_path / "odd.pth")
    text = str(error.value)
    assert str(tmp_path / "odd.pth") in text and "\n" not in text
    assert "6 tensors missing (front.stem.conv.weight, front.stem.bn.weight, front.stem.bn.bias, ...)" in text
    assert "1 tensors unknown (pre.spare.weight)" in text
    assert "1 tensors of another shape (stages.0.predictions.0.bias (7,) for (50,))" in text
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())  # nothing was half loaded


def test_one_tensor_under_two_names_is_an_error(network, tmp_path):
    weights = published_weights(network)
    weights["module.posenet.pre.conv1.weight"] = weights["posenet.pre.conv1.weight"] + 1
    write_published_checkpoint(tmp_path / "twice.pth", weights)
    with pytest.raises(UserError, match="twice"):
        load_weights(network, tmp_path / "twice.pth")


@pytest.mark.parametrize("content", [{"epoch": 3}, {"weights": {}}, {"weights": {"a": 1}}, [1, 2], {"weights": [1]}])
@FORMATS
def test_a_file_without_weights_is_not_a_checkpoint(network, tmp_path, content, legacy):
    torch.save(content, tmp_path / "other.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"other\.pth: (has no 'weights'|holds a list)"):
        load_weights(network, tmp_path / "other.pth")


class Intruder:
    def __reduce__(self):
        return os.mkdir, ("intruder was here",)


@FORMATS
def test_pickled_objects_are_named_and_do_not_run(network, tmp_path, monkeypatch, legacy):
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": network.state_dict(), "extra": Intruder()}, "bad.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"bad\.pth: cannot be read, .*it holds \w+\.mkdir, which could run code"):
        load_weights(network, "bad.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pth"]


@pytest.mark.filterwarnings("error")
@FORMATS
def test_damaged_files_are_an_error_of_one_line(tmp_path, legacy):
    module, path = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), tmp_path / "damaged.pth"
    torch.save({"weights": module.state_dict(), "epoch": 1}, path, _use_new_zipfile_serialization=not legacy)
    whole, generator = path.read_bytes(), torch.Generator().manual_seed(0)
    for length in range(0, len(whole) - 1, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="cannot be read, cut short"):
            read_checkpoint(path)
    for place in torch.randperm(min(len(whole), 1500), generator=generator)[:200].tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            read_checkpoint(path)  # a number may be another one now: no error then
        except UserError as error:
            assert "\n" not in str(error)


def test_only_a_resume_compares_checksums(network, tmp_path):
    """They read the whole file, which holds three times the weights."""
    path = tmp_path / "last.pth"
    save_checkpoint(path, weights=network.state_dict())
    whole = bytearray(path.read_bytes())
    value = network.state_dict()["front.stem.conv.weight"].numpy().tobytes()
    whole[whole.index(value)] ^= 1
    path.write_bytes(whole)
    load_weights(network, path)
    with pytest.raises(UserError, match=r"last\.pth: cannot be read, cut short, damaged"):
        find_checkpoint(tmp_path, "auto")


def test_a_checkpoint_is_opened_once_for_configuration_and_weights(network, tmp_path, monkeypatch):
    path, opened, load = tmp_path / "ours.pth", [], torch.load
    save_checkpoint(path, weights=network.state_dict(), config=small_config().model_dump(mode="json"))
    monkeypatch.setattr(torch, "load", lambda *given, **options: opened.append(given) or load(*given, **options))
    estimator = PoseEstimator(checkpoint=path, device="cpu")
    assert (len(opened), estimator.config) == (1, small_config())


# Fine-tuning


def other_skeleton(tmp_path: Path) -> str:
    """A skeleton of 17 keypoints: COCO's without the neck."""
    text = yaml.safe_load((ROOT / "config" / "skeletons" / "coco.yaml").read_text())
    text["name"] = "without neck"
    text["keypoints"].remove("neck")
    text["limbs"] = [limb for limb in text["limbs"] if "neck" not in limb]
    text["drawn"] = [pair for pair in text.get("drawn", []) if "neck" not in pair]
    del text["sigmas"]["neck"]
    text["midpoints"] = {}
    path = tmp_path / "skeleton.yaml"
    path.write_text(yaml.safe_dump(text, sort_keys=False))
    return str(path)


def test_fine_tuning_on_another_skeleton_leaves_the_output_layers_out_by_name(network, tmp_path):
    write_published_checkpoint(tmp_path / "published.pth", published_weights(network), "module.")
    config = small_config(f"skeleton={other_skeleton(tmp_path)}")
    tuned = lively(config, seed=1)
    drawn = {name: tensor.clone() for name, tensor in tuned.state_dict().items()}
    taken, fresh = init_weights(tuned, tmp_path / "published.pth")
    scales = range(3)
    expected = {f"stages.{s}.predictions.{i}.{kind}" for s in range(2) for i in scales for kind in ("weight", "bias")}
    expected |= {f"stages.0.merge_predictions.{i}.conv.weight" for i in scales}
    assert set(fresh) == expected and len(fresh) == len(expected)
    assert set(taken) == set(drawn) - expected
    state, given = tuned.state_dict(), network.state_dict()
    assert all(torch.equal(state[name], given[name]) for name in taken)
    assert all(torch.equal(state[name], drawn[name]) for name in fresh)


def test_fine_tuning_on_the_same_skeleton_takes_everything(network, tmp_path):
    write_published_checkpoint(tmp_path / "published.pth", published_weights(network))
    tuned = lively(small_config(), seed=1)
    taken, fresh = init_weights(tuned, tmp_path / "published.pth")
    assert (len(taken), fresh) == (len(network.state_dict()), [])
    assert equal(tuned, network)


def test_fine_tuning_from_another_network_is_an_error(network, tmp_path):
    write_published_checkpoint(tmp_path / "published.pth", published_weights(network))
    with pytest.raises(UserError, match=r"does not fit the configured network: \d+ tensors missing \(stages\.1\.merge_features"):
        init_weights(lively(small_config("model.stages=3")), tmp_path / "published.pth")


@pytest.mark.slow
def test_training_says_what_it_took(run, tiny, tmp_path):
    config = load_config(tiny)
    write_published_checkpoint(tmp_path / "published.pth", published_weights(lively(config)))
    more = ["train.epochs=1", f"skeleton={other_skeleton(tmp_path)}"]
    options = ["--config", tiny, "--init", tmp_path / "published.pth", "--output", tmp_path / "run"]
    status, _, err = run("train.py", *options, *more)
    assert status == 0, err
    log = (tmp_path / "run" / "train.log").read_text()
    count = len(build_model(config).state_dict())
    assert f"published.pth: {count - 6} tensors taken, 6 newly initialized: stages.0.predictions.0.weight, " in log


# A trunk from elsewhere


class Classifier(nn.Module):
    """A trunk with one head or another."""

    def __init__(self, head: str):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.add_module(head, nn.Conv2d(4, 5, 1))


TRUNK_NAMES = CheckpointKeys(lambda name: None if name.startswith("fc.") else name, trunk=lambda name: name.startswith("trunk."))


@pytest.mark.parametrize("counted", [True, False], ids=["of today", "before 0.4.1"])
def test_a_trunk_is_taken_from_a_network_of_another_kind(tmp_path, monkeypatch, counted):
    """Older ones do not know how many batches their batch norm has seen."""
    monkeypatch.setattr(checkpoint, "checkpoint_keys_of", lambda model: TRUNK_NAMES)
    given, network = Classifier("fc"), Classifier("keypoints")
    torch.save({name: t for name, t in given.state_dict().items() if counted or "tracked" not in name}, tmp_path / "classifier.pth")
    head = network.keypoints.weight.clone()
    taken, fresh = load_backbone(network, tmp_path / "classifier.pth")
    assert equal(network.trunk, given.trunk) and torch.equal(network.keypoints.weight, head)
    assert (len(taken), len(fresh)) == ((7, 2) if counted else (6, 3))


def test_half_a_trunk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "checkpoint_keys_of", lambda model: TRUNK_NAMES)
    weights = Classifier("fc").state_dict()
    del weights["trunk.1.running_var"]
    torch.save(weights, tmp_path / "classifier.pth")
    with pytest.raises(UserError, match=r"does not fit the network's trunk: 1 tensors missing \(trunk\.1\.running_var\)"):
        load_backbone(Classifier("keypoints"), tmp_path / "classifier.pth")


# Which recipe a published checkpoint was trained with


@FORMATS
def test_a_published_checkpoint_of_simplepose_has_its_recipe(network, tmp_path, legacy):
    """Whatever its size is: that can be told by overrides."""
    write_published_checkpoint(tmp_path / "PoseNet_52_epoch.pth", published_weights(network), "module.", legacy)
    assert config_for(tmp_path / "PoseNet_52_epoch.pth") == load_config(PUBLISHED)


# The scripts, with a file as the published code writes it


@pytest.fixture
def published_file(tmp_path) -> Path:
    """A small network's weights in the published format; 0.001 of a published start, so that it finds nobody rather than crowds."""
    path = tmp_path / "PoseNet_52_epoch.pth"
    write_published_checkpoint(path, published_weights(build_model(small_config())), "module.")
    return path


def test_evaluation_works_with_a_published_checkpoint(run, annotations, images, published_file, tmp_path):
    options = ["--config", PUBLISHED, "--checkpoint", published_file, "--annotations", annotations, "--images", images]
    status, out, err = run("evaluate.py", *options, "--output", tmp_path / "out", "--limit", "2", *SMALL, "data.input_size=[128, 128]")
    assert status == 0, err
    assert "AP50" in out
    assert json.loads((tmp_path / "out" / "detections.json").read_text()) == []


def test_the_demo_works_with_a_published_checkpoint_and_no_configuration(run, images, published_file, tmp_path):
    image = min(images.iterdir())
    options = ["--input", image, "--checkpoint", published_file, "--output", tmp_path / "out"]
    status, _, err = run("demo_image.py", *options, *SMALL, "data.input_size=[128, 128]")
    assert status == 0, err
    assert (tmp_path / "out" / image.name).is_file()


def test_a_published_checkpoint_of_another_size_is_refused_in_a_line(run, images, published_file, tmp_path):
    options = ["--input", min(images.iterdir()), "--checkpoint", published_file, "--output", tmp_path / "out"]
    status, _, err = run("demo_image.py", *options, *SMALL, "model.stages=1")
    assert status == 2
    assert re.search(r"PoseNet_52_epoch\.pth: does not fit the configured network: \d+ tensors unknown \(.*stages\.", err)


# Memory

PEAK = """
import sys, threading, time
from pathlib import Path
from config import load_config
from models import build_model
from models.imhn import from_published
from utils.checkpoint import load_weights

def anonymous():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024

def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.0005)

network = build_model(load_config(sys.argv[1], ["model.stages=1"]))
before = peak = anonymous()
done = False
watcher = threading.Thread(target=watch)
watcher.start()
load_weights(network, sys.argv[2])
done = True
watcher.join()
print(peak - before, sum(t.nbytes for t in network.state_dict().values()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells how much memory is a process's own")
def test_loading_needs_no_second_copy_of_the_weights(tmp_path):
    """What is mapped from the file can be dropped at any time; only memory of the process's own counts, and that is the network."""
    network = build_model(load_config(PUBLISHED, ["model.stages=1"]))
    momentum = {i: {"momentum_buffer": torch.zeros_like(p.data)} for i, p in enumerate(network.parameters())}
    content = {"weights": published_weights(network), "optimizer_weight": {"state": momentum, "param_groups": []}, "epoch": 52}
    torch.save(content, tmp_path / "large.pth")
    del network, momentum, content
    command = [sys.executable, "-c", PEAK, str(PUBLISHED), str(tmp_path / "large.pth")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    grown, weights = map(int, done.stdout.split())
    assert weights > 100e6
    assert grown < 0.1 * weights, f"{grown / 1e6:.0f} MB on top of a network of {weights / 1e6:.0f} MB"
