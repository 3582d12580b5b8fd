"""OKS against pycocotools, and suppression by OKS against a plain loop and the published code."""

import contextlib
import io

import numpy as np
import pytest
from places import SHARED
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from config.load import load_skeleton
from utils.evaluation.oks import object_keypoint_similarity, oks_nms  # where outside callers look
from utils.oks import pose_similarity

SIGMAS = load_skeleton("coco17").oks_sigmas
REFERENCE = SHARED / "fixtures" / "simple_baseline_oks_nms.npz"


def pycocotools_oks(poses: np.ndarray, joints: np.ndarray, areas: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    def entry(keypoints: np.ndarray, **more: object) -> dict:
        return {"image_id": 1, "category_id": 1, "keypoints": keypoints.ravel().tolist(), **more}

    people = [
        entry(person, id=n, iscrowd=0, area=area, bbox=box.tolist(), num_keypoints=int((person[:, 2] > 0).sum()))
        for n, (person, area, box) in enumerate(zip(joints, areas.tolist(), boxes), start=1)
    ]
    truth = COCO()
    truth.dataset = {"info": {}, "images": [{"id": 1}], "annotations": people, "categories": [{"id": 1, "keypoints": ["?"] * 17}]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([entry(pose, score=1 - n / 100) for n, pose in enumerate(poses)]), "keypoints")
        evaluation._prepare()
        return evaluation.computeOks(1, 1)


def test_oks_agrees_with_pycocotools_and_counts_keypoints_that_both_have():
    """Six people: two with all keypoints, two with some, two with none."""
    rng = np.random.default_rng(3)
    joints = np.concatenate([rng.uniform(0, 200, (6, 17, 2)), rng.integers(1, 3, (6, 17, 1))], 2)
    joints[2:4, rng.random(17) < 0.5] = 0
    joints[4:] = 0
    poses = joints[rng.integers(0, 4, 12)] + rng.normal(0, 12, (12, 17, 3))
    areas, boxes = rng.uniform(500, 9000, 6), rng.uniform(20, 90, (6, 4))
    oks = object_keypoint_similarity(poses, joints, areas, boxes, SIGMAS)
    np.testing.assert_allclose(oks, pycocotools_oks(poses, joints, areas, boxes), atol=1e-12)
    assert oks[:, 4:].max() > 0.3 and oks[:, :4].max() > 0.3
    assert object_keypoint_similarity(poses[:0], joints, areas, boxes, SIGMAS).shape == (0, 6)
    assert object_keypoint_similarity(poses, joints[:0], areas[:0], boxes[:0], SIGMAS).shape == (12, 0)

    present = rng.random(poses.shape[:2]) < 0.5
    present[0] = False
    oks = object_keypoint_similarity(poses, joints, areas, boxes, SIGMAS, present)
    assert not oks[0].any()
    for pose in range(1, len(poses)):
        without = joints * (present[pose, :, None] | (joints[..., 2:] == 0))
        shared = (without[..., 2] > 0).any(1)
        alone = object_keypoint_similarity(poses[pose : pose + 1], without, areas, boxes, SIGMAS)[0]
        np.testing.assert_allclose(oks[pose, shared], alone[shared])


# Suppression


def plain_nms(keypoints: np.ndarray, areas: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Suppress pair by pair."""
    kept: list[int] = []
    for n in np.argsort(-scores).tolist():
        oks = [
            np.exp(-np.square(keypoints[n] - keypoints[k]).sum(1) / (4 * SIGMAS**2 * (areas[n] + areas[k]))).mean() for k in kept
        ]  # two variances times the mean of both areas
        if not np.greater(oks, threshold).any():
            kept.append(n)
    return kept


@pytest.mark.parametrize("count", [0, 1, 32, 33, 150])  # fewer and more than a block of 32 people
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9])
def test_suppression_agrees_with_a_plain_loop(count, threshold):
    rng = np.random.default_rng(count)
    people = rng.uniform(0, 300, (-(-count // 5) + 1, 17, 2))
    keypoints = people[rng.integers(0, len(people), count)] + rng.normal(0, 1, (count, 17, 2)) * rng.uniform(0, 6, (count, 1, 1))
    areas, scores = rng.uniform(500, 9000, count), rng.permutation(count) / max(count, 1)
    kept = oks_nms(keypoints, areas, scores, SIGMAS, threshold).tolist()
    assert kept == plain_nms(keypoints, areas, scores, threshold)
    assert count < 2 or 0 < len(kept) < count


def test_suppression_counts_all_keypoints_and_the_mean_of_both_areas():
    """Sixteen of seventeen keypoints at the same position are an OKS of 0.94, whatever their scores."""
    keypoints, ones, scores = np.zeros((2, 17, 3)), np.ones(2), np.array([0.5, 0.6])
    keypoints[1, 0, 0] = 1000
    assert [len(oks_nms(keypoints, ones, scores, SIGMAS, threshold)) for threshold in (0.9, 0.95)] == [1, 2]
    keypoints[1, :, 0] = 2 * SIGMAS * np.sqrt(200 * -np.log(0.8))  # an OKS of 0.8 at an area of 100, of 0.41 at 25
    for areas in ([175, 25], [25, 175]):
        assert oks_nms(keypoints, np.array(areas), scores, SIGMAS, 0.79).tolist() == [1]
        assert oks_nms(keypoints, np.array(areas), scores, SIGMAS, 0.81).tolist() == [1, 0]
    assert oks_nms(np.ones((3, 17, 3)), np.zeros(3), np.array([0.5, 0.5, 0.5]), SIGMAS, 0.9).tolist() == [0], "without an area"


@pytest.mark.skipif(not REFERENCE.is_file(), reason="no reference numbers: there is no folder shared/fixtures beside the project")
@pytest.mark.parametrize("case", range(4))
def test_suppression_agrees_with_the_published_code(case):
    with np.load(REFERENCE) as file:
        keypoints, areas, of_boxes, scores, kept = (file[f"case{case}_{k}"] for k in ("keypoints", "area", "box_score", "score", "keep"))
    sure = keypoints[..., 2] > 0.2
    own = of_boxes * (keypoints[..., 2] * sure).sum(1) / np.maximum(sure.sum(1), 1)
    np.testing.assert_allclose(own, scores, atol=1e-12)
    assert oks_nms(keypoints, areas, own, SIGMAS, 0.9).tolist() == kept.tolist()


def test_pose_similarity_is_that_of_the_shared_keypoints_by_their_part():
    one = np.concatenate([np.random.default_rng(0).random((1, 17, 2)) * (40, 80), np.ones((1, 17, 1))], 2)
    other = one.copy()
    other[0, 4:, 2] = 0
    one[0, :2, 2] = 0  # two of the four are shared
    assert pose_similarity(one, other, np.array([1600.0]), SIGMAS) == pytest.approx(0.5)
    assert pose_similarity(one, other * 0, np.array([1600.0]), SIGMAS) == 0
