"""CrowdPose's figures, against a plain account of OKS and AP that is written here, from the evaluation's description."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from places import SHARED

from config.load import load_skeleton
from utils.evaluation.coco import GroundTruth
from utils.evaluation.crowdpose import METRICS, CrowdPoseMetric, crowd_group
from utils.evaluation.metrics import build_metric

CROWDPOSE = SHARED / "data" / "crowdpose"
SKELETON = load_skeleton("crowdpose")
NAMES = list(SKELETON.dataset)
SIGMAS = np.array([0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79]) / 10
THRESHOLDS = np.arange(50, 100, 5) / 100


# The plain account


def oks(person: dict, found: dict) -> float:
    """Of somebody without keypoints: by how far they are found outside of three boxes' width and height."""
    truth, answer = (np.reshape(one["keypoints"], (14, 3)) for one in (person, found))
    x, y, width, height = person["bbox"]
    away, labeled = answer[:, :2] - truth[:, :2], truth[:, 2] > 0
    if not labeled.any():
        low, high = np.array([x - width, y - height]), np.array([x + 2 * width, y + 2 * height])
        away, labeled = np.maximum(low - answer[:, :2], 0) + np.maximum(answer[:, :2] - high, 0), np.ones(14, bool)
    return float(np.exp(-(away**2).sum(1) / (8 * SIGMAS**2 * 0.53 * width * height))[labeled].mean())


def verdicts(people: list[dict], found: list[dict], threshold: float) -> list[tuple[float, bool]]:
    """(score, is right) of the twenty best found in an image, without those who are somebody that does not count."""
    free, told = list(people), []
    for one in sorted(found, key=lambda one: -one["score"])[:20]:
        like = [(oks(person, one), person) for person in free]
        like = [(value, person) for value, person in like if value >= threshold]
        counting = [pair for pair in like if pair[1]["num_keypoints"]]
        if not like:
            told.append((one["score"], False))
            continue
        free.remove(max(counting or like, key=lambda pair: pair[0])[1])
        if counting:
            told.append((one["score"], True))
    return told


def ap_and_ar(content: dict, found: list[dict], ids: list[int], thresholds: np.ndarray = THRESHOLDS) -> tuple[float, float]:
    """Means over the thresholds; -1 where there is nobody to find."""
    people, answers = ({i: [one for one in many if one["image_id"] == i] for i in ids} for many in (content["annotations"], found))
    count = sum(bool(person["num_keypoints"]) for i in ids for person in people[i])
    if not count:
        return -1, -1
    precisions, recalls = [], []
    for threshold in thresholds:
        told = sorted((one for i in ids for one in verdicts(people[i], answers[i], threshold)), key=lambda one: -one[0])
        right = np.cumsum([is_right for _, is_right in told])
        precision, recall = right / np.arange(1, len(told) + 1), right / count
        precisions += [precision[recall >= least].max(initial=0) for least in np.linspace(0, 1, 101)]
        recalls.append(recall[-1] if len(recall) else 0)
    return float(np.mean(precisions)), float(np.mean(recalls))


def plain_figures(content: dict, found: list[dict]) -> list[float]:
    every, index = [image["id"] for image in content["images"]], {image["id"]: image["crowdIndex"] for image in content["images"]}
    groups = [[i for i in every if least <= index[i] < most] for least, most in ((-np.inf, 0.2), (0.2, 0.8), (0.8, np.inf))]
    whole, half, strict = (ap_and_ar(content, found, every, chosen) for chosen in (THRESHOLDS, THRESHOLDS[:1], THRESHOLDS[5:6]))
    return [*(figures[k] for k in (0, 1) for figures in (whole, half, strict)), *(ap_and_ar(content, found, ids)[0] for ids in groups)]


# Data


