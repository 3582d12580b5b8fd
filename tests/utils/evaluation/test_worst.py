"""The worst images: their order, and the marks of errors."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from people import SKELETON

from utils.evaluation.analysis import COLORS, AnnotatedKeypoints, ImageResult, image_errors, match_image
from utils.evaluation.worst import FALSE_POSITIVE, MISSED, draw_errors, remove_worst, write_worst

KEYPOINTS = AnnotatedKeypoints.of(SKELETON, np.arange(17))
WRIST, OTHER_WRIST = (KEYPOINTS.names.index(f"{side}_wrist") for side in ("left", "right"))
IMAGE = np.full((480, 640, 3), 128, np.uint8)
LEGEND = 26  # pixels below the image


@pytest.fixture
def result() -> ImageResult:
    """Return one person in the middle of the image with an exact prediction."""
    joints = np.stack([200 + 50 * (np.arange(17) % 5), 150 + 50 * (np.arange(17) // 5), np.full(17, 2)], 1)[None].astype(float)
    no = np.zeros(1, bool)
    return ImageResult(7, joints, np.array([9000.0]), np.array([[180.0, 130, 260, 220]]), no, no, joints.copy(), np.array([0.5]))


def marked(result: ImageResult) -> set[str]:
    """Return the marks in the right half."""
    image = draw_errors(IMAGE, match_image(result.best_first(), KEYPOINTS), KEYPOINTS, "title")
    right = image[:-LEGEND, image.shape[1] // 2 + 3 :]
    marks = {**COLORS, "missed person": MISSED, "false positive": FALSE_POSITIVE}
    return {name for name, color in marks.items() if (right == color).all(-1).sum() > 30}


def test_each_error_is_marked(result):
    assert marked(result) == set()
    poses = result.poses
    moved = poses.copy()
    moved[0, WRIST, :2] = result.joints[0, OTHER_WRIST, :2]
    assert marked(replace(result, poses=moved)) == {"inversion"}
    moved[0, WRIST] = 0
    assert marked(replace(result, poses=moved)) == {"miss"}
    assert marked(replace(result, poses=poses[:0], scores=result.scores[:0])) == {"missed person"}
    twice = replace(result, poses=np.concatenate([poses, poses + [25, 10, 0]]), scores=np.array([0.5, 0.6]))
    assert marked(twice) == {"false positive"}
    assert marked(replace(twice, scores=np.array([0.5, 0.4]))) == set(), "below all true positives it does no harm"


def test_images_with_errors_are_written_the_worst_first(result, tmp_path):
    lost = replace(result, image_id=1, poses=result.poses[:0], scores=result.scores[:0])
    poor = replace(result, image_id=2, poses=result.poses + [12, 0, 0])
    nothing = replace(
        lost, image_id=3, joints=result.joints[:0], areas=result.areas[:0], boxes=result.boxes[:0], ignored=result.ignored[:0]
    )
    nothing = replace(nothing, crowd=result.crowd[:0])
    results = [result, poor, lost, nothing]
    files = {number: tmp_path / f"image{number}.png" for number in (1, 2, 3, 7)}
    for file in files.values():
        cv2.imwrite(str(file), IMAGE)
    errors = image_errors([match_image(result, KEYPOINTS) for result in results])
    assert (errors[0], errors[2], errors[3]) == (0, 1, 0) and 0 < errors[1] < 1
    assert write_worst([result], KEYPOINTS, files, tmp_path, 10) == "no image has an error"
    assert "the 2 worst images" in write_worst(results, KEYPOINTS, files, tmp_path, 10)
    assert sorted(path.name for path in (tmp_path / "worst").iterdir()) == ["01_image1.jpg", "02_image2.jpg"]
    (tmp_path / "worst" / "mine.txt").touch()
    remove_worst(tmp_path)
    assert [path.name for path in (tmp_path / "worst").iterdir()] == ["mine.txt"]
