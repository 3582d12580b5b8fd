"""Exported networks compute what the checkpoint's network computes, in ONNX Runtime, PyTorch, and the project's scripts."""

import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
from concurrent.futures import wait
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import top_down_system
import torch
from places import ROOT
from random_weights import equal, randomize_weights
from runs import in_a_child
from safetensors import safe_open
from tiny_system import TinyNetwork

from config import Config, UserError, load_config
from config.load import parse_config
from config.version import VERSION
from data.images import read_image
from deploy import sessions
from models import build_model
from models.dekr_rescoring import RescoringNet
from utils import checkpoint as checkpoints
from utils import export as exporting
from utils.checkpoint import config_for, load_network, read_checkpoint, save_checkpoint
from utils.export import FLOAT_PART, PredictModule, export
from utils.inference import PoseEstimator

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
PoseRunner = pytest.importorskip("deploy.runner").PoseRunner

EXPORT = "utils/export.py"
SMALL_HRNET = {"width": 4, "stem_width": 8, "modules": [1, 1, 1], "blocks": 1, "heat_channels": 5, "offset_channels": 3}
DEKR_INFERENCE = {"side": "long", "max_people": 5, "match_window": 0.03}  # images are padded
# Thresholds so low that untrained networks predict people
VALUES = {
    "simplepose": {
        "model": {"stages": 1, "channels": 16, "channels_increase": 0, "depth": 1},
        "data": {"input_size": [64, 64]},
        "loss": {"scale_weights": [1, 1]},
        "inference": {"pad_multiple": 8, "scales": [0.5, 1]},
        "assignment": {"keypoint_threshold": 1e-4, "lone_threshold": 0, "max_peaks": 2},
    },
    "dekr": {"skeleton": "coco17", "model": SMALL_HRNET, "data": {"input_size": [64, 64]}, "inference": DEKR_INFERENCE},
    "simple_baselines": {
        "skeleton": "coco17",
        "model": {"depth": 10, "deconv_channels": 8},
        "data": {"input_size": [64, 32]},
        "inference": {"scales": [1, 1.25], "keypoint_threshold": 0},
    },
    "tiny": {"skeleton": "coco17", "data": {"input_size": [32, 48]}},
}
OUTPUTS = {"simplepose": ["maps"], "dekr": ["heatmaps", "offsets"], "simple_baselines": ["heatmaps"], "tiny": ["heatmaps"]}
# None of the check's sizes, where the network takes any size
SIZES = {"simplepose": (48, 80), "dekr": (96, 160), "simple_baselines": (64, 32), "tiny": (32, 48)}
BOX = np.array([[20, 10, 60, 90], [40, 30, 50, 50.5]])


@pytest.fixture(scope="module", autouse=True)
def registered():
    with top_down_system.registered():
        yield


def config_of(system: str) -> Config:
    return parse_config({"system": system, **VALUES[system]}, system)


@pytest.fixture(scope="module")
def lively(registered, tmp_path_factory):
    """Return a function (system, file name) -> path of a network in which every weight matters: its checkpoint or its export."""
    folder = tmp_path_factory.mktemp("exported")

    @cache
    def of(system: str, name: str = "model.pth") -> Path:
        path, config = folder / system / name, config_of(system)
        if name != "model.pth":
            export(config, of(system), path, decode=name == "people.onnx")
            return path
        weights = build_model(config).state_dict()
        randomize_weights(weights, seed=1)
        if system == "simplepose":
            weights["stages.0.features.1.conv1.bn.running_var"][0] = 1e6  # too large for float16
        save_checkpoint(path, weights=weights, config=config.model_dump(mode="json"))
        return path

    return of


# Files


