"""MPII's annotation files: the list of people, the official .mat file, the ground truth of PCKh."""

from __future__ import annotations

from pathlib import Path

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
needs_mpii = pytest.mark.skipif(not MPII.is_dir(), reason="no photographs: there is no folder shared/data/mpii beside the project")


@pytest.fixture(scope="module")
def people(images) -> list[dict]:
    return mpii_files(sorted(path.name for path in images.iterdir())[:3])


def published_crop(person: dict) -> np.ndarray:
    """Center x, y and side of what is cut out of the image, step by step as published."""
    center, scale = np.array(person["center"]), person["scale"]
    center[1] += 15 * scale
    scale *= 1.25
    return np.array([*(center - 1), 200 * scale])


def test_the_people_file_of_a_list(people, images, tmp_path):
    """Its images' sizes are those of the files; the first pixel is 0."""
    file, output = write_list(tmp_path / "valid.json", people), tmp_path / "out.h5"
    build_hdf5(file, images, output, SKELETON, workers=1)
    known = TrainingHDF5(output, SKELETON)
    assert (len(known), known.labeled.all(), known.num_labeled.tolist()) == (3, True, [15, 16] * 3)
    joints = known.joints(np.arange(6))
    np.testing.assert_allclose(joints[1, :, :2], np.array(people[1]["joints"]) - 1, rtol=1e-6)
    assert joints[0, 15].tolist() == [0, 0, UNLABELED]
    assert (joints[0, :15, 2] == VISIBLE).all()
    middle_and_side = np.column_stack([known.boxes[:, :2] + known.boxes[:, 2:] / 2, 1.25 * known.boxes[:, 2]])
    np.testing.assert_allclose(middle_and_side, [published_crop(person) for person in people], rtol=1e-6)
    np.testing.assert_allclose(known.boxes[:, 2], known.boxes[:, 3])


def test_a_joint_left_of_the_image_is_not_labeled(people, tmp_path):
    """Whatever the file says."""
    person = {**people[1], "joints": [[-1, 5], [5, -1], *people[1]["joints"][2:]]}
    (annotation,) = load_annotations(write_list(tmp_path / "a.json", [person])).dataset["annotations"]
    assert annotation["keypoints"][:9] == [0, 0, 0, 0, 0, 0, *(np.array(person["joints"][2]) - 1).tolist(), 2]
    assert annotation["num_keypoints"] == 14


def test_people_of_the_test_set_have_no_joints(people, tmp_path):
    bare = [{key: person[key] for key in ("image", "center", "scale")} for person in people]
    coco = load_annotations(write_list(tmp_path / "test.json", bare))
    assert coco.dataset["format"] == "mpii"
    assert [annotation["num_keypoints"] for annotation in coco.dataset["annotations"]] == [0] * 6
    assert [annotation["image_id"] for annotation in coco.dataset["annotations"]] == [1, 1, 2, 2, 3, 3]


@needs_mpii
def test_photographs(tmp_path):
    built = build_hdf5(MPII / "test_mpii.json", MPII, tmp_path / "out.h5", SKELETON, workers=1)
    assert (built.images, built.people, built.skipped, built.boxed) == (5, 5, [], [])
    known = TrainingHDF5(tmp_path / "out.h5", SKELETON)
    assert known.num_labeled.tolist() == [16, 16, 14, 14, 16]
    assert known.joints(np.array([0]))[0, 0].tolist() == [803, 710, VISIBLE]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"joints": [[1, 2]] * 14},
            "its 'joints' is [[1, 2], [1, 2], [1, 2], [1, 2], [1, 2], [1, 2], ...], expected x, y of each of the 16",
        ),
        ({"joints": [[1, 2]] * 15 + [[1]]}, "expected x, y of each of the 16 keypoints"),
        ({"joints": [[1, float("nan")]] * 16}, "its 'joints' is"),
        ({"joints_vis": [1] * 17}, "its 'joints_vis' is [1, 1, 1, 1, 1, 1, ...], expected 0 or 1 for each of the 16"),
        ({"joints_vis": None}, "its 'joints_vis' is None"),
        ({"center": "here"}, "its 'center' is 'here', expected x, y"),
        ({"scale": float("inf")}, "its 'scale' is inf, expected a number above 0"),
        ({"scale": -1}, "its 'scale' is -1, expected a number above 0"),
        ({"image": 7}, "has no name of an 'image'; expected COCO's format, or MPII's list of people"),
    ],
)
def test_what_is_no_person_is_named(people, tmp_path, changes, said):
    file = write_list(tmp_path / "bad.json", [people[0], {**people[1], **changes}])
    with pytest.raises(UserError) as error:
        load_annotations(file)
    assert f"annotation file {file}: person 2" in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize(("content", "said"), [([1], "person 1: has no name of an 'image'"), ([], "an empty list is not")])
def test_a_list_of_no_people_is_refused(tmp_path, content, said):
    with pytest.raises(UserError, match=said):
        load_annotations(write_list(tmp_path / "a.json", content))


# The official file


