"""Simple Baselines' configurations, and input that is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mpii_files import mpii_files, write_list
from places import ROOT

from config import load_config
from config.load import load_skeleton, parse_config
from data.coco_masks_hdf5 import build_hdf5
from models import build_model
from utils.checkpoint import save_checkpoint

RECIPES = {path.stem.removeprefix("simple_baselines_"): path for path in sorted((ROOT / "config").glob("simple_baselines_*.yaml"))}
SMALL = ("model.depth=10", "model.deconv_channels=8", "data.input_size=[64, 64]")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A network with initial weights."""
    path, config = tmp_path_factory.mktemp("initial") / "initial.pth", load_config(RECIPES["r50_256x192"], SMALL)
    save_checkpoint(path, weights=build_model(config).state_dict(), config=config.model_dump(mode="json"))
    return path


@pytest.fixture(scope="module")
def mpii(images, tmp_path_factory) -> tuple[Path, Path]:
    """valid.json, and the training HDF5 of it."""
    folder = tmp_path_factory.mktemp("mpii")
    file, built = write_list(folder / "valid.json", mpii_files(sorted(path.name for path in images.iterdir()))), folder / "people.h5"
    build_hdf5(file, images, built, load_skeleton("mpii"), workers=1)
    return file, built


@pytest.fixture
def train(fails, hdf5, tmp_path) -> Callable[..., str]:
    """Runs train.py on invalid input and returns its error."""
    usual = ("--config", RECIPES["r50_256x192"], "--output", tmp_path / "run", f"data.train={hdf5}", f"data.val={hdf5}", *SMALL)
    return lambda *more: fails("train.py", *usual, *more)


@pytest.fixture
def evaluate(fails, checkpoint, annotations, images, tmp_path) -> Callable[..., str]:
    """Runs evaluate.py on invalid input and returns its error."""

    def start(*more: object, file: Path = annotations, checkpoint: Path = checkpoint) -> str:
        usual = ("--annotations", file, "--images", images, "--output", tmp_path / "out")
        return fails("evaluate.py", "--checkpoint", checkpoint, *usual, *more)

    return start


# Configurations


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("r50_256x192", (50, (256, 192), 2)), ("r50_384x288", (50, (384, 288), 3)), ("r101_256x192", (101, (256, 192), 2)),
        ("r152_256x192", (152, (256, 192), 2)), ("r152_384x288", (152, (384, 288), 3)), ("r50_caffe_256x192", (50, (256, 192), 2)),
        ("r50_mpii_256x256", (50, (256, 256), 2)),
    ],
)  # fmt: skip
def test_published_recipes(name, expected):
    c, of_mpii = load_config(RECIPES[name]), "mpii" in name
    assert (c.model.depth, c.data.input_size, c.targets.sigma) == expected
    assert (c.skeleton.name, c.skeleton.num_keypoints, c.data.clean_boxes) == (("mpii", 16, False) if of_mpii else ("coco17", 17, True))
    assert (c.model.style, c.model.channel_order, c.model.deconv_channels) == ("caffe" if "caffe" in name else "pytorch", "bgr", 256)
    assert (c.train.optimizer, c.train.learning_rate, c.train.weight_decay, c.train.batch_size) == ("adam", 1e-3, 0, 32)
    assert (c.train.epochs, c.train.milestones, c.train.decay, c.train.warmup_epochs) == (140, (90, 120), 0.1, 0)
    assert (c.train.scale_rate_by_processes, c.train.max_loss) == (False, None)
    a = c.augmentation
    assert (a.scale, a.rotation, a.rotation_probability, a.flip_probability) == (0.3, 40, 0.6, 0.5)
    i = c.inference
    assert (i.flip, i.subpixel, i.keypoint_threshold, i.nms_threshold) == (True, "parabola", 0.2, 0.9)


def test_the_defaults_are_the_published_recipe():
    """But for half precision and the data."""
    recipe = load_config(RECIPES["r50_256x192"], ["train.precision=float32"])
    data = {"train": recipe.data.train, "val": recipe.data.val}
    assert parse_config({"system": "simple_baselines", "skeleton": "coco17", "data": data}, "defaults") == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_a_network(name):
    config = load_config(RECIPES[name])
    assert config.system == config.model.name == "simple_baselines"
    with torch.device("meta"):
        maps = build_model(config)(torch.zeros(2, 3, *config.data.input_size))
    height, width = config.data.input_size
    assert maps.shape == (2, config.skeleton.num_keypoints, height // 4, width // 4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.input_size=[100, 64]", "data.input_size: 100 x 64 must be a multiple of 32"),
        ("model.style=caffe", "model.style: a ResNet of 10 layers has no bottlenecks; caffe is for 50 and more"),
        ("model.backbone=timm", "there are no weights to be downloaded for this network; name a file"),
    ],
)
def test_invalid_overrides_are_refused(train, override, message):
    assert message in train(override)


# Mismatches


def test_missing_and_foreign_boxes_are_refused(fails, evaluate, checkpoint, annotations, images, tmp_path):
    demo = ("demo_image.py", "--checkpoint", checkpoint, "--input", images, "--output", tmp_path / "demo")
    assert "--detector" in fails(*demo)
    assert f"detector {checkpoint}: " in fails(*demo, "--detector", checkpoint)
    (tmp_path / "test-dev.json").write_text(json.dumps({"images": json.loads(annotations.read_text())["images"]}))
    assert "--boxes FILE" in evaluate(file=tmp_path / "test-dev.json")
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 10**6, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 1}]))
    assert "boxes.json: no box can be used: 1 of images that the annotation file does not list" in evaluate("--boxes", boxes)


def test_data_of_another_skeleton_is_refused(train, evaluate, mpii):
    file, built = mpii
    message = evaluate(file=file)
    assert f"annotation file {file}: its 16 keypoints and those of the skeleton 'coco17' overlap only in part" in message
    message = train(f"data.train={built}", f"data.val={built}")
    assert f"{built}: its 16 keypoints and those of the skeleton 'coco17' overlap only in part" in message and "skeleton=mpii" in message


def test_a_published_file_needs_its_recipe(run, evaluate, checkpoint, annotations, images, tmp_path):
    """Its tensors do not say what they were trained for."""
    path, weights = tmp_path / "pose_resnet.pth.tar", torch.load(checkpoint, weights_only=True)["weights"]
    torch.save({f"module.{name.removeprefix('trunk.')}": tensor for name, tensor in weights.items()}, path)
    assert f"checkpoint {path}: holds no configuration and is no known published checkpoint; add a configuration with --config" in evaluate(
        checkpoint=path
    )
    output = ("--output", tmp_path / "out", "--config", RECIPES["r50_256x192"], *SMALL)
    ended = run("evaluate.py", "--checkpoint", path, "--annotations", annotations, "--images", images, *output)
    assert ended.status == 0, ended.err
