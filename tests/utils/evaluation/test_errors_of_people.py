"""Errors of keypoints and people: each one made on purpose is called by its name, and costs what it costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from people import SKELETON

from utils.evaluation.details import Labelled, details_of
from utils.evaluation.errors import KINDS, find_errors, lost_precision, shortfalls
from utils.evaluation.matching import Scene, best_first, judge

LABELLED = Labelled.of(SKELETON, np.arange(17))
WRIST, OTHER_WRIST = (LABELLED.names.index(f"{side}_wrist") for side in ("left", "right"))
NOSE = LABELLED.names.index("nose")


def people(image_id: int = 1) -> Scene:
    """Two people, both found exactly, the first one's left ankle not labelled. No keypoint is near another one."""
    places = np.random.default_rng(image_id).permutation(20)[:17]
    one = np.stack([1 + 30 * (places % 5), 1 + 30 * (places // 5), np.full(17, 2)], 1).astype(float)
    joints = np.stack([one, one + [200, 0, 0]])
    joints[0, 15] = 0
    boxes = np.array([[0, 0, 100, 100], [200, 0, 100, 100]])
    nobody = np.zeros(2, bool)
    found = np.stack([one, one + [200, 0, 0]])
    return Scene(image_id, joints, np.full(2, 5000.0), boxes, nobody, nobody, found, np.array([0.9, 0.8]))


def moved(scene: Scene, row: int, keypoint: int, place: np.ndarray) -> Scene:
    poses = scene.poses.copy()
    poses[row, keypoint, :2] = place
    return replace(scene, poses=poses)


def kinds_of(scene: Scene) -> list[str]:
    found = find_errors(scene, LABELLED.sigmas, LABELLED.mirror)
    return ["" if kind < 0 else KINDS[kind] for kind in found.kinds.ravel()]


def at(scene: Scene, keypoint: int, likeness: float) -> np.ndarray:
    """A place beside the first person's keypoint where its own part of the OKS is as it is said."""
    reach = np.sqrt(-2 * np.log(likeness) * scene.areas[0]) * 2 * LABELLED.sigmas[keypoint]
    return scene.joints[0, keypoint, :2] + [reach, 0]


def test_people_found_exactly_have_no_errors():
    kinds = kinds_of(people())
    assert kinds == ["good"] * 15 + [""] + ["good"] * 18
    found = [find_errors(people(), LABELLED.sigmas, LABELLED.mirror)]
    assert set(lost_precision(found, LABELLED.sigmas).values()) == {0.0}
    assert shortfalls(found).tolist() == [0.0]


@pytest.mark.parametrize(("likeness", "kind"), [(0.86, "good"), (0.84, "jitter"), (0.51, "jitter")])
def test_how_near_is_near(likeness, kind):
    scene = people()
    assert kinds_of(moved(scene, 0, NOSE, at(scene, NOSE, likeness)))[NOSE] == kind


def test_each_error_by_its_name():
    scene = people()
    own, other = scene.joints
    for place, kind in (
        (own[OTHER_WRIST], "inversion"),
        (other[WRIST], "swap"),
        (other[OTHER_WRIST], "swap"),
        (own[NOSE], "miss"),  # another keypoint that is not the other side's
        (np.array([-900, -900, 0]), "miss"),
    ):
        kinds = kinds_of(moved(scene, 0, WRIST, place[:2]))
        assert kinds[WRIST] == kind
        assert set(kinds[:WRIST] + kinds[WRIST + 1 :]) == {"good", ""}


def test_a_keypoint_that_was_not_found_is_missed():
    """Also where the person stands in the picture's corner, whose coordinates are 0, 0 too."""
    scene = people()
    scene.joints[0, WRIST, :2] = 0
    scene.poses[0, WRIST] = 0
    assert kinds_of(scene)[WRIST] == "miss"


def test_what_nobody_labelled_at_the_other_side_is_no_inversion():
    scene = people()
    there = scene.joints[0, OTHER_WRIST, :2].copy()
    scene.joints[0, OTHER_WRIST] = 0
    assert kinds_of(moved(scene, 0, WRIST, there))[WRIST] == "miss"


def test_of_several_the_nearest():
    scene = people()
    scene.joints[1, WRIST, :2] = scene.joints[0, OTHER_WRIST, :2] + [3, 0]
    assert kinds_of(moved(scene, 0, WRIST, scene.joints[0, OTHER_WRIST, :2] + [1, 0]))[WRIST] == "inversion"
    assert kinds_of(moved(scene, 0, WRIST, scene.joints[0, OTHER_WRIST, :2] + [2, 0]))[WRIST] == "swap"


def many(change) -> list[Scene]:
    return [change(people(number)) for number in range(1, 9)]


def spoiled(kind: str) -> list[Scene]:
    """Eight images with one kind of error each in the first person's arms and legs, or of people."""

    def change(scene: Scene) -> Scene:
        own, other = scene.joints
        poses = scene.poses.copy()
        parts = range(5, 11 if kind == "swap" else 15)  # with more of them somebody else's it would be somebody else
        if kind == "inversion":
            poses[0, parts] = own[LABELLED.mirror[parts]]
        elif kind == "swap":
            poses[0, parts] = other[parts]
        elif kind == "miss":
            poses[0, parts] = 0
        elif kind == "jitter":
            poses[0, :, 0] += np.sqrt(-2 * np.log(0.6) * scene.areas[0]) * 2 * LABELLED.sigmas
        elif kind == "false_positives":
            nobody = np.random.default_rng(5).uniform(400, 500, (1, 17, 3))
            return best_first(replace(scene, poses=np.concatenate([poses, nobody]), scores=np.append(scene.scores, 0.95)))
        elif kind == "false_negatives":
            return replace(scene, poses=poses[1:], scores=scene.scores[1:])
        return replace(scene, poses=poses)

    return many(change)


@pytest.mark.parametrize("kind", [*KINDS[1:], "false_positives", "false_negatives"])
def test_each_error_costs_the_ap_that_is_lost(kind):
    scenes = spoiled(kind)
    found = [find_errors(scene, LABELLED.sigmas, LABELLED.mirror) for scene in scenes]
    lost = lost_precision(found, LABELLED.sigmas)
    ap = judge(scenes, LABELLED.sigmas).precision().mean()
    assert ap < 0.9
    assert lost[kind] == max(lost.values())
    assert lost[kind] == pytest.approx(1 - ap)
    assert all(short >= 0.35 for short in shortfalls(found))


def test_scores_in_the_wrong_order():
    """Who is like nobody is ranked above who is somebody: with scores that are the OKS nothing is lost."""
    scenes = spoiled("false_positives")
    lost = lost_precision([find_errors(scene, LABELLED.sigmas, LABELLED.mirror) for scene in scenes], LABELLED.sigmas)
    assert lost["scores"] == pytest.approx(lost["false_positives"]) and lost["scores"] > 0.2


def test_who_is_found_twice_is_nobody_the_second_time_and_the_better_pose_is_somebody():
    scene = people()
    worse = scene.poses[:1] + [30, 0, 0]
    twice = replace(scene, poses=np.concatenate([worse, scene.poses]), scores=np.array([0.95, 0.9, 0.8]))
    found = find_errors(twice, LABELLED.sigmas, LABELLED.mirror)
    assert found.whom.tolist() == [-1, 0, 1]
    assert not found.unfound.any()


def test_nobody_found_and_nobody_to_find():
    nobody = replace(people(), poses=np.zeros((0, 17, 3)), scores=np.zeros(0))
    lost = lost_precision([find_errors(nobody, LABELLED.sigmas, LABELLED.mirror)], LABELLED.sigmas)
    assert lost == {**dict.fromkeys(lost, 0.0), "false_negatives": 1.0}
    empty = replace(
        people(), joints=np.zeros((0, 17, 3)), areas=np.zeros(0), boxes=np.zeros((0, 4)), ignored=np.zeros(0, bool), crowd=np.zeros(0, bool)
    )
    found = find_errors(empty, LABELLED.sigmas, LABELLED.mirror)
    assert found.false.all() and (found.kinds < 0).all()
    assert set(lost_precision([found], LABELLED.sigmas).values()) == {-1.0}


def test_details_count_every_error():
    scenes = spoiled("inversion")
    details = details_of(scenes, LABELLED, judge(scenes, LABELLED.sigmas).precision())
    assert details["errors"]["inversion"] == 8 * 10
    assert details["errors"]["good"] == 8 * 23
    for name, figures in details["keypoints"].items():
        spoilt = 5 <= LABELLED.names.index(name) < 15
        assert figures["errors"]["inversion"] == 8 * spoilt
        assert (figures["AP"] < 1) == spoilt, name
    assert details["keypoints"]["left_ankle"]["people"] == 8
    assert details["sizes"]["64-96 px"]["people"] == 16
    assert details["sizes"]["64-96 px"]["found"] == 0.5  # at an OKS of 0.5
    assert sum(size["people"] for size in details["sizes"].values()) == 16
    assert details["precision"]["OKS 0.5"] == pytest.approx([0.5] * 51 + [0] * 50)
