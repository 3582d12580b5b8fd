"""Checkpoints of this project and of the published code: loaded whole, or an error that names the differences."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from places import ROOT
from reference import write_published_checkpoint
from torch import Tensor, nn

from config import Config, UserError, load_config
from models import PoseNetwork, build_model
from models.imhn import IMHN
from utils.checkpoint import config_for, init_weights, load_backbone, load_weights, read_checkpoint, save_checkpoint
from utils.inference import PoseEstimator
from utils.training.build import find_checkpoint

PUBLISHED = ROOT / "config" / "simplepose_coco_512.yaml"
SMALL = ("model.stages=2", "model.channels=16", "model.channels_increase=16", "model.depth=2", "loss.scale_weights=[1, 1, 1]")
FORMATS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])

# Patterns of our names and the published ones: the inverse of the conversion, written independently of it
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


def random_network(config: Config, seed: int = 0) -> nn.Module:
    """Return a network with different values everywhere, including batch-norm statistics."""
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
    return random_network(small_config())


@pytest.fixture
def published(network, tmp_path) -> Path:
    """Write the network's weights as DataParallel saved them in the published format."""
    write_published_checkpoint(tmp_path / "PoseNet_52_epoch.pth", published_weights(network), "module.", legacy=False)
    return tmp_path / "PoseNet_52_epoch.pth"


# Loading


def test_published_names_map_to_ours_and_ours_to_themselves(network):
    for name in network.state_dict():
        for given in (published_name(name), f"module.{published_name(name)}", name):
            assert IMHN.convert_key(given) == name


def write_published(path: Path, network: nn.Module, legacy: bool) -> None:
    write_published_checkpoint(path, published_weights(network), "module.", legacy)


def write_state_dict(path: Path, network: nn.Module, legacy: bool) -> None:
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=not legacy)


@FORMATS
@pytest.mark.parametrize("write", [write_published, write_state_dict])
def test_every_format_loads_whole_and_into_memory(network, tmp_path, write: Callable, legacy):
    path, other = tmp_path / "weights.pth", random_network(small_config(), seed=1)
    write(path, network, legacy)
    assert config_for(path) == load_config(PUBLISHED)  # whatever the network's size
    load_weights(other, path)
    path.write_bytes(b"")  # a network that still used the mapped file would change
    assert equal(other, network)


def test_a_checkpoint_is_opened_once_for_configuration_and_weights(network, tmp_path, monkeypatch):
    path, opened, load = tmp_path / "ours.pth", [], torch.load
    save_checkpoint(path, weights=network.state_dict(), config=small_config("train.seed=7").model_dump(mode="json"))
    monkeypatch.setattr(torch, "load", lambda *given, **options: opened.append(given) or load(*given, **options))
    assert (PoseEstimator(checkpoint=path, device="cpu").config, len(opened)) == (small_config("train.seed=7"), 1)


def private_memory() -> int:
    """Return the memory in bytes that belongs to this process alone: no mapped files."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports a process's private memory")
def test_loading_needs_no_second_copy_of_the_weights(tmp_path):
    network = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(4)))
    save_checkpoint(tmp_path / "large.pth", weights=network.state_dict(), optimizer=[p.detach() * 2 for p in network.parameters()])
    start, used, stop = private_memory(), [], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            used.append(private_memory() - start)
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    load_weights(network, tmp_path / "large.pth")
    stop.set()
    watcher.join()
    size = sum(tensor.nbytes for tensor in network.parameters())
    assert max(used) < 0.2 * size, f"{max(used) / 1e6:.0f} MB on top of a network of {size / 1e6:.0f} MB"


# Errors


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
def test_a_file_without_weights_is_not_a_checkpoint(network, tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
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
    for length in range(0, len(whole) - 1, 149):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="cannot be read, cut short"):
            read_checkpoint(path)
    for index in torch.randperm(min(len(whole), 1500), generator=generator)[:100].tolist():
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 0x55]) + whole[index + 1 :])
        try:
            read_checkpoint(path)  # a changed number is no error
        except UserError as error:
            assert "\n" not in str(error)


def test_only_a_resume_compares_checksums(network, tmp_path):
    """Checksums need the whole file, which holds three times the weights."""
    path = tmp_path / "last.pth"
    save_checkpoint(path, weights=network.state_dict())
    whole = bytearray(path.read_bytes())
    value = network.state_dict()["front.stem.conv.weight"].numpy().tobytes()
    whole[whole.index(value)] ^= 1
    path.write_bytes(whole)
    load_weights(random_network(small_config()), path)
    with pytest.raises(UserError, match=r"last\.pth: cannot be read, cut short, damaged"):
        find_checkpoint(tmp_path, "auto")


# Fine-tuning


@pytest.fixture
def without_neck(tmp_path) -> str:
    """Write a skeleton of 17 keypoints: COCO's without the neck."""
    values = yaml.safe_load((ROOT / "config" / "skeletons" / "coco.yaml").read_text())
    values["keypoints"].remove("neck")
    del values["sigmas"]["neck"], values["midpoints"]
    for key in ("limbs", "drawn"):
        values[key] = [pair for pair in values.get(key, []) if "neck" not in pair]
    path = tmp_path / "skeleton.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return f"skeleton={path}"


