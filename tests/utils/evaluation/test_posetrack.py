"""MOTA by hand-computed examples, and from PoseTrack18's files."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from places import SHARED

from utils.evaluation.coco import GroundTruth
from utils.evaluation.metrics import build_metric
from utils.evaluation.posetrack import MotaCounter, PoseTrackMetric

POSE = np.array([[0, 0, 2], [0, 50, 2], [20, 100, 2]], float)  # area 10,000 px2
NEXT_VIDEO = None


def people_at(*offsets: float) -> np.ndarray:
    """Return people (P, 3, 3), each moved by pixels to the right."""
    return np.stack([POSE + [x, 0, 0] for x in offsets]) if offsets else np.zeros((0, 3, 3))


def count(*frames: tuple[dict[int, float], dict[int, float]] | None, unlabeled: dict[int, float] | None = None) -> MotaCounter:
    """Count frames of offsets by annotated track, and by predicted id. unlabeled: people without keypoints in all frames."""
    counter, unlabeled = MotaCounter(np.full(3, 0.05)), unlabeled or {}
    for frame in frames:
        if frame is NEXT_VIDEO:
            counter.next_video()
            continue
        annotated, predicted = frame
        joints = np.concatenate([people_at(*annotated.values()), people_at(*unlabeled.values()) * [1, 1, 0]])
        boxes = np.array([[x, 0, 20, 100] for x in (*annotated.values(), *unlabeled.values())], float).reshape(-1, 4)
        tracks, ids = np.array([*annotated, *unlabeled], int), np.array(list(predicted), int)
        counter.add(joints, np.full(len(joints), 1e4), boxes, tracks, people_at(*predicted.values()), ids)
    return counter


TWO = {7: 0, 8: 300}


@pytest.mark.parametrize(
    ("frames", "counts"),  # people, misses, false positives, switches
    [
        pytest.param([({7: t, 8: 300 - t}, {0: t, 1: 300 - t}) for t in range(3)], (6, 0, 0, 0), id="perfect"),
        pytest.param([(TWO, {0: 0, 1: 300}), (TWO, {1: 0, 0: 300})], (4, 0, 0, 2), id="exchanged ids are two switches"),
        pytest.param([(TWO, {0: 0, 1: 300}), ({7: 0, 8: 4}, {0: 4, 1: 0})], (4, 0, 0, 0), id="an id is kept where another one is nearer"),
        pytest.param([({7: 0}, {0: 0, 1: 1})], (1, 0, 1, 0), id="a duplicate is a false positive"),
        pytest.param([({}, {}), ({7: 0}, {-1: 0}), ({}, {3: 0})], (1, 1, 1, 0), id="predictions without an id do not count"),
        pytest.param([({7: 0}, {0: 0}), NEXT_VIDEO, ({7: 0}, {1: 0})], (2, 0, 0, 0), id="another video has other identities"),
        # OKS is exp(-d^2 / (2 * area * (2 sigma)^2)): 0.5 at d = 11.77 px
        pytest.param([({7: 0}, {0: 11.7})], (1, 0, 0, 0), id="an OKS above 0.5 matches"),
        pytest.param([({7: 0}, {0: 11.9})], (1, 1, 1, 0), id="an OKS below 0.5 does not match"),
    ],
)
def test_counts_of_frames(frames, counts):
    counter = count(*frames)
    assert (counter.people, counter.misses, counter.false_positives, counter.switches) == counts


def test_mota_subtracts_each_error_once():
    counter = count(
        (TWO, {0: 0, 1: 300}),
        (TWO, {0: 0, 5: 900}),  # 8 is missed, 5 is a false positive
        (TWO, {0: 0, 2: 300}),  # 8 has another id than last
        (TWO, {0: 0, 2: 300}),
    )
    assert counter.metrics() == {"MOTA": 1 - 3 / 8, "people": 8, "misses": 1, "false_positives": 1, "switches": 1}


def test_people_without_keypoints_and_predictions_there_do_not_count():
    counter = count(({7: 0}, {0: 0, 1: 300, 2: 600}), unlabeled={9: 300})
    assert (counter.people, counter.misses, counter.false_positives) == (1, 0, 1)


# From a PoseTrack18 file


def perfect(truth: GroundTruth) -> list[dict]:
    """Return the annotated people as results, without their identities."""
    return [
        {"image_id": a["image_id"], "category_id": 1, "score": 0.9, "keypoints": a["keypoints"]}
        for a in truth.annotations.dataset["annotations"]
        if a.get("num_keypoints")
    ]


@pytest.fixture
def walk(tmp_path) -> GroundTruth:
    """Two people walk to the right through a video of 6 frames; another video has one frame. The fourth frame is not annotated."""
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


def test_people_are_tracked_through_each_video_and_compared_in_annotated_frames(walk):
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
def test_metrics_of_posetracks_own_files():
    root = SHARED / "data" / "posetrack18"
    truth = GroundTruth(root / "annotations" / "test_posetrack18_val.json", root)
    metric, results = build_metric(truth), perfect(truth)
    metrics = metric.compute(results, truth)
    assert (metrics["AP"], metrics["MOTA"], metrics["people"]) == (pytest.approx(1), 1, len(results))
    assert len(results) > 10
    assert metric.compute(results[:-1], truth)["MOTA"] == pytest.approx(1 - 1 / len(results))
