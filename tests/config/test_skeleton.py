"""Skeletons: the orders that follow from names, midpoints, and contradictions."""

import math

import numpy as np
import pytest
import yaml
from places import ROOT

from config import UserError, load_config
from config.load import load_skeleton
from config.skeleton import OCCLUDED, UNLABELED, VISIBLE
from config.systems.simplepose_channels import Channels

SPEC_FLIP = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16, 18, 19]
SPEC_FLIP_LIMBS = [0, 2, 1, 4, 3, 6, 5, 8, 7, 12, 13, 14, 9, 10, 11, 18, 19, 20, 15, 16, 17, 22, 21, 25, 26, 23, 24, 28, 27, 29]
HAND = {
    "name": "hand",
    "keypoints": ["palm", "thumb", "finger"],
    "limbs": [["palm", "thumb"], ["palm", "finger"]],
    "flip_pairs": [],
    "sigmas": {"palm": 0.1, "thumb": 0.1, "finger": 0.1},
    "dataset": {"p": "palm", "t": "thumb", "f": "finger"},
}


def test_flip_orders_follow_from_names():
    assert Channels(load_skeleton("coco")).flip.tolist() == [*SPEC_FLIP_LIMBS, *(30 + k for k in SPEC_FLIP)]


def test_a_midpoint_is_labeled_if_both_ends_are_and_visible_if_both_are():
    s = load_skeleton("coco")
    joints = np.full((1, 17, 3), (0, 0, UNLABELED), np.float32)
    joints[0, 5], joints[0, 6], joints[0, 9] = (10, 20, VISIBLE), (30, 40, OCCLUDED), (1, 2, VISIBLE)
    ours = s.from_dataset(joints)
    assert ours[0, s.index("neck")].tolist() == [20, 30, OCCLUDED]
    assert ours[0, s.index("Lsho")].tolist() == [10, 20, VISIBLE]
    assert np.array_equal(s.to_dataset(ours), joints)
    joints[0, 6, 2] = UNLABELED
    assert s.from_dataset(joints)[0, s.index("neck")].tolist() == [0, 0, UNLABELED]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"limbs": [["palm", "toe"]]}, "'toe' is not one of the keypoints"),
        ({"limbs": [["palm", "palm"]]}, "limb palm-palm has no two ends"),
        ({"limbs": [["palm", "thumb"], ["thumb", "palm"]]}, "limbs: 'palm-thumb' is listed twice"),
        ({"keypoints": ["palm", "thumb", "finger", "palm"]}, "keypoints: 'palm' is listed twice"),
        ({"flip_pairs": [["thumb", "palm"]]}, "no mirror image"),
        ({"flip_pairs": [["thumb", "finger"], ["palm", "thumb"]]}, "flip_pairs: 'thumb' is listed twice"),
        ({"sigmas": {"palm": 0.1}}, "sigmas lacks 'thumb'"),
        ({"sigmas": {**HAND["sigmas"], "palm": math.nan}}, "sigmas.palm: expected a finite number"),
        ({"dataset": {"p": "palm"}}, "'thumb' is neither in dataset nor in midpoints"),
        ({"dataset": {**HAND["dataset"], "q": "palm"}}, "dataset and midpoints: 'palm' is listed twice"),
        ({"dataset": {"t": "thumb"}, "midpoints": {"palm": ["thumb", "finger"], "finger": ["thumb", "thumb"]}}, "midpoint 'palm': its"),
    ],
)
def test_a_contradictory_skeleton_is_one_line(tmp_path, changes, problem):
    path = tmp_path / "hand.yaml"
    path.write_text(yaml.safe_dump({**HAND, **changes}))
    with pytest.raises(UserError) as error:
        load_skeleton(str(path))
    assert str(path) in str(error.value) and problem in str(error.value)


def test_index_arrays_of_an_own_skeleton_follow_from_names(tmp_path):
    path = tmp_path / "hand.yaml"
    for drawn, expected in (([], [[0, 1], [0, 2]]), ([["finger", "thumb"]], [[2, 1]])):
        path.write_text(yaml.safe_dump({**HAND, "drawn": drawn, "dataset": {"f": "finger", "p": "palm", "t": "thumb"}}))
        skeleton = load_skeleton(str(path))
        assert (skeleton.limb_ends.tolist(), skeleton.drawn_ends.tolist()) == ([[0, 1], [0, 2]], expected)
    assert skeleton.to_dataset(np.arange(9).reshape(1, 3, 3))[0, :, 0].tolist() == [6, 0, 3]
    assert load_config(ROOT / "config" / "simplepose_coco_512.yaml", [f"skeleton={path}"]).channels.count == 7
    coco = load_skeleton("coco17")
    assert coco.oks_sigmas.tolist() == [coco.sigmas[name] for name in coco.keypoints]
