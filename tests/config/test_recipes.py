"""The published recipes, and what their systems refuse."""

import re

import pytest
from places import ROOT

from config import UserError, load_config
from config.load import parse_config

DEKR, SIMPLE_BASELINES = (ROOT / "config" / f"{name}.yaml" for name in ("dekr_w32_coco", "simple_baselines_r50_256x192"))


def test_simplepose():
    """Augmentation, targets, loss and network; assignment keys are our own."""
    c = load_config(ROOT / "config" / "simplepose_coco_512.yaml")
    a, t, m, i = c.augmentation, c.targets, c.model, c.inference
    assert (a.person_size, a.rotation, a.scale, a.scale_probability, a.shift, a.flip_probability) == (0.6, 40, (0.7, 1.3), 0.8, 50, 0.5)
    assert (a.hsv_probability, a.hue, a.saturation, a.value) == (0.2, (-10, 10), (-20, 60), (-20, 40))
    published = {f"{key}_probability" for key in ("flip", "hsv", "scale")}
    assert not any(value for key, value in a if key.endswith("_probability") and key not in published)
    assert (t.stride, t.keypoint_sigma, t.limb_sigma, t.threshold, t.limb_floor, t.limb_margin) == (4, 9, 7, 0.015, 0.01, 4)
    assert (c.loss.foreground, c.loss.keypoint_weight, c.loss.person_weight) == (0.01, 3, 0.1)
    assert (m.stages, m.channels, m.channels_increase, m.depth) == (4, 256, 128, 4)
    assert (i.max_size, i.pad_multiple, i.pad_value) == ((2600, 3800), 64, 128)


def recipes(pattern: str, count: int) -> pytest.MarkDecorator:
    """Run a test with each recipe of these names."""
    paths = sorted((ROOT / "config").glob(pattern))
    assert len(paths) == count
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


@recipes("dekr_w*.yaml", 8)
def test_dekr(path):
    """A recipe's name tells the width and the data set. MMPose's differ in inference alone."""
    c, is_wide, of_crowdpose = load_config(path), "w48" in path.stem, "crowdpose" in path.stem
    found = c.model.width, c.model.heat_channels, *c.data.input_size, c.train.batch_size
    assert found == ((48, 48, 640, 640, 5) if is_wide else (32, 32, 512, 512, 10))
    found = c.skeleton.name, c.train.epochs, c.train.milestones, c.targets.min_area, c.inference.scale_decay
    assert found == (("crowdpose", 300, (200, 260), 0, 0.8) if of_crowdpose else ("coco17", 140, (90, 120), 1024, 0.9))
    assert (c.train.optimizer, c.train.learning_rate, c.train.decay, c.train.weight_decay) == ("adam", 1e-3, 0.1, 0)
    assert (c.loss.heatmap_weight, c.loss.offset_weight, c.loss.beta) == (1, 0.03, pytest.approx(1 / 9))
    assert (c.augmentation.rotation, c.augmentation.scale, c.augmentation.shift) == (30, (0.75, 1.5), 40)
    i, of_mmpose = c.inference, path.stem.endswith("_mmpose")
    found = i.exact_resize, i.pad_multiple, i.flip_shift, i.center_window, i.keypoint_heat, i.nms_order
    assert (found == (True, 32, "maps", 5, "bilinear", "heat")) == of_mmpose


@recipes("simple_baselines_r*.yaml", 19)
def test_simple_baselines(path):
    """A recipe's name tells depth, data set and input size. MMPose's take RGB and another way between pixels."""
    name = r"simple_baselines_r(\d+)(_caffe)?(?:_(mpii|crowdpose))?_(\d+)x(\d+)(_mmpose)?"
    depth, caffe, data, height, width, of_mmpose = re.fullmatch(name, path.stem).groups()
    c, skeleton = load_config(path), data or "coco17"
    assert (c.model.depth, c.data.input_size, c.targets.sigma) == (int(depth), (int(height), int(width)), 3 if height == "384" else 2)
    assert (c.skeleton.name, c.data.clean_boxes) == (skeleton, skeleton != "mpii")
    assert (c.model.style, c.model.deconv_channels) == ("caffe" if caffe else "pytorch", 256)
    assert (c.model.channel_order, c.inference.subpixel) == (("rgb", "quarter_by_axis") if of_mmpose else ("bgr", "parabola"))
    assert (c.train.optimizer, c.train.learning_rate, c.train.weight_decay, c.train.batch_size) == ("adam", 1e-3, 0, 32)
    assert (c.train.epochs, c.train.milestones, c.train.decay, c.train.warmup_epochs) == (140, (90, 120), 0.1, 0)
    assert (c.train.scale_rate_by_processes, c.train.max_loss) == (False, None)
    a, i = c.augmentation, c.inference
    assert (a.scale, a.rotation, a.rotation_probability, a.flip_probability) == (0.3, 40, 0.6, 0.5)
    assert (i.flip, i.keypoint_threshold, i.nms_threshold) == (True, 0.2, 0.9)


def test_the_defaults_of_simple_baselines_are_published():
    """But for half precision and the data."""
    recipe = load_config(SIMPLE_BASELINES, ["train.precision=float32"])
    data = {"train": recipe.data.train, "val": recipe.data.val}
    assert parse_config({"system": "simple_baselines", "skeleton": "coco17", "data": data}, "defaults") == recipe


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        (DEKR, ["data.input_size=[64, 96]"], "data.input_size: 64 x 96 must be square"),
        (DEKR, ["data.input_size=[80, 80]"], "data.input_size: 80 x 80 must be a multiple of 32"),
        (DEKR, ["inference.pad_multiple=48"], "inference.pad_multiple: 48 must be a multiple of 32"),
        (DEKR, ["inference.scales=[0.5, 2]"], "inference.scales: [0.5, 2.0] must hold 1"),
        (SIMPLE_BASELINES, ["inference.scales=[1, 0.5]"], "inference.scales.1: input should be greater than or equal to 1, got 0.5"),
        (SIMPLE_BASELINES, ["data.input_size=[100, 64]"], "data.input_size: 100 x 64 must be a multiple of 32"),
        (SIMPLE_BASELINES, ["model.depth=10", "model.style=caffe"], "model.style: a ResNet of 10 layers has no bottlenecks"),
    ],
)
def test_invalid_overrides_are_refused(recipe, overrides, message):
    with pytest.raises(UserError) as error:
        load_config(recipe, overrides)
    assert message in str(error.value)
