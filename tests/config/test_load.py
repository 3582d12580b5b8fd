"""Configuration: typos, wrong types, overrides, and files of an earlier version."""

from pathlib import Path

import pytest
import yaml
from places import ROOT

from config import UserError, load_config
from config.load import parse_config

CONFIGS = sorted((ROOT / "config").glob("*.yaml"))
PUBLISHED = ROOT / "config" / "simplepose_coco_512.yaml"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_configuration_loads(path):
    name = path.stem if path.stem != "quickstart" else "simplepose"
    assert name.startswith(load_config(path).system)


def test_overrides_are_typed():
    c = load_config(PUBLISHED, ["train.batch_size=2", "inference.scales=[0.5, 1]", "data.train=a b/x.h5", "train.learning_rate=1e-5"])
    assert (c.train.batch_size, c.inference.scales, c.data.train, c.train.learning_rate) == (2, (0.5, 1.0), Path("a b/x.h5"), 1e-5)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.batchsize=2", ["train.batchsize", "did you mean 'train.batch_size'"]),
        ("trian.epochs=2", ["trian", "did you mean 'train'"]),
        ("epochs=2", ["epochs", "did you mean 'train.epochs'"]),
        ("train.batch_size=two", ["train.batch_size", "integer", "two"]),
        ("model.name=resnet", ["model.name", "imhn"]),
        ("skeleton=cocoo", ["cocoo", "known skeletons: coco"]),
        ("data.input_size=[500, 512]", ["data.input_size", "multiples of 64"]),
        ("model.depth=3", ["loss.scale_weights", "4 scales"]),
        ("train.epochs", ["key=value"]),
        ("augmentation.scale=[1.3, 0.7]", ["scale", "above"]),
    ],
)
def test_an_invalid_override_is_one_line_with_the_nearest_key(override, expected):
    with pytest.raises(UserError) as error:
        load_config(PUBLISHED, [override])
    message = str(error.value)
    assert "\n" not in message
    assert all(text in message for text in expected), message


def test_invalid_files_are_refused(tmp_path):
    path = tmp_path / "broken.yaml"
    for content, problem in ((None, "not found"), ("train: [", "not valid YAML"), ("- a\n- b\n", "expected keys and values")):
        if content:
            path.write_text(content)
        with pytest.raises(UserError, match=problem):
            load_config(path)


@pytest.mark.parametrize("override", ["train.clip_norm=true", "augmentation.scale=[true, 2]"])
def test_a_bool_is_no_number(override):
    with pytest.raises(UserError, match="input should be a number"):
        load_config(PUBLISHED, [override])
    assert load_config(PUBLISHED, ["train.channels_last=true"]).train.channels_last


def test_the_assignment_takes_sigma_and_margin_from_the_targets():
    config = load_config(PUBLISHED, ["targets.keypoint_sigma=5", "targets.limb_margin=6"])
    assert config.targets.on_maps == (1.25, 1.5)
    with pytest.raises(UserError, match="unknown key 'assignment.keypoint_sigma'; did you mean 'targets.keypoint_sigma'"):
        load_config(PUBLISHED, ["assignment.keypoint_sigma=2"])


def test_configurations_of_an_earlier_version_load(tmp_path):
    """They had keys of the assignment that are gone, and no key `system`."""
    stored = load_config(PUBLISHED).model_dump(mode="json")
    del stored["system"], stored["data"]["train_weights"], stored["train"]["milestones"], stored["model"]["backbone"]
    stored["assignment"] |= {"keypoint_sigma": 7.5, "trace_margin": 3.0, "preset": "published", "published": {"limb_samples": 20}}
    before = yaml.safe_dump(stored)
    (tmp_path / "stored.yaml").write_text(before)
    assert load_config(tmp_path / "stored.yaml") == load_config(PUBLISHED)
    assert parse_config(stored, "stored") == load_config(PUBLISHED)
    assert yaml.safe_dump(stored) == before


@pytest.mark.parametrize("system", ["hourglass", "[1, 2]"])
def test_an_unknown_system_is_reported_before_unknown_keys(system):
    with pytest.raises(UserError, match=r"unknown system .*; known: simplepose, dekr"):
        load_config(PUBLISHED, [f"system={system}", "what.ever=1"])