def test_another_skeleton_takes_all_but_the_output_layers(network, published, without_neck):
    tuned = random_network(small_config(without_neck), seed=1)
    before = {name: tensor.clone() for name, tensor in tuned.state_dict().items()}
    taken, fresh = init_weights(tuned, published)
    expected = {f"stages.{s}.predictions.{i}.{kind}" for s in range(2) for i in range(3) for kind in ("weight", "bias")}
    expected |= {f"stages.0.merge_predictions.{i}.conv.weight" for i in range(3)}
    assert (set(fresh), set(taken)) == (expected, set(before) - expected)
    state, given = tuned.state_dict(), network.state_dict()
    assert all(torch.equal(state[name], (given if name in taken else before)[name]) for name in state)


def test_the_same_skeleton_takes_everything_and_another_network_is_an_error(network, published):
    tuned = random_network(small_config(), seed=1)
    taken, fresh = init_weights(tuned, published)
    assert (len(taken), fresh, equal(tuned, network)) == (len(network.state_dict()), [], True)
    with pytest.raises(UserError, match=r"does not fit the configured network: \d+ tensors missing \(stages\.1\.merge_features"):
        init_weights(build_model(small_config("model.stages=3")), published)


class Classifier(PoseNetwork):
    def __init__(self, head: str):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.add_module(head, nn.Conv2d(4, 5, 1))


def test_a_backbone_without_batch_counters_loads_and_half_a_backbone_does_not(tmp_path):
    """Files of PyTorch before 0.4.1 have no `num_batches_tracked`."""
    given, network, path = Classifier("fc"), Classifier("keypoints"), tmp_path / "classifier.pth"
    weights = {name: tensor for name, tensor in given.state_dict().items() if "tracked" not in name}
    torch.save(weights, path)
    taken, fresh = load_backbone(network, path)
    assert (len(taken), len(fresh), equal(network.trunk, given.trunk)) == (6, 3, True)
    del weights["trunk.1.running_var"]
    torch.save(weights, path)
    with pytest.raises(UserError, match=r"does not fit the network's backbone: 1 tensors missing \(trunk\.1\.running_var\)"):
        load_backbone(network, path)


# Scripts


def test_the_demo_runs_a_published_checkpoint_without_a_configuration(run, images, tmp_path):
    path, image = tmp_path / "PoseNet_52_epoch.pth", min(images.iterdir())
    write_published_checkpoint(path, published_weights(build_model(small_config())), "module.")
    options = ["--input", image, "--checkpoint", path, "--output", tmp_path / "out", *SMALL, "data.input_size=[128, 128]"]
    status, _, err = run("demo_image.py", *options)
    assert (status, (tmp_path / "out" / image.name).is_file()) == (0, True), err
    status, _, err = run("demo_image.py", *options, "model.stages=1")
    assert status == 2
    assert re.search(r"PoseNet_52_epoch\.pth: does not fit the configured network: \d+ tensors unknown \(.*stages\.", err)
