"""From a COCO folder to the people file: everybody who is annotated, and what happens to what cannot be used."""

import copy
import json

import cv2
import h5py
import numpy as np
import pytest
from people import CPU, NAMES, SKELETON, build, person, read_back, write_coco
from pycocotools import mask as coco_mask

from config import UserError, load_config
from config.skeleton import Skeleton
from data.coco_masks_hdf5 import build_hdf5
from data.datasets import MixedDataset, collate
from data.people_file import PeopleFile, unpack_mask
from utils.training.step import batch_on


@pytest.mark.parametrize(("split", "images", "samples"), [("train2017", 36, 65), ("val2017", 39, 53)])
def test_coco_mini(shared, tmp_path, split, images, samples):
    mini, out = shared / "data" / "coco_mini", tmp_path / "out.h5"
    built = build_hdf5(mini / "annotations" / f"person_keypoints_{split}.json", mini / split, out, SKELETON, workers=2)
    assert (built.images, built.skipped, built.boxed) == (images, [], [])
    assert out.stat().st_size < images * 640 * 480 * 5 / 5  # a fifth of raw pixels and two masks
    config = load_config("config/simplepose_coco_512.yaml")
    samples_found = MixedDataset([out], config, augment=True)
    assert len(samples_found) == samples
    some = [batch_on(CPU, collate([samples_found[0, i]]), config) for i in (0, samples - 1)]
    for images, targets in some:
        shapes = (1, 3, 512, 512), (1, 50, 128, 128), (1, 1, 128, 128)
        assert (images.shape, targets.heatmaps.shape, targets.mask_miss.shape) == shapes
        assert targets.channel_mask.all()
        for tensor in (images, *targets[:2]):
            assert tensor.min() >= 0
            assert 0 < tensor.max() <= 1


def test_everybody_is_in_the_file(tmp_path):
    """Images without a keypoint too: other systems make samples of them."""
    crowd = person(100, 60, visible=0, iscrowd=1, area=5)
    built = build(tmp_path, [person(10, 10, track_id=7), crowd], [person(20, 20, visible=0)], [])
    assert (built.images, built.people) == (2, 1)
    people = read_back(tmp_path)
    assert people.image_ids.tolist() == [0, 1]
    assert people.sizes.tolist() == [[160, 200]] * 2
    assert people.first.tolist() == [0, 2, 3]
    assert people.num_labelled.tolist() == [17, 0, 0]
    assert people.crowd.tolist() == [False, True, False]
    assert people.tracks.tolist() == [7, -1, -1]
    assert people.areas.tolist() == [3600, 5, 3600]
    assert people.boxes[1].tolist() == [100, 60, 60, 60]
    assert people.image(0).shape == (160, 200, 3)


def test_keypoints_are_found_by_name_in_another_order(tmp_path):
    turned = copy.deepcopy(person(10, 10))
    turned["keypoints"] = np.array(turned["keypoints"]).reshape(17, 3)[::-1].ravel().tolist()
    build(tmp_path, [turned], names=NAMES[::-1])
    joints = read_back(tmp_path).joints(np.array([0]))
    assert SKELETON.to_dataset(joints)[0, :, 0].tolist() == [10 + k for k in range(17)]


# Masks


def test_masks_take_every_crowd_and_tell_who_has_no_keypoints(tmp_path):
    rle = {"size": [160, 200], "counts": [50 * 160, 1600, 140 * 160]}  # columns 50 to 59
    build(
        tmp_path,
        [
            person(0, 0, 20, visible=0),
            person(40, 0, 20),
            person(0, 0, visible=0, segmentation=rle, iscrowd=1),
            person(0, 0, visible=0, segmentation={"size": [160, 200], "counts": [80 * 160, 3200, 100 * 160]}, iscrowd=1),
        ],
    )
    people, unlabelled, crowd = (unpack_mask(bits, 160, 200) == 255 for bits in read_back(tmp_path).masks(0))
    assert people[10, 10] and people[10, 45] and not people[50, 55]
    assert unlabelled[10, 10] and not unlabelled[10, 45]
    assert crowd[50, [55, 90]].all() and not crowd[50, [20, 70]].any()


SIZE = [160, 200]
UNDECODABLE = [[[1, 2]], {"counts": [4], "size": [2, 2]}, 5, {"counts": [40, 9], "size": SIZE}, {"counts": "X19", "size": SIZE}]


