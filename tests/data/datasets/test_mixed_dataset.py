"""Several training files as one dataset, its batches, its augmentation, and corrupt images in the files."""

import multiprocessing

import h5py
import numpy as np
import pytest
import torch
from people import build, damage, person, without_checksums
from runs import ALONE
from torch.utils.data import DataLoader

from config import UserError, load_config
from data.datasets import MixedDataset, collate
from data.datasets.simplepose import SimplePoseSample
from data.hdf5 import TrainingHDF5
from utils.training.trainer import train

RECIPE, SMALL = "config/simplepose_coco_512.yaml", "data.input_size=[64, 64]"
CONFIG = load_config(RECIPE, [SMALL])


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> MixedDataset:
    """Open a file of three samples and one of one sample."""
    folders = [tmp_path_factory.mktemp(name) for name in "ab"]
    build(folders[0], [person(10, 10), person(100, 60)], [person(20, 20)])
    build(folders[1], [person(30, 30)])
    return MixedDataset([folder / "out.h5" for folder in folders], CONFIG, augment=False)


def test_one_file_follows_the_other(plain):
    assert (len(plain), plain.sizes) == (4, [3, 1])
    for number, (file, index) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0)]):
        alone = MixedDataset(plain.paths[file : file + 1], CONFIG, augment=False)
        assert all(map(torch.equal, plain[0, number], alone[0, index]))
        assert plain.image_id(number) == plain.image_id(number + 4) == alone.image_id(index)


def test_the_augmentation_depends_on_seed_epoch_and_sample_alone(plain):
    augmented, items = MixedDataset(plain.paths, CONFIG, augment=True), [(3, number) for number in (2, 0, 3, 1)]
    images = [augmented[item].image for item in items]
    together = [batch.image[0] for batch in DataLoader(augmented, sampler=items, collate_fn=collate, num_workers=2)]
    assert all(map(torch.equal, images, together))
    assert not torch.equal(augmented[4, 2].image, images[0]) and not torch.equal(augmented[3, 2 + 4].image, images[0])
    assert not torch.equal(augmented[0, 0].image, plain[0, 0].image) and torch.equal(plain[5, 0].image, plain[0, 0].image)


@pytest.mark.parametrize("recipe", ["simplepose_coco_512", "dekr_w32_coco", "simple_baselines_r50_256x192"])
def test_samples_of_images_decoded_small_are_the_same(recipe, hdf5, monkeypatch):
    """All but the image, of which a warp of the whole image omits pixels; moved by a pixel, it differs far more."""
    keys = ["data.input_size=[64, 64]", "augmentation.occlusion_probability=1"]
    dataset = MixedDataset([hdf5], load_config(f"config/{recipe}.yaml", keys), augment=False)
    small = [dataset[0, number] for number in range(len(dataset))]
    monkeypatch.setattr(TrainingHDF5, "image_to_warp", lambda self, number, matrix: (self.image(number), matrix))
    whole = [dataset[0, number] for number in range(len(dataset))]
    changed = [(one, other) for one, other in zip(small, whole) if not torch.equal(one.image, other.image)]
    assert changed
    for one, other in changed:
        assert all(map(torch.equal, one[1:], other[1:]))
        moves = (0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)
        errors = [(one.image.float().roll(move, (0, 1)) - other.image)[1:-1, 1:-1].abs().mean() for move in moves]
        assert 1.3 * errors[0] < min(errors[1:])


def test_a_batch_pads_people_with_zeros_and_nothing_else(plain):
    two, one = plain[0, 0], plain[0, 2]
    batch = collate([two, one])
    assert type(batch) is SimplePoseSample
    assert all(torch.equal(stacked[0], single) for stacked, single in zip(batch, two))
    assert torch.equal(batch.keypoints[1, :1], one.keypoints) and torch.equal(batch.labeled[1, :1], one.labeled)
    assert not batch.keypoints[1, 1:].any() and not batch.labeled[1, 1:].any() and batch.labeled.dtype == torch.bool
    with pytest.raises(RuntimeError, match="equal size"):
        collate([two, one._replace(channel_mask=one.channel_mask[:-1])])


CHANGES = {"zeros": np.zeros_like, "empty": lambda whole: whole[:0], "mask": lambda whole: np.arange(9, dtype=np.uint8)}


@pytest.fixture
def corrupt(tmp_path):
    """Return a function that builds and opens a file of five samples, some with corrupt images."""

    def make(*numbers: int, kind: str = "zeros", most: int = 100) -> MixedDataset:
        build(tmp_path, *[[person(10 + 9 * n, 10)] for n in range(5)])
        for number in numbers:
            if kind == "size":
                without_checksums(tmp_path / "out.h5")
                with h5py.File(tmp_path / "out.h5", "r+") as file:
                    file["images/size"][number] = 40, 40
            else:
                damage(tmp_path / "out.h5", number, kind == "mask", CHANGES[kind])
        return MixedDataset([tmp_path / "out.h5"], load_config(RECIPE, [SMALL, f"data.max_broken={most}"]), augment=True)

    return make


@pytest.mark.parametrize("kind", [*CHANGES, "size"])
def test_another_sample_replaces_a_corrupt_one_which_is_named_once(corrupt, capsys, kind):
    dataset = corrupt(1, 2, kind=kind)
    first, again, _ = dataset[0, 1], dataset[0, 1], dataset[0, 2]
    err = capsys.readouterr().err
    assert [line.split(":")[:2] for line in err.splitlines()[1:]] == [["warning", f" image {n} in {dataset.paths[0]}"] for n in (1, 2)], err
    assert "(2 corrupt so far)" in err
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first.image, dataset[0, 3].image)  # the same person, with the random numbers of the requested sample


def test_workers_replace_the_same_samples_and_count_together(corrupt):
    dataset, items = corrupt(0, 4), [(0, n) for n in (4, 0, 1, 9, 3)]
    workers = [batch.image for batch in DataLoader(dataset, sampler=items, num_workers=2, collate_fn=collate)]
    assert dataset.broken[0].tolist() == [True, False, False, False, True]
    assert all(torch.equal(batch[0], dataset[item].image) for batch, item in zip(workers, items, strict=True))


def test_too_many_corrupt_images_and_a_file_without_samples_are_errors(corrupt, tmp_path):
    dataset = corrupt(0, 2, 4, most=2)
    assert dataset[0, 0] and dataset[0, 2]
    with pytest.raises(UserError, match=r"image 4 in .*3 images are corrupt, more than data\.max_broken=2"):
        dataset[0, 4]
    with pytest.raises(UserError, match=r"training file .*out\.h5: the images of all its samples are corrupt"):
        corrupt(*range(5))[0, 3]
    build(tmp_path, [person(10, 10, visible=4)])
    with pytest.raises(UserError, match=r"training file .*out\.h5: holds no sample"):
        MixedDataset([tmp_path / "out.h5"], CONFIG, augment=True)


def test_training_ends_with_the_error_of_a_worker_and_leaves_no_processes(tiny, hdf5, tmp_path):
    """Also while the error is referenced."""
    path = tmp_path / "corrupt.h5"
    path.write_bytes(hdf5.read_bytes())
    damage(path, 2, 0, np.zeros_like)
    config = load_config(tiny, (f"data.train={path}", "data.workers=2", "data.max_broken=0"))
    with pytest.raises(UserError, match="more than data.max_broken=0") as error:
        train(config, tmp_path / "run", ALONE)
    assert multiprocessing.active_children() == [], error
