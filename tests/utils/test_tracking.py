"""Tracking: identities through crossings and misses, and the functions that decide about them."""

import cv2
import numpy as np
import pytest

from config.load import load_skeleton
from config.schema import TrackingConfig
from data.synthetic import random_background, random_walkers, render_frame
from utils.predictions import PosePredictions
from utils.tracking import Tracker, associate, color_similarity, colors_at, fill_missing, propagate_by_flow, track_similarity

SKELETON = load_skeleton("coco17")
SIGMAS = SKELETON.oks_sigmas
SIZE = 120, 200
BLACK = np.zeros((*SIZE, 3), np.uint8)
RED, BLUE = (0, 0, 220), (220, 0, 0)
POSE = np.stack([np.linspace(-8, 8, 17) * (-1) ** np.arange(17), np.linspace(-30, 30, 17), np.ones(17)], 1)
PERSON = POSE[None] + [40, 60, 0]


def at(*positions: tuple[float, float]) -> np.ndarray:
    """Return people (P, 17, 3) around these positions."""
    return np.array([POSE + [x, y, 0] for x, y in positions]).reshape(-1, 17, 3)


def part(first: int, last: int) -> np.ndarray:
    """Return PERSON (1, 17, 3) with a part of the keypoints only."""
    return PERSON * ((np.arange(17) >= first) & (np.arange(17) < last))[:, None]


def texture(seed: int, *size: int) -> np.ndarray:
    return cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 255, size, np.uint8), (0, 0), 2)


@pytest.fixture
def track():
    """A function that gives one tracker the people of the next frame, and returns their ids."""
    trackers = []

    def step(people: np.ndarray, frame: np.ndarray = BLACK, scores: list | None = None, **settings: object) -> list[int]:
        if settings or not trackers:
            trackers[:] = [Tracker(SKELETON, TrackingConfig(**settings))]
        scores = np.ones(len(people)) if scores is None else np.array(scores)
        return trackers[0](frame, PosePredictions(people, scores, SKELETON)).ids.tolist()

    step.trackers = trackers
    return step


def test_walkers_who_cross_keep_their_identities(track):
    """Ground-truth keypoints; some people missed at random."""
    rng = np.random.default_rng(3)
    background, walkers = random_background(rng, 128, 192), random_walkers(rng, 4, 128, 192)
    identities, count = {}, 0
    for number in range(60):
        image, annotations = render_frame(background, walkers, number)
        annotations = [annotations[i] for i in rng.permutation(len(annotations)) if rng.random() >= 0.1]
        keypoints = np.array([a["keypoints"] for a in annotations], float).reshape(-1, 17, 3)
        for annotation, person, identity in zip(annotations, keypoints, track(keypoints, image)):
            if (person[:, 2] > 0).sum() >= 3:
                assert identities.setdefault(annotation["track_id"], identity) == identity, number
                count += 1
    assert count > 150 and sorted(identities.values()) == [0, 1, 2, 3]


def test_people_keep_their_ids_in_any_order_and_new_ones_get_new_ids(track):
    assert track(at((40, 60), (100, 60))) == [0, 1]
    assert track(at((101, 60), (160, 60), (41, 60))) == [1, 2, 0]
    assert track(at()) == []
    assert track(at((-400, 60), (1e6, -1e6))) == [3, 4], "outside of the frame"
    for size, scaled in (((60, 70), (60, 70)), ((540, 960), (270, 480))):
        assert track(at((160, 60), (41, 60)), np.zeros((*size, 3), np.uint8)) == [2, 0], "frames of another size"
        assert track.trackers[0]._gray.shape == scaled


@pytest.mark.parametrize(("keep", "missed", "identity"), [(0, 0, 0), (0, 1, 1), (3, 3, 0), (3, 4, 1)])
def test_tracks_end_after_some_frames(track, keep, missed, identity):
    track(PERSON, keep=keep)
    for _ in range(missed):
        track(at())
    assert track(PERSON) == [identity]
    assert len(track.trackers[0]._tracks.ids) == 1, "an ended track costs nothing"


