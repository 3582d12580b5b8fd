"""The published recipes, and what their systems refuse."""

from __future__ import annotations

import pytest
import torch
from places import ROOT

from config import UserError, load_config
from config.load import parse_config
from models import build_model

DEKR, SIMPLE_BASELINES = (ROOT / "config" / f"{name}.yaml" for name in ("dekr_w32_coco", "simple_baselines_r50_256x192"))


def test_simplepose():
    """Augmentation, targets, loss and network; assignment keys are our own."""
    c = load_config(ROOT / "config" / "simplepose_coco_512.yaml")
    a, t, m, i = c.augmentation, c.targets, c.model, c.inference
    assert (a.person_size, a.rotation, a.scale, a.scale_probability, a.shift, a.flip_probability) == (0.6, 40, (0.7, 1.3), 0.8, 50, 0.5)
    assert (a.hsv_probability, a.hue, a.saturation, a.value) == (0.2, (-10, 10), (-20, 60), (-20, 40))
    assert not any(
        value
        for key, value in a
        if key.endswith("_probability") and key not in ("flip_probability", "hsv_probability", "scale_probability")
    )
    assert (t.stride, t.keypoint_sigma, t.limb_sigma, t.threshold, t.limb_floor, t.limb_margin) == (4, 9, 7, 0.015, 0.01, 4)
    assert (c.loss.foreground, c.loss.keypoint_weight, c.loss.person_weight) == (0.01, 3, 0.1)
    assert (m.stages, m.channels, m.channels_increase, m.depth) == (4, 256, 128, 4)
    assert (i.max_size, i.pad_multiple, i.pad_value) == ((2600, 3800), 64, 128)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("w32_coco", (32, 32, 512, 10, 140, (90, 120), 1024, 0.9)),
        ("w48_coco", (48, 48, 640, 5, 140, (90, 120), 1024, 0.9)),
        ("w32_crowdpose", (32, 32, 512, 10, 300, (200, 260), 0, 0.8)),
        ("w48_crowdpose", (48, 48, 640, 5, 300, (200, 260), 0, 0.8)),
    ],
)
def test_dekr(name, expected):
    c = load_config(ROOT / "config" / f"dekr_{name}.yaml")
    found = c.model.width, c.model.heat_channels, c.data.input_size[0], c.train.batch_size, c.train.epochs, c.train.milestones
    assert (*found, c.targets.min_area, c.inference.scale_decay) == expected
    assert (c.skeleton.name, c.skeleton.num_keypoints) == (("crowdpose", 14) if "crowdpose" in name else ("coco17", 17))
    assert (c.train.optimizer, c.train.learning_rate, c.train.decay, c.train.weight_decay) == ("adam", 1e-3, 0.1, 0)
    assert (c.loss.heatmap_weight, c.loss.offset_weight, c.loss.beta) == (1, 0.03, pytest.approx(1 / 9))
    assert (c.augmentation.rotation, c.augmentation.scale, c.augmentation.shift) == (30, (0.75, 1.5), 40)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("r50_256x192", (50, (256, 192), 2)), ("r50_384x288", (50, (384, 288), 3)), ("r101_256x192", (101, (256, 192), 2)),
        ("r152_256x192", (152, (256, 192), 2)), ("r152_384x288", (152, (384, 288), 3)), ("r50_caffe_256x192", (50, (256, 192), 2)),
        ("r50_mpii_256x256", (50, (256, 256), 2)),
    ],
)  # fmt: skip
def test_simple_baselines(name, expected):
    c, of_mpii = load_config(ROOT / "config" / f"simple_baselines_{name}.yaml"), "mpii" in name
    assert (c.model.depth, c.data.input_size, c.targets.sigma) == expected
    assert (c.skeleton.name, c.skeleton.num_keypoints, c.data.clean_boxes) == (("mpii", 16, False) if of_mpii else ("coco17", 17, True))
    assert (c.model.style, c.model.channel_order, c.model.deconv_channels) == ("caffe" if "caffe" in name else "pytorch", "bgr", 256)
    assert (c.train.optimizer, c.train.learning_rate, c.train.weight_decay, c.train.batch_size) == ("adam", 1e-3, 0, 32)
    assert (c.train.epochs, c.train.milestones, c.train.decay, c.train.warmup_epochs) == (140, (90, 120), 0.1, 0)
    assert (c.train.scale_rate_by_processes, c.train.max_loss) == (False, None)
    a, i = c.augmentation, c.inference
    assert (a.scale, a.rotation, a.rotation_probability, a.flip_probability) == (0.3, 40, 0.6, 0.5)
    assert (i.flip, i.subpixel, i.keypoint_threshold, i.nms_threshold) == (True, "parabola", 0.2, 0.9)