def drawn(folder: Path, crowded: list[float], rng: np.random.Generator) -> tuple[Path, dict]:
    """An annotation file of random people in as many images; some without keypoints, some with nothing but head and neck."""
    images, people = [], []
    for number, index in enumerate(crowded, start=1):
        (folder / f"{number}.jpg").touch()
        images.append({"id": number, "file_name": f"{number}.jpg", "crowdIndex": index})
        for place in range(rng.integers(1, 7)):
            x, y, width, height = [*rng.uniform(0, 250, 2), *rng.uniform(20, 150, 2)]
            v = rng.integers(0, 3, 14) * (rng.random() > 0.1)
            v[:12] *= rng.random() > 0.2 or not place
            keypoints = np.stack([x + width * rng.random(14), y + height * rng.random(14), v], 1) * (v > 0)[:, None]
            people.append(
                {
                    "id": len(people) + 1, "image_id": number, "category_id": 1, "iscrowd": 0, "bbox": [x, y, width, height],
                    "keypoints": keypoints.ravel().tolist(), "num_keypoints": int((v[:12] > 0).sum()),  # as CrowdPose counts them
                }
            )  # fmt: skip
    content = {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person", "keypoints": NAMES}]}
    (folder / "crowd.json").write_text(json.dumps(content))
    return folder / "crowd.json", content


def near(content: dict, rng: np.random.Generator, more: int) -> list[dict]:
    """People found where they are, more or less, and so many others in each image."""
    places = [(i["id"], rng.uniform(0, 300, (14, 2))) for i in content["images"] for _ in range(more)]
    for person in content["annotations"]:
        noise = rng.normal(0, rng.uniform(0.01, 0.1) * np.sqrt(np.prod(person["bbox"][2:])), (14, 2))
        places.append((person["image_id"], np.reshape(person["keypoints"], (14, 3))[:, :2] + noise))
    ones = np.ones((14, 1))
    return [
        {"image_id": i, "category_id": 1, "keypoints": np.hstack([xy, ones]).ravel().tolist(), "score": float(rng.random())}
        for i, xy in places
    ]


def check(truth: GroundTruth, content: dict, found: list[dict]) -> dict[str, float]:
    metric = build_metric(truth)
    assert type(metric) is CrowdPoseMetric
    figures = metric.compute(found, truth)
    assert tuple(figures) == METRICS == ("AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP_easy", "AP_medium", "AP_hard")
    assert list(figures.values()) == pytest.approx(plain_figures(content, found), abs=1e-9)
    return figures


# Agreement


@pytest.mark.parametrize("more", [1, 25])
def test_drawn_people(tmp_path, more):
    """With 25 others an image, the twenty best are counted."""
    rng = np.random.default_rng(more)
    path, content = drawn(tmp_path, [0, 0.1, 0.19, 0.2, 0.5, 0.79, 0.8, 0.9, 1] * (2 if more == 1 else 1), rng)
    assert any(not person["num_keypoints"] and any(person["keypoints"]) for person in content["annotations"])
    figures = check(GroundTruth(path, tmp_path, SKELETON), content, near(content, rng, more))
    assert len(set(figures.values())) == len(METRICS)
    assert min(figures.values()) > 0.01


@pytest.mark.skipif(not CROWDPOSE.is_dir(), reason="no photographs: there is no folder shared/data/crowdpose beside the project")
@pytest.mark.parametrize("seed", range(1))
def test_photographs(seed):
    path, rng = CROWDPOSE / "test_crowdpose.json", np.random.default_rng(seed)
    content = json.loads(path.read_text())
    figures = check(GroundTruth(path, CROWDPOSE, SKELETON), content, near(content, rng, more=2))
    assert (figures["AP_easy"], figures["AP_hard"], figures["AP_medium"]) == (-1, -1, figures["AP"])
    assert 0 < figures["AP"] < 1


def test_a_group_without_images_or_people_has_no_figure(tmp_path):
    rng = np.random.default_rng(0)
    path, content = drawn(tmp_path, [0.1, 0.1, 0.5], rng)
    content["annotations"] = [person for person in content["annotations"] if person["image_id"] != 3]
    path.write_text(json.dumps(content))
    for found in (near(content, rng, more=2), []):
        figures = check(GroundTruth(path, tmp_path, SKELETON), content, found)
        assert (figures["AP_easy"], figures["AP_medium"], figures["AP_hard"]) == (figures["AP_easy"], -1, -1)
        assert (figures["AP_easy"] > 0) == bool(found)


def test_only_the_images_looked_at_count(tmp_path):
    rng = np.random.default_rng(0)
    path, content = drawn(tmp_path, [0.1, 0.5, 0.9], rng)
    found = [one for one in near(content, rng, more=2) if one["image_id"] == 1]
    figures = CrowdPoseMetric().compute(found, GroundTruth(path, tmp_path, SKELETON, limit=1))
    assert figures["AP"] == figures["AP_easy"] > 0
    assert (figures["AP_medium"], figures["AP_hard"]) == (-1, -1)


def test_bounds_belong_to_the_more_crowded_group():
    assert [crowd_group(index) for index in (0, 0.19, 0.2, 0.79, 0.8, 1)] == ["easy"] * 2 + ["medium"] * 2 + ["hard"] * 2


def test_an_area_in_the_file_changes_nothing(tmp_path):
    rng = np.random.default_rng(0)
    path, content = drawn(tmp_path, [0.1, 0.5, 0.9], rng)
    found = near(content, rng, more=2)
    for person in content["annotations"]:
        person["area"] = person["bbox"][2] * person["bbox"][3]
    path.write_text(json.dumps(content))
    check(GroundTruth(path, tmp_path, SKELETON), content, found)
