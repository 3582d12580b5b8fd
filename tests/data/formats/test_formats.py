"""The registry of annotation formats."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from people import NAMES, SKELETON, person, write_coco

from config import UserError
from data.coco_masks_hdf5 import build_hdf5
from data.formats import FORMATS, AnnotationFormat, load_annotations
from data.formats.coco import AnnotationFile
from data.hdf5 import TrainingHDF5


def matches(file: AnnotationFile) -> bool:
    return file.path.suffix == ".txt"


def load(file: AnnotationFile) -> dict:
    """Read one person a line: file name, then x, y of each keypoint in fractions of the image's size."""
    images, people = [], []
    for number, line in enumerate(file.path.read_text().splitlines(), start=1):
        name, *values = line.split()
        height, width = cv2.imread(str(file.images[0] / name)).shape[:2]
        points = np.array(values, float).reshape(-1, 2) * (width, height)
        images.append({"id": number, "file_name": name})
        box = [*points.min(0).tolist(), *np.ptp(points, 0).tolist()]
        keypoints = np.column_stack([points, np.full(len(points), 2)]).ravel().tolist()
        people.append({"id": number, "image_id": number, "category_id": 1, "bbox": box, "keypoints": keypoints})
    return {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person", "keypoints": NAMES}]}


def test_another_format_is_one_file_and_one_entry(tmp_path, monkeypatch):
    _, images = write_coco(tmp_path, [])  # 200 x 160
    (tmp_path / "people.txt").write_text("0.jpg " + " ".join(f"{k / 20} 0.5" for k in range(17)))
    monkeypatch.setattr("data.formats.FORMATS", {"lines": AnnotationFormat(matches, load), **FORMATS})
    assert build_hdf5(tmp_path / "people.txt", images, tmp_path / "out.h5", SKELETON, workers=1).people == 1
    joints = TrainingHDF5(tmp_path / "out.h5", SKELETON).joints(np.array([0]))
    np.testing.assert_allclose(SKELETON.to_dataset(joints)[0], [(10 * k, 80, 1) for k in range(17)], atol=1e-4)
    assert load_annotations(tmp_path / "people.txt", images=[images]).format == "lines"
    assert load_annotations(write_coco(tmp_path, [person(10, 10)])[0]).format == "coco"


@pytest.mark.parametrize("content", [{"images": 3}, {"images": [3]}, {"images": [], "annotations": {}}])
def test_json_of_no_format_is_refused(tmp_path, content):
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"other\.json: not in COCO's format"):
        load_annotations(tmp_path / "other.json")


def test_people_count_by_their_keypoints_whatever_the_file_counts(tmp_path):
    uncounted = [{key: value for key, value in person(9, 9, visible=n).items() if key != "num_keypoints"} for n in (3, 0)]
    path, _ = write_coco(tmp_path, [*uncounted, person(9, 9, num_keypoints=0), person(9, 9, num_keypoints=4)])
    people = load_annotations(path, SKELETON).coco.dataset["annotations"]
    assert [one["num_keypoints"] for one in people] == [3, 0, 17, 17]
    assert [(one["id"], one["file_id"]) for one in people] == [(n, n) for n in range(1, 5)]
