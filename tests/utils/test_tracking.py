"""Who is who from frame to frame: crossings, people who are missed, and what decides."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from config.load import load_skeleton
from config.schema import TrackingConfig
from data.synthetic import random_background, random_walkers, render_frame
from utils.evaluation.tracking import TrackingFigures
from utils.tracking import (
    Tracker,
    box_similarity,
    colour_similarity,
    colours_at,
    completed,
    extents,
    matched,
    moved_by_flow,
    pose_areas,
    pose_similarity,
)

SKELETON = load_skeleton("coco17")
SIGMAS = SKELETON.oks_sigmas
SIZE = 120, 200
BLACK = np.zeros((*SIZE, 3), np.uint8)
RED, BLUE = (0, 0, 220), (220, 0, 0)
POSE = np.stack([np.linspace(-8, 8, 17) * (-1) ** np.arange(17), np.linspace(-30, 30, 17), np.ones(17)], 1)


def at(*places: tuple[float, float]) -> np.ndarray:
    """People (P, 17, 3) around these places."""
    return np.stack([POSE + [x, y, 0] for x, y in places]) if places else np.zeros((0, 17, 3))


def one(tracker: Tracker, *places: tuple[float, float], frame: np.ndarray = BLACK, scores: list | None = None) -> list[int]:
    return tracker(frame, at(*places), np.ones(len(places)) if scores is None else np.array(scores)).tolist()


# Videos


@pytest.mark.parametrize(("seed", "missed", "hidden"), [(1, 0, True), (2, 0, True), (3, 0.1, True), (4, 0, False)])
def test_walkers_who_cross_are_never_taken_for_each_other(seed, missed, hidden):
    """Perfect keypoints; some people missed at random; without what others hide."""
    rng = np.random.default_rng(seed)
    background, walkers = random_background(rng, 128, 192), random_walkers(rng, 4, 128, 192)
    tracker, figures, order = Tracker(SKELETON), TrackingFigures(SIGMAS), np.random.default_rng(0)
    for number in range(120):
        image, annotations = render_frame(background, walkers, number)
        joints = np.array([a["keypoints"] for a in annotations], float).reshape(-1, 17, 3)
        joints *= joints[..., 2:] > (0 if hidden else 1)
        boxes, tracks = np.array([a["bbox"] for a in annotations]), np.array([a["track_id"] for a in annotations])
        found = order.permutation(joints[order.random(len(joints)) >= missed])
        ids = tracker(image, found, (found[..., 2] > 0).any(1).astype(float))
        figures.add(joints, boxes[:, 2:].prod(1), boxes, tracks, found, ids)
    counts = figures.figures()
    assert counts["people"] > 400
    assert counts["switches"] == 0
    assert counts["false_positives"] == 0
    assert counts["misses"] <= (0.2 * counts["people"] if missed else 0)


def test_people_keep_their_ids_in_any_order_and_new_ones_get_new_ids():
    tracker = Tracker(SKELETON)
    assert one(tracker, (40, 60), (100, 60)) == [0, 1]
    assert one(tracker, (101, 60), (160, 60), (41, 60)) == [1, 2, 0]
    assert one(tracker) == []
    assert one(tracker, (160, 60), (41, 60)) == [2, 0]


def test_another_video_needs_another_tracker():
    one(Tracker(SKELETON), (40, 60))
    assert one(Tracker(SKELETON), (160, 60)) == [0]


@pytest.mark.parametrize("keep", [0, 3])
def test_tracks_end(keep):
    for missed in range(6):
        tracker = Tracker(SKELETON, TrackingConfig(keep=keep))
        one(tracker, (40, 60))
        for _ in range(missed):
            one(tracker)
        assert one(tracker, (40, 60)) == [0 if missed <= keep else 1], missed


def test_ended_tracks_cost_nothing():
    tracker = Tracker(SKELETON, TrackingConfig(keep=2))
    for number in range(40):
        one(tracker, (40 if number % 2 else 150, 60))
    assert len(tracker._tracks.ids) <= 3


def test_speed_carries_on_whom_nobody_finds():
    """Ten frames of six pixels, black: there is nothing that flow could follow."""
    tracker = Tracker(SKELETON)
    for step in range(10):
        assert one(tracker, (20 + 6 * step, 60)) == [0]
    for _ in range(4):
        one(tracker)
    assert one(tracker, (20 + 6 * 14, 60), (20 + 6 * 9, 60)) == [0, 1], "not who stands where the first was last seen"


def test_flow_carries_on_who_changes_the_speed():
    """Somebody who stood starts while missed, with a pattern to be followed."""
    texture = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (*SIZE, 3), np.uint8), (0, 0), 2)

    def frame(x: int) -> np.ndarray:
        image = BLACK.copy()
        image[20:100, x - 20 : x + 20] = texture[20:100, 20:60]
        return image

    for flow, known in ((True, 0), (False, 1)):
        tracker = Tracker(SKELETON, TrackingConfig(flow=flow))
        for _ in range(3):
            one(tracker, (40, 60), frame=frame(40))
        for step in range(1, 8):
            one(tracker, frame=frame(40 + 6 * step))
        assert one(tracker, (40 + 48, 60), frame=frame(40 + 48)) == [known]


def test_colours_decide_between_two_at_almost_one_place():
    """Two thin people stand close, one in the red half of the frame, one in the blue; then the halves are exchanged."""
    people = (POSE * [0.2, 1.6, 1])[None] + np.array([[[98, 60, 0]], [[102, 60, 0]]])
    halves = BLACK.copy()
    halves[:, :100], halves[:, 100:] = RED, BLUE
    for appearance, ids in ((0.3, [1, 0]), (0.0, [0, 1])):
        tracker = Tracker(SKELETON, TrackingConfig(appearance=appearance, flow=False))
        for _ in range(3):
            assert tracker(halves, people, np.ones(2)).tolist() == [0, 1]
        assert tracker(halves[:, ::-1].copy(), people, np.ones(2)).tolist() == ids


def test_unlikely_people_begin_no_track_but_continue_one():
    tracker = Tracker(SKELETON, TrackingConfig(min_score=0.1, start_score=0.3))
    assert one(tracker, (40, 60), (150, 60), scores=[0.5, 0.29]) == [0, -1]
    assert one(tracker, (40, 60), (150, 60), scores=[0.1, 0.3]) == [0, 1]
    assert one(tracker, (40, 60), (150, 60), scores=[0.09, 0.3]) == [-1, 1]


def test_one_or_two_keypoints_begin_no_track():
    person = at((40, 60))
    person[0, 2:] = 0
    assert Tracker(SKELETON)(BLACK, person, np.ones(1)).tolist() == [-1]


def test_what_was_hidden_is_remembered():
    """Somebody of whom first only the legs, then only the head and arms are found."""
    tracker, person = Tracker(SKELETON), at((40, 60))
    legs, arms = person.copy(), person.copy()
    legs[:, :9], arms[:, 9:] = 0, 0
    assert [tracker(BLACK, people, np.ones(1)).tolist() for people in (person, legs, legs, arms)] == [[0]] * 4


def test_a_part_of_somebody_does_not_make_them_small():
    """Who turned out to move six pixels is the same, also after a frame in which only the head was found."""
    tracker, person = Tracker(SKELETON), at((40, 60))
    head = person.copy()
    head[:, 4:] = 0
    assert [tracker(BLACK, people, np.ones(1)).tolist() for people in (person, head, person + [6, 0, 0])] == [[0]] * 3


@pytest.mark.parametrize(("missed", "known"), [(0, False), (20, True)])
def test_where_a_lost_person_is_grows_less_sure(missed, known):
    tracker = Tracker(SKELETON)
    one(tracker, (40, 60))
    for _ in range(missed):
        one(tracker)
    assert one(tracker, (54, 60)) == [0 if known else 1]


def test_speed_is_by_the_frame():
    tracker = Tracker(SKELETON)
    one(tracker, (40, 60))
    one(tracker)
    one(tracker)
    one(tracker, (49, 60))
    assert tracker._tracks.speed[0].tolist() == pytest.approx([0.3 * 9 / 3, 0])


@pytest.mark.parametrize("name", ["coco", "coco17", "crowdpose", "posetrack18"])
def test_every_skeleton(name):
    skeleton = load_skeleton(name)
    tracker, people = Tracker(skeleton), np.random.default_rng(2).uniform(20, 100, (3, skeleton.num_keypoints, 3))
    for step in range(3):
        assert tracker(BLACK, people + [step, 0, 0], np.ones(3)).tolist() == [0, 1, 2]


def test_frames_may_change_their_size_and_people_leave_them():
    tracker = Tracker(SKELETON)
    assert one(tracker, (40, 60)) == [0]
    assert one(tracker, (40, 60), frame=np.zeros((60, 70, 3), np.uint8)) == [0]
    assert one(tracker, (-400, 60), (1e6, -1e6)) == [1, 2]
    assert one(tracker, frame=np.zeros((1, 1, 3), np.uint8)) == []


def test_large_frames_are_looked_at_in_small():
    """Colours and flow at the right places."""
    people = at((400, 300), (900, 300)) * [1, 1, 1]
    people[..., :2] = (people[..., :2] - people[..., :2].mean(1, keepdims=True)) * 4 + people[..., :2].mean(1, keepdims=True)
    frame = np.zeros((600, 1300, 3), np.uint8)
    frame[:, :650], frame[:, 650:] = RED, BLUE
    tracker = Tracker(SKELETON)
    tracker(frame, people, np.ones(2))
    np.testing.assert_allclose(tracker._tracks.colours[0], np.broadcast_to(RED, (36, 3)), atol=1)
    np.testing.assert_allclose(tracker._tracks.colours[1], np.broadcast_to(BLUE, (36, 3)), atol=1)


# Pure functions


def test_extents_and_areas():
    people = at((10, 20), (30, 40))
    people[1, 3:] = 0
    people = np.concatenate([people, 0 * people[:1]])
    boxes = extents(people)
    assert boxes[0].tolist() == [2, -10, 16, 60]
    assert boxes[1, 3] == pytest.approx(60 / 8)
    assert boxes[2].tolist() == [0] * 4
    assert pose_areas(people).tolist() == pytest.approx([900, boxes[1, 2:].max() ** 2 / 4, 0])


def test_poses_are_compared_where_both_have_keypoints():
    whole, half, two = at((50, 50))[0], at((50, 50))[0], at((50, 50))[0]
    half[9:], two[2:] = 0, 0
    tracks = np.stack([whole, half])
    np.testing.assert_allclose(pose_similarity(tracks, np.stack([whole, half, two]), np.full(2, 900.0), SIGMAS), [[1, 1, 2 / 3]] * 2)
    away = half + [3, 0, 0]
    error = np.exp(-9 / (2 * 900 * (2 * SIGMAS[:9]) ** 2)).mean()
    assert pose_similarity(tracks[:1], away[None], np.full(1, 900.0), SIGMAS)[0, 0] == pytest.approx(error)
    other = whole.copy()
    other[:9] = 0
    assert pose_similarity(half[None], other[None], np.full(1, 900.0), SIGMAS)[0, 0] == 0


def test_boxes():
    assert box_similarity(at((50, 50)), at((50, 50), (58, 50), (90, 50)))[0].tolist() == pytest.approx([1, 1 / 3, 0])


def test_colours_are_compared_where_both_are_known():
    tracks, people = np.zeros((1, 4, 3)), np.zeros((3, 4, 3))
    people[0, :1], people[1] = 200, 40
    people[2] = np.nan
    tracks[0, 3] = np.nan
    assert colour_similarity(tracks, people)[0].tolist() == pytest.approx([1, np.exp(-0.5), 0.5])
    assert colour_similarity(tracks, people[:0]).shape == (1, 0)


def test_colours_are_those_of_keypoints_and_limbs_within_the_frame():
    frame = np.zeros((10, 20, 3), np.uint8)
    frame[:, 10:] = RED
    person = np.array([[[2, 5, 1], [19, 5, 1], [5, 5, 0], [25, 5, 1]]], float)
    colours = colours_at(frame, person, np.array([[0, 1], [1, 2]]))[0]
    assert colours[0].tolist() == [0, 0, 0] and colours[1].tolist() == list(RED)
    assert np.isnan(colours[[2, 3, 5]]).all()
    assert colours[4].tolist() == list(RED), "the middle of the first limb is at 10.5"


def test_matching():
    similarity = np.array([[0.9, 0.8], [0.8, 0.1]])
    everything = np.ones((2, 2), bool)
    assert [a.tolist() for a in matched(similarity, everything, "hungarian")] == [[0, 1], [1, 0]]
    assert [a.tolist() for a in matched(similarity, everything, "greedy")] == [[0, 1], [0, 1]]
    for method in ("hungarian", "greedy"):
        rows, columns = matched(similarity, similarity > 0.2, method)
        assert (similarity[rows, columns] > 0.2).all()
        rows, columns = matched(similarity, ~everything, method)
        assert len(rows) == len(columns) == 0
        assert [len(a) for a in matched(np.zeros((0, 3)), np.zeros((0, 3), bool), method)] == [0, 0]


def test_keypoints_move_as_the_picture_does():
    texture = cv2.GaussianBlur(np.random.default_rng(3).integers(0, 255, (150, 200), np.uint8), (0, 0), 2)
    before, after = texture[20:140, 20:180], texture[23:143, 16:176]  # 4 to the right, 3 up
    people = at((60, 60), (100, 60))
    people[0, 4, :2] = 0.5, 0.5  # leaves the frame: moves as the others do
    people[1, 2] = 0  # missing: stays so
    moved = moved_by_flow(people * [2, 2, 1], before, after, 0.5, np.zeros((2, 2)))
    there = people[..., 2] > 0
    np.testing.assert_allclose((moved - people * [2, 2, 1])[there], np.broadcast_to([8, -6, 0], (33, 3)), atol=0.3)
    assert moved[1, 2].tolist() == [0, 0, 0]


def test_without_flow_people_move_by_their_speed():
    flat = np.zeros(SIZE, np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, SIZE, np.uint8)
    moved = moved_by_flow(at((60, 60)), noise, flat, 1.0, np.array([[5.0, 1.0]]))
    np.testing.assert_allclose(moved, at((65, 61)), atol=1e-6)


def test_missing_keypoints_are_remembered_for_a_while():
    person = at((0, 0))
    found = person.copy()
    found[0, :5] = 0
    kept = person
    for frame in range(1, 20):
        kept = completed(found, kept, np.array([[1.0, 0.0]]))
        assert (kept[0, 5:] == found[0, 5:]).all()
        if frame <= 11:
            np.testing.assert_allclose(kept[0, :5, 0], person[0, :5, 0] + frame)
        else:
            assert not kept[0, :5].any()
