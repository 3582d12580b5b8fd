"""Exported networks compute what the checkpoint's network does, whoever runs them: ONNX Runtime, PyTorch, or the project's own scripts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lively import make_lively
from tiny_system import ENTRY, TinyNetwork
from torch import Tensor

from config import Config, UserError
from config.load import load_skeleton, parse_config
from config.systems import SYSTEMS
from config.version import VERSION
from data.images import read_image
from models import build_model
from utils import checkpoint as checkpoints
from utils import export as exporting
from utils.checkpoint import config_for, load_network, save_checkpoint
from utils.export import export
from utils.inference import PoseEstimator

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

EXPORT = "utils/export.py"
SMALL_HRNET = {"width": 4, "stem_width": 8, "modules": [1, 1, 1], "blocks": 1, "heat_channels": 5, "offset_channels": 3}
# What networks that have learned nothing say is taken at its faintest word
VALUES = {
    "simplepose": {
        "model": {"stages": 2, "channels": 16, "channels_increase": 0, "depth": 1},
        "data": {"input_size": [64, 64]},
        "loss": {"scale_weights": [1, 1]},
        "inference": {"pad_multiple": 8},
        "assignment": {"keypoint_threshold": 1e-4, "lone_threshold": 0, "max_peaks": 2},
    },
    "dekr": {"skeleton": "coco17", "model": SMALL_HRNET, "data": {"input_size": [64, 64]}, "inference": {"max_people": 5}},
    "simple_baselines": {"skeleton": "coco17", "model": {"depth": 10, "deconv_channels": 8}, "data": {"input_size": [64, 32]}},
    "tiny": {"skeleton": "coco17", "data": {"input_size": [32, 48]}},
}
ANSWERS = {"simplepose": ["maps"], "dekr": ["heatmaps", "offsets"], "simple_baselines": ["heatmaps"], "tiny": ["heatmaps"]}
SIZES = {"simplepose": (48, 80), "dekr": (96, 160), "simple_baselines": (64, 32), "tiny": (32, 48)}  # none of the check's where any will do
BOX = np.array([[20, 10, 60, 90], [40, 30, 50, 50.5]])


@pytest.fixture(scope="module", autouse=True)
def registered():
    SYSTEMS["tiny"] = ENTRY
    yield
    del SYSTEMS["tiny"]


def config_of(system: str) -> Config:
    return parse_config({"system": system, **VALUES[system]}, system)


@pytest.fixture(scope="module")
def lively(registered, tmp_path_factory):
    """Of each system a checkpoint of a network in which everything matters, and what was exported from it: a folder of three files."""
    folder, made = tmp_path_factory.mktemp("exported"), set()

    def of(system: str, name: str = "model.pth") -> Path:
        if (system, name) not in made:
            config = config_of(system)
            weights = build_model(config).state_dict()
            make_lively(weights, seed=1)
            path = folder / system / "model.pth"
            path.parent.mkdir(exist_ok=True)
            save_checkpoint(path, weights=weights, config=config.model_dump(mode="json"))
            if name != path.name:
                export(config, path, path.with_name(name))
            made.add((system, name))
        return folder / system / name

    return of


def wanted(checkpoint: Path, images: Tensor) -> tuple[Tensor, ...]:
    """PyTorch's answer."""
    with torch.no_grad():
        answers = load_network(config_for(checkpoint), checkpoint, "cpu").predict(images)
    return answers if isinstance(answers, tuple) else (answers,)


def assert_alike(found: tuple, answers: tuple[Tensor, ...]) -> None:
    assert len(found) == len(answers)
    for one, other in zip(found, answers):
        np.testing.assert_allclose(np.asarray(one), other, atol=2e-5 * other.abs().max().item())


# The files


