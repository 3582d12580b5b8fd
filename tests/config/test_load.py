"""Configuration: what a typo, a wrong type or another skeleton does."""

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from places import ROOT

from config import UserError, load_config
from config.load import load_skeleton, parse_config, with_overrides
from config.skeleton import HIDDEN, UNLABELLED, VISIBLE
from config.systems.simplepose import Channels

CONFIGS = sorted((ROOT / "config").glob("*.yaml"))
PUBLISHED = ROOT / "config" / "simplepose_coco_512.yaml"

SPEC_FLIP = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16, 18, 19]
SPEC_FLIP_LIMBS = [0, 2, 1, 4, 3, 6, 5, 8, 7, 12, 13, 14, 9, 10, 11, 18, 19, 20, 15, 16, 17, 22, 21, 25, 26, 23, 24, 28, 27, 29]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_configuration_loads(path):
    name = path.stem if path.stem != "quickstart" else "simplepose"
    assert name.startswith(load_config(path).system)


def test_published_recipe():
    c = load_config(PUBLISHED)
    assert (c.model.stages, c.model.channels, c.data.input_size, c.train.learning_rate) == (4, 256, (512, 512), 2.5e-5)
    assert c.loss.scale_weights == (0.1, 0.2, 0.4, 1.6, 6.4)


def test_overrides_are_typed():
    c = load_config(PUBLISHED, ["train.batch_size=2", "inference.scales=[0.5, 1]", "data.train=a b/x.h5", "train.learning_rate=1e-5"])
    assert (c.train.batch_size, c.inference.scales, c.data.train, c.train.learning_rate) == (2, (0.5, 1.0), Path("a b/x.h5"), 1e-5)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.batchsize=2", ["train.batchsize", "did you mean 'train.batch_size'"]),
        ("trian.epochs=2", ["trian", "did you mean 'train'"]),
        ("inference.scale=1", ["inference.scale", "did you mean 'inference.scales'"]),
        ("batch_size=2", ["batch_size", "did you mean 'train.batch_size'"]),
        ("train.batch_size=two", ["train.batch_size", "integer", "two"]),
        ("train.batch_size=0", ["train.batch_size", "greater than or equal to 1"]),
        ("train.batch_size=true", ["train.batch_size", "number", "True"]),
        ("model.name=resnet", ["model.name", "imhn"]),
        ("skeleton=cocoo", ["cocoo", "known skeletons: coco"]),
        ("data.input_size=[500, 512]", ["data.input_size", "multiples of 64"]),
        ("model.depth=3", ["loss.scale_weights", "4 scales"]),
        ("train.epochs", ["key=value"]),
        ("train.epochs.x=1", ["train.epochs"]),
        ("augmentation.scale=[1.3, 0.7]", ["scale", "above"]),
    ],
)
def test_wrong_override_is_one_clear_line(override, words):
    with pytest.raises(UserError) as error:
        load_config(PUBLISHED, [override])
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_wrong_files(tmp_path):
    with pytest.raises(UserError, match="not found"):
        load_config(tmp_path / "missing.yaml")
    path = tmp_path / "broken.yaml"
    path.write_text("train: [")
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(path)
    path.write_text("- a\n- b\n")
    with pytest.raises(UserError, match="expected keys and values"):
        load_config(path)


