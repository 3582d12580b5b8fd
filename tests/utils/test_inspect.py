"""Label issues are listed and nothing else is; samples of every pose system are on the sheet."""

import shutil

import h5py
import numpy as np
import pytest
import tiny_system
import yaml
from people import NAMES, SKELETON, read_back, write_coco
from places import ROOT

from config import load_config
from config.load import load_skeleton
from config.systems import SYSTEMS
from data.coco_masks_hdf5 import build_hdf5
from data.datasets import build_dataset
from data.hdf5 import TrainingHDF5
from data.images import read_image
from utils.inspect import __main__ as script
from utils.inspect.issues import find_label_issues, sided_pairs
from utils.inspect.report import summary
from utils.inspect.sheet import SIDE, WRONG, annotated_image, render_sample, sample_panels
from utils.visualize.people import side_colors

SCRIPT = "utils/inspect/__main__.py"
# A person from the front, x and y in percent of the width and height of a box half as wide as high: nose, eyes, ears, ...
FIGURE = [(50, 8), (56, 6), (44, 6), (62, 8), (38, 8), (80, 22), (20, 22), (90, 38), (10, 38), (95, 52), (5, 52), (70, 52), (30, 52),
          (68, 75), (32, 75), (66, 97), (34, 97)]  # fmt: skip
KINDS = ("outside", "boxes", "swapped", "two people", "twice", "x1, y1, x2, y2", "at 0, 0")


def point(x: float, y: float, name: str, height: float = 100) -> tuple[float, float]:
    a, b = FIGURE[NAMES.index(name)]
    return x + a * height / 200, y + b * height / 100


def figure(x: float, y: float, height: float = 100, **moved: tuple[float, float]) -> dict:
    """Return that person's annotation, its box at x, y; `moved` keypoints are elsewhere, in image pixels."""
    points = {name: point(x, y, name, height) for name in NAMES} | moved
    return {
        "category_id": 1, "iscrowd": 0, "keypoints": [v for name in NAMES for v in (*points[name], 2)], "num_keypoints": 17,
        "bbox": [x, y, height / 2, height], "area": height**2 / 3,
    }  # fmt: skip


def swapped(x: float, y: float, *parts: str) -> dict[str, tuple[float, float]]:
    """Return the left and right keypoints of these parts, each at the other's position."""
    other = {"left": "right", "right": "left"}
    return {f"{side}_{part}": point(x, y, f"{other[side]}_{part}") for side in other for part in parts}


@pytest.fixture
def faulty(tmp_path) -> TrainingHDF5:
    """An image without an issue, then one with each of KINDS; the last one's file is the first one's."""
    healthy = figure(10, 20), figure(80, 30, 90)
    elsewhere = figure(20, 20) | {"bbox": [150, 100, 40, 50]}
    unlabeled = figure(145, 20, 60) | {"keypoints": [0] * 51, "num_keypoints": 0}
    people = [
        [*healthy, unlabeled],
        [figure(145, 20, left_wrist=(203, 58)), figure(80, 30)], [elsewhere], [figure(30, 20, **swapped(30, 20, "hip"))],
        [figure(30, 20), figure(31, 20)], healthy,
    ]  # fmt: skip
    annotations, images = write_coco(tmp_path, *people)
    shutil.copy(images / "0.jpg", images / "5.jpg")
    build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1)
    return read_back(tmp_path)


def suspected(people: TrainingHDF5) -> dict[str, list[int]]:
    """Return the image ids of each kind of issue."""
    issues = find_label_issues(people)
    assert all(kind in name for kind, name in zip(KINDS, issues, strict=True))
    return {kind: [int(people.image_ids[issue.image]) for issue in of_kind] for kind, of_kind in zip(KINDS, issues.values())}


def test_the_report_lists_each_issue_for_its_image_and_no_other(run, faulty, tmp_path):
    """The skeleton is the one that fits."""
    assert suspected(faulty) == {kind: [number] * (number <= 5) for number, kind in enumerate(KINDS, 1)}
    ended = run(SCRIPT, tmp_path / "out.h5")
    assert ended.status == 0, ended.err
    words = " ".join(ended.out.split())
    for line in (
        "images 6 people 11, masked by their boxes; 1 of them without keypoints crowd regions 0 keypoints 170; the file labels 17 of the",
        "nose 10 10 0",
        "image 1, the person in 145, 20, 50 x 100: Lwri at 203, 58; the image is 200 x 160",
        "image 3, the person in 30, 20, 50 x 100: Lsho-Rsho and Lhip-Rhip point opposite ways",
        "two people with nearly the same keypoints: 1",
        "image 4, the person in 31, 20, 50 x 100: 17 keypoints are 1.0 pixels from those of the person in 30, 20",
        "image 5: is the same file as image 0",
    ):
        assert line in words
    assert "samples" not in words and "tracks" not in words
    shutil.copy(tmp_path / "out.h5", tmp_path / "again.h5")
    with h5py.File(tmp_path / "again.h5", "r+") as file:
        file["images/bytes"][file["images/ends"][4, 0] - 20] ^= 4
    again = TrainingHDF5(tmp_path / "again.h5", SKELETON)
    again.image_ids[2] = 1
    assert suspected(again)["twice"] == [1, 4, 5]
    assert "is corrupt: the checksum of its bytes differs" in summary(again, find_label_issues(again), None)


