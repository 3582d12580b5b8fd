"""MPII's annotation files: the list of people, the official .mat file, the ground truth of PCKh."""

import numpy as np
import pytest
from mpii_files import mpii_files, official_person, write_list, write_official, write_truth
from places import SHARED

from config import UserError
from config.load import load_skeleton
from config.skeleton import UNLABELED, VISIBLE
from data.coco_masks_hdf5 import build_hdf5
from data.formats import load_annotations
from data.formats.mpii import annotated_ground_truth, load_ground_truth
from data.hdf5 import TrainingHDF5

SKELETON = load_skeleton("mpii")
MPII = SHARED / "data" / "mpii"


@pytest.fixture(scope="module")
def people(images) -> list[dict]:
    return mpii_files(sorted(path.name for path in images.iterdir())[:3])


def published_crop(person: dict) -> np.ndarray:
    """Return center x, y and side of the published crop of a person, step by step as published."""
    center, scale = np.array(person["center"]), person["scale"]
    center[1] += 15 * scale
    scale *= 1.25
    return np.array([*(center - 1), 200 * scale])


def crops(boxes: np.ndarray) -> np.ndarray:
    """Return center x, y and side of the crops that Simple Baselines makes of square boxes (P, 4)."""
    np.testing.assert_allclose(boxes[:, 2], boxes[:, 3])
    return np.column_stack([boxes[:, :2] + boxes[:, 2:] / 2, 1.25 * boxes[:, 2]])


# The list of people


def test_a_list_of_people_makes_a_training_hdf5_with_the_published_crops(people, images, tmp_path):
    """The first pixel is 0. A joint with a negative coordinate is not labeled, though `joints_vis` is 1."""
    large = [{**person, "scale": scale} for person, scale in zip(people, (0.1, 0.5, 1, 2, 0.2, 4))]
    large[3]["joints"] = [[5, -1], *large[3]["joints"][1:]]
    build_hdf5(write_list(tmp_path / "valid.json", large), images, tmp_path / "out.h5", SKELETON, workers=1)
    stored = TrainingHDF5(tmp_path / "out.h5", SKELETON)
    assert (len(stored), stored.labeled.all(), stored.num_labeled.tolist()) == (3, True, [15, 16, 15, 15, 15, 16])
    joints = stored.joints(np.arange(6))
    np.testing.assert_allclose(joints[1, :, :2], np.array(people[1]["joints"]) - 1, rtol=1e-6)
    assert joints[0, 15].tolist() == [0, 0, UNLABELED] and (joints[0, :15, 2] == VISIBLE).all()
    np.testing.assert_allclose(crops(stored.boxes), [published_crop(person) for person in large], rtol=1e-6)
    test_set = write_list(tmp_path / "test.json", [{key: person[key] for key in ("image", "center", "scale")} for person in people])
    annotations = load_annotations(test_set).coco.dataset["annotations"]
    assert [(one["num_keypoints"], one["image_id"]) for one in annotations] == [(0, n) for n in (1, 1, 2, 2, 3, 3)]


@pytest.mark.skipif(not MPII.is_dir(), reason="no photographs: there is no folder shared/data/mpii")
def test_a_real_list_has_these_people(tmp_path):
    report = build_hdf5(MPII / "test_mpii.json", MPII, tmp_path / "out.h5", SKELETON, workers=1)
    assert (report.images, report.people, report.skipped, report.boxed) == (5, 5, [], [])
    stored = TrainingHDF5(tmp_path / "out.h5", SKELETON)
    assert stored.num_labeled.tolist() == [16, 16, 14, 14, 16]
    assert stored.joints(np.array([0]))[0, 0].tolist() == [803, 710, VISIBLE]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"joints": [[1, 2]] * 14}, "expected x, y of each of the 16"),
        ({"joints_vis": None}, "its 'joints_vis' is None, expected 0 or 1 for each of the 16"),
        ({"center": [1, float("nan")]}, "its 'center' is [1, nan], expected x, y"),
        ({"scale": 0}, "its 'scale' is 0, expected a number above 0"),
        ({"image": 7}, "has no name of an 'image'; expected COCO's format, or MPII's list of people"),
    ],
)
def test_invalid_entries_of_a_list_are_named(people, tmp_path, changes, problem):
    file = write_list(tmp_path / "bad.json", [people[0], {**people[1], **changes}])
    with pytest.raises(UserError) as error:
        load_annotations(file)
    assert f"annotation file {file}: person 2" in str(error.value) and problem in str(error.value)


# The official file


