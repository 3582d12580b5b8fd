"""Drawn pictures: the same files from the same seed, valid COCO annotations, keypoints where the person is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from places import ROOT
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from config.errors import UserError
from config.load import load_skeleton
from data import synthetic
from data.drawn.annotate import polygons, run_lengths
from data.drawn.figure import KEYPOINTS, build_figure
from data.drawn.looks import random_looks
from data.drawn.poses import random_pose
from data.drawn.skeleton import Build, Pose
from data.formats.coco import load_coco
from data.synthetic import SKELETON, draw_picture, write_synthetic

COUNT, SIZE = 80, (256, 320)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("drawn"), COUNT, seed=3, size=SIZE)


@pytest.fixture(scope="module")
def coco(written) -> COCO:
    return COCO(str(written))


def people(coco: COCO) -> list[dict]:
    return [a for a in coco.anns.values() if not a["iscrowd"]]


def keypoints(annotation: dict) -> np.ndarray:
    return np.array(annotation["keypoints"], float).reshape(-1, 3)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_same_seed_same_bytes_with_any_number_of_workers(tmp_path):
    one = write_synthetic(tmp_path / "one", 12, seed=7, size=(96, 128))
    two = write_synthetic(tmp_path / "two", 12, seed=7, size=(96, 128), workers=2)
    assert files(one.parent) == files(two.parent)
    assert len(files(one.parent)) == 13


def test_a_picture_depends_on_seed_and_index_only(tmp_path):
    few = write_synthetic(tmp_path / "few", 3, seed=7, size=(96, 128))
    more = write_synthetic(tmp_path / "more", 5, seed=7, size=(96, 128))
    other = write_synthetic(tmp_path / "other", 3, seed=8, size=(96, 128))
    few, more, other = (files(path.parent / "images") for path in (few, more, other))
    assert few.items() < more.items()
    assert all(few[name] != other[name] for name in few)


def test_plain_pictures_show_a_few_people_who_face_the_viewer(tmp_path):
    coco = load_coco(write_synthetic(tmp_path, 20, seed=3, size=SIZE, plain=True))
    people = [coco.loadAnns(coco.getAnnIds(imgIds=[image])) for image in coco.getImgIds()]
    assert {len(of_image) for of_image in people} == {1, 2, 3}
    assert not any(person["iscrowd"] for of_image in people for person in of_image)
    keypoints = np.array([person["keypoints"] for of_image in people for person in of_image]).reshape(-1, 17, 3)
    assert (keypoints[:, :3, 2] == 2).mean() > 0.9  # nose and eyes
    assert (keypoints[..., 2] > 0).mean() > 0.9


def test_plain_pictures_are_no_photographs_and_no_video(fails, tmp_path):
    usual = ("data/synthetic.py", "--output", tmp_path / "out", "--seed", 1, "--plain")
    assert "--plain: on a plain ground" in fails(*usual, "--count", 2, "--backgrounds", tmp_path)
    assert "--plain: only of pictures" in fails(*usual, "--video", 2)


def test_files_and_images_match(written, coco):
    assert sorted(coco.imgs) == list(range(1, COUNT + 1))
    for image in coco.imgs.values():
        assert cv2.imread(str(written.parent / "images" / image["file_name"])).shape == (*SIZE, 3)
        assert (image["height"], image["width"]) == SIZE
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
    assert coco.cats[1]["keypoints"] == list(KEYPOINTS)
    assert coco.cats[1]["skeleton"] == SKELETON


def test_seed_and_workers_at_the_default_size(written, tmp_path):
    again = write_synthetic(tmp_path, 4, seed=3, size=SIZE, workers=2)
    assert files(again.parent / "images").items() < files(written.parent / "images").items()


def test_keypoints_are_those_of_the_coco_skeleton():
    assert tuple(load_skeleton("coco").dataset) == KEYPOINTS


def test_segmentations_boxes_and_areas_agree(coco):
    height, width = SIZE
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert mask.shape == SIZE
        assert mask.sum() == annotation["area"] > 0
        x, y, w, h = annotation["bbox"]
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= width and y + h <= height
        assert mask[int(y) : int(y + h), int(x) : int(x + w)].sum() == mask.sum()
        if annotation["iscrowd"]:
            assert isinstance(annotation["segmentation"]["counts"], list)
        else:
            assert all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in annotation["segmentation"])


def test_polygons_follow_the_mask_within_a_pixel():
    mask = np.zeros((60, 80), np.uint8)
    cv2.ellipse(mask, (30, 25), (18, 12), 30, 0, 360, 1, -1)
    mask[50:, 60:] = 1
    decoded = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons(mask), 60, 80)))
    assert (cv2.erode(mask, np.ones((3, 3))) <= decoded).all() and (decoded <= cv2.dilate(mask, np.ones((3, 3)))).all()
    assert abs(int(decoded.sum()) - int(mask.sum())) < 0.05 * mask.sum()


@pytest.mark.parametrize("corner", [0, 1])
def test_run_lengths_decode_to_the_mask(corner):
    mask = (np.random.default_rng(0).random((9, 7)) < 0.5).astype(np.uint8)
    mask[0, 0] = mask[-1, -1] = corner
    runs = run_lengths(mask)
    assert (coco_mask.decode(coco_mask.frPyObjects(runs, 9, 7)) == mask).all()


def test_keypoints_lie_in_the_picture_and_visible_ones_on_the_person(coco):
    height, width = SIZE
    seen = hidden = 0
    for annotation in people(coco):
        points = keypoints(annotation)
        assert annotation["num_keypoints"] == (points[:, 2] > 0).sum()
        assert (points[points[:, 2] == 0] == 0).all()
        near = cv2.dilate(coco.annToMask(annotation), np.ones((7, 7), np.uint8))
        for x, y, v in points[points[:, 2] > 0]:
            assert 0 <= x <= width - 1 and 0 <= y <= height - 1
            assert v == 1 or near[round(y), round(x)]
        seen += (points[:, 2] == 2).sum()
        hidden += (points[:, 2] == 1).sum()
    assert 0.02 < hidden / seen < 0.25


def test_every_kind_of_case_occurs(coco):
    height, width = SIZE
    per_picture = [sum(not a["iscrowd"] for a in coco.imgToAnns[i]) for i in coco.imgs]
    assert set(per_picture) >= {1, 2, 3, 4} and max(per_picture) >= 6
    assert sum(a["iscrowd"] for a in coco.anns.values()) >= 3
    everybody = people(coco)
    labelled = [a for a in everybody if a["num_keypoints"]]
    assert 0.02 * len(everybody) < len(everybody) - len(labelled) < 0.3 * len(everybody)
    assert sum(a["num_keypoints"] == 17 for a in labelled) > 10
    edges = np.array([[x, y, width - x - w, height - y - h] for x, y, w, h in (a["bbox"] for a in labelled)])
    assert ((edges < 1).sum(0) > 0)[[0, 2, 3]].all(), "people cut by the left, right and lower edge"
    heights = np.array([a["bbox"][3] for a in labelled])
    assert 100 < np.median(heights) < 210
    overlapping = 0
    for i in coco.imgs:
        boxes = np.array([a["bbox"] for a in coco.imgToAnns[i] if not a["iscrowd"]])
        overlapping += len(boxes) > 1 and np.triu(coco_mask.iou(boxes, boxes, [0] * len(boxes)), 1).max() > 0.1
    assert overlapping >= 5


def test_who_shows_the_face_has_the_left_on_the_right(coco):
    """Front and back views carry opposite cues: a face and the left shoulder at the picture's right, or neither."""
    left, right = KEYPOINTS.index("left_shoulder"), KEYPOINTS.index("right_shoulder")
    front, back = [], []
    for annotation in people(coco):
        points = keypoints(annotation)
        upright = points[11:13, 1].mean() > points[[left, right], 1].mean() + 0.25 * annotation["bbox"][3]
        if (points[[left, right, 11, 12], 2] == 2).all() and upright:
            eyes = (points[1:3, 2] == 2).sum()
            if eyes == 2:
                front.append(points[left, 0] > points[right, 0])
            elif (points[:3, 2] == 0).all() and (points[3:5, 2] > 0).all():
                back.append(points[left, 0] < points[right, 0])
    assert len(front) > 40 and np.mean(front) > 0.97
    assert len(back) >= 4 and np.mean(back) > 0.97
    assert len(front) > 2 * len(back)


