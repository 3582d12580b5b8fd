"""MOTA by hand-computed examples, and from PoseTrack18's files."""

import json

import cv2
import numpy as np
import pytest

from utils.evaluation.coco import GroundTruth
from utils.evaluation.matching import ImageResult
from utils.evaluation.metrics import build_metric
from utils.evaluation.posetrack import PoseTrackMetric, count_errors, mota

POSE = np.array([[0, 0, 2], [0, 50, 2], [20, 100, 2]], float)  # area 10,000 px2
TWO = {7: 0, 8: 300}


def people_at(offsets: dict[int, float]) -> np.ndarray:
    """Return people (P, 3, 3), each moved by pixels to the right."""
    return np.array([POSE + [x, 0, 0] for x in offsets.values()]).reshape(-1, 3, 3)


def count(frames: list[tuple[dict[int, float], dict[int, float]]], unlabeled: int = -1) -> dict[str, int]:
    """Count the frames of a video: offsets by annotated track, and by predicted id. unlabeled: the track of a person without keypoints."""
    tracked = []
    for annotated, predicted in frames:
        joints, no = people_at(annotated), np.zeros(len(annotated), bool)
        joints[[track == unlabeled for track in annotated], :, 2] = 0
        boxes = np.array([[x, 0, 20, 100] for x in annotated.values()], float).reshape(-1, 4)
        frame = ImageResult(1, joints, np.full(len(joints), 1e4), boxes, no, no, people_at(predicted), np.ones(len(predicted)))
        tracked.append((frame, np.array([*annotated], int), np.array([*predicted], int)))
    return count_errors(tracked, np.full(3, 0.05))


@pytest.mark.parametrize(
    ("frames", "counts"),  # people, misses, false positives, switches
    [
        pytest.param([({7: t, 8: 300 - t}, {0: t, 1: 300 - t}) for t in range(3)], (6, 0, 0, 0), id="perfect"),
        pytest.param([(TWO, {0: 0, 1: 300}), (TWO, {1: 0, 0: 300})], (4, 0, 0, 2), id="exchanged ids are two switches"),
        pytest.param([(TWO, {0: 0, 1: 300}), ({7: 0, 8: 4}, {0: 4, 1: 0})], (4, 0, 0, 0), id="an id is kept where another one is nearer"),
        pytest.param([(TWO, {1: 300}), (TWO, {0: 0, 2: 300}), (TWO, {0: 0, 2: 300})], (6, 1, 0, 1), id="a switch counts once"),
        pytest.param([({7: 0}, {0: 0, 1: 1})], (1, 0, 1, 0), id="a duplicate is a false positive"),
        pytest.param([({}, {}), ({7: 0}, {-1: 0}), ({}, {3: 0})], (1, 1, 1, 0), id="predictions without an id do not count"),
        # OKS is exp(-d^2 / (2 * area * (2 sigma)^2)): 0.5 at d = 11.77 px
        pytest.param([({7: 0}, {0: 11.7}), ({7: 0}, {0: 11.9})], (2, 1, 1, 0), id="an OKS above 0.5 matches"),
    ],
)
def test_counts_of_frames(frames, counts):
    assert tuple(count(frames).values()) == counts


def test_people_without_keypoints_and_predictions_there_do_not_count():
    assert tuple(count([({7: 0, 9: 300}, {0: 0, 1: 300, 2: 600})], unlabeled=9).values()) == (1, 0, 1, 0)


def test_mota_subtracts_each_error_once():
    assert mota({"people": 8, "misses": 1, "false_positives": 1, "switches": 1}) == 1 - 3 / 8
    assert mota({"people": 0, "misses": 0, "false_positives": 2, "switches": 0}) == -1


# From a PoseTrack18 file


def perfect(truth: GroundTruth) -> list[dict]:
    """Return the annotated people as results, without their identities."""
    people = [a for a in truth.coco.dataset["annotations"] if a.get("num_keypoints")]
    return [{"image_id": a["image_id"], "category_id": 1, "score": 0.9, "keypoints": a["keypoints"]} for a in people]


def test_people_are_tracked_through_each_video_and_compared_in_annotated_frames(tmp_path):
    """Two people walk to the right through a video of 6 frames; another video has one frame. The fourth frame is not annotated."""
    images, people = [], []
    names = ["nose", "head_bottom", "head_top", "left_shoulder", "right_hip"]
    for number, video in enumerate("aaaaaab"):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((120, 240, 3), 90, np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "vid_id": video, "is_labeled": number != 3})
        for track, y in ((5, 10), (6, 70)) if number != 3 else ():
            points = [[20 + 5 * number + x, y + dy, 1] for x, dy in ((0, 0), (2, 10), (9, 20), (4, 30), (8, 40))]
            ids = {"id": len(people), "image_id": number, "category_id": 1, "track_id": track}
            people.append({**ids, "keypoints": sum(points, []), "num_keypoints": 5, "bbox": [20 + 5 * number, y, 10, 40]})
    categories = [{"id": 1, "name": "person", "keypoints": names}]
    (tmp_path / "walk.json").write_text(json.dumps({"images": images, "annotations": people, "categories": categories}))
    walk = GroundTruth(tmp_path / "walk.json", [tmp_path])
    metric, results = build_metric(walk), perfect(walk)
    assert type(metric) is PoseTrackMetric
    metrics = metric.compute(results, walk)
    assert (metrics["AP"], metrics["MOTA"], metrics["people"]) == (pytest.approx(1), 1, 12)
    beside = {**results[0], "image_id": 3, "keypoints": (np.reshape(results[0]["keypoints"], (-1, 3)) + (90, 0, 0)).ravel().tolist()}
    assert metric.compute([beside, *results], walk) == metrics
    metrics = metric.compute(results[1:], walk)
    assert (metrics["misses"], metrics["MOTA"], metrics["switches"]) == (1, pytest.approx(11 / 12), 0)
    assert "MOTA" not in metric.compute(results, GroundTruth(walk.path)), "no images to track in"
