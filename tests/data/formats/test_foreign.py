"""Files of other annotation programs: the message says what each is, by its content, and what to do."""

import json

import pytest
from people import NAMES, person, write_coco

from config import UserError
from data.formats import load_annotations

POINTS = [{"id": number, "name": name} for number, name in enumerate(NAMES[:4])]
XML = '<?xml version="1.0" encoding="utf-8"?>\n'
FILES = {
    "CVAT": (XML + "<annotations>\n  <version>1.1</version>", "is CVAT's XML; export 'COCO Keypoints' or 'Ultralytics YOLO Pose'"),
    "Pascal VOC": ("<annotation><filename>a.jpg</filename></annotation>", "is Pascal VOC's XML, which has boxes only"),
    "a page": ("<!DOCTYPE html>", "is XML or HTML; export"),
    "VIA's CSV": ("filename,file_size,file_attributes,region_count\na.jpg,1,{},1", r"is CSV of VIA \(VGG Image Annotator\); it has single"),
    "DeepLabCut": ("scorer,ann,ann\nbodyparts,nose,nose\n", "is DeepLabCut's CSV"),
    "a label file": ("0 0.5 0.5 0.1 0.2 0.3 0.4 2 0.1 0.1 1\n", "is the label file of one image of a YOLO data set; give its data.yaml"),
    "NDJSON": ('{"type": "dataset"}\n{"type": "image"}\n', r"is one JSON object a line \(NDJSON\)"),
    "a text": ("image x y\n", "is of no known format; expected COCO's, MPII's, or a YOLO"),
    "a number": ("3", "is of no known format"),
    "labelme": ({"version": "5.5.0", "shapes": [], "imagePath": "a.jpg"}, "is labelme's JSON of one image; export COCO keypoints or YOLO"),
    "VIA's project": ({"_via_settings": {}, "_via_img_metadata": {}}, "is JSON of VIA"),
    "VIA's JSON": ({"a.jpg123": {"filename": "a.jpg", "size": 123, "regions": []}}, "is JSON of VIA"),
    "Supervisely": ({"tags": [], "size": {"height": 9, "width": 9}, "objects": []}, "is Supervisely's JSON"),
    "Supervisely's meta": ({"classes": [], "tags": [], "projectType": "images"}, "is Supervisely's JSON"),
    "Label Studio": ([{"id": 1, "data": {"img": "a.jpg"}, "annotations": []}], "is Label Studio's JSON; export 'COCO' or 'YOLO'"),
    "Datumaro": ({"info": {}, "categories": {}, "items": []}, "is Datumaro's JSON"),
    "results": ([{"image_id": 1, "category_id": 1, "keypoints": [1], "score": 1}], "is predictions .* takes them by --detections"),
    "points": (
        {"images": [], "annotations": [], "categories": POINTS},
        "is in COCO's format, but its categories are keypoints; it has single points, no people",
    ),
}


@pytest.mark.parametrize("content", FILES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_of_another_program_is_named(tmp_path, content, encoding):
    text, message = FILES[content]
    path = tmp_path / "any.name"
    path.write_text(text if isinstance(text, str) else json.dumps(text, indent=1), encoding)
    with pytest.raises(UserError, match=rf"^annotation file {path}: {message}"):
        load_annotations(path)


def test_what_is_truncated_or_packed_is_not_taken_for_another_program(tmp_path):
    path = write_coco(tmp_path, [person(10, 10)])[0]
    for content, message in (
        (path.read_bytes()[:-9], "not valid JSON .* is the download complete"),
        (b"PK\x03\x04..", "is packed"),
        (b"", "not"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            load_annotations(path)
