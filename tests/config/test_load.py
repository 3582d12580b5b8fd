"""Configuration: typos, wrong types, overrides, and files of an earlier version."""

from pathlib import Path

import pytest
import yaml
from places import ROOT

from config import UserError, load_config
from config.load import parse_config
from config.section import ConfigSection

CONFIGS = sorted((ROOT / "config").glob("*.yaml"))
PUBLISHED = ROOT / "config" / "simplepose_coco_512.yaml"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_configuration_loads(path):
    name = "simplepose" if path.stem in ("quickstart", "finetune") else path.stem
    config = load_config(path)
    assert name.startswith(config.system)
    assert not config.train.compile, "its first step takes minutes on a CPU"


def test_overrides_are_typed():
    overrides = ["train.batch_size=2", "inference.scales=[0.5, 1]", "data.train=a b/x.h5", "train.learning_rate=1e-5"]
    c = load_config(PUBLISHED, [*overrides, "train.channels_last=false", "targets.keypoint_sigma=5", "targets.limb_margin=6"])
    assert (c.train.batch_size, c.inference.scales, c.data.train, c.train.learning_rate) == (2, (0.5, 1.0), Path("a b/x.h5"), 1e-5)
    assert c.train.channels_last is False and c.targets.on_maps == (1.25, 1.5)


def test_a_file_inherits_the_keys_of_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text(f"base: {PUBLISHED}\ntrain: {{batch_size: 2, epochs: 5}}\ninference: {{scales: [0.5, 1]}}\n")
    (folder := tmp_path / "mine").mkdir()
    (folder / "mine.yaml").write_text("base: ../base.yaml\ntrain: {batch_size: 3}\ninference: {scales: [1]}\n")
    expected = load_config(PUBLISHED, ["train.batch_size=3", "train.epochs=5", "inference.scales=[1]"])
    assert load_config(folder / "mine.yaml") == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("base: [a.yaml, b.yaml]", "mine.yaml: base: expected the path of a YAML file, got"),
        ("base: nowhere.yaml", "nowhere.yaml: not found"),
        ("base: mine.yaml", "mine.yaml: base: is a base of itself"),
        ("base:", "mine.yaml: base: expected the path of a YAML file, got None"),
    ],
)
def test_an_unusable_base_is_refused(tmp_path, text, problem):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        load_config(tmp_path / "mine.yaml")
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.batchsize=2", ["train.batchsize", "did you mean 'train.batch_size'"]),
        ("trian.epochs=2", ["trian", "did you mean 'train'"]),
        ("epochs=2", ["epochs", "did you mean 'train.epochs'"]),
        ("assignment.keypoint_sigma=2", ["unknown key 'assignment.keypoint_sigma'", "did you mean 'targets.keypoint_sigma'"]),
        ("train.batch_size=two", ["train.batch_size", "integer", "two"]),
        ("train.clip_norm=true", ["train.clip_norm", "true or false"]),
        ("augmentation.scale=[true, 2]", ["augmentation.scale", "true or false"]),
        ("augmentation.scale=[1.3, 0.7]", ["scale", "above"]),
        ("model.name=resnet", ["model.name", "imhn"]),
        ("system=hourglass", ["unknown system 'hourglass'", "known: simplepose, dekr"]),
        ("system=[1, 2]", ["unknown system [1, 2]"]),
        ("skeleton=cocoo", ["cocoo", "known skeletons: coco"]),
        ("data.input_size=[512, 512512]", ["data.input_size", "less than or equal to 8192"]),
        ("data.input_size=[500, 512]", ["data.input_size", "multiple of 64"]),
        ("model.depth=3", ["loss.scale_weights", "4 scales"]),
        ("inference.scales=[0]", ["inference.scales.0: input should be greater than 0, got 0"]),
        ("train.epochs", ["key=value"]),
        ("train.epochs.two=2", ["epochs is not a section"]),
    ],
)
def test_an_invalid_override_is_one_line_with_the_nearest_key(override, expected):
    with pytest.raises(UserError) as error:
        load_config(PUBLISHED, [override])
    message = str(error.value)
    assert "\n" not in message and "after validation" not in message  # pydantic misses a wrong item besides
    assert all(text in message for text in expected), message


def test_invalid_files_are_refused(tmp_path):
    path = tmp_path / "broken.yaml"
    for content, problem in ((None, "not found"), ("train: [", "not valid YAML"), ("- a\n- b\n", "expected keys and values")):
        if content:
            path.write_text(content)
        with pytest.raises(UserError, match=problem):
            load_config(path)


def test_a_section_made_of_its_own_values_is_the_same():
    sections = [section for section in vars(load_config(PUBLISHED)).values() if isinstance(section, ConfigSection)]
    assert len(sections) > 8
    assert [type(section)(**section.model_dump()) for section in sections] == sections


def test_configurations_of_an_earlier_version_load():
    """They had keys of the assignment that are gone, and no key `system`."""
    stored = load_config(PUBLISHED).model_dump(mode="json")
    del stored["system"], stored["data"]["train_weights"], stored["train"]["milestones"], stored["model"]["backbone"]
    stored["assignment"] |= {"keypoint_sigma": 7.5, "trace_margin": 3.0, "preset": "published", "published": {"limb_samples": 20}}
    before = yaml.safe_dump(stored)
    assert parse_config(stored, "stored") == load_config(PUBLISHED)
    assert yaml.safe_dump(stored) == before