@pytest.mark.parametrize(("system", "name"), [*((system, "model.onnx") for system in VALUES), ("tiny", "model.pt2")])
def test_a_file_runs_without_the_project(lively, system, name):
    path, stored = lively(system, name), {f"simplepose.{key}": "" for key in ("config", "skeleton", "name", "version", "runner")}
    if name == "model.pt2":
        module = torch.export.load(path, extra_files=stored).module()
    else:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        assert [output.name for output in session.get_outputs()] == OUTPUTS[system]
        simplified = {(node.domain, node.op_type == "Constant") for node in onnx.load(path).graph.node}
        assert simplified == {("", False)}  # by standard operators
        stored = session.get_modelmeta().custom_metadata_map
    values = config_of(system).model_dump(mode="json")
    assert (json.loads(stored["simplepose.config"]), json.loads(stored["simplepose.skeleton"])) == (values, values["skeleton"])
    assert list(json.loads(stored["simplepose.skeleton"])["dataset"]) == list(values["skeleton"]["dataset"]), "the order of results"
    assert (stored["simplepose.name"], stored["simplepose.version"]) == ("model", VERSION)
    assert str(Path(exporting.__file__).parents[1]).encode() not in path.read_bytes()  # of the machine that wrote it
    network = PredictModule(load_network(config_of(system), lively(system), "cpu"))
    for count in (1, 4):
        batch = torch.rand(count, 3, *SIZES[system])
        with torch.no_grad():
            expected = network(batch)
        outputs = module(batch) if name == "model.pt2" else session.run(None, {"images": batch.numpy()})
        for ours, theirs in zip(expected, outputs, strict=True):
            np.testing.assert_allclose(np.asarray(theirs), ours, atol=2e-5 * ours.abs().max().item())


def test_onnx_in_float16_is_half_as_large(lively, tmp_path):
    export(config_of("dekr"), lively("dekr"), tmp_path / "half.onnx", half=True)
    assert (tmp_path / "half.onnx").stat().st_size < 0.9 * lively("dekr", "model.onnx").stat().st_size  # small layers: names count
    assert PoseEstimator(tmp_path / "half.onnx").network.session.get_inputs()[0].type == "tensor(float)"


def test_decoding_graphs_in_float16_only_store_it(lively, tmp_path):
    """Positions in large images need float32."""
    export(config_of("dekr"), lively("dekr"), tmp_path / "half.onnx", half=True, decode=True)
    tensors = onnx.load(tmp_path / "half.onnx").graph.initializer
    assert {t.data_type for t in tensors if len(t.dims) > 1} == {onnx.TensorProto.FLOAT16}
    pixels = {"images": np.random.default_rng(0).random((1, 3, 64, 64), np.float32)}
    (half, _), (whole, _) = (
        onnxruntime.InferenceSession(path).run(None, pixels) for path in (tmp_path / "half.onnx", lively("dekr", "people.onnx"))
    )
    assert half.dtype == np.float32 and half.shape == whole.shape


def test_onnx_in_int8_is_smaller_and_its_loss_of_ap_is_printed(run, fails, lively, annotations, images, tmp_path):
    output = tmp_path / "int8.onnx"
    command = ("--checkpoint", lively("dekr"), "--output", output, "--int8")
    ended = run(EXPORT, *command, "--annotations", annotations, "--images", images)
    assert ended.status == 0, ended.err
    before, after, change = map(float, re.search(r"AP on \d+ images: (\S+) of the checkpoint, (\S+) in int8, (\S+)", ended.out).groups())
    assert change == pytest.approx(after - before, abs=2e-4)
    graph = onnx.load(output).graph
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    weights = {kind: [sizes[node.input[1]] for node in graph.node if node.op_type == kind] for kind in ("Conv", "ConvInteger")}
    assert 0 < sum(weights["Conv"]) <= FLOAT_PART * sum(weights["Conv"] + weights["ConvInteger"])
    assert max(weights["Conv"]) <= min(weights["ConvInteger"]) and config_for(output) == config_of("dekr")
    assert "all three, or none of the two" in fails(EXPORT, *command, "--images", images)


@pytest.mark.parametrize("half", [False, True])
def test_safetensors_come_back_as_float32(lively, tmp_path, half):
    weights, path = read_checkpoint(lively("simplepose"))["weights"], tmp_path / "mine.safetensors"
    export(config_of("simplepose"), lively("simplepose"), path, half)
    with safe_open(path, framework="pt") as file:
        assert list(file.metadata()) == ["simplepose"]  # the order of several entries would vary between processes
        assert file.get_tensor("front.stem.conv.weight").dtype == (torch.float16 if half else torch.float32)
    content = read_checkpoint(path)
    assert (content["name"], content["version"], config_for(path)) == ("mine", VERSION, config_of("simplepose"))
    assert list(content["config"]["skeleton"]["dataset"]) == list(config_of("simplepose").skeleton.dataset)  # the order of COCO results
    assert content["weights"].keys() == weights.keys()
    for name, tensor in content["weights"].items():
        assert tensor.dtype == weights[name].dtype
        assert torch.equal(tensor, weights[name].half().float() if half and tensor.ndim > 1 else weights[name])


