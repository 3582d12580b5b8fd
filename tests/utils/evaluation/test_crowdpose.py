"""CrowdPose's metrics, against pycocotools with CrowdPose's sigmas, areas and image groups."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from places import SHARED
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from config.load import load_skeleton
from utils.evaluation.coco import GroundTruth
from utils.evaluation.crowdpose import CrowdPoseMetric
from utils.evaluation.metrics import build_metric

CROWDPOSE = SHARED / "data" / "crowdpose"
SKELETON = load_skeleton("crowdpose")
METRICS = ["AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP_easy", "AP_medium", "AP_hard"]
SIGMAS = np.array([0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79]) / 10
GROUPS = ((-np.inf, 0.2), (0.2, 0.8), (0.8, np.inf))  # crowd index: from, below


def expected_metrics(content: dict, results: list[dict]) -> list[float]:
    truth = COCO()
    people = [{**p, "area": 0.53 * p["bbox"][2] * p["bbox"][3]} for p in content["annotations"]]
    truth.dataset = {**content, "annotations": people}
    truth.createIndex()

    def stats(ids: list[int]) -> np.ndarray:
        of_images = [result for result in results if result["image_id"] in ids]
        evaluation = COCOeval(truth, truth.loadRes(of_images) if of_images else COCO(), "keypoints")
        evaluation.params.imgIds, evaluation.params.kpt_oks_sigmas = ids, SIGMAS
        evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
        return evaluation.stats

    index = {image["id"]: image["crowdIndex"] for image in content["images"]}
    groups = [[i for i in index if low <= index[i] < high] for low, high in GROUPS]
    return [*stats(list(index))[[0, 1, 2, 5, 6, 7]], *(stats(ids)[0] if ids else -1 for ids in groups)]


def write_random(folder: Path, crowd_indices: list[float], rng: np.random.Generator, **more: float) -> tuple[Path, dict]:
    """Write an annotation file of random people; some have no keypoints, some only head and neck, which CrowdPose does not count."""
    images, people = [], []
    for number, index in enumerate(crowd_indices, start=1):
        images.append({"id": number, "file_name": f"{number}.jpg", "crowdIndex": index})
        for person in range(rng.integers(1, 7)):
            x, y, width, height = [*rng.uniform(0, 250, 2), *rng.uniform(20, 150, 2)]
            v = rng.integers(0, 3, 14) * (rng.random() > 0.1)
            v[:12] *= rng.random() > 0.2 or not person
            keypoints = np.stack([x + width * rng.random(14), y + height * rng.random(14), v], 1) * (v > 0)[:, None]
            people.append(
                {
                    "id": len(people) + 1, "image_id": number, "category_id": 1, "iscrowd": 0, "bbox": [x, y, width, height],
                    "keypoints": keypoints.ravel().tolist(), "num_keypoints": int((v[:12] > 0).sum()), **more,
                }
            )  # fmt: skip
    content = {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person", "keypoints": list(SKELETON.dataset)}]}
    (folder / "crowd.json").write_text(json.dumps(content))
    return folder / "crowd.json", content


def predict(content: dict, rng: np.random.Generator, false_positives: int) -> list[dict]:
    """Return results near each person, and some anywhere in each image."""
    poses = [(i["id"], rng.uniform(0, 300, (14, 2))) for i in content["images"] for _ in range(false_positives)]
    for person in content["annotations"]:
        noise = rng.normal(0, rng.uniform(0.01, 0.1) * np.sqrt(np.prod(person["bbox"][2:])), (14, 2))
        poses.append((person["image_id"], np.reshape(person["keypoints"], (14, 3))[:, :2] + noise))
    return [
        {"image_id": i, "category_id": 1, "keypoints": np.insert(xy, 2, 1, 1).ravel().tolist(), "score": float(rng.random())}
        for i, xy in poses
    ]


def check(truth: GroundTruth, content: dict, results: list[dict]) -> dict[str, float]:
    metric = build_metric(truth)
    assert type(metric) is CrowdPoseMetric
    metrics = metric.compute(results, truth)
    assert list(metrics) == METRICS
    assert list(metrics.values()) == pytest.approx(expected_metrics(content, results), abs=1e-9)
    return metrics


def test_metrics_use_crowdposes_sigmas_areas_and_groups(tmp_path):
    rng = np.random.default_rng(1)
    path, content = write_random(tmp_path, [0, 0.1, 0.19, 0.2, 0.5, 0.79, 0.8, 0.9, 1] * 2, rng, area=7.0)  # the file's area is ignored
    assert any(not person["num_keypoints"] and any(person["keypoints"]) for person in content["annotations"])
    metrics = check(GroundTruth(path, None, SKELETON), content, predict(content, rng, 1))
    assert len(set(metrics.values())) == len(METRICS) and min(metrics.values()) > 0.01


@pytest.mark.skipif(not CROWDPOSE.is_dir(), reason="no photographs: there is no folder shared/data/crowdpose beside the project")
def test_metrics_of_photographs():
    path, rng = CROWDPOSE / "test_crowdpose.json", np.random.default_rng(0)
    content = json.loads(path.read_text())
    metrics = check(GroundTruth(path, CROWDPOSE, SKELETON), content, predict(content, rng, 2))
    assert 0 < metrics["AP"] == metrics["AP_medium"] < 1


def test_a_group_without_images_or_people_has_no_metric(tmp_path):
    rng = np.random.default_rng(0)
    path, content = write_random(tmp_path, [0.1, 0.1, 0.5], rng)
    content["annotations"] = [person for person in content["annotations"] if person["image_id"] != 3]
    path.write_text(json.dumps(content))
    metrics = CrowdPoseMetric().compute(predict(content, rng, 2), GroundTruth(path, None, SKELETON))
    assert metrics["AP_easy"] > 0 and (metrics["AP_medium"], metrics["AP_hard"]) == (-1, -1)
    assert list(CrowdPoseMetric().compute([], GroundTruth(path, None, SKELETON)).values()) == [0] * 7 + [-1] * 2