def test_the_official_file_has_labeled_people_for_training_and_separated_ones_for_the_test(people, tmp_path):
    """People without keypoints or without a center are not trained on."""
    a, b, c, d, *_ = people
    unlabeled = {key: value for key, value in official_person(b).items() if key != "annopoints"}
    training = [official_person(a), unlabeled, official_person(c, objpos=np.zeros((0, 0))), official_person(d)]
    bare = [{"objpos": official_person(p)["objpos"], "scale": p["scale"]} for p in (a, b, c)]
    images = [
        ("one.jpg", training, 1, [1]),
        ("none.jpg", [], 1, []),
        ("two.jpg", [official_person(c)], 1, [1]),
        ("three.jpg", bare, 0, [1, 3]),
        ("four.jpg", bare[1:2], 0, [1]),
    ]
    file = write_official(tmp_path / "mpii.mat", images)
    coco = load_annotations(file).coco
    assert [image["file_name"] for image in coco.dataset["images"]] == ["one.jpg", "two.jpg"]
    annotations = coco.dataset["annotations"]
    assert [annotation["image_id"] for annotation in annotations] == [1, 1, 2]
    for annotation, person in zip(annotations, (a, d, c)):
        keypoints, labeled = np.reshape(annotation["keypoints"], (16, 3)), np.array(person["joints_vis"]) > 0
        np.testing.assert_allclose(keypoints[labeled, :2], np.array(person["joints"])[labeled] - 1)
        # `official_person` writes every fifth joint as occluded
        np.testing.assert_array_equal(keypoints[:, 2], np.where(np.arange(16) % 5 == 4, 1, 2) * labeled)
    np.testing.assert_allclose(crops(np.array([one["bbox"] for one in annotations])), [published_crop(person) for person in (a, d, c)])
    coco = load_annotations(file, split="test").coco
    assert [image["file_name"] for image in coco.dataset["images"]] == ["three.jpg", "four.jpg"]
    assert [(one["image_id"], one["num_keypoints"]) for one in coco.dataset["annotations"]] == [(1, 0), (1, 0), (2, 0)]
    expected = [published_crop(person) for person in (a, c, b)]
    np.testing.assert_allclose(crops(np.array([one["bbox"] for one in coco.dataset["annotations"]])), expected)


def test_a_file_without_a_test_set_has_head_boxes_of_separated_people(people, tmp_path):
    file = write_official(tmp_path / "one.mat", [("one.jpg", [official_person(person) for person in people[:3]], 1, [3, 1])])
    separated = load_annotations(file, split="test").coco.dataset["annotations"]
    truth = annotated_ground_truth(separated)
    assert truth.head_boxes[..., 0].tolist() == [[10, 20], [16, 28]]
    np.testing.assert_allclose(truth.joints[..., 0], people[2]["joints"] * (1 - truth.missing[:, :1]) + truth.missing[:, :1])
    assert truth.missing[:, 1].tolist() == [0] * 15 + [1]
    assert annotated_ground_truth([separated[0], {key: value for key, value in separated[1].items() if key != "head_box"}]) is None


def test_other_mat_files_are_refused(people, tmp_path):
    (tmp_path / "text.mat").write_text("hello")
    strange = write_official(tmp_path / "strange.mat", [("a.jpg", [official_person(people[0], scale="large")], 1, [1])])
    truth = write_truth(tmp_path / "gt_valid.mat", people)
    for file, problem in ((truth, "its RELEASE is not"), (tmp_path / "text.mat", "not a Matlab file"), (strange, "its RELEASE is not")):
        with pytest.raises(UserError, match=rf"annotation file {file}: {problem}"):
            load_annotations(file)


# The ground truth of PCKh


@pytest.mark.parametrize("count", [1, 6])
def test_the_ground_truth_is_in_the_skeletons_order(people, tmp_path, count):
    truth = load_ground_truth(write_truth(tmp_path / "a.mat", people[:count], np.random.default_rng(0).permutation(16).tolist()))
    np.testing.assert_array_equal(truth.joints.transpose(2, 0, 1), [person["joints"] for person in people[:count]])
    np.testing.assert_array_equal(truth.missing.T == 0, np.array([person["joints_vis"] for person in people[:count]]) > 0)
    heads = np.array([person["joints"][9] for person in people[:count]])
    np.testing.assert_array_equal(truth.head_boxes.transpose(0, 2, 1), [heads - 1, heads + (5, 7)])
    assert len(truth) == count


@pytest.mark.parametrize("headboxes", [None, np.zeros((2, 2, 5)), np.full((2, 2, 6), np.nan)])
def test_invalid_ground_truth_is_refused(people, tmp_path, headboxes):
    file = write_truth(tmp_path / "bad.mat", people, headboxes_src=headboxes)
    with pytest.raises(UserError, match=r"head boxes .*bad\.mat: (expected a file such as MPII's gt_valid|contains a number that is not)"):
        load_ground_truth(file)