@pytest.mark.parametrize("outline", UNDECODABLE)
def test_an_outline_that_cannot_be_decoded_is_counted_and_the_box_masked(run, tmp_path, outline):
    annotations, images = write_coco(tmp_path, [person(10, 10), person(100, 60, 40, visible=0, segmentation=outline)])
    command = ("data/coco_masks_hdf5.py", "--annotations", annotations, "--images", images, "--workers", 1)
    status, out, err = run(*command, "--output", tmp_path / "out.h5")
    assert (status, "1 people in 1 images" in out) == (0, True), err
    assert "1 people are masked by their boxes" in err
    assert f"annotation file {annotations}: annotation 2: its 'segmentation' " in err
    people, unlabelled, _ = (unpack_mask(bits, 160, 200) == 255 for bits in read_back(tmp_path).masks(0))
    assert unlabelled[60:100, 100:140].all()
    assert unlabelled.sum() == 40 * 40
    assert people[[30, 80], [30, 120]].all()
    (tmp_path / "out.h5").unlink()
    status, _, err = run(*command, "--output", tmp_path / "out.h5", "--strict")
    assert (status, err.count("\n")) == (2, 1)
    assert f"error: annotation file {annotations}: annotation 2: its 'segmentation' " in err
    assert not (tmp_path / "out.h5").exists()


def test_masks_are_those_of_each_outline_together(tmp_path):
    """Polygons and runs, listed or packed as COCO does, of which some are empty, in two people at the same pixel."""
    rng = np.random.default_rng(0)
    polygons = [[rng.uniform(-20, 220, 16).tolist() for _ in range(3)] for _ in range(6)]
    columns = [[0, 0, 0, 9 * 160, 0, 0, 191 * 160], [5 * 160, 4 * 160, 0, 0, 191 * 160]]
    blocks = (rng.random((20, 25)) < 0.1).repeat(8, 0).repeat(8, 1)
    packed = coco_mask.encode(np.asfortranarray(blocks, np.uint8))
    listed = [{"size": [160, 200], "counts": counts} for counts in columns]
    everybody = [*listed, *polygons, {**packed, "counts": packed["counts"].decode()}]
    expected = blocks.copy()
    expected[:, :9] = True
    for outline in polygons:
        expected |= coco_mask.decode(coco_mask.frPyObjects(outline, 160, 200)).any(2)
    build(tmp_path, [person(10, 10, segmentation=outline) for outline in everybody])
    people, unlabelled, crowd = (unpack_mask(bits, 160, 200) == 255 for bits in read_back(tmp_path).masks(0))
    assert np.array_equal(people, expected)
    assert not unlabelled.any() and not crowd.any()


def test_somebody_without_keypoints_may_have_neither_outline_nor_box(tmp_path):
    nobody = {key: value for key, value in person(50, 50, visible=0).items() if key not in ("bbox", "area", "segmentation")}
    build(tmp_path, [person(10, 10), nobody])
    assert read_back(tmp_path).boxes[1].tolist() == [0, 0, 0, 0]


def test_without_any_outline_boxes_take_their_place(tmp_path):
    """As they do for a single person without one; the file then says that it has no outlines."""
    crowd = person(0, 100, 50, visible=0, iscrowd=1, segmentation=[])
    everybody = [person(10, 10, segmentation=[]), person(100, 60, 30, visible=0, segmentation=[[]]), crowd]
    build(tmp_path, everybody)
    people = read_back(tmp_path)
    assert not people.outlines
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["images/ends"].shape[1] == 1
    from_boxes = people.masks(0)
    build(tmp_path, [person(10, 10), *everybody[1:]])
    people = read_back(tmp_path)
    assert people.outlines
    assert all(np.array_equal(*pair) for pair in zip(from_boxes, people.masks(0)))
    build(tmp_path, [*everybody[:2], {**crowd, "segmentation": person(0, 100, 50)["segmentation"]}])
    people = read_back(tmp_path)
    assert not people.outlines  # of people
    assert all(np.array_equal(*pair) for pair in zip(from_boxes, people.masks(0)))


# What cannot be used


