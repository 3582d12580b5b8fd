"""The people file itself: what it packs comes back, and what is not a whole one is refused."""

import pickle

import h5py
import numpy as np
import pytest
from people import build, person, read_back

from config import UserError
from data.people_file import BrokenImage, _inflated, pack_mask, unpack_mask


def test_what_is_wrong_with_an_image_can_be_told_by_another_process():
    error = pickle.loads(pickle.dumps(BrokenImage("image 7: damaged", 7)))
    assert (str(error), error.number) == ("image 7: damaged", 7)


def test_masks_are_packed_losslessly():
    mask = np.random.default_rng(0).random((37, 53)) > 0.5
    assert np.array_equal(unpack_mask(_inflated(pack_mask(mask), mask.size), 37, 53), mask * 255)
    assert len(pack_mask(np.zeros((37, 53), bool))) == 0
    assert not unpack_mask(_inflated(np.zeros(0, np.uint8), mask.size), 37, 53).any()


def test_files_that_cannot_be_read(tmp_path):
    build(tmp_path, [person(10, 10)])
    path = tmp_path / "out.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"out\.h5: not a whole HDF5 file"):
        read_back(tmp_path)
    h5py.File(path, "w").close()
    with pytest.raises(UserError, match="build it again"):
        read_back(tmp_path)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        del file.attrs["complete"]
    with pytest.raises(UserError, match="build it again"):
        read_back(tmp_path)


@pytest.mark.parametrize("version", [1, 2, 99])
def test_other_format_versions_are_refused_with_the_command_that_rebuilds(tmp_path, version):
    build(tmp_path, [person(10, 10)])
    with h5py.File(tmp_path / "out.h5", "r+") as file:
        file.attrs["version"] = version
    with pytest.raises(UserError) as error:
        read_back(tmp_path)
    assert f"out.h5: format version {version}, this code reads 3" in str(error.value)
    assert str(error.value).endswith(
        f"build it again: python data/coco_masks_hdf5.py --annotations A.json --images DIR --output {tmp_path / 'out.h5'}"
    )