def test_networks_of_mmpose():
    """Only the keys of their own; the rest is as in the published recipes of the same name."""
    of_mmpose = {path.stem.removesuffix("_mmpose"): load_config(path) for path in (ROOT / "config").glob("*_mmpose.yaml")}
    found = {}
    for name, c in of_mmpose.items():
        if c.system == "dekr":
            i = c.inference
            keys = i.exact_resize, i.pad_multiple, i.flip_shift, i.center_window, i.keypoint_heat, i.nms_order
            assert keys == (True, 32, "maps", 5, "bilinear", "heat")
            found[name] = c.model.width, c.model.heat_channels, *c.data.input_size, c.skeleton.name, c.inference.scale_decay
        else:
            assert (c.model.channel_order, c.inference.subpixel, c.data.clean_boxes) == (
                "rgb",
                "quarter_by_axis",
                c.skeleton.name != "mpii",
            )
            found[name] = c.model.depth, *c.data.input_size, c.skeleton.name, c.targets.sigma
    assert found == {
        "dekr_w32_coco": (32, 32, 512, 512, "coco17", 0.9),
        "dekr_w48_coco": (48, 48, 640, 640, "coco17", 0.9),
        "dekr_w32_crowdpose": (32, 32, 512, 512, "crowdpose", 0.8),
        "dekr_w48_crowdpose": (48, 48, 640, 640, "crowdpose", 0.8),
        "simple_baselines_r50_256x192": (50, 256, 192, "coco17", 2),
        "simple_baselines_r50_384x288": (50, 384, 288, "coco17", 3),
        "simple_baselines_r101_256x192": (101, 256, 192, "coco17", 2),
        "simple_baselines_r152_256x192": (152, 256, 192, "coco17", 2),
        "simple_baselines_r152_384x288": (152, 384, 288, "coco17", 3),
        "simple_baselines_r50_mpii_256x256": (50, 256, 256, "mpii", 2),
        "simple_baselines_r101_mpii_256x256": (101, 256, 256, "mpii", 2),
        "simple_baselines_r152_mpii_256x256": (152, 256, 256, "mpii", 2),
        "simple_baselines_r50_crowdpose_256x192": (50, 256, 192, "crowdpose", 2),
        "simple_baselines_r101_crowdpose_256x192": (101, 256, 192, "crowdpose", 2),
        "simple_baselines_r101_crowdpose_320x256": (101, 320, 256, "crowdpose", 2),
        "simple_baselines_r152_crowdpose_256x192": (152, 256, 192, "crowdpose", 2),
    }


def test_the_defaults_of_simple_baselines_are_published():
    """But for half precision and the data."""
    recipe = load_config(SIMPLE_BASELINES, ["train.precision=float32"])
    data = {"train": recipe.data.train, "val": recipe.data.val}
    assert parse_config({"system": "simple_baselines", "skeleton": "coco17", "data": data}, "defaults") == recipe


def test_the_recipes_of_simple_baselines_build_networks_of_stride_4():
    recipes = map(load_config, (ROOT / "config").glob("simple_baselines_*.yaml"))
    for model, config in {repr(config.model): config for config in recipes}.items():
        height, width = config.data.input_size
        with torch.device("meta"):
            maps = build_model(config)(torch.zeros(2, 3, height, width))
        assert maps.shape == (2, config.skeleton.num_keypoints, height // 4, width // 4), model


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        (DEKR, ["data.input_size=[64, 96]"], "data.input_size: 64 x 96 must be square"),
        (DEKR, ["data.input_size=[80, 80]"], "data.input_size: 80 x 80 must be a multiple of 32"),
        (DEKR, ["inference.pad_multiple=48"], "inference.pad_multiple: 48 must be a multiple of 32"),
        (DEKR, ["inference.scales=[0.5, 2]"], "inference.scales: [0.5, 2.0] must hold 1"),
        (SIMPLE_BASELINES, ["data.input_size=[100, 64]"], "data.input_size: 100 x 64 must be a multiple of 32"),
        (SIMPLE_BASELINES, ["model.depth=10", "model.style=caffe"], "model.style: a ResNet of 10 layers has no bottlenecks"),
    ],
)
def test_invalid_overrides_are_refused(recipe, overrides, message):
    with pytest.raises(UserError) as error:
        load_config(recipe, overrides)
    assert message in str(error.value)
