"""Drawn people one by one: limbs keep their lengths, joints their limits, and a keypoint is seen where its part is in front."""

from __future__ import annotations

import numpy as np
import pytest

from data.drawn.annotate import labelled_keypoints
from data.drawn.body import HEAD
from data.drawn.figure import KEYPOINTS, Figure, View, build_figure, thing_figure
from data.drawn.looks import Looks, random_looks
from data.drawn.paint import PERSON_STEP, Placed, paint_person
from data.drawn.poses import KINDS, random_build, random_pose
from data.drawn.shade import light_from
from data.drawn.skeleton import ARM_LIMITS, LEG_LIMITS, SIDES, Build, Pose, skeleton

SIZE, STATURE = (240, 200), 200.0
FACE, NAMES = range(5), {name: k for k, name in enumerate(KEYPOINTS)}


def upright(**body) -> Pose:
    """Somebody who stands with the arms a little away from the body."""
    arms, legs = ({side: np.array(angles) for side in SIDES} for angles in ([0.0, 0.3, 0.0, 0.1], [0.0, 0.1, 0.0, 0.0, 0.0]))
    return Pose(arms, legs, **body)


def plain_looks(**changes) -> Looks:
    looks = random_looks(np.random.default_rng(0), np.full(3, 128.0))
    return Looks(looks.skin, looks.hair, looks.top, looks.bottom, looks.shoes, **changes)


def painted(*people: Figure, x: tuple[float, ...] = ()) -> tuple[np.ndarray, list[Placed]]:
    """The buffer of ids and the people, the last in front, each with the pelvis at this x."""
    image, ids = np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.int32)
    placed = [(figure, STATURE, np.array([middle, 115.0])) for figure, middle in zip(people, x or [100.0] * len(people))]
    for number, person in enumerate(placed, start=1):
        paint_person(image, ids, person, number, light_from(0.5))
    return ids, placed


def visibility(figure: Figure) -> np.ndarray:
    """(17,) 2 seen, 1 hidden, 0 not labelled, of somebody alone."""
    ids, placed = painted(figure)
    return labelled_keypoints(np.random.default_rng(0), placed[0], 1, ids, unhidden=1.0)[:, 2]


@pytest.mark.parametrize("kind", list(KINDS))
def test_poses_keep_to_the_joints_limits(kind, monkeypatch):
    monkeypatch.setattr("data.drawn.poses.KINDS", {kind: 1.0})
    rng = np.random.default_rng(3)
    for _ in range(10):
        pose = random_pose(rng)
        assert pose.kind == kind
        for angles, limits in ((pose.arms, ARM_LIMITS), (pose.legs, LEG_LIMITS)):
            for side in SIDES:
                assert (np.degrees(angles[side]) >= limits[0] - 1e-6).all() and (np.degrees(angles[side]) <= limits[1] + 1e-6).all()


def test_limbs_are_as_long_in_every_pose():
    rng, build = np.random.default_rng(1), Build()
    bones = [(f"{side}_{a}", f"{side}_{b}") for side in SIDES for a, b in (("hip", "knee"), ("knee", "ankle"), ("elbow", "wrist"))]
    lengths = []
    for _ in range(20):
        joints = skeleton(random_pose(rng), build).joints
        lengths.append([np.linalg.norm(joints[a] - joints[b]) for a, b in bones])
    assert np.allclose(lengths, lengths[0])


def test_who_stands_upright_is_about_one_stature_high():
    left, top, right, bottom = build_figure(upright(), plain_looks(), Build(), View(0.0, 50.0)).extent()
    assert 0.95 < bottom - top < 1.1 and right - left < 0.7


