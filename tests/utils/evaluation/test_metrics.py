"""The number of network calls of an evaluation, and a new format with a new metric."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from places import SHARED

from config.load import load_skeleton
from data.formats import FORMATS, AnnotationFormat
from data.formats.coco import AnnotationFile
from utils.batching import sized_batches
from utils.checkpoint import config_for
from utils.evaluation.coco import CocoMetric, GroundTruth
from utils.evaluation.metrics import build_metric, report
from utils.systems.simplepose import SimplePoseDecoder

VAL538 = SHARED / "data" / "coco_val538" / "person_keypoints_val2017_538.json"


@pytest.mark.skipif(not VAL538.exists(), reason="no list of COCO's images: there is no folder shared/data/coco_val538 beside the project")
def test_images_of_mixed_sizes_take_few_network_calls():
    """538 images in batches of 8 would take 68 calls if all had one size."""
    inputs = CocoMetric().inputs(GroundTruth(VAL538), needs_boxes=False)
    decoder = SimplePoseDecoder(torch.nn.Identity(), config_for("simplepose_small", overrides=["inference.scales=[1.7,2.7]"]))
    assert len(sized_batches(inputs, lambda number: decoder.batch_key(inputs[number].size), 8)) <= 80


# A new format and its metric: all the code that they need


class NearestShoulder(CocoMetric):
    """The mean distance of predicted left shoulders from the annotated ones, in pixels."""

    def compute(self, predictions, truth):
        target = {a["image_id"]: a["keypoints"][:2] for a in truth.coco.dataset["annotations"]}
        distances = [np.linalg.norm(np.subtract(p["keypoints"][:2], target[p["image_id"]])) for p in predictions]
        return {"distance": float(np.mean(distances))}


def load_shoulders(file: AnnotationFile) -> dict:
    """Convert {"shoulders": {"name of an image": [x, y], ...}}."""
    images = [{"id": number, "file_name": name} for number, name in enumerate(file.content["shoulders"])]
    people = [
        {"id": number, "image_id": number, "category_id": 1, "keypoints": [x, y, 2], "bbox": [x - 9, y - 9, 18, 18]}
        for number, (x, y) in enumerate(file.content["shoulders"].values())
    ]
    return {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person", "keypoints": ["left_shoulder"]}]}


def test_a_format_with_a_metric_is_one_entry(monkeypatch, tmp_path, capsys):
    entry = AnnotationFormat(lambda file: "shoulders" in file.content, load_shoulders, f"{__name__}:NearestShoulder")
    monkeypatch.setattr("data.formats.FORMATS", {"shoulders": entry, **FORMATS})  # before "coco", which matches every file
    monkeypatch.setattr("utils.evaluation.metrics.FORMATS", {"shoulders": entry})
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"shoulders": {"a.jpg": [10, 20], "b.jpg": [30, 40]}}))
    truth = GroundTruth(path, skeleton=load_skeleton("coco17"))
    metric, keypoints = build_metric(truth), np.zeros((1, 17, 3))
    keypoints[0, truth.skeleton.index("left_shoulder")] = 10, 24, 1
    poses = [keypoints, keypoints + (20, 16, 0)]
    predictions = [result for number, pose in enumerate(poses) for result in metric.to_results(truth, number, (pose, np.ones(1)))]
    report(metric, predictions, truth, tmp_path, Path("runs/mine/best.pth"))
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"distance": 2.0}
    page = (tmp_path / "report.html").read_text()
    assert all(text in page for text in ("distance", "2.000", "best.pth", "mine.json", "2 people in 2 images"))
    assert capsys.readouterr().out.splitlines()[0].split() == ["distance"]