def test_velocity_predicts_a_person_who_is_missed(track):
    """Flow has nothing to follow in black frames."""
    for number in range(10):
        assert track(at((20 + 6 * number, 60))) == [0]
    for _ in range(4):
        track(at())
    assert track(at((20 + 6 * 14, 60), (20 + 6 * 9, 60))) == [0, 1], "not the person at the last position"


@pytest.mark.parametrize(("first", "last"), [(PERSON, part(9, 17)), (PERSON * (np.arange(17) % 2)[:, None], PERSON)])
def test_velocity_is_that_of_shared_keypoints_per_frame(track, first, last):
    for people in (first, at(), at(), last + [9, 0, 0]):
        track(people)
    assert track.trackers[0]._tracks.velocity[0].tolist() == pytest.approx([0.3 * 9 / 3, 0])


@pytest.mark.parametrize(("flow", "identity"), [(True, 0), (False, 1)])
def test_flow_follows_a_person_who_changes_velocity(track, flow, identity):
    """A textured person stands, and starts to walk while missed."""
    for number in range(9):
        x, image = 40 + 6 * max(number - 1, 0), BLACK.copy()
        image[20:100, x - 20 : x + 20] = texture(1, *SIZE, 3)[20:100, 20:60]
        ids = track(at(*[(x, 60)] * (number in (0, 8))), image, **({} if number else {"flow": flow}))
    assert ids == [identity]


@pytest.mark.parametrize(("appearance", "ids"), [(0.3, [1, 0]), (0.0, [0, 1])])
def test_colors_decide_between_two_people_at_almost_one_position(track, appearance, ids):
    """One is in the red half of the frame, one in the blue half; then the halves swap."""
    people = (POSE * [0.2, 1.6, 1])[None] + np.array([[[98, 60, 0]], [[102, 60, 0]]])
    halves = BLACK.copy()
    halves[:, :100], halves[:, 100:] = RED, BLUE
    assert track(people, halves, appearance=appearance, flow=False) == [0, 1]
    assert [track(people, frame) for frame in (halves, halves, halves[:, ::-1].copy())] == [[0, 1], [0, 1], ids]


def test_low_scores_start_no_track_but_continue_one(track):
    people = at((40, 60), (150, 60))
    assert track(people, scores=[0.5, 0.29], min_score=0.1, start_score=0.3) == [0, -1]
    assert track(people, scores=[0.1, 0.3]) == [0, 1]
    assert track(people, scores=[0.09, 0.3]) == [-1, 1]


@pytest.mark.parametrize(
    ("frames", "ids"),
    [
        ([part(0, 2), part(0, 3)], [-1, 0]),  # a track starts with three keypoints
        ([PERSON, part(9, 17), part(9, 17), part(0, 9)], [0] * 4),  # missing keypoints are remembered
        ([PERSON, part(0, 4), PERSON + [6, 0, 0]], [0] * 3),  # a few keypoints do not make the person small
        ([PERSON, PERSON + [14, 0, 0]], [0, 1]),
        ([PERSON, *[at()] * 20, PERSON + [14, 0, 0]], [0, 0]),  # the position of a missed person becomes uncertain
    ],
)
def test_a_person_who_is_partly_seen_or_missed_continues_the_track(track, frames, ids):
    assert sum((track(people) for people in frames), []) == ids


def test_boxes_are_compared_by_iou(track):
    """1/3, and a little less."""
    for x, identity in ((48, 0), (48.2, 1)):
        track(PERSON, similarity="box", flow=False, min_similarity=0.33)
        assert track(at((x, 60))) == [identity]


