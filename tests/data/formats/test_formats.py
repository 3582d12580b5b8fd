"""The registry of annotation formats."""

import json

import pytest
from people import SKELETON, person, write_coco

from config import UserError
from data.formats import load_annotations


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