@pytest.fixture
def official(people, tmp_path) -> Path:
    """Three images for training, in one of them somebody without keypoints and somebody without center; two of the test set."""
    a, b, c, d, *_ = people
    unlabeled = {key: value for key, value in official_person(b).items() if key != "annopoints"}
    nowhere = official_person(c, objpos=np.zeros((0, 0)))
    bare = [{"objpos": official_person(p)["objpos"], "scale": p["scale"]} for p in (a, b, c)]
    images = [
        ("one.jpg", [official_person(a), unlabeled, nowhere, official_person(d)], 1, [1]),
        ("none.jpg", [], 1, []),
        ("two.jpg", [official_person(c)], 1, [1]),
        ("three.jpg", bare, 0, [1, 3]),
        ("four.jpg", bare[1:2], 0, [1]),
    ]
    return write_official(tmp_path / "mpii.mat", images)


def test_the_official_files_training_people(official, people):
    coco = load_annotations(official)
    assert [image["file_name"] for image in coco.dataset["images"]] == ["one.jpg", "two.jpg"]
    found = coco.dataset["annotations"]
    assert [annotation["image_id"] for annotation in found] == [1, 1, 2]
    for annotation, person in zip(found, (people[0], people[3], people[2])):
        keypoints = np.reshape(annotation["keypoints"], (16, 3))
        labeled = np.array(person["joints_vis"]) > 0
        np.testing.assert_allclose(keypoints[labeled, :2], np.array(person["joints"])[labeled] - 1)
        # The fifth of each five is hidden; whatever does not say so is visible
        np.testing.assert_array_equal(keypoints[:, 2], np.where(np.arange(16) % 5 == 4, 1, 2) * labeled)
        x, y, width, _ = annotation["bbox"]
        np.testing.assert_allclose([x + width / 2, y + width / 2, 1.25 * width], published_crop(person))


def test_the_official_files_test_people_are_those_who_stand_alone(official):
    coco = load_annotations(official, split="test")
    assert [image["file_name"] for image in coco.dataset["images"]] == ["three.jpg", "four.jpg"]
    assert [annotation["image_id"] for annotation in coco.dataset["annotations"]] == [1, 1, 2]
    assert not any(annotation["num_keypoints"] for annotation in coco.dataset["annotations"])


def test_an_official_file_of_one_labeled_image_has_head_boxes(people, tmp_path):
    """Of several people of whom some stand alone; without a test set they are the held out ones."""
    persons = [official_person(person) for person in people[:3]]
    file = write_official(tmp_path / "one.mat", [("one.jpg", persons, 1, [3, 1])])
    assert len(load_annotations(file).dataset["annotations"]) == 3
    alone = load_annotations(file, split="test").dataset["annotations"]
    truth = annotated_ground_truth(alone)
    assert truth.head_boxes[..., 0].tolist() == [[10, 20], [16, 28]]
    np.testing.assert_allclose(truth.joints[..., 0], people[2]["joints"] * (1 - truth.missing[:, :1]) + truth.missing[:, :1])
    assert truth.missing[:, 1].tolist() == [0] * 15 + [1]
    assert annotated_ground_truth([alone[0], {key: value for key, value in alone[1].items() if key != "head_box"}]) is None


def test_a_mat_file_that_is_not_mpiis_is_refused(people, tmp_path):
    truth = write_truth(tmp_path / "gt_valid.mat", people)
    with pytest.raises(UserError, match=r"gt_valid\.mat: not MPII's, it has no RELEASE\.annolist"):
        load_annotations(truth)
    (tmp_path / "text.mat").write_text("hello")
    with pytest.raises(UserError, match=r"annotation file .*text\.mat: not a Matlab file"):
        load_annotations(tmp_path / "text.mat")
    strange = write_official(tmp_path / "strange.mat", [("a.jpg", [official_person(people[0], scale="large")], 1, [1])])
    with pytest.raises(UserError, match=r"strange\.mat: an entry of RELEASE.annolist is not as MPII's are"):
        load_annotations(strange)
    with pytest.raises(UserError, match=r"annotation file .*none\.mat: not found"):
        load_annotations(tmp_path / "none.mat")


# The ground truth of PCKh


@pytest.mark.parametrize("count", [1, 6])
def test_the_ground_truth_is_in_the_skeletons_order(people, tmp_path, count):
    """Whatever order the file has."""
    plain = load_ground_truth(write_truth(tmp_path / "a.mat", people[:count]))
    other = load_ground_truth(write_truth(tmp_path / "b.mat", people[:count], np.random.default_rng(0).permutation(16).tolist()))
    np.testing.assert_array_equal(plain.joints.transpose(2, 0, 1), [person["joints"] for person in people[:count]])
    assert (plain.missing.shape, plain.head_boxes.shape, len(plain)) == ((16, count), (2, 2, count), count)
    for name in ("joints", "missing", "head_boxes"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(other, name))


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({"headboxes_src": None}, "it has no 'headboxes_src'"),
        ({"jnt_missing": np.zeros((14, 6))}, r"'jnt_missing' is of shape \(14, 6\), expected numbers of shape \(16, 6\)"),
        ({"headboxes_src": np.zeros((2, 2, 5))}, r"'jnt_missing' is of shape \(16, 6\), expected numbers of shape \(16, 5\)"),
        ({"headboxes_src": np.full((2, 2, 6), np.nan)}, "holds what is not a finite number"),
        ({"dataset_joints": np.array(["a", "b"], object)}, r"'dataset_joints' is \['a', 'b'\], expected MPII's: rank, rkne"),
    ],
)
def test_ground_truth_that_is_none_is_refused(people, tmp_path, replaced, said):
    file = write_truth(tmp_path / "bad.mat", people, **replaced)
    with pytest.raises(UserError, match=rf"head boxes .*bad\.mat: {said}"):
        load_ground_truth(file)
