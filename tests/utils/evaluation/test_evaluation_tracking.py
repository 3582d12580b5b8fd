"""MOTA: misses, false positives and identity switches, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from utils.evaluation.tracking import TrackingFigures

SIGMAS = np.full(3, 0.05)
POSE = np.array([[0, 0, 2], [0, 50, 2], [20, 100, 2]], float)  # of somebody with an area of 10,000


def at(*places: float) -> np.ndarray:
    """People (P, 3, 3) so many pixels to the right."""
    return np.stack([POSE + [x, 0, 0] for x in places]) if places else np.zeros((0, 3, 3))


class Video:
    def __init__(self):
        self.figures = TrackingFigures(SIGMAS)

    def frame(self, truth: dict[int, float], found: dict[int, float], unlabelled: dict[int, float] | None = None) -> None:
        """Where who is, by track and by id."""
        without = {} if unlabelled is None else unlabelled
        joints = np.concatenate([at(*truth.values()), at(*without.values()) * [1, 1, 0]])
        boxes = np.array([[x, 0, 20, 100] for x in (*truth.values(), *without.values())], float).reshape(-1, 4)
        tracks = np.array([*truth, *without], int)
        self.figures.add(joints, np.full(len(joints), 1e4), boxes, tracks, at(*found.values()), np.array(list(found), int))

    def counts(self) -> tuple[int, int, int, int]:
        figures = self.figures
        return figures.people, figures.misses, figures.false_positives, figures.switches


@pytest.fixture
def video() -> Video:
    return Video()


def test_perfect(video):
    for step in range(3):
        video.frame({7: step, 8: 300 - step}, {0: step, 1: 300 - step})
    assert video.counts() == (6, 0, 0, 0)
    assert video.figures.figures()["MOTA"] == 1


def test_one_of_each(video):
    video.frame({7: 0, 8: 300}, {0: 0, 1: 300})
    video.frame({7: 0, 8: 300}, {0: 0, 5: 900})  # 8 missed, 5 nobody
    video.frame({7: 0, 8: 300}, {0: 0, 2: 300})  # 8 under another id than last
    video.frame({7: 0, 8: 300}, {0: 0, 2: 300})  # and again: counted once
    assert video.counts() == (8, 1, 1, 1)
    assert video.figures.figures() == {"MOTA": 1 - 3 / 8, "people": 8, "misses": 1, "false_positives": 1, "switches": 1}


def test_two_who_exchange_their_ids_are_two_switches(video):
    video.frame({7: 0, 8: 300}, {0: 0, 1: 300})
    video.frame({7: 0, 8: 300}, {1: 0, 0: 300})
    assert video.counts() == (4, 0, 0, 2)


def test_who_is_still_near_enough_stays_matched(video):
    """Two at almost one place: the nearer ids would be exchanged, but nobody's id has changed."""
    video.frame({7: 0, 8: 300}, {0: 0, 1: 300})
    video.frame({7: 0, 8: 4}, {0: 4, 1: 0})
    assert video.counts() == (4, 0, 0, 0)


def test_somebody_found_twice_is_one_false_positive(video):
    video.frame({7: 0}, {0: 0, 1: 1})
    assert video.counts() == (1, 0, 1, 0)


def test_people_without_keypoints_and_who_is_found_there_do_not_count(video):
    video.frame({7: 0}, {0: 0, 1: 300, 2: 600}, unlabelled={9: 300})
    assert video.counts() == (1, 0, 1, 0)


def test_the_bound_is_an_oks_of_a_half(video):
    """OKS is exp(-d^2 / (2 * area * (2 sigma)^2)): a half at d = 11.77 pixels."""
    video.frame({7: 0}, {0: 11.7})
    assert video.counts() == (1, 0, 0, 0)
    video.frame({7: 0}, {0: 11.9})
    assert video.counts() == (2, 1, 1, 0)


def test_nobody_and_people_without_an_id(video):
    video.frame({}, {})
    video.frame({7: 0}, {-1: 0})
    video.frame({}, {3: 0})
    assert video.counts() == (1, 1, 1, 0)