def test_resolved_configuration_loads_again(tmp_path):
    config = load_config(PUBLISHED, ["train.seed=7"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(path) == config
    assert with_overrides(config, ["train.seed=8"]).train.seed == 8


def test_configuration_is_frozen():
    with pytest.raises(Exception, match="frozen"):
        load_config(PUBLISHED).train.epochs = 3


def test_flip_orders_follow_from_names():
    s = load_skeleton("coco")
    assert (Channels(s).flip[30:] - 30).tolist() == SPEC_FLIP
    assert s.flip_limbs.tolist() == SPEC_FLIP_LIMBS


def test_dataset_order_and_neck():
    s = load_skeleton("coco")
    joints = np.zeros((1, 17, 3), np.float32)
    joints[..., 2] = UNLABELLED
    joints[0, 5], joints[0, 6], joints[0, 9] = (10, 20, VISIBLE), (30, 40, HIDDEN), (1, 2, VISIBLE)
    ours = s.from_dataset(joints)
    assert ours[0, s.index("neck")].tolist() == [20, 30, HIDDEN]
    assert ours[0, s.index("Lsho")].tolist() == [10, 20, VISIBLE]
    assert np.array_equal(s.to_dataset(ours), joints)
    joints[0, 6, 2] = UNLABELLED
    assert s.from_dataset(joints)[0, s.index("neck")].tolist() == [0, 0, UNLABELLED]


HAND = {
    "name": "hand",
    "keypoints": ["palm", "thumb", "finger"],
    "limbs": [["palm", "thumb"], ["palm", "finger"]],
    "flip_pairs": [],
    "sigmas": {"palm": 0.1, "thumb": 0.1, "finger": 0.1},
    "dataset": {"p": "palm", "t": "thumb", "f": "finger"},
}


def test_another_skeleton_is_a_yaml_file(tmp_path):
    path = tmp_path / "hand.yaml"
    path.write_text(yaml.safe_dump(HAND))
    assert load_config(PUBLISHED, [f"skeleton={path}"]).channels.count == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limbs": [["palm", "toe"]]}, "'toe' is not one of the keypoints"),
        ({"limbs": [["palm", "palm"]]}, "limb palm-palm has no two ends"),
        ({"limbs": [["palm", "thumb"], ["palm", "thumb"]]}, "limb 'palm-thumb' is listed twice"),
        ({"limbs": [["palm", "thumb"], ["thumb", "palm"]]}, "limb 'palm-thumb' is listed twice"),
        ({"keypoints": [], "limbs": [], "sigmas": {}, "dataset": {}}, "keypoints: tuple should have at least 1 item"),
        ({"keypoints": ["palm", "thumb", "finger", "palm"]}, "a keypoint is listed twice: 'palm'"),
        ({"flip_pairs": [["thumb", "palm"]]}, "no mirror image"),
        ({"flip_pairs": [["thumb", "thumb"]]}, "flip_pairs: 'thumb' stands there twice"),
        ({"flip_pairs": [["thumb", "finger"], ["palm", "thumb"]]}, "flip_pairs: 'thumb' stands there twice"),
        ({"sigmas": {"palm": 0.1}}, "sigmas lacks 'finger'"),
        *(({"sigmas": {**HAND["sigmas"], "palm": value}}, "sigmas.palm: input should be") for value in (0, -0.1, math.inf, math.nan)),
        ({"dataset": {"p": "palm"}}, "'finger' is neither in dataset nor in midpoints"),
        ({"dataset": {**HAND["dataset"], "q": "palm"}}, "'palm' stands there twice"),
        ({"midpoints": {"palm": ["thumb", "finger"]}}, "'palm' stands there twice"),
        ({"dataset": {"t": "thumb"}, "midpoints": {"palm": ["thumb", "finger"], "finger": ["thumb", "thumb"]}}, "midpoint 'palm': its"),
    ],
)
def test_a_skeleton_that_contradicts_itself_is_one_clear_line(tmp_path, changes, said):
    path = tmp_path / "hand.yaml"
    path.write_text(yaml.safe_dump({**HAND, **changes}))
    with pytest.raises(UserError) as error:
        load_skeleton(str(path))
    assert str(path) in str(error.value)
    assert said in str(error.value)


def test_training_files_are_one_or_several():
    one, two = load_config(PUBLISHED, ["data.train=a b.h5"]).data, load_config(PUBLISHED, ["data.train=[a.h5, b.h5]"]).data
    assert (one.train_files, two.train_files) == ((Path("a b.h5"),), (Path("a.h5"), Path("b.h5")))
    assert (one.model_dump(mode="json")["train"], two.model_dump(mode="json")["train"]) == ("a b.h5", ["a.h5", "b.h5"])
    assert load_config(PUBLISHED, ["data.val=null"]).data.val_files == ()


@pytest.mark.parametrize(
    "override", ["train.clip_norm=true", "augmentation.scale=[true, 2]", "train.milestones=[1, false]", "train.max_loss=true"]
)
def test_true_is_no_number_wherever_one_may_stand(override):
    with pytest.raises(UserError, match="input should be a number"):
        load_config(PUBLISHED, [override])


def test_true_is_true_where_that_is_asked_for():
    assert load_config(PUBLISHED, ["train.channels_last=true"]).train.channels_last


def test_what_follows_from_the_targets_is_no_key_of_the_assignment():
    config = load_config(PUBLISHED, ["targets.keypoint_sigma=5", "targets.limb_margin=6"])
    assert config.targets.on_maps == (1.25, 1.5)
    with pytest.raises(UserError, match="unknown key 'assignment.keypoint_sigma'; did you mean 'targets.keypoint_sigma'"):
        load_config(PUBLISHED, ["assignment.keypoint_sigma=2"])


def test_configurations_stored_by_an_earlier_version_load(tmp_path):
    """Which held those keys, and knew no systems but one."""
    stored = load_config(PUBLISHED).model_dump(mode="json")
    del stored["system"], stored["data"]["train_weights"], stored["train"]["milestones"], stored["model"]["backbone"]
    stored["assignment"] |= {"keypoint_sigma": 7.5, "trace_margin": 3.0, "preset": "published", "published": {"limb_samples": 20}}
    before = yaml.safe_dump(stored)
    (tmp_path / "stored.yaml").write_text(before)
    assert load_config(tmp_path / "stored.yaml") == load_config(PUBLISHED)
    assert parse_config(stored, "stored") == load_config(PUBLISHED)
    assert yaml.safe_dump(stored) == before


@pytest.mark.parametrize("system", ["hourglass", "3", "[1, 2]", "null"])
def test_an_unknown_system_is_told_before_its_keys(system):
    with pytest.raises(UserError, match=r"unknown system .*; known: simplepose, dekr"):
        load_config(PUBLISHED, [f"system={system}", "what.ever=1"])
