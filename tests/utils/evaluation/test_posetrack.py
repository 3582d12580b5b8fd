"""MOTA by hand: misses, false positives and identity switches; and from PoseTrack18's files."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from places import SHARED

from utils.evaluation.coco import GroundTruth
from utils.evaluation.metrics import build_metric
from utils.evaluation.posetrack import MotaCounter, PoseTrackMetric

SIGMAS = np.full(3, 0.05)
POSE = np.array([[0, 0, 2], [0, 50, 2], [20, 100, 2]], float)  # of somebody with an area of 10,000


def at(*places: float) -> np.ndarray:
    """People (P, 3, 3) so many pixels to the right."""
    return np.stack([POSE + [x, 0, 0] for x in places]) if places else np.zeros((0, 3, 3))


class Video:
    def __init__(self):
        self.counter = MotaCounter(SIGMAS)

    def frame(self, truth: dict[int, float], found: dict[int, float], unlabeled: dict[int, float] | None = None) -> None:
        """Where who is, by track and by id."""
        without = {} if unlabeled is None else unlabeled
        joints = np.concatenate([at(*truth.values()), at(*without.values()) * [1, 1, 0]])
        boxes = np.array([[x, 0, 20, 100] for x in (*truth.values(), *without.values())], float).reshape(-1, 4)
        tracks = np.array([*truth, *without], int)
        self.counter.add(joints, np.full(len(joints), 1e4), boxes, tracks, at(*found.values()), np.array(list(found), int))

    def counts(self) -> tuple[int, int, int, int]:
        counter = self.counter
        return counter.people, counter.misses, counter.false_positives, counter.switches


@pytest.fixture
def video() -> Video:
    return Video()


def test_perfect(video):
    for step in range(3):
        video.frame({7: step, 8: 300 - step}, {0: step, 1: 300 - step})
    assert video.counts() == (6, 0, 0, 0)
    assert video.counter.metrics()["MOTA"] == 1


def test_one_of_each(video):
    video.frame({7: 0, 8: 300}, {0: 0, 1: 300})
    video.frame({7: 0, 8: 300}, {0: 0, 5: 900})  # 8 missed, 5 nobody
    video.frame({7: 0, 8: 300}, {0: 0, 2: 300})  # 8 under another id than last
    video.frame({7: 0, 8: 300}, {0: 0, 2: 300})  # and again: counted once
    assert video.counts() == (8, 1, 1, 1)
    assert video.counter.metrics() == {"MOTA": 1 - 3 / 8, "people": 8, "misses": 1, "false_positives": 1, "switches": 1}


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
    video.frame({7: 0}, {0: 0, 1: 300, 2: 600}, unlabeled={9: 300})
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


def test_another_video_has_other_identities(video):
    video.frame({7: 0}, {0: 0})
    video.counter.next_video()
    video.frame({7: 0}, {1: 0})
    assert video.counts() == (2, 0, 0, 0)


# From a PoseTrack18 file


def perfect(truth: GroundTruth) -> list[dict]:
    """The annotated people as results, without their identities."""
    return [
        {"image_id": a["image_id"], "category_id": 1, "score": 0.9, "keypoints": a["keypoints"]}
        for a in truth.annotations.dataset["annotations"]
        if a.get("num_keypoints")
    ]


@pytest.fixture
def walk(tmp_path) -> GroundTruth:
    """A video of 6 frames in which two people walk to the right, and another of one frame; the fourth frame is not annotated."""
    images, people = [], []
    names = ["nose", "head_bottom", "head_top", "left_shoulder", "right_hip"]
    for number, video in enumerate("aaaaaab"):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((120, 240, 3), 90, np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "vid_id": video, "is_labeled": number != 3})
        for track, y in ((5, 10), (6, 70)):
            points = [[20 + 5 * number + x, y + dy, 1] for x, dy in ((0, 0), (2, 10), (9, 20), (4, 30), (8, 40))]
            person = {"id": len(people), "image_id": number, "category_id": 1, "track_id": track, "keypoints": sum(points, [])}
            people.append({**person, "num_keypoints": 5, "bbox": [20 + 5 * number, y, 10, 40]})
    categories = [{"id": 1, "name": "person", "keypoints": names}]
    annotated = [person for person in people if person["image_id"] != 3]
    (tmp_path / "walk.json").write_text(json.dumps({"images": images, "annotations": annotated, "categories": categories}))
    return GroundTruth(tmp_path / "walk.json", tmp_path)


def test_people_are_tracked_through_each_video(walk):
    """The frame that is not annotated counts for nothing, whatever is predicted there; a person who is not predicted is missed."""
    metric, results = build_metric(walk), perfect(walk)
    assert type(metric) is PoseTrackMetric
    metrics = metric.compute(results, walk)
    assert (metrics["AP"], metrics["MOTA"], metrics["people"]) == (pytest.approx(1), 1, 12)
    beside = {**results[0], "image_id": 3, "keypoints": (np.reshape(results[0]["keypoints"], (-1, 3)) + (90, 0, 0)).ravel().tolist()}
    assert metric.compute([beside, *results], walk) == metrics
    metrics = metric.compute(results[1:], walk)
    assert (metrics["misses"], metrics["MOTA"], metrics["switches"]) == (1, pytest.approx(11 / 12), 0)
    without_images = GroundTruth(walk.path)
    assert "MOTA" not in metric.compute(results, without_images)


@pytest.mark.skipif(not (SHARED / "data" / "posetrack18").is_dir(), reason="no videos: there is no folder shared/data/posetrack18 beside")
def test_posetracks_own_files():
    root = SHARED / "data" / "posetrack18"
    truth = GroundTruth(root / "annotations" / "test_posetrack18_val.json", root)
    metric, results = build_metric(truth), perfect(truth)
    metrics = metric.compute(results, truth)
    assert (metrics["AP"], metrics["MOTA"], metrics["people"]) == (pytest.approx(1), 1, len(results))
    assert len(results) > 10
    assert metric.compute(results[:-1], truth)["MOTA"] == pytest.approx(1 - 1 / len(results))
