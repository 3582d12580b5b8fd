"""The worst images: their order, and the marks of errors."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from people import SKELETON

from data.image_source import ImageSource
from utils.evaluation.analysis import AnnotatedKeypoints, match_image
from utils.evaluation.matching import ImageResult
from utils.evaluation.worst import LEGEND, STRIP, draw_errors, write_worst

KEYPOINTS = AnnotatedKeypoints(SKELETON, np.arange(17))
WRIST, OTHER_WRIST = (KEYPOINTS.names.index(f"{side}_wrist") for side in ("left", "right"))
IMAGE = np.full((480, 640, 3), 128, np.uint8)


@pytest.fixture
def result() -> ImageResult:
    """Return one person in the middle of the image with an exact prediction."""
    joints = np.stack([200 + 50 * (np.arange(17) % 5), 150 + 50 * (np.arange(17) // 5), np.full(17, 2)], 1)[None].astype(float)
    no = np.zeros(1, bool)
    return ImageResult(7, joints, np.array([9000.0]), np.array([[180.0, 130, 260, 220]]), no, no, joints.copy(), np.array([0.5]))


def marked(result: ImageResult, **replaced: np.ndarray) -> set[str]:
    """Return the marks in the right half."""
    matched = match_image(replace(result, **replaced).best_first(), KEYPOINTS)
    image = draw_errors(IMAGE, matched, KEYPOINTS, "title")
    right = image[STRIP:-STRIP, image.shape[1] // 2 + 3 :]
    return {name for name, color in LEGEND.items() if (right == color).all(-1).sum() > 30}


def test_each_error_is_marked(result):
    assert marked(result) == set()
    poses = result.poses
    moved, missing = poses.copy(), poses.copy()
    moved[0, WRIST, :2], missing[0, WRIST] = result.joints[0, OTHER_WRIST, :2], 0
    assert marked(result, poses=moved) == {"inversion"}
    assert marked(result, poses=missing) == {"miss"}
    assert marked(result, poses=poses[:0], scores=result.scores[:0]) == {"missed person"}
    twice = np.concatenate([poses, poses + [25, 10, 0]])
    assert marked(result, poses=twice, scores=np.array([0.5, 0.6])) == {"false positive"}
    assert marked(result, poses=twice, scores=np.array([0.5, 0.4])) == set(), "below all true positives it does no harm"
    assert marked(result, poses=np.concatenate([poses, 0 * poses]), scores=np.array([0.5, 0.6])) == set(), "no keypoint to draw"


def test_images_with_errors_are_written_the_worst_first(result, tmp_path):
    lost = replace(result, image_id=1, poses=result.poses[:0], scores=result.scores[:0])
    poor = replace(result, image_id=2, poses=result.poses + [12, 0, 0])
    for number in (1, 2, 7):
        cv2.imwrite(str(tmp_path / f"image{number}.png"), IMAGE)
    files = dict(zip((1, 2, 7), ImageSource([tmp_path]).find(["image1.png", "image2.png", "image7.png"])))
    assert write_worst([result], KEYPOINTS, files, tmp_path / "worst", 10) == "no image has an error"
    assert "the 2 worst images" in write_worst([result, poor, lost], KEYPOINTS, files, tmp_path / "worst", 10)
    assert sorted(path.name for path in (tmp_path / "worst").iterdir()) == ["01_image1.jpg", "02_image2.jpg"]