def test_joints_lie_in_the_order_of_the_body():
    figure = build_figure(upright(), plain_looks(), Build(), View(0.0, 50.0))
    x, y = figure.keypoints.T
    column = [NAMES[f"left_{part}"] for part in ("eye", "shoulder", "elbow", "hip", "knee", "ankle")]
    assert (np.diff(y[column]) > 0).all()
    assert all(x[NAMES[f"left_{part}"]] > x[NAMES[f"right_{part}"]] for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee"))


def test_the_front_shows_all_and_the_back_no_face():
    front, back = (visibility(build_figure(upright(yaw=yaw), plain_looks(), Build())) for yaw in (0.0, np.pi))
    assert (front == 2).all()
    assert (back[:3] == 0).all(), "nose and eyes are turned away"
    assert (back[3:] == 2).all(), "ears and the body are seen from behind"


def test_long_hair_hides_the_ears_from_behind():
    back = visibility(build_figure(upright(yaw=np.pi), plain_looks(hair_kind="long"), Build()))
    assert (back[3:5] < 2).all() and (back[5:] == 2).all()


@pytest.mark.parametrize(("yaw", "near", "far"), [(1.5, "right", "left"), (-1.5, "left", "right")])
def test_a_side_view_shows_one_side_of_the_face(yaw, near, far):
    seen = visibility(build_figure(upright(yaw=yaw), plain_looks(), Build()))
    assert seen[NAMES["nose"]] == seen[NAMES[f"{near}_eye"]] == seen[NAMES[f"{near}_ear"]] == 2
    assert seen[NAMES[f"{far}_eye"]] == seen[NAMES[f"{far}_ear"]] == 0
    assert seen[NAMES[f"{near}_shoulder"]] == 2 and seen[NAMES[f"{far}_shoulder"]] == 1


def test_a_hand_behind_the_back_is_hidden():
    pose = upright()
    pose.arms["left"] = np.radians([-40.0, 0.0, -80.0, 80.0])
    seen = visibility(build_figure(pose, plain_looks(), Build()))
    assert seen[NAMES["left_wrist"]] == 1 and seen[NAMES["right_wrist"]] == 2
    pose.yaw = np.pi
    assert visibility(build_figure(pose, plain_looks(), Build()))[NAMES["left_wrist"]] == 2


def test_who_is_behind_another_is_hidden_and_labelled():
    figure = build_figure(upright(), plain_looks(), Build())
    ids, placed = painted(figure, figure, x=(100.0, 100.0))
    behind, before = (
        labelled_keypoints(np.random.default_rng(0), person, n, ids, unhidden=1.0) for n, person in enumerate(placed, start=1)
    )
    assert (behind[:, 2] == 1).all() and (before[:, 2] == 2).all()
    assert np.array_equal(behind[:, :2], before[:, :2])


def test_what_is_carried_is_nobody_and_hides():
    looks = plain_looks(held="backpack")
    ids, placed = painted(build_figure(upright(yaw=np.pi), looks, Build()))
    alone, _ = painted(build_figure(upright(yaw=np.pi), plain_looks(), Build()))
    assert 1000 < np.count_nonzero(alone) - np.count_nonzero(ids) < 6000, "the pack covers a part of the back"
    x, y = np.rint(placed[0][0].keypoints[[5, 6, 11, 12]].mean(0) * STATURE + placed[0][2]).astype(int)
    assert alone[y, x] > PERSON_STEP and ids[y - 15, x] == 0


def test_things_are_nobody():
    rng = np.random.default_rng(2)
    for _ in range(12):
        figure = thing_figure(rng, np.full(3, 128.0), View())
        image, ids = np.full((*SIZE, 3), 128, np.uint8), np.full(SIZE, PERSON_STEP + HEAD, np.int32)
        paint_person(image, ids, (figure, STATURE / 2, np.array([100.0, 200.0])), 0, light_from(0.0))
        assert len(figure.keypoints) == 0
        assert set(np.unique(ids)) == {0, PERSON_STEP + HEAD} and (image != 128).any()


def test_bodies_have_no_holes():
    """The nets of all tubes are closed and turned outwards: around every joint there is skin or cloth, in any pose."""
    rng = np.random.default_rng(4)
    for _ in range(15):
        figure = build_figure(random_pose(rng), plain_looks(), random_build(rng))
        ids, placed = painted(figure)
        points = np.rint(figure.keypoints[5:] * STATURE + placed[0][2]).astype(int)
        inside = (points >= 2).all(1) & (points < np.array(SIZE[::-1]) - 2).all(1)
        assert all((ids[y - 1 : y + 2, x - 1 : x + 2] > 0).all() for x, y in points[inside])