def test_the_mean_of_two_checkpoints(run, fails, lively, tmp_path):
    content, output = read_checkpoint(lively("dekr")), tmp_path / "mean.safetensors"
    weights = {name: tensor + 1 for name, tensor in content["weights"].items()}  # a count of batches stays the checkpoint's
    save_checkpoint(tmp_path / "other.pth", **content | {"weights": weights})
    command = ("--checkpoint", lively("dekr"), "--mean-with", tmp_path / "other.pth", "--output")
    assert run(EXPORT, *command, output).status == 0
    for name, tensor in read_checkpoint(output)["weights"].items():
        own = content["weights"][name]
        assert torch.allclose(tensor, own + 0.5 if own.is_floating_point() else own)
    assert "not with --annotations" in fails(EXPORT, *command, tmp_path / "mean.onnx", "--int8", "--annotations", "a.json", "--images", "a")


def test_only_safetensors_keep_the_rescoring_network_of_a_checkpoint(lively, tmp_path, capsys):
    """MMPose's DEKR checkpoints hold one."""
    content, config, net = read_checkpoint(lively("dekr")), config_of("dekr"), RescoringNet(config_of("dekr").skeleton)
    weights = content["weights"] | {f"rescoring.{name}": tensor for name, tensor in net.state_dict().items()}
    save_checkpoint(tmp_path / "with.pth", **content | {"weights": weights})
    export(config, tmp_path / "with.pth", tmp_path / "of.safetensors")
    assert equal(load_network(config, tmp_path / "of.safetensors", "cpu").rescoring, net)
    assert "rescoring" not in capsys.readouterr().out
    export(config, tmp_path / "with.pth", tmp_path / "of.onnx")
    assert "without the checkpoint's rescoring network" in capsys.readouterr().out


def test_a_file_that_computes_something_else_is_not_written(fails, lively, tmp_path, monkeypatch):
    """A trace keeps the first value of what changes between calls."""
    calls = iter(range(100))
    monkeypatch.setattr(TinyNetwork, "predict", lambda self, images: self(images) + 0.01 * next(calls))
    message = fails(EXPORT, "--checkpoint", lively("tiny"), "--output", tmp_path / "model.onnx")
    assert "nothing was written: the exported network differs from PyTorch" in message and "in heatmaps of up to" in message


# Inference


@pytest.mark.parametrize("system", VALUES)
def test_onnx_predicts_the_same_people_and_builds_no_network(lively, images, system, monkeypatch):
    photographs = [read_image(path) for path in sorted(images.iterdir())[:2]]
    photographs.append(np.ascontiguousarray(photographs[0][:70]))
    boxes = [BOX] * len(photographs) if system == "simple_baselines" else None
    network, checkpoint = lively(system, "model.onnx"), lively(system)
    expected = PoseEstimator(config_for(checkpoint), checkpoint, "cpu", min_score=0).batch(photographs, boxes)
    monkeypatch.setattr(checkpoints, "build_model", None)
    assert sum(len(scores) for _, scores in expected) >= len(photographs)
    for (keypoints, scores), (ours, our_scores) in zip(
        PoseEstimator(checkpoint=network, min_score=0).batch(photographs, boxes), expected, strict=True
    ):
        np.testing.assert_allclose(keypoints[..., :2], ours[..., :2], atol=0.05)
        np.testing.assert_allclose(keypoints[..., 2], ours[..., 2], atol=1e-3)
        np.testing.assert_allclose(scores, our_scores, atol=1e-3)


def test_onnx_is_pickled_but_refused_in_a_fork(lively, images):
    image, estimator = read_image(min(images.iterdir())), PoseEstimator(lively("tiny", "model.onnx"), device="cpu", min_score=0)
    expected = estimator(image, BOX)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(estimator))(image, BOX).keypoints, expected.keypoints)

    def work() -> None:
        with pytest.raises(UserError, match="model.onnx, which ONNX Runtime runs: unusable .* in the new process only, or .* 'spawn'"):
            estimator(image, BOX)

    if hasattr(os, "fork"):
        assert os.waitpid(in_a_child(work), 0)[1] == 0


def test_the_demo_runs_onnx_as_network_and_as_detector(run, lively, images, tmp_path):
    image, output = min(images.iterdir()), tmp_path / "demo"
    networks = ("--checkpoint", lively("simple_baselines", "model.onnx"), "--detector", lively("tiny", "model.onnx"))
    ended = run("demo_image.py", *networks, "--detector-score", "0", "--min-score", "0", "--input", image, "--output", output)
    assert ended.status == 0, ended.err
    assert json.loads((output / f"{image.name}.json").read_text())["people"]


