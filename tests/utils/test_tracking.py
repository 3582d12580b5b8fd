"""Tracking: identities through crossings and misses, and the functions that decide about them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from config.load import load_skeleton
from config.schema import TrackingConfig
from data.synthetic import random_background, random_walkers, render_frame
from utils.tracking import (
    Tracker,
    associate,
    box_similarity,
    color_similarity,
    colors_at,
    fill_missing,
    pose_similarity,
    propagate_by_flow,
)

SKELETON = load_skeleton("coco17")
SIGMAS = SKELETON.oks_sigmas
SIZE = 120, 200
BLACK = np.zeros((*SIZE, 3), np.uint8)
RED, BLUE = (0, 0, 220), (220, 0, 0)
POSE = np.stack([np.linspace(-8, 8, 17) * (-1) ** np.arange(17), np.linspace(-30, 30, 17), np.ones(17)], 1)
PERSON = POSE[None] + [40, 60, 0]


def at(*positions: tuple[float, float]) -> np.ndarray:
    """Return people (P, 17, 3) around these positions."""
    return np.stack([POSE + [x, y, 0] for x, y in positions]) if positions else np.zeros((0, 17, 3))


def step(tracker: Tracker, *positions: tuple[float, float], frame: np.ndarray = BLACK, scores: list | None = None) -> list[int]:
    return tracker(frame, at(*positions), np.ones(len(positions)) if scores is None else np.array(scores)).tolist()


def part(first: int, last: int) -> np.ndarray:
    """Return PERSON (1, 17, 3) with a part of the keypoints only."""
    present = np.zeros(17, bool)
    present[first:last] = True
    return PERSON * present[:, None]


# Videos


@pytest.mark.parametrize(("seed", "missed", "occluded"), [(3, 0.1, True), (4, 0, False)])
def test_walkers_who_cross_keep_their_identities(seed, missed, occluded):
    """Ground-truth keypoints; some people missed at random; without occluded keypoints."""
    rng = np.random.default_rng(seed)
    background, walkers = random_background(rng, 128, 192), random_walkers(rng, 4, 128, 192)
    tracker, identities, count = Tracker(SKELETON), {}, 0
    for number in range(60):
        image, annotations = render_frame(background, walkers, number)
        annotations = [annotations[i] for i in rng.permutation(len(annotations)) if rng.random() >= missed]
        keypoints = np.array([a["keypoints"] for a in annotations], float).reshape(-1, 17, 3)
        keypoints *= keypoints[..., 2:] > (0 if occluded else 1)
        for annotation, person, identity in zip(annotations, keypoints, tracker(image, keypoints, np.ones(len(keypoints)))):
            if (person[:, 2] > 0).sum() >= 3:
                assert identities.setdefault(annotation["track_id"], identity) == identity, number
                count += 1
    assert count > 150
    assert sorted(identities.values()) == [0, 1, 2, 3]


def test_people_keep_their_ids_in_any_order_and_new_ones_get_new_ids():
    tracker = Tracker(SKELETON)
    assert step(tracker, (40, 60), (100, 60)) == [0, 1]
    assert step(tracker, (101, 60), (160, 60), (41, 60)) == [1, 2, 0]
    assert step(tracker) == []
    assert step(tracker, (160, 60), (41, 60)) == [2, 0]


@pytest.mark.parametrize("keep", [0, 3])
def test_tracks_end_after_some_frames(keep):
    for missed in (keep, keep + 1):
        tracker = Tracker(SKELETON, TrackingConfig(keep=keep))
        step(tracker, (40, 60))
        for _ in range(missed):
            step(tracker)
        assert step(tracker, (40, 60)) == [0 if missed == keep else 1], missed
    assert len(tracker._tracks.ids) == 1, "an ended track costs nothing"


def test_velocity_predicts_a_person_who_is_missed():
    """Flow has nothing to follow in black frames."""
    tracker = Tracker(SKELETON)
    for number in range(10):
        assert step(tracker, (20 + 6 * number, 60)) == [0]
    for _ in range(4):
        step(tracker)
    assert step(tracker, (20 + 6 * 14, 60), (20 + 6 * 9, 60)) == [0, 1], "not the person at the last position"


def test_velocity_is_per_frame():
    tracker = Tracker(SKELETON)
    for positions in ([(40, 60)], [], [], [(49, 60)]):
        step(tracker, *positions)
    assert tracker._tracks.velocity[0].tolist() == pytest.approx([0.3 * 9 / 3, 0])


def test_flow_follows_a_person_who_changes_velocity():
    """A textured person stands, and starts to walk while missed."""
    texture = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (*SIZE, 3), np.uint8), (0, 0), 2)

    def frame(x: int) -> np.ndarray:
        image = BLACK.copy()
        image[20:100, x - 20 : x + 20] = texture[20:100, 20:60]
        return image

    for flow, identity in ((True, 0), (False, 1)):
        tracker = Tracker(SKELETON, TrackingConfig(flow=flow))
        for _ in range(3):
            step(tracker, (40, 60), frame=frame(40))
        for number in range(1, 8):
            step(tracker, frame=frame(40 + 6 * number))
        assert step(tracker, (40 + 48, 60), frame=frame(40 + 48)) == [identity]


def test_colors_decide_between_two_people_at_almost_one_position():
    """One is in the red half of the frame, one in the blue half; then the halves swap."""
    people = (POSE * [0.2, 1.6, 1])[None] + np.array([[[98, 60, 0]], [[102, 60, 0]]])
    halves = BLACK.copy()
    halves[:, :100], halves[:, 100:] = RED, BLUE
    for appearance, ids in ((0.3, [1, 0]), (0.0, [0, 1])):
        tracker = Tracker(SKELETON, TrackingConfig(appearance=appearance, flow=False))
        for _ in range(3):
            assert tracker(halves, people, np.ones(2)).tolist() == [0, 1]
        assert tracker(halves[:, ::-1].copy(), people, np.ones(2)).tolist() == ids


def test_low_scores_start_no_track_but_continue_one():
    tracker = Tracker(SKELETON, TrackingConfig(min_score=0.1, start_score=0.3))
    assert step(tracker, (40, 60), (150, 60), scores=[0.5, 0.29]) == [0, -1]
    assert step(tracker, (40, 60), (150, 60), scores=[0.1, 0.3]) == [0, 1]
    assert step(tracker, (40, 60), (150, 60), scores=[0.09, 0.3]) == [-1, 1]


@pytest.mark.parametrize(("count", "ids"), [(2, [-1]), (3, [0])])
def test_a_track_starts_with_three_keypoints(count, ids):
    assert Tracker(SKELETON)(BLACK, part(0, count), np.ones(1)).tolist() == ids


@pytest.mark.parametrize(
    "frames",
    [
        [PERSON, part(9, 17), part(9, 17), part(0, 9)],  # missing keypoints are remembered
        [PERSON, part(0, 4), PERSON + [6, 0, 0]],  # a few keypoints do not make the person small
    ],
)
def test_a_part_of_a_person_continues_the_track(frames):
    tracker = Tracker(SKELETON)
    assert [tracker(BLACK, people, np.ones(1)).tolist() for people in frames] == [[0]] * len(frames)


@pytest.mark.parametrize(("missed", "ids"), [(0, [1]), (20, [0])])
def test_the_position_of_a_missed_person_becomes_uncertain(missed, ids):
    tracker = Tracker(SKELETON)
    step(tracker, (40, 60))
    for _ in range(missed):
        step(tracker)
    assert step(tracker, (54, 60)) == ids


def test_frames_may_change_their_size_and_people_leave_them():
    tracker = Tracker(SKELETON)
    assert step(tracker, (40, 60)) == [0]
    assert step(tracker, (40, 60), frame=np.zeros((60, 70, 3), np.uint8)) == [0]
    assert step(tracker, (-400, 60), (1e6, -1e6)) == [1, 2]
    assert step(tracker, frame=np.zeros((1, 1, 3), np.uint8)) == []


# Functions


def test_poses_are_compared_at_shared_keypoints():
    whole, half, two, other = (POSE + [50, 50, 0] for _ in range(4))
    half[9:], two[2:], other[:9] = 0, 0, 0
    similarity = pose_similarity(np.stack([whole, half]), np.stack([whole, half, two]), np.full(2, 900.0), SIGMAS)
    np.testing.assert_allclose(similarity, [[1, 1, 2 / 3]] * 2)
    expected = np.exp(-9 / (2 * 900 * (2 * SIGMAS[:9]) ** 2)).mean()
    assert pose_similarity(whole[None], half[None] + [3, 0, 0], np.full(1, 900.0), SIGMAS)[0, 0] == pytest.approx(expected)
    assert pose_similarity(half[None], other[None], np.full(1, 900.0), SIGMAS)[0, 0] == 0
    assert pose_similarity(two[None], whole[None], np.full(1, 900.0), SIGMAS)[0, 0] == pytest.approx(2 / 3)


def test_boxes_are_compared_by_iou():
    assert box_similarity(at((50, 50)), at((50, 50), (58, 50), (90, 50)))[0].tolist() == pytest.approx([1, 1 / 3, 0])
    tracker = Tracker(SKELETON, TrackingConfig(similarity="box", flow=False))
    assert [step(tracker, (x, 60)) for x in (40, 50, 90)] == [[0], [0], [1]]


def test_colors_are_compared_at_shared_samples():
    tracks, people = np.zeros((1, 4, 3)), np.zeros((3, 4, 3))
    people[0, :1], people[1] = 200, 40
    people[2], tracks[0, 3] = np.nan, np.nan
    assert color_similarity(tracks, people)[0].tolist() == pytest.approx([1, np.exp(-0.5), 0.5])
    assert color_similarity(tracks, people[:0]).shape == (1, 0)
    tracks[:], people[0] = 0, np.array([0, 40, 80, np.nan])[:, None]
    assert color_similarity(tracks, people)[0, 0] == pytest.approx(np.exp(-0.5)), "the middle one of three"


def test_colors_are_sampled_at_keypoints_and_limbs_within_the_frame():
    frame = np.zeros((10, 20, 3), np.uint8)
    frame[:, 10:] = RED
    person = np.array([[[0, 0, 1], [19, 9, 1], [5, 5, 0], [20, 5, 1]]], float)
    colors = colors_at(frame, person, np.array([[0, 1], [1, 2]]))[0]
    assert colors[[0, 1, 4]].tolist() == [[0, 0, 0], list(RED), list(RED)], "the middle of the first limb is at 9.5"
    assert np.isnan(colors[[2, 3, 5]]).all()


def test_association_is_one_to_one_where_allowed():
    similarity, everywhere = np.array([[0.9, 0.8], [0.8, 0.1]]), np.ones((2, 2), bool)
    assert [a.tolist() for a in associate(similarity, everywhere, "hungarian")] == [[0, 1], [1, 0]]
    assert [a.tolist() for a in associate(similarity, everywhere, "greedy")] == [[0, 1], [0, 1]]
    for method, pairs in (("hungarian", [(0, 1), (1, 0)]), ("greedy", [(0, 0)])):
        assert list(zip(*(a.tolist() for a in associate(similarity, similarity > 0.2, method)))) == pairs
        assert [len(a) for a in associate(similarity, ~everywhere, method)] == [0, 0]
        assert [len(a) for a in associate(np.zeros((0, 3)), np.zeros((0, 3), bool), method)] == [0, 0]


def test_flow_moves_keypoints_with_the_image():
    texture = cv2.GaussianBlur(np.random.default_rng(3).integers(0, 255, (150, 200), np.uint8), (0, 0), 2)
    before, after = texture[20:140, 20:180], texture[23:143, 16:176]  # 4 to the right, 3 up
    people = at((60, 60), (100, 60)) * [2, 2, 1]
    people[0, 4, :2] = 1, 1  # leaves the frame: moves as the others do
    people[1, 2] = 0
    moved = propagate_by_flow(people, before, after, 0.5, np.zeros((2, 2)))
    present = people[..., 2] > 0
    np.testing.assert_allclose((moved - people)[present], np.broadcast_to([8, -6, 0], (33, 3)), atol=0.3)
    assert moved[1, 2].tolist() == [0, 0, 0]


def test_without_reliable_flow_keypoints_move_by_velocity():
    noise = np.random.default_rng(0).integers(0, 255, SIZE, np.uint8)
    moved = propagate_by_flow(at((60, 60)), noise, np.zeros(SIZE, np.uint8), 1.0, np.array([[5.0, 1.0]]))
    np.testing.assert_allclose(moved, at((65, 61)), atol=1e-6)


def test_missing_keypoints_are_remembered_for_eleven_frames():
    person = at((0, 0))
    predicted = person.copy()
    predicted[0, :5] = 0
    filled = person
    for number in range(1, 14):
        filled = fill_missing(predicted, filled, np.array([[1.0, 0.0]]))
        assert (filled[0, 5:] == predicted[0, 5:]).all()
        expected = person[0, :5, 0] + number if number <= 11 else 0
        np.testing.assert_allclose(filled[0, :5, 0], expected)
