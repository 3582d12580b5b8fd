"""One people file of several annotation files, and of pictures in zip files; people without outlines."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from people import NAMES, SKELETON, person, read_back, write_coco

from config import UserError
from data.coco_masks_hdf5 import build_hdf5
from data.people_file import unpack_mask

BUILD = "data/coco_masks_hdf5.py"


@pytest.fixture
def two(tmp_path):
    """Two data sets of two pictures each, all of them called 0.jpg and 1.jpg, with the ids 0 and 1."""
    a = write_coco(tmp_path / "a", [person(10, 10)], [person(20, 20)])
    return a, write_coco(tmp_path / "b", [person(30, 30), person(80, 30)], [person(40, 40)])


def zipped(folder, path, inside="", **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for picture in folder.iterdir():
            file.write(picture, f"{inside}{picture.name}")
    return path


def test_several_annotation_files(run, two, tmp_path):
    (a, images_a), (b, images_b) = two
    command = (BUILD, "--annotations", a, b, "--images", images_a, images_b, "--output", tmp_path / "out.h5", "--workers", 2)
    status, out, err = run(*command)
    assert (status, "5 people in 4 images" in out) == (0, True), err
    assert f"annotation file {b}: its image ids are raised by 10" in err
    people = read_back(tmp_path)
    assert people.image_ids.tolist() == [0, 1, 10, 11]
    assert people.boxes[:, 0].tolist() == [10, 20, 30, 80, 40]


def test_ids_that_do_not_meet_stay(two, tmp_path):
    (a, images), (b, _) = two
    content = json.loads(b.read_text())
    content["images"] = [{**image, "id": image["id"] + 5} for image in content["images"]]
    content["annotations"] = [{**one, "image_id": one["image_id"] + 5} for one in content["annotations"]]
    b.write_text(json.dumps(content))
    build_hdf5([a, b], images, tmp_path / "out.h5", SKELETON, workers=1)  # one folder for both
    assert read_back(tmp_path).image_ids.tolist() == [0, 1, 5, 6]


def test_several_files_that_do_not_fit(two, tmp_path):
    (a, images), (b, _) = two
    with pytest.raises(UserError, match="--images: 3 for 2 annotation files"):
        build_hdf5([a, b], [images] * 3, tmp_path / "out.h5", SKELETON, workers=1)
    other = write_coco(tmp_path / "c", [{**person(10, 10), "keypoints": [9, 9, 2, 8, 8, 2]}], names=NAMES[:2])[0]
    with pytest.raises(UserError, match=r"c/annotations\.json: labels other keypoints than .*a/annotations\.json"):
        build_hdf5([a, other], images, tmp_path / "out.h5", SKELETON, workers=1)


@pytest.mark.parametrize("inside", ["", "train2017/", "deep/down/train2017/"])
@pytest.mark.parametrize("workers", [1, 2])
def test_pictures_in_a_zip_file(two, tmp_path, inside, workers):
    (annotations, images), _ = two
    path = zipped(images, tmp_path / "train2017.zip", inside, compression=zipfile.ZIP_DEFLATED)
    whole = [(images / f"{n}.jpg").read_bytes() for n in range(2)]
    shutil.rmtree(images)
    built = build_hdf5(annotations, path, tmp_path / "out.h5", SKELETON, workers=workers, strict=True)
    assert (built.images, built.skipped, built.fixes.found) == (2, [], {})
    assert [read_back(tmp_path).file_bytes(n).tobytes() for n in range(2)] == whole


def test_a_name_with_the_zip_files_own(two, tmp_path):
    (annotations, images), _ = two
    annotations.write_text(annotations.read_text().replace('"0.jpg"', '"train2017/0.jpg"').replace('"1.jpg"', '"val2017/1.jpg"'))
    built = build_hdf5(annotations, zipped(images, tmp_path / "train2017.zip"), tmp_path / "out.h5", SKELETON, workers=1)
    assert (built.images, len(built.skipped)) == (1, 1)
    assert built.skipped[0].endswith("val2017/1.jpg: not found")


def test_damaged_zip_files(fails, two, tmp_path, capsys):
    (annotations, images), _ = two
    path = zipped(images, tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    where = data.index(b"0.jpg") + 500  # of its content; the sum over it no longer fits
    data[where] ^= 0xFF
    path.write_bytes(data)
    built = build_hdf5(annotations, path, tmp_path / "out.h5", SKELETON, workers=2)
    assert (built.images, len(built.skipped)) == (1, 1)
    assert "a.zip/0.jpg: cannot be read from the zip file (Bad CRC-32" in built.skipped[0]
    path.write_bytes(data[:-200])
    (tmp_path / "out.h5").unlink()
    capsys.readouterr()
    message = fails(BUILD, "--annotations", annotations, "--images", path, "--output", tmp_path / "out.h5")
    assert "a.zip: neither a folder nor a zip file that can be read" in message


def test_people_without_outlines_may_have_no_mask(run, tmp_path):
    annotations, images = write_coco(tmp_path, [person(10, 10), person(100, 60, 40, visible=0, segmentation=[])])
    command = (BUILD, "--annotations", annotations, "--images", images, "--output", tmp_path / "out.h5", "--workers", 1)
    for more, pixels in [((), 1600), (("--no-box-masks",), 0)]:
        assert run(*command, *more)[0] == 0
        people, unlabelled, _ = (unpack_mask(bits, 160, 200) == 255 for bits in read_back(tmp_path).masks(0))
        assert (unlabelled.sum(), people[30, 30]) == (pixels, True)
    annotations, _ = write_coco(tmp_path, [person(10, 10, segmentation=[])])  # nobody has one
    assert run(*command, "--no-box-masks")[0] == 0
    assert not np.any([unpack_mask(bits, 160, 200).any() for bits in read_back(tmp_path).masks(0)])
    assert not read_back(tmp_path).outlines