@pytest.mark.parametrize("system", VALUES)
def test_onnx_runs_without_the_project(lively, system):
    session = onnxruntime.InferenceSession(lively(system, "model.onnx"), providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    assert (images.name, [answer.name for answer in session.get_outputs()]) == ("images", ANSWERS[system])
    for count in (1, 4):
        batch = torch.rand(count, 3, *SIZES[system])
        assert_alike(session.run(None, {"images": batch.numpy()}), wanted(lively(system), batch))


# PyTorch reasons about sizes for seconds where a network halves them often: DEKR's takes it a minute
@pytest.mark.parametrize("system", [pytest.param("simplepose", marks=pytest.mark.slow), "simple_baselines", "tiny"])
def test_a_pytorch_program_runs_without_the_project(lively, system):
    stored = {"simplepose.config": "", "simplepose.version": ""}
    program = torch.export.load(lively(system, "model.pt2"), extra_files=stored)
    assert json.loads(stored["simplepose.config"]) == config_of(system).model_dump(mode="json")
    assert stored["simplepose.version"] == VERSION
    for count in (1, 4):
        batch = torch.rand(count, 3, *SIZES[system])
        assert_alike(program.module()(batch), wanted(lively(system), batch))


def test_the_metadata_tell_everything(lively):
    stored = {entry.key: entry.value for entry in onnx.load(lively("simplepose", "model.onnx")).metadata_props}
    assert json.loads(stored["simplepose.skeleton"])["keypoints"] == list(load_skeleton("coco").keypoints)
    assert stored["simplepose.version"] == VERSION
    assert config_for(lively("simplepose", "model.onnx")) == config_of("simplepose")


def test_a_file_says_nothing_of_the_machine_that_wrote_it(lively):
    for name in ("model.onnx", "model.pt2"):
        assert str(Path(exporting.__file__).parents[1]).encode() not in lively("tiny", name).read_bytes()


# A trace takes the number of images for a constant; PyTorch's own programs have no number where a value of an image decides
@pytest.mark.parametrize("name", ["model.onnx", "model.pt2"])
def test_what_computes_something_else_is_not_written(fails, lively, tmp_path, monkeypatch, name):
    drawn = iter(range(100))
    monkeypatch.setattr(TinyNetwork, "predict", lambda self, images: self(images) + 0.01 * next(drawn))
    said = fails(EXPORT, "--checkpoint", lively("tiny"), "--output", tmp_path / name)
    assert "nothing was written: what was exported differs from PyTorch" in said
    assert "in heatmaps of up to" in said


# Running them


@pytest.mark.parametrize("system", VALUES)
def test_the_same_people_without_building_the_network(lively, images, system, monkeypatch):
    pictures = [read_image(path) for path in sorted(images.iterdir())[:3]]
    pictures.append(np.ascontiguousarray(pictures[0][:70]))
    ours, network = lively(system), lively(system, "model.onnx")
    config = config_for(ours)
    boxes = [BOX] * len(pictures) if system == "simple_baselines" else None
    expected = PoseEstimator(config, ours, "cpu").batch(pictures, boxes)
    monkeypatch.setattr(checkpoints, "build_model", None)
    found = PoseEstimator(config_for(network), network).batch(pictures, boxes)
    assert sum(len(scores) for _, scores in expected) >= len(pictures)
    assert_same_people(found, expected)


def assert_same_people(found: list, expected: list) -> None:
    assert [len(scores) for _, scores in found] == [len(scores) for _, scores in expected]
    for (keypoints, scores), (its_keypoints, its_scores) in zip(found, expected):
        np.testing.assert_allclose(keypoints[..., :2], its_keypoints[..., :2], atol=0.05)
        np.testing.assert_allclose(keypoints[..., 2], its_keypoints[..., 2], atol=1e-3)
        np.testing.assert_allclose(scores, its_scores, atol=1e-3)


@pytest.mark.parametrize("system", ["simplepose", "dekr"])
def test_the_same_people_in_photographs(shared, lively, system):
    photographs = sorted((shared / "data" / "media").glob("*.jpg"))[:3]
    if not photographs:
        pytest.skip("no photographs: there are none in the folder shared/data/media beside the project")
    config = config_for(lively(system))
    pictures = [read_image(path) for path in photographs]
    expected = PoseEstimator(config, lively(system), "cpu").batch(pictures)
    assert_same_people(PoseEstimator(config, lively(system, "model.onnx")).batch(pictures), expected)


def test_overrides_of_inference_count(lively, images):
    image, network = read_image(min(images.iterdir())), lively("simplepose", "model.onnx")
    with_flip, plain = (
        PoseEstimator(config_for(network, overrides=[f"inference.flip={flip}"]), network)(image)[1] for flip in (True, False)
    )
    expected = PoseEstimator(config_for(lively("simplepose"), overrides=["inference.flip=false"]), lively("simplepose"))(image)[1]
    np.testing.assert_allclose(plain, expected, atol=1e-3)
    assert len(plain) != len(with_flip) or not np.allclose(plain, with_flip, atol=1e-3)


def test_scripts_run_onnx(run, lively, annotations, images, tmp_path, monkeypatch):
    network, image = lively("simplepose", "model.onnx"), min(images.iterdir())
    monkeypatch.setattr(checkpoints, "build_model", None)
    ended = run("demo_image.py", "--checkpoint", network, "--input", image, "--output", tmp_path / "demo")
    assert ended.status == 0, ended.err
    assert json.loads((tmp_path / "demo" / f"{image.name}.json").read_text())["people"]
    where = ("--annotations", annotations, "--images", images, "--output", tmp_path / "out", "--limit", 2)
    ended = run("evaluate.py", "--checkpoint", network, *where, "--no-flip")
    assert ended.status == 0, ended.err
    assert json.loads((tmp_path / "out" / "detections.json").read_text())
    boxes = ("--checkpoint", lively("simple_baselines", "model.onnx"), "--detector", network, "--detector-score", "0")
    ended = run("demo_image.py", *boxes, "--input", image, "--output", tmp_path / "boxes")
    assert ended.status == 0, ended.err


def test_the_command_says_how_well_it_agrees(run, lively, tmp_path):
    ended = run(EXPORT, "--checkpoint", lively("tiny"), "--output", tmp_path / "new folder" / "model.ONNX", "inference.precision=bfloat16")
    assert ended.status == 0, ended.err
    assert "from images of 32 x 48 to heatmaps" in ended.out
    assert "largest difference from PyTorch" in ended.out
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["model.ONNX"]
    assert config_for(tmp_path / "new folder" / "model.ONNX").inference.precision == "float32"


# What is refused


@pytest.mark.parametrize(
    ("system", "override", "said"),
    [
        ("simplepose", "model.stages=1", "was exported with model.stages 2, the configuration has 1"),
        ("dekr", "skeleton=crowdpose", "was exported with skeleton.keypoints"),
        ("simple_baselines", "data.input_size=[96, 64]", r"was exported with data.input_size \[64, 32\], the configuration has \[96, 64\]"),
        ("simplepose", "inference.precision=bfloat16", "computes in float32; leave inference.precision=bfloat16 out"),
    ],
)
def test_another_network_is_a_clear_error(lively, system, override, said):
    network = lively(system, "model.onnx")
    with pytest.raises(UserError, match=said):
        PoseEstimator(config_for(network, overrides=[override]), network)


def test_where_training_began_does_not_matter(lively):
    network = lively("dekr", "model.onnx")
    PoseEstimator(config_for(network, overrides=["model.backbone=elsewhere.pth", "data.input_size=[96, 96]"]), network)


def test_another_system_is_a_clear_error(lively):
    with pytest.raises(UserError, match="was exported with system dekr, the configuration has simplepose"):
        PoseEstimator(config_of("simplepose"), lively("dekr", "model.onnx"))


@pytest.mark.parametrize("script", ["demo_image.py", EXPORT, "train.py"])
def test_files_that_cannot_be_run(fails, lively, tiny, annotations, images, tmp_path, script):
    """Damaged, cut short, of another origin, not there."""
    whole = lively("tiny", "model.onnx").read_bytes()
    foreign = onnx.load_from_string(whole)
    del foreign.metadata_props[:]
    contents = {"cut": whole[: len(whole) // 2], "empty": b"", "other": b"no ONNX " * 9, "foreign": foreign.SerializeToString()}
    for name, content in contents.items():
        (tmp_path / f"{name}.onnx").write_bytes(content)
    usual = {
        "demo_image.py": ("--input", images, "--output", tmp_path / "out", "--checkpoint"),
        EXPORT: ("--output", tmp_path / "out.onnx", "--checkpoint"),
        "train.py": ("--config", tiny, "--output", tmp_path / "out", "--init"),
    }[script]
    if script != "train.py":
        for name in ("cut", "empty", "other"):
            assert f"{name}.onnx: cannot be read by ONNX Runtime" in fails(script, *usual, tmp_path / f"{name}.onnx")
        assert "foreign.onnx: holds no configuration of this project" in fails(script, *usual, tmp_path / "foreign.onnx")
    if script != "demo_image.py":
        assert "weights cannot be taken" in fails(script, *usual, lively("tiny", "model.onnx"))
    assert "weights cannot be taken" in fails(script, *usual, lively("tiny", "model.pt2"))
    assert "nowhere.onnx: not found" in fails(script, *usual, tmp_path / "nowhere.onnx")


def test_outputs_that_cannot_be_written(fails, lively, tmp_path):
    def refused(output: Path, checkpoint: Path | None = None) -> str:
        return fails(EXPORT, "--checkpoint", checkpoint or lively("tiny"), "--output", output)

    assert "model.pb: unknown ending; known: .onnx, .pt2" in refused(tmp_path / "model.pb")
    (tmp_path / "folder.onnx").mkdir()
    assert "is a folder" in refused(tmp_path / "folder.onnx")
    assert "best.pth: not found" in refused(tmp_path / "model.onnx", tmp_path / "best.pth")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_optional_packages(fails, lively, images, tmp_path, monkeypatch, package):
    network = lively("tiny", "model.onnx")
    monkeypatch.setitem(__import__("sys").modules, package, None)
    said = fails(EXPORT, "--checkpoint", lively("tiny"), "--output", tmp_path / "model.onnx")
    assert f"{package} is not installed" in said
    assert "pip install onnx onnxruntime" in said
    if package == "onnxruntime":
        said = fails("demo_image.py", "--checkpoint", network, "--input", images, "--output", tmp_path / "out")
        assert "pip install onnxruntime" in said
    else:
        config_for(network)  # running takes ONNX Runtime alone


def test_a_gpu_that_onnx_runtime_cannot_use(lively, monkeypatch):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime can use a GPU here")
    monkeypatch.setattr(checkpoints, "default_device", lambda name: torch.device("cuda", 0))
    network = lively("tiny", "model.onnx")
    config = config_for(network)
    assert PoseEstimator(config, network).network.device.type == "cpu"
    with pytest.raises(UserError, match="device 'cuda:0': the installed onnxruntime has none; leave it out"):
        PoseEstimator(config, network, "cuda:0")
