"""The training HDF5: masks are packed losslessly; incomplete and outdated files are refused."""

import h5py
import numpy as np
import pytest
from people import build, damage, person, read_back

from config import UserError
from data.hdf5 import CorruptImageError, _inflated, pack_mask, unpack_mask


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
    for attributes in ({"version": 2}, {"version": 99}, {"complete": False}, {"format": "other"}):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            file.attrs.update(attributes)
        with pytest.raises(UserError, match=rf"out\.h5: format version {attributes.get('version', 3)}, this code reads 3{rebuild}"):
            read_back(tmp_path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=rf"out\.h5: not a whole HDF5 file{rebuild}"):
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