def test_the_command_reports_the_difference_and_exports_float32(run, lively, tmp_path):
    output = tmp_path / "new folder" / "model.ONNX"
    ended = run(EXPORT, "--checkpoint", lively("tiny"), "--output", output, "inference.precision=bfloat16")
    assert ended.status == 0, ended.err
    assert "from images of 32 x 48 to heatmaps" in ended.out and "largest difference from PyTorch" in ended.out
    assert [path.name for path in output.parent.iterdir()] == ["model.ONNX"]
    assert config_for(output).inference.precision == "float32"


# The runner without PyTorch


@pytest.mark.parametrize("system", ["simplepose", "dekr", "simple_baselines"])
def test_the_runner_predicts_the_same_people_without_pytorch_and_pydantic(lively, images, tmp_path, system):
    """In a process in which neither can be imported."""
    network, paths = lively(system, "model.onnx" if system == "simplepose" else "people.onnx"), sorted(images.iterdir())[:2]
    code = f"""
import runpy, sys
sys.modules |= dict.fromkeys(["torch", "pydantic", "PIL", "yaml", "scipy"])
sys.path[0] = {str(ROOT)!r}
from deploy.runner import PoseRunner, main
import cv2, numpy
runner = PoseRunner(sys.argv[1])
for number, path in enumerate(sys.argv[2:]):
    numpy.savez(f"{{number}}.npz", **runner(cv2.imread(path), numpy.array({BOX.tolist()}))._asdict())
sys.argv[1:] = ["--min-score", "0", *(["--detector", sys.argv[1]] if not runner.needs_boxes else []), *sys.argv[1:]]
main() if not runner.needs_boxes else None
"""
    ended = subprocess.run([sys.executable, "-c", code, network, *paths], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    boxes = [BOX] * len(paths) if system == "simple_baselines" else None
    estimator = PoseEstimator(config_for(lively(system)), lively(system), "cpu", min_score=0)
    for number, expected in enumerate(estimator.batch(list(map(read_image, paths)), boxes)):
        people = np.load(tmp_path / f"{number}.npz")
        assert len(expected) > 0
        np.testing.assert_allclose(people["keypoints"], expected.keypoints, atol=0.05)
        np.testing.assert_allclose(people["scores"], expected.scores, atol=1e-3)
        np.testing.assert_allclose(people["boxes"], expected.boxes, atol=0.1)
        if system != "simple_baselines":
            of_image = json.loads(ended.stdout.splitlines()[number])
            assert of_image["image"] == str(paths[number])
            assert [person["score"] for person in of_image["people"]] == np.round(people["scores"].astype(float), 4).tolist()


def test_the_runner_assigns_by_the_target_maps_of_the_network(lively, monkeypatch):
    """Their sizes in map pixels change few keypoints, those at the border."""
    runner, given = PoseRunner(lively("simplepose", "model.onnx")), []
    monkeypatch.setattr("deploy.runner.assign_people", lambda *values: given.append(values[5:]) or (np.zeros((0, 18, 3)), np.zeros(0)))
    runner(np.zeros((64, 64, 3), np.uint8))
    assert given == [config_of("simplepose").targets.on_maps]


def test_the_demo_runs_an_exported_network_without_pytorch(lively, images, tmp_path):
    """Bottom-up, and top-down with an exported detector; a process in which PyTorch cannot be imported, and threads open the networks."""
    image = min(images.iterdir())
    code = f"""
import runpy, sys, threading, onnxruntime
open_session = onnxruntime.InferenceSession
onnxruntime.InferenceSession = lambda *args: print(threading.current_thread().name) or open_session(*args)
sys.modules["torch"] = None
sys.path[0] = {str(ROOT)!r}
runpy.run_path({str(ROOT / "demo_image.py")!r}, run_name="__main__")
"""
    for name, more in (
        (lively("simplepose", "model.onnx"), ()),
        (lively("simple_baselines", "people.onnx"), ("--detector", lively("dekr", "people.onnx"), "--detector-score", "0")),
    ):
        command = ("--checkpoint", name, *more, "--input", image, "--output", tmp_path / "demo", "--min-score", "0", "--track")
        ended = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("ThreadPoolExecutor-") == 1 + bool(more) and "MainThread" not in ended.stdout
        assert json.loads((tmp_path / "demo" / f"{image.name}.json").read_text())["people"]


def test_a_file_that_the_command_itself_writes_is_opened(lively, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sessions.begin_to_open(["export", "--output", "model.onnx"])
    assert wait(sessions._opening.values(), timeout=60).not_done == set()
    shutil.copy(lively("tiny", "model.onnx"), "model.onnx")
    assert sessions.open_session("model.onnx").get_inputs()


def test_networks_and_images_that_the_runner_cannot_take_are_errors(fails, lively, images, tmp_path):
    (tmp_path / "other.onnx").write_bytes(b"no ONNX")
    for path, message in (
        (lively("dekr", "model.onnx"), "maps of system 'dekr' cannot be decoded here; .* --decode"),
        (tmp_path / "other.onnx", "other.onnx: cannot be read"),
        (tmp_path / "none.onnx", "network .*none.onnx: not found; check its path"),
    ):
        with pytest.raises(UserError, match=message):
            PoseRunner(path)
    with pytest.raises(UserError, match="needs person boxes; name a bottom-up network with --detector"):
        PoseRunner(lively("simple_baselines", "people.onnx"))(np.zeros((64, 64, 3), np.uint8))
    old = onnx.load(lively("dekr", "people.onnx"))
    for axis, side in ((2, 64), (3, 64)):  # as graphs that did not pad
        old.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side
    onnx.save(old, tmp_path / "old.onnx")
    with pytest.raises(UserError, match=r"old.onnx: cannot take an input of 64 x 43 pixels \(.*\); export the network with"):
        PoseRunner(tmp_path / "old.onnx")(np.zeros((90, 60, 3), np.uint8))
    (tmp_path / "cut.jpg").write_bytes(min(images.iterdir()).read_bytes()[:500])
    (tmp_path / "empty.jpg").touch()
    for name, problem in (
        ("cut", "cannot be decoded; replace"),
        ("empty", "cannot be decoded; replace"),
        ("none", "not found; check its path"),
    ):
        assert f"{name}.jpg: {problem}" in fails("deploy/runner.py", lively("dekr", "people.onnx"), tmp_path / f"{name}.jpg")
    assert "--min-score nan: expected at least 0" in fails("deploy/runner.py", "any.onnx", "any.jpg", "--min-score", "nan")


# Errors


def test_people_as_outputs_need_a_graph_that_can_hold_the_decoding(fails, lively, tmp_path):
    for system, name, overrides, message in (
        ("simplepose", "model.onnx", (), "--decode: system 'simplepose' is decoded outside of the network; omit it"),
        ("dekr", "model.onnx", ("inference.match=true",), "--decode: not with inference.match"),
        ("dekr", "model.onnx", ("inference.scales=[1,2]",), "--decode: the graph takes one scale"),
        ("dekr", "model.pt2", (), "--decode: not for .pt2"),
    ):
        assert message in fails(EXPORT, "--checkpoint", lively(system), "--output", tmp_path / name, "--decode", *overrides)
    with pytest.raises(UserError, match="people.onnx: was exported with --decode"):
        PoseEstimator(lively("dekr", "people.onnx"))


@pytest.mark.parametrize(
    ("system", "overrides", "message"),
    [
        ("dekr", ["skeleton=crowdpose"], "skeleton.keypoints"),
        ("dekr", ["model.backbone=elsewhere.pth", "data.input_size=[96, 96]"], None),  # initial weights do not matter
        ("simple_baselines", ["model.deconv_channels=4"], "model.deconv_channels 8, the configuration has 4"),
        ("simple_baselines", ["data.input_size=[96, 64]"], r"data.input_size \[64, 32\], the configuration has \[96, 64\]"),
        ("tiny", ["inference.precision=bfloat16"], "inference.precision float32"),
    ],
)
def test_overrides_that_need_another_network_are_refused(lively, system, overrides, message):
    network = lively(system, "model.onnx")
    with pytest.raises(UserError, match=f"was exported with {message}") if message else nullcontext():
        PoseEstimator(config_for(network, overrides=overrides), network)
    with pytest.raises(UserError, match=f"was exported with system {system}, the configuration has simplepose"):
        PoseEstimator(config_of("simplepose"), network)


def test_unreadable_and_foreign_onnx_files_are_errors_of_one_line(lively, tmp_path):
    whole = lively("tiny", "model.onnx").read_bytes()
    foreign = onnx.load_from_string(whole)
    del foreign.metadata_props[:]
    contents = {"cut": whole[: len(whole) // 2], "empty": b"", "other": b"no ONNX " * 9, "foreign": foreign.SerializeToString()}
    for name, content in contents.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        message = "holds no configuration of this project" if name == "foreign" else "cannot be read by ONNX Runtime"
        with pytest.raises(UserError, match=rf"{name}\.onnx: {message}") as error:
            config_for(path)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"nowhere\.onnx: not found"):
        config_for(tmp_path / "nowhere.onnx")


def test_an_exported_file_is_no_source_of_weights_and_other_exports_are_refused(fails, lively, tiny, tmp_path):
    train = ("train.py", "--config", tiny, "--output", tmp_path / "out")
    for name in ("model.onnx", "model.pt2"):
        assert "weights of an exported network cannot be loaded" in fails(*train, "--init", lively("tiny", name))
    export(load_config(tiny), None, tmp_path / "mine.safetensors")
    assert "start from it with --init" in fails(*train, "--resume", tmp_path / "mine.safetensors")
    for name, options, message in (
        ("model.pb", (), "unknown ending; known: .onnx, .pt2"),
        ("model.pt2", ("--half",), "--half: not for .pt2"),
        ("model.pt2", ("--int8",), "--int8: not for .pt2"),
    ):
        assert message in fails(EXPORT, "--checkpoint", lively("tiny"), "--output", tmp_path / name, *options)


def test_weights_too_large_for_float16_are_not_written(lively, tmp_path):
    """Not those either that only training needs, such as a coarse scale's."""
    content, name = read_checkpoint(lively("simplepose")), "stages.0.predictions.1.weight"
    content["weights"][name] = content["weights"][name] + 1e5
    save_checkpoint(tmp_path / "large.pth", **content)
    with pytest.raises(UserError, match=f"nothing was written: {name}"):
        export(config_of("simplepose"), tmp_path / "large.pth", tmp_path / "large.safetensors", half=True)
    assert not (tmp_path / "large.safetensors").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_missing_optional_packages_are_named(fails, lively, tmp_path, monkeypatch, package):
    network = lively("tiny", "model.onnx")
    monkeypatch.setitem(sys.modules, package, None)
    message = fails(EXPORT, "--checkpoint", lively("tiny"), "--output", tmp_path / "model.onnx")
    assert f"{package} is not installed" in message and "pip install onnx onnxruntime" in message
    with nullcontext() if package == "onnx" else pytest.raises(UserError, match="pip install onnxruntime"):
        config_for(network)  # inference needs ONNX Runtime alone


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="ONNX Runtime can use a GPU here")
def test_a_named_gpu_that_onnx_runtime_cannot_use_is_an_error(lively, monkeypatch):
    monkeypatch.setattr(checkpoints, "default_device", lambda name: torch.device("cuda", 0))
    network = lively("tiny", "model.onnx")
    assert PoseEstimator(checkpoint=network).network.device.type == "cpu"
    with pytest.raises(UserError, match="device 'cuda:0': the installed onnxruntime has none; "):
        PoseEstimator(config_for(network), network, "cuda:0")


@pytest.mark.parametrize("recipe", ["dekr_small", "simplepose_small", "simple_baselines_small"])
def test_movenets_networks_are_exported(recipe, tmp_path):
    """Their strided convolutions pad differently in a trace."""
    config = load_config(ROOT / "config" / f"{recipe}.yaml", ["model.width=0.25", "data.input_size=[64, 64]"])
    export(config, None, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").is_file()


@pytest.mark.skipif(cv2.__version__ < "5", reason="OpenCV 4 has fewer operators")
def test_opencv_runs_a_graph_that_decodes_people(tmp_path, monkeypatch):
    """It has no operators on integers that ONNX Runtime has."""
    monkeypatch.setattr(exporting, "compare", lambda *_: "not measured: people of random weights are equal but for rounding")
    config = load_config(ROOT / "config" / "dekr_small.yaml", ["model.width=0.25"])
    export(config, None, tmp_path / "people.onnx", decode=True)
    network = cv2.dnn.readNetFromONNX(str(tmp_path / "people.onnx"))
    network.setInput(np.zeros((1, 3, 70, 90), np.float32))
    people, count = (1, config.inference.max_people), config.skeleton.num_keypoints
    assert [output.shape for output in network.forward(network.getUnconnectedOutLayersNames())] == [(*people, count, 3), people]