def test_poses_are_compared_at_shared_keypoints():
    whole, half, two, other = (POSE + [50, 50, 0] for _ in range(4))
    half[9:], two[2:], other[:9] = 0, 0, 0
    similarity = track_similarity(np.stack([whole, half, two]), np.stack([whole, half, two, other]), np.full(3, 900.0), SIGMAS)
    np.testing.assert_allclose(similarity, [[1, 1, 2 / 3, 1], [1, 1, 2 / 3, 0], [2 / 3, 2 / 3, 2 / 3, 0]])
    expected = np.exp(-9 / (2 * 900 * (2 * SIGMAS[:9]) ** 2)).mean()
    assert track_similarity(whole[None], half[None] + [3, 0, 0], np.full(1, 900.0), SIGMAS)[0, 0] == pytest.approx(expected)


def test_colors_are_compared_at_shared_samples_on_keypoints_and_limbs_within_the_frame():
    tracks, people = np.zeros((1, 4, 3)), np.zeros((4, 4, 3))
    tracks[0, 3], people[0, :1], people[1], people[2] = np.nan, 200, 40, np.nan
    people[3] = np.array([0, 40, 80, np.nan])[:, None]  # the middle one of three
    assert color_similarity(tracks, people)[0].tolist() == pytest.approx([1, np.exp(-0.5), 0.5, np.exp(-0.5)])
    assert color_similarity(tracks, people[:0]).shape == (1, 0)
    frame = np.zeros((10, 20, 3), np.uint8)
    frame[:, 10:] = RED
    person = np.array([[[0, 0, 1], [19, 9, 1], [5, 5, 0], [20, 5, 1]]], float)
    colors = colors_at(frame, person, np.array([[0, 1], [1, 2]]))[0]
    assert colors[[0, 1, 4]].tolist() == [[0, 0, 0], list(RED), list(RED)], "the middle of the first limb is at 9.5"
    assert np.isnan(colors[[2, 3, 5]]).all()


@pytest.mark.parametrize(("method", "pairs"), [("hungarian", [[(0, 1), (1, 0)]] * 2), ("greedy", [[(0, 0), (1, 1)], [(0, 0)]])])
def test_association_is_one_to_one_where_allowed(method, pairs):
    similarity = np.array([[0.9, 0.8], [0.8, 0.1]])
    for limit, expected in zip((0, 0.2, 1), (*pairs, [])):
        assert list(zip(*(a.tolist() for a in associate(similarity, similarity > limit, method)))) == expected
    assert [len(a) for a in associate(np.zeros((0, 3)), np.zeros((0, 3), bool), method)] == [0, 0]


def test_flow_moves_keypoints_with_the_image_or_by_velocity():
    image = texture(3, 150, 200)
    before, after = image[20:140, 20:180], image[23:143, 16:176]  # 4 to the right, 3 up
    people = at((60, 60), (100, 60)) * [2, 2, 1]
    people[0, 4, :2] = 1, 1  # leaves the frame: moves as the others do
    people[1, 2] = 0
    moved = propagate_by_flow(people, before, after, 0.5, np.zeros((2, 2)))
    present = people[..., 2] > 0
    np.testing.assert_allclose((moved - people)[present], np.broadcast_to([8, -6, 0], (33, 3)), atol=0.3)
    assert moved[1, 2].tolist() == [0, 0, 0]
    noise = np.random.default_rng(0).integers(0, 255, SIZE, np.uint8)
    np.testing.assert_allclose(propagate_by_flow(PERSON, noise, BLACK[..., 0], 1.0, np.array([[5.0, 1.0]])), PERSON + [5, 1, 0], atol=1e-6)


def test_missing_keypoints_are_remembered_for_eleven_frames():
    predicted, filled = part(5, 17), PERSON
    for number in range(1, 14):
        filled = fill_missing(predicted, filled, np.array([[1.0, 0.0]]))
        assert (filled[0, 5:] == predicted[0, 5:]).all()
        np.testing.assert_allclose(filled[0, :5, 0], PERSON[0, :5, 0] + number if number <= 11 else 0)