def mirrored_pose(pose: Pose) -> Pose:
    """The same with left and right exchanged."""
    return replace(
        pose,
        arms={"left": pose.arms["right"], "right": pose.arms["left"]},
        legs={"left": pose.legs["right"], "right": pose.legs["left"]},
        sway=-pose.sway,
        twist=-pose.twist,
        yaw=-pose.yaw,
        tilt=-pose.tilt,
        head=np.asarray(pose.head) * [-1, 1, -1],
    )


def test_the_mirrored_pose_gives_the_mirrored_keypoints_with_names_exchanged():
    rng = np.random.default_rng(5)
    swap = [KEYPOINTS.index(name.replace("left", "?").replace("right", "left").replace("?", "right")) for name in KEYPOINTS]
    for _ in range(20):
        pose, looks = random_pose(rng), random_looks(rng, np.full(3, 128.0))
        figure, mirrored = build_figure(pose, looks, Build()), build_figure(mirrored_pose(pose), looks, Build())
        assert np.allclose(mirrored.keypoints[swap] * [-1, 1], figure.keypoints, atol=1e-9)


@pytest.mark.parametrize(("size", "seed"), [*(((64, 64), seed) for seed in range(12)), ((200, 90), 1), ((480, 640), 1)])
def test_any_size(size, seed):
    image, annotations = draw_picture(np.random.default_rng(seed), *size)
    assert image.shape == (*size, 3) and image.dtype == np.uint8
    assert isinstance(annotations, list)