def test_broken_images_are_named_and_left_out(tmp_path):
    annotations, images = write_coco(tmp_path, [person(10, 10)], [person(20, 20)], [person(30, 30)])
    (images / "1.jpg").write_bytes((images / "1.jpg").read_bytes()[:-2000])
    (images / "2.jpg").unlink()
    built = build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1)
    assert built.images == 1
    assert ["1.jpg" in built.skipped[0], "truncated" in built.skipped[0], "2.jpg" in built.skipped[1]] == [True] * 3
    (tmp_path / "out.h5").unlink()
    with pytest.raises(UserError, match=r"1\.jpg"):
        build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1, strict=True)
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".h5"] == []


def test_pictures_held_upright_by_their_exif_tag(tmp_path):
    """What counts is the picture as people see it."""
    annotations, images = write_coco(tmp_path, [person(10, 10)])
    content = json.loads(annotations.read_text())
    content["images"][0].update(width=160, height=200)
    annotations.write_text(json.dumps(content))
    exif = b"\xff\xe1\x00\x22Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    plain = (images / "0.jpg").read_bytes()
    (images / "0.jpg").write_bytes(plain[:2] + exif + plain[2:])
    built = build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1)
    assert built.skipped == []
    people = read_back(tmp_path)
    assert people.sizes.tolist() == [[200, 160]]
    assert people.image(0).shape == (200, 160, 3)
    assert np.array_equal(people.image(0), cv2.imread(str(images / "0.jpg")))


# Data sets that label only some of the skeleton's keypoints


def test_the_file_says_which_keypoints_its_data_set_labels(tmp_path):
    some = ["left_wrist", "left_shoulder", "right_shoulder"]  # not in the skeleton's order
    someone = {**person(10, 10), "keypoints": [1, 2, 2, 3, 4, 2, 5, 6, 1]}
    build(tmp_path, [someone], names=some)
    people = read_back(tmp_path)
    named = {name: joint.tolist() for name, joint in zip(SKELETON.keypoints, people.joints(np.array([0]))[0]) if joint[2] != 2}
    assert named == {"Lwri": [1, 2, 1], "Lsho": [3, 4, 1], "Rsho": [5, 6, 0], "neck": [4, 5, 0]}
    assert {name for name, labelled in zip(SKELETON.keypoints, people.labelled) if labelled} == set(named)
    assert people.num_labelled.tolist() == [3]


def skeleton_of(name: str, *names: str) -> Skeleton:
    """Nothing but keypoints, called as in the data set."""
    dataset = dict(zip(names, names))
    return Skeleton(name=name, keypoints=names, limbs=(), flip_pairs=(), sigmas=dict.fromkeys(names, 0.1), dataset=dataset)


def test_one_file_serves_skeletons_of_fewer_and_of_more_keypoints(tmp_path):
    build(tmp_path, [person(10, 10)])
    assert PeopleFile(tmp_path / "out.h5", skeleton_of("face", "left_eye", "right_eye", "nose")).labelled.all()
    assert PeopleFile(tmp_path / "out.h5", skeleton_of("all and tail", *NAMES, "tail")).labelled.tolist() == [*[True] * 17, False]
    with pytest.raises(UserError, match=r"labels nose, left_eye, right_eye, \.\.\.; the skeleton 'tail' has none of them"):
        PeopleFile(tmp_path / "out.h5", skeleton_of("tail", "tail"))


def test_one_file_does_not_serve_a_skeleton_that_shares_only_some_keypoints(tmp_path):
    build(tmp_path, [person(10, 10)])
    with pytest.raises(UserError) as error:
        PeopleFile(tmp_path / "out.h5", skeleton_of("nose and tail", "nose", "tail"))
    assert str(error.value) == (
        f"training file {tmp_path / 'out.h5'}: its 17 keypoints and those of the skeleton 'nose and tail' overlap only in part: it has"
        " left_eye, right_eye, left_ear, ... besides and lacks tail; skeleton=coco has all of the file's"
        " (data/coco_masks_hdf5.py: --skeleton coco)"
    )


def test_the_category_with_most_of_the_keypoints_is_taken(tmp_path):
    annotations, images = write_coco(tmp_path, [person(10, 10, category_id=5)])
    content = json.loads(annotations.read_text())
    content["categories"] = [{"id": 4, "name": "dog", "keypoints": ["nose", "tail"]}, {**content["categories"][0], "id": 5}]
    annotations.write_text(json.dumps(content))
    assert build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1).people == 1
    assert read_back(tmp_path).keypoints == NAMES
