"""The training HDF5: masks are packed losslessly; incomplete, outdated and damaged files are refused."""

import cv2
import h5py
import numpy as np
import pytest
from people import SKELETON, build, damage, person, read_back, without_checksums, write_coco
from PIL import Image

from config import UserError
from data.coco_masks_hdf5 import build_hdf5
from data.hdf5 import CorruptImageError, _inflated, pack_mask, unpack_mask
from data.images import ORIENTATION
from data.transforms import transform_points


def test_masks_are_packed_losslessly():
    mask = np.random.default_rng(0).random((37, 53)) > 0.5
    assert np.array_equal(unpack_mask(_inflated(pack_mask(mask), mask.size), 37, 53), mask * 255)
    assert len(pack_mask(np.zeros((37, 53), bool))) == 0
    assert not unpack_mask(_inflated(np.zeros(0, np.uint8), mask.size), 37, 53).any()


def test_incomplete_and_outdated_files_are_refused_with_the_command_that_rebuilds(tmp_path):
    build(tmp_path, [person(10, 10)])
    path = tmp_path / "out.h5"
    whole = path.read_bytes()
    rebuild = rf"; build it again: python data/coco_masks_hdf5\.py --annotations A\.json --images DIR --output {path}$"
    for version in (2, 99):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            file.attrs["version"] = version
        with pytest.raises(UserError, match=rf"out\.h5: format version {version}, this code reads 3{rebuild}"):
            read_back(tmp_path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=rf"out\.h5: not a whole training HDF5 \(.*truncated.*\){rebuild}"):
        read_back(tmp_path)


def test_an_image_or_mask_of_another_size_is_a_corrupt_image(tmp_path):
    build(tmp_path, [person(10, 10)], [person(20, 20)])
    damage(tmp_path / "out.h5", 1, 1, lambda _: pack_mask(np.ones((8, 8), bool)))
    people = read_back(tmp_path)
    people.masks(0)
    with pytest.raises(CorruptImageError, match=r"image 1 in .*out\.h5: cannot be read, corrupt \(a mask of 8 bytes, expected 4000\)"):
        people.masks(1)
    people.sizes[0] = 100, 100
    with pytest.raises(CorruptImageError, match=r"image 0 in .*out\.h5: decodes to 200 x 160, not to 100 x 100"):
        people.image(0)


def test_an_image_to_be_reduced_is_decoded_small(tmp_path):
    """To the means of blocks, of which the affine knows the centers. Of 200 x 160 pixels."""
    annotations, images = write_coco(tmp_path, [person(10, 10)])
    cv2.imwrite(str(images / "0.jpg"), cv2.GaussianBlur(cv2.imread(str(images / "0.jpg"), cv2.IMREAD_GRAYSCALE), (0, 0), 2))
    build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1)
    people, matrix = read_back(tmp_path), np.array([[0.3, 0.2, 7.0], [-0.2, 0.3, 40.0]])  # by a factor of 0.36
    full = people.image(0)
    image, small_matrix = people.image_to_warp(0, matrix)
    blocks = full.reshape(80, 2, 100, 2, 3).mean((1, 3))
    assert np.abs(image - blocks).mean() < 1
    pixels = np.array([[0, 0], [99, 0], [20, 79]])
    np.testing.assert_allclose(transform_points(pixels, small_matrix), transform_points(2 * pixels + 0.5, matrix), atol=1e-9)
    for factor, size in ((0.51, (160, 200)), (0.5, (80, 100)), (0.26, (80, 100)), (0.25, (40, 50)), (0.1, (20, 25)), (0.01, (20, 25))):
        assert people.image_to_warp(0, np.array([[factor, 0, 3], [0, factor, 4]]))[0].shape[:2] == size


@pytest.mark.parametrize(("size", "is_reduced"), [((161, 203), False), ((160, 208), True)])
def test_an_image_turned_by_exif_is_decoded_small_if_its_blocks_are_whole(tmp_path, size, is_reduced):
    annotations, images = write_coco(tmp_path, [person(10, 10)])
    annotations.write_text(annotations.read_text().replace('"height": 160, "width": 200', '"height": {}, "width": {}'.format(*size)))
    exif = Image.Exif()
    exif[ORIENTATION] = 3  # upside down
    Image.new("RGB", size[::-1]).save(images / "0.jpg", exif=exif)
    build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1)
    image, _ = read_back(tmp_path).image_to_warp(0, np.array([[0.5, 0, 0], [0, 0.5, 0]]))
    assert image.shape[:2] == ((80, 104) if is_reduced else size)


def replace(file: h5py.File, name: str, value: object) -> None:
    del file[name]
    file[name] = value


DAMAGES = {
    "not complete": lambda file: file.attrs.update(complete=False),
    "another format": lambda file: file.attrs.update(format="other"),
    "attribute missing": lambda file: file.attrs.pop("outlines"),
    "checksum missing": lambda file: file.attrs.pop("checksum"),
    "array missing": lambda file: file.pop("people/box"),
    "link to itself": lambda file: replace(file, "people/box", h5py.SoftLink("/people/box")),
    "group instead of an array": lambda file: (file.pop("images/bytes"), file.create_group("images/bytes")),
    "array too short": lambda file: file["images/bytes"].resize((100,)),
    "other values": lambda file: replace(file, "people/joints", file["people/joints"][:] * np.float32(np.nan)),
    "other keypoints": lambda file: file.attrs.update(keypoints=file.attrs["keypoints"][::-1]),
}


@pytest.mark.parametrize("change", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_one_line_with_its_name(tmp_path, change):
    build(tmp_path, [person(10, 10)], [person(20, 20)])
    with h5py.File(tmp_path / "out.h5", "r+") as file:
        change(file)
    with pytest.raises(UserError, match=r"^training file .*out\.h5: not a whole training HDF5 \(.+\); build it again: .*out\.h5$"):
        read_back(tmp_path)


def test_a_file_that_may_not_be_read_is_not_to_be_built_again(tmp_path, monkeypatch):
    build(tmp_path, [person(10, 10)])

    def refuse(*_):
        raise PermissionError("not allowed")

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(PermissionError):
        read_back(tmp_path)


@pytest.mark.parametrize("part", [0, 1])  # its own file and a mask
def test_one_changed_bit_is_a_corrupt_image(tmp_path, part):
    build(tmp_path, [person(10, 10)], [person(20, 20)])
    with h5py.File(tmp_path / "out.h5", "r+") as file:
        file["images/bytes"][file["images/ends"][1, part] - 20] ^= 4
    people = read_back(tmp_path)
    people.image(0)
    corrupt = r"^image 1 in .*out\.h5: cannot be read, corrupt \(the checksum of its bytes differs\)$"
    for read in (people.image, people.masks):
        with pytest.raises(CorruptImageError, match=corrupt):
            read(1)


def test_a_file_without_checksums_is_read(tmp_path):
    build(tmp_path, [person(10, 10)], [person(20, 20)])
    image, joints = read_back(tmp_path).image(1), read_back(tmp_path).joints(np.arange(2))
    without_checksums(tmp_path / "out.h5")
    assert np.array_equal(read_back(tmp_path).image(1), image)
    assert np.array_equal(read_back(tmp_path).joints(np.arange(2)), joints)
