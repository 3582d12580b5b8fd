"""CrowdPose's metrics, against pycocotools with CrowdPose's sigmas, areas and image groups."""

import json

import numpy as np
import pytest
from people import evaluated

from config.load import load_skeleton
from data.formats.coco import indexed
from utils.evaluation.coco import GroundTruth
from utils.evaluation.crowdpose import CrowdPoseMetric
from utils.evaluation.metrics import build_metric

SKELETON = load_skeleton("crowdpose")
METRICS = ["AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP_easy", "AP_medium", "AP_hard"]
SIGMAS = np.array([0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79]) / 10
GROUPS = ((-np.inf, 0.2), (0.2, 0.8), (0.8, np.inf))  # crowd index: from, below


def expected_metrics(content: dict, results: list[dict]) -> list[float]:
    people = [{**p, "area": 0.53 * p["bbox"][2] * p["bbox"][3]} for p in content["annotations"]]
    truth = indexed({**content, "annotations": people})

    def stats(ids: list[int]) -> np.ndarray:
        return evaluated(truth, [result for result in results if result["image_id"] in ids], SIGMAS, ids).stats

    index = {image["id"]: image["crowdIndex"] for image in content["images"]}
    groups = [[i for i in index if low <= index[i] < high] for low, high in GROUPS]
    return [*stats(list(index))[[0, 1, 2, 5, 6, 7]], *(stats(ids)[0] if ids else -1 for ids in groups)]


def random_people(crowd_indices: list[float], rng: np.random.Generator) -> dict:
    """Return a file's content: some people have no keypoints, some only head and neck, which CrowdPose does not count."""
    images, people = [], []
    for number, index in enumerate(crowd_indices, start=1):
        images.append({"id": number, "file_name": f"{number}.jpg", "crowdIndex": index})
        for person in range(rng.integers(1, 7)):
            box = np.array([*rng.uniform(0, 250, 2), *rng.uniform(20, 150, 2)])
            v = rng.integers(0, 3, 14) * (rng.random() > 0.1)
            v[:12] *= rng.random() > 0.2 or not person
            keypoints = np.column_stack([box[:2] + box[2:] * rng.random((14, 2)), v]) * (v > 0)[:, None]
            ids = {"id": len(people) + 1, "image_id": number, "category_id": 1, "iscrowd": 0, "area": 7.0}  # this area is ignored
            counts = {"keypoints": keypoints.ravel().tolist(), "num_keypoints": int((v[:12] > 0).sum())}
            people.append({**ids, "bbox": box.tolist(), **counts})
    return {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person", "keypoints": list(SKELETON.dataset)}]}


def predict(content: dict, rng: np.random.Generator, false_positives: int) -> list[dict]:
    """Return results near each person, and some anywhere in each image."""
    poses = [(i["id"], rng.uniform(0, 300, (14, 2))) for i in content["images"] for _ in range(false_positives)]
    for person in content["annotations"]:
        noise = rng.normal(0, rng.uniform(0.01, 0.1) * np.sqrt(np.prod(person["bbox"][2:])), (14, 2))
        poses.append((person["image_id"], np.reshape(person["keypoints"], (14, 3))[:, :2] + noise))
    flat = [(i, np.insert(xy, 2, 1, 1).ravel().tolist()) for i, xy in poses]
    return [{"image_id": i, "category_id": 1, "keypoints": keypoints, "score": float(rng.random())} for i, keypoints in flat]


def check(path, content: dict, results: list[dict]) -> dict[str, float]:
    truth = GroundTruth(path, None, SKELETON)
    metric = build_metric(truth)
    assert type(metric) is CrowdPoseMetric
    metrics = metric.compute(results, truth)
    assert list(metrics) == METRICS
    assert list(metrics.values()) == pytest.approx(expected_metrics(content, results), abs=1e-9)
    return metrics


@pytest.mark.parametrize("indices", [[0, 0.1, 0.19, 0.2, 0.5, 0.79, 0.8, 0.9, 1] * 2, [0.1, 0.1]])
def test_metrics_use_crowdposes_sigmas_areas_and_groups(tmp_path, indices):
    """A group without images has no metric."""
    rng, path = np.random.default_rng(1), tmp_path / "crowd.json"
    content = random_people(indices, rng)
    path.write_text(json.dumps(content))
    metrics = check(path, content, predict(content, rng, 1))
    if len(indices) > 2:
        assert any(not person["num_keypoints"] and any(person["keypoints"]) for person in content["annotations"])
        assert len(set(metrics.values())) == len(METRICS) and min(metrics.values()) > 0.01
    assert list(check(path, content, []).values())[:7] == [0] * 7