def test_boxes_as_corners_and_unlabeled_keypoints_at_0_0_are_listed(tmp_path):
    people = [figure(90, 50) | {"keypoints": [0, 0, 2] * 3 + figure(90, 50)["keypoints"][9:]}]
    corners = [figure(x, 50) | {"bbox": [x, 50, x + 50, 150]} for x in (80, 90, 100)]
    build_hdf5(*write_coco(tmp_path, people, corners), tmp_path / "out.h5", SKELETON, workers=1)
    found = suspected(read_back(tmp_path))
    assert (found["x1, y1, x2, y2"], found["at 0, 0"]) == ([1, 1, 1], [0])
    assert "3 keypoints, of 3 in the file" in summary(read_back(tmp_path), find_label_issues(read_back(tmp_path)), None)


def test_a_person_upside_down_or_from_behind_is_no_issue(tmp_path):
    """All of the person is turned, not one part."""
    behind = figure(20, 20, **swapped(20, 20, "eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"))
    keypoints = np.reshape(figure(90, 20)["keypoints"], (17, 3))
    keypoints[:, :2] = (230, 140) - keypoints[:, :2]
    turned = figure(90, 20) | {"keypoints": keypoints.ravel().tolist()}
    annotations, images = write_coco(tmp_path, [figure(10, 20), figure(80, 20)], [behind], [turned])
    build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1)
    assert not any(suspected(read_back(tmp_path)).values())


@pytest.mark.parametrize(("skeleton", "pairs"), [("coco", 4), ("coco17", 4), ("mpii", 2), ("crowdpose", 2), ("posetrack18", 3)])
def test_pairs_of_sides_follow_from_the_keypoint_names_left_first(skeleton, pairs):
    skeleton = load_skeleton(skeleton)
    assert len(sided_pairs(skeleton)) == pairs
    for left, right in sided_pairs(skeleton):
        assert skeleton.flip_keypoints[left] == right
        assert skeleton.keypoints[left][0].lower() == "l"


def test_cocos_own_annotations_have_no_issues(shared, tmp_path):
    mini = shared / "data" / "coco_mini"
    build_hdf5(mini / "annotations" / "person_keypoints_val2017.json", mini / "val2017", tmp_path / "out.h5", SKELETON, workers=1)
    assert not any(suspected(read_back(tmp_path)).values())


# The sheet


@pytest.mark.parametrize(("system", "maps"), [("simplepose", 2), ("dekr", 4), ("simple_baselines", 1), ("tiny", 1)])
def test_sheet_of_every_system(run, hdf5, tmp_path, tiny, monkeypatch, system, maps):
    monkeypatch.setitem(SYSTEMS, "tiny", tiny_system.ENTRY)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({"system": "tiny", "skeleton": "coco17", "data": {"input_size": [64, 80]}}))
    recipe = {"simplepose": tiny, "tiny": tmp_path / "tiny.yaml"}.get(system, ROOT / "config" / f"{system}_quickstart.yaml")
    config = load_config(recipe)
    samples = build_dataset(TrainingHDF5(hdf5, config.skeleton), config)
    sheets = []
    for seed in (1, 1, 2) if system == "simplepose" else (1,):
        ended = run(SCRIPT, hdf5, "--config", recipe, "--output", tmp_path / "sheet.png", "--count", 2, "--seed", seed)
        assert ended.status == 0, ended.err
        assert f"{len(samples):,} of the system '{system}'" in ended.out
        sheets.append(read_image(tmp_path / "sheet.png"))
    assert sheets[0].shape[1] > 6 * SIDE, "two images side by side, each with its samples"
    assert [np.array_equal(sheets[0], sheet) for sheet in sheets[1:]] == [True, False][: len(sheets) - 1]
    assert len(sample_panels(render_sample(samples, 0, None), "plain")) == 1 + maps


def test_up_to_half_of_the_sheet_shows_issues_of_all_kinds(faulty):
    issues, rng = find_label_issues(faulty), np.random.default_rng(0)
    chosen = script.choose_images(issues, range(6), 5, rng)
    assert chosen[:3] == [1, 2, 3]
    assert len(set(chosen)) == 5
    assert sorted(script.choose_images(issues, range(6), 20, rng)) == list(range(6))


def test_keypoints_have_the_color_of_their_side_and_issues_a_red_box(faulty):
    image, colors = annotated_image(faulty, 0), side_colors(SKELETON)
    for name in ("right_knee", "left_knee"):
        x, y = np.rint(point(10, 20, name)).astype(int)
        np.testing.assert_array_equal(image[y, x], colors[SKELETON.index(SKELETON.dataset[name])])
    other = int(faulty.first[2]) - 1
    x, y, width, height = faulty.boxes[other]
    red = np.argwhere((annotated_image(faulty, 1, {other}) == WRONG).all(2))
    np.testing.assert_allclose([red.min(0), red.max(0)], [(y, x), (y + height, x + width)], atol=4)
    assert not (annotated_image(faulty, 1) == WRONG).all(2).any()


def test_a_mask_does_not_hide_the_heatmaps_beside_it():
    targets = np.zeros((3, SIDE, SIDE), np.float32)
    targets[:2, 100:120, 100:120], targets[2] = -1, 1
    _, panel, empty = sample_panels((np.zeros((SIDE, SIDE, 3), np.uint8), targets, 0 * targets), "plain")
    heatmap = panel[-SIDE:].astype(int)
    assert heatmap[110, 110].argmax() == 2 and heatmap[40, 40].argmax() != 2, "red are the highest sums"
    assert (empty[-SIDE:, :SIDE] == empty[-1, 0]).all()


def test_bad_input_is_one_line(fails, hdf5):
    assert "overlap only in part" in fails(SCRIPT, hdf5, "--skeleton", "crowdpose")
    assert "use .png or .jpg" in fails(SCRIPT, hdf5, "--output", "sheet.xyz")