@pytest.mark.parametrize(
    "arguments", [{"count": 0}, {"size": (63, 320)}, {"size": (256, 10)}, {"workers": 0}, {"seed": -1}], ids=lambda a: next(iter(a))
)
def test_bad_arguments_are_named(tmp_path, arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        write_synthetic(tmp_path / "out", **{"count": 1, "seed": 0, **arguments})
    assert not (tmp_path / "out").exists()


def write_pictures(folder: Path, colours: list[int]) -> Path:
    folder.mkdir()
    for i, colour in enumerate(colours):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((90, 120, 3), colour, np.uint8))
    return folder


def test_people_are_drawn_into_photographs(tmp_path):
    folder = write_pictures(tmp_path / "places", [255])
    path = write_synthetic(tmp_path / "out", 6, seed=2, size=(96, 128), backgrounds=folder)
    medians = [np.median(cv2.imread(str(picture))) for picture in sorted((path.parent / "images").iterdir())]
    assert np.median(medians) > 200, "most of a picture is the white place"
    assert len(COCO(str(path)).anns) >= 6


def test_photographs_give_the_same_bytes_with_any_number_of_workers(tmp_path):
    folder = write_pictures(tmp_path / "places", [40, 120, 200])
    one, two = (write_synthetic(tmp_path / str(n), 5, seed=2, size=(96, 128), workers=n, backgrounds=folder) for n in (1, 2))
    assert files(one.parent) == files(two.parent)


def test_photographs_that_change_between_two_runs_are_listed_again(tmp_path):
    """Those below the folder, too; what is only named like a picture is none."""
    folder = write_pictures(tmp_path / "places", [40])
    write_synthetic(tmp_path / "one", 1, seed=2, size=(64, 64), backgrounds=folder)
    (folder / "below.png").mkdir()
    (folder / "0.png").rename(folder / "below.png" / "1.png")
    write_synthetic(tmp_path / "two", 1, seed=2, size=(64, 64), backgrounds=folder)
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.parametrize("folder", ["images", ".", "images/below"])
def test_photographs_are_not_replaced(tmp_path, folder):
    write_pictures(tmp_path / "images", [40])
    write_pictures(tmp_path / "images" / "below", [120])
    (tmp_path / "annotations.json").write_text("{}")
    before = files(tmp_path)
    with pytest.raises(UserError, match="output folder .*choose another --output"):
        write_synthetic(tmp_path, 1, seed=2, size=(64, 64), backgrounds=tmp_path / folder)
    assert files(tmp_path) == before


def test_a_damaged_photograph_is_left_out(tmp_path, capsys):
    """And named, once; others stand in for it, the same with any number of workers."""
    folder = write_pictures(tmp_path / "places", [40, 200])
    (folder / "a.jpg").write_bytes(b"no picture")
    one, two = (write_synthetic(tmp_path / str(n), 6, seed=2, size=(64, 64), workers=n, backgrounds=folder) for n in (1, 2))
    assert len(files(one.parent / "images")) == 6 and files(one.parent) == files(two.parent)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert said == [f"warning: image {folder / 'a.jpg'}: cannot be decoded, not an image, or of a kind that cannot be read; left out"]


def test_bad_backgrounds_are_named(tmp_path):
    empty, broken = write_pictures(tmp_path / "empty", []), write_pictures(tmp_path / "broken", [])
    (broken / "a.jpg").write_bytes(b"no picture")
    for folder, words in ((tmp_path / "none", "not found"), (empty, "no pictures"), (broken, "a.jpg")):
        with pytest.raises(UserError, match=words) as error:
            write_synthetic(tmp_path / "out", 1, seed=2, size=(96, 128), backgrounds=folder)
        assert "\n" not in str(error.value)


def test_an_interrupted_run_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    write_synthetic(tmp_path, 2, seed=1, size=(64, 64))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "_draw_one", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_synthetic(tmp_path, 2, seed=2, size=(64, 64))
    assert not (tmp_path / "annotations.json").exists()


def test_script(tmp_path):
    command = [sys.executable, "data/synthetic.py", "--output", str(tmp_path), "--seed", "1", "--size", "64", "80"]
    done = subprocess.run([*command, "--count", "3", "--workers", "2"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "annotations.json").read_text())["images"]) == 3
    failed = subprocess.run([*command, "--count", "0"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert failed.returncode == 2
    assert failed.stderr == "error: --count 0: expected at least 1\n"
