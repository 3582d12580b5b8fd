"""The bundled model: used and announced where no checkpoint is named; and the bundled file itself."""

import json
import sys
from pathlib import Path
from threading import current_thread, main_thread

import numpy as np
import onnxruntime
import pytest
import torch
from places import ROOT
from safetensors import safe_open

from config import UserError, load_config
from config.version import VERSION
from data.images import read_image
from models import build_model
from utils.checkpoint import config_for, init_weights, load_network, read_checkpoint
from utils.export import export
from utils.inference import PoseEstimator
from utils.zoo import WEIGHTS

LARGEST = 13e6  # bytes


@pytest.fixture
def tiny_bundled(tiny, tmp_path_factory, tmp_path, monkeypatch, capsys) -> Path:
    """Replace the bundled model by a tiny network, and work in a folder outside the project."""
    path = tmp_path_factory.mktemp("package") / "simplepose_tiny.safetensors"
    export(load_config(tiny), None, path, half=True)
    monkeypatch.setattr("utils.bundled_model.DEFAULT", path)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    return path


def test_scripts_use_and_announce_it(run, annotations, images, tiny_bundled, tmp_path):
    image = min(images.iterdir())
    for script, options, written in (
        ("demo_image.py", ("--input", image, "inference.flip=false"), f"demo/{image.name}"),
        ("evaluate.py", ("--annotations", annotations, "--images", images, "--limit", 1), "evaluation/detections.json"),
    ):
        ended = run(script, *options)
        assert ended.status == 0, ended.err
        assert ended.out.count(f"simplepose_tiny {VERSION}") == 1
        assert (tmp_path / "runs" / written).is_file()
    assert list(tiny_bundled.parent.iterdir()) == [tiny_bundled]  # nothing is written beside the model


def test_python_uses_and_announces_it_unless_another_is_named(tiny_bundled, trained, capsys):
    assert PoseEstimator().config == config_for(tiny_bundled)
    out, err = capsys.readouterr()
    assert (f"simplepose_tiny {VERSION}" in out, out.count("\n"), err) == (True, 1, "")
    assert PoseEstimator(checkpoint=trained / "best.pth").config == config_for(trained / "best.pth")
    one, other = (PoseEstimator(config_for(tiny_bundled)).network.front.stem.conv.weight.detach().numpy() for _ in range(2))
    assert not np.array_equal(one, other), "a configuration alone gives random weights"
    assert capsys.readouterr().out == ""


def test_a_configuration_or_overrides_of_another_network_are_refused(fails, annotations, images, tiny_bundled, tiny):
    for script in (("demo_image.py", "--input", images), ("evaluate.py", "--annotations", annotations, "--images", images)):
        assert "--checkpoint runs/tiny/best.pth" in fails(*script, "--config", tiny)
    assert "does not fit the configured network" in fails("demo_image.py", "--input", images, "model.channels=32")


@pytest.mark.parametrize(("length", "message"), [(None, "not found; name another checkpoint"), (5000, "cut short")])
def test_a_missing_or_damaged_file_is_named(tiny_bundled, length, message):
    whole = tiny_bundled.read_bytes()
    tiny_bundled.unlink()
    if length is not None:
        tiny_bundled.write_bytes(whole[:length])
    with pytest.raises(UserError, match=f"{tiny_bundled.name}.*{message}"):
        PoseEstimator()


@pytest.mark.parametrize("name", ["dekr_small", "simplepose_small", "simple_baselines_small"])
def test_a_bundled_file_is_its_recipe_in_float16(name):
    path = WEIGHTS / f"{name}.safetensors"
    assert path.stat().st_size < LARGEST
    config, recipe = config_for(path), load_config(ROOT / "config" / f"{name}.yaml")
    assert (config.system, config.model, config.skeleton) == (recipe.system, recipe.model, recipe.skeleton)
    assert list(read_checkpoint(path)["config"]["skeleton"]["dataset"]) == list(recipe.skeleton.dataset), "the order of COCO results"
    assert not any(file.is_absolute() for file in (*config.data.train_files, *config.data.val_files)), "paths of the training machine"
    with safe_open(path, framework="pt") as file:
        assert file.get_tensor("trunk.stem.weight").dtype == torch.float16
    assert all(torch.isfinite(tensor).all() for tensor in load_network(config, path, "cpu").state_dict().values())


def test_the_demo_runs_the_same_network_in_onnx_unless_there_may_be_a_gpu(run, images, tmp_path, monkeypatch):
    monkeypatch.setattr("utils.bundled_model.sys.platform", "linux")
    monkeypatch.setattr("shutil.which", lambda name: None)
    command, people = ("demo_image.py", "--input", min(images.iterdir()), "--min-score", 0.05, "--output"), {}
    threads, open_session = [], onnxruntime.InferenceSession
    with monkeypatch.context() as patched:
        patched.setattr(onnxruntime, "InferenceSession", lambda *args: threads.append(current_thread()) or open_session(*args))
        patched.setitem(sys.modules, "utils.checkpoint", None)  # what PyTorch is imported by
        for name, gpu in (("onnx", None), ("pytorch", "nvidia-smi")):
            patched.setattr("shutil.which", lambda _, gpu=gpu: gpu)
            ended = run(*command, tmp_path / name)
            assert (ended.status == 0) == (gpu is None), ended.err
    assert len(threads) == 1 and main_thread() not in threads, "it is not opened while Python imports the rest"
    ended = run(*command, tmp_path / "pytorch", "inference.flip=true")  # an option that the exported network does not take
    assert ended.status == 0 and ended.out.count(f"dekr_small {VERSION}, the bundled model") == 1, ended.err
    for name in ("onnx", "pytorch"):
        (path,) = (tmp_path / name).glob("*.json")
        people[name] = [(person["score"], *person["keypoints"]) for person in json.loads(path.read_text())["people"]]
    assert len(people["onnx"]) > 0
    for (score, *points), (expected, *others) in zip(people["onnx"], people["pytorch"], strict=True):
        assert score == pytest.approx(expected, abs=1e-3)
        np.testing.assert_allclose(points, others, atol=0.1)


def test_it_predicts_people_in_photographs(shared):
    estimator, photographs = PoseEstimator(device="cpu"), sorted((shared / "data" / "media").glob("*.jpg"))[:2]
    scores = [estimator(read_image(path))[1] for path in photographs]
    assert len(scores) == 2 and all(of_image.max(initial=0) > 0.2 for of_image in scores)


def test_the_recipe_of_fine_tuning_starts_from_a_bundled_network():
    config = load_config(ROOT / "config" / "finetune.yaml")
    assert init_weights(build_model(config), ROOT / config.train.init)[1] == []


def test_torch_hub_builds_an_estimator_by_name():
    estimator = torch.hub.load(str(ROOT), "simplepose_small", source="local", device="cpu")
    assert estimator.config.system == "simplepose"
    with pytest.raises(RuntimeError, match="Cannot find callable no_such_network"):
        torch.hub.load(str(ROOT), "no_such_network", source="local")
