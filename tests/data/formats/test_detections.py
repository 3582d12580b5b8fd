"""Person detections: boxes by image, unusable boxes counted, other files refused."""

import json
from pathlib import Path

import pytest
from places import SHARED

from config import UserError
from data.formats import load_annotations
from data.formats.cleanup import AnnotationFixes
from data.formats.detections import load_detections, settle_ids

IMAGES = {7: {"id": 7, "width": 200, "height": 100}, 8: {"id": 8}}
GOOD = {"image_id": 7, "category_id": 1, "bbox": [10, 20.5, 30, 40], "score": 0.75}
NAN, INF = float("nan"), float("inf")
BAD = {
    "of another category than people": [{"category_id": 3}, {"category_id": None}],
    "of images that the annotation file does not list": [{"image_id": 9}, {"image_id": "7"}, {"image_id": [7]}, {"image_id": True}],
    "not finite numbers": [
        *({"bbox": box} for box in ([1, 2, 3], None, "four", [1, NAN, 3, 4], [1, "2", 3, 4], [-INF, 2, INF, 4])),
        *({"score": score} for score in (NAN, None, "0.5")),
    ],
    "without width or height": [{"bbox": [1, 2, 0, 4]}, {"bbox": [1, 2, 3, 0]}, {"bbox": [50, 50, -20, 10]}],
    "outside of their image": [{"bbox": [x, y, 10, 10]} for x, y in ((-10, 0), (0, -10), (200, 0), (0, 100))],
}


def write(path: Path, *entries: object) -> Path:
    path.write_text(json.dumps(entries))
    return path


def test_boxes_are_grouped_by_image_and_filtered_by_score(tmp_path, capsys):
    reaching_out, unknown_size = {**GOOD, "bbox": [-9, -9, 10, 300]}, {**GOOD, "image_id": 8, "bbox": [5000, 1, 2, 3]}
    path = write(tmp_path / "a.json", GOOD, reaching_out, unknown_size, {**GOOD, "score": 1}, {**GOOD, "score": 0})
    assert {image_id: boxes.tolist() for image_id, boxes in load_detections(path, IMAGES).items()} == {
        7: [[10, 20.5, 30, 40, 0.75], [-9, -9, 10, 300, 0.75], [10, 20.5, 30, 40, 1]],
        8: [[5000, 1, 2, 3, 0.75]],
    }
    assert load_detections(write(tmp_path / "none.json"), IMAGES) == {}
    assert capsys.readouterr() == ("", "")


def test_unusable_boxes_are_skipped_with_a_line_for_each_reason(tmp_path, capsys):
    bad = [{**GOOD, **change} for changes in BAD.values() for change in changes]
    path = write(tmp_path / "a.json", *bad, GOOD)
    assert {image_id: len(boxes) for image_id, boxes in load_detections(path, IMAGES).items()} == {7: 1}
    for (reason, changes), line in zip(BAD.items(), capsys.readouterr().err.splitlines(), strict=True):
        assert f"a.json: {len(changes)} of {len(bad) + 1} boxes were skipped: {reason}" in line


@pytest.mark.parametrize(
    ("written", "category", "names"),
    [
        ([7, 8], 1, []),
        (["7", "8"], 0, ["an id as text"]),
        (["000000000139", "match-2"], 0, ["the stem of a file name"]),
        ([139, "match-2"], 1, ["the stem of a file name"]),
    ],
)
def test_ids_of_other_tools_are_those_of_the_images_they_name(written, category, names):
    """All entries are read alike: some are not stems and others ids."""
    images = {7: {"file_name": "a/000000000139.jpg"}, 8: {"file_name": "b\\match-2.png"}, 139: {"file_name": "7.jpg"}}
    entries, fixes = [{"image_id": value, "category_id": category} for value in written], AnnotationFixes()
    settle_ids(entries, images if names[-1:] != ["the stem of a file name"] else {k: images[k] for k in (7, 8)}, [1], "results", fixes)
    assert entries == [{"image_id": 7, "category_id": 1}, {"image_id": 8, "category_id": 1}]
    expected = ["its 'category_id' is 0: taken for people"] * (category == 0)
    expected += [f"its 'image_id' is {name}: taken for that image" for name in names]
    assert {problem: len(places) for problem, places in fixes.found.items()} == dict.fromkeys(expected, 2)


def test_equal_stems_and_mixed_categories_name_nothing():
    images = {7: {"file_name": "a/1.jpg"}, 8: {"file_name": "b/1.jpg"}}
    entries, fixes = [{"image_id": "1", "category_id": 0}, {"image_id": [1], "category_id": 1}], AnnotationFixes(strict=True)
    before = json.dumps(entries)
    settle_ids(entries, images, [1], "results", fixes)
    assert json.dumps(entries) == before
    with pytest.raises(UserError, match=r"results: entry 1: its 'category_id' is 0: taken for people \(--strict"):
        settle_ids(entries[:1], images, [1], "results", fixes)


def test_files_of_another_format_or_for_other_images_are_refused(tmp_path):
    for entries in ([3], [GOOD, {k: v for k, v in GOOD.items() if k != "bbox"}]):
        with pytest.raises(UserError, match="a.json: not a file of detections; expected a list of {image_id, category_id, bbox, score}"):
            load_detections(write(tmp_path / "a.json", *entries), IMAGES)
    path = write(tmp_path / "a.json", {**GOOD, "image_id": 9}, {**GOOD, "image_id": 10}, {**GOOD, "category_id": 2})
    with pytest.raises(UserError, match="a.json: no box can be used: 2 of images that the .* list, 1 of another category"):
        load_detections(path, IMAGES)


@pytest.mark.skipif(not (SHARED / "data" / "coco_four").is_dir(), reason="no real detections: there is no folder shared/data")
def test_every_box_of_a_real_file_is_used(capsys):
    folder = SHARED / "data" / "coco_four"
    detections = load_detections(folder / "test_coco_det_AP_H_56.json", load_annotations(folder / "test_coco.json").coco.imgs)
    assert {image_id: len(boxes) for image_id, boxes in detections.items()} == {785: 22, 40083: 26, 196141: 33, 197388: 37}
    assert capsys.readouterr().err == ""
