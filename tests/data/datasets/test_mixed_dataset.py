"""Several training files as one dataset, batches of its samples, and an augmentation that depends on seed, epoch and sample alone."""

import pytest
import torch
from people import build, person
from torch.utils.data import DataLoader

from config import UserError, load_config
from data.datasets import MixedDataset, collate
from data.datasets.simplepose import SimplePoseSample

CONFIG = load_config("config/simplepose_coco_512.yaml", ["data.input_size=[64, 64]"])


@pytest.fixture(scope="module")
def two_files(tmp_path_factory):
    """Of three samples and of one."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "b").mkdir()
    build(folder, [person(10, 10), person(100, 60)], [person(20, 20)])
    build(folder / "b", [person(30, 30)])
    return [folder / "out.h5", folder / "b" / "out.h5"]


@pytest.fixture(scope="module")
def augmented(two_files):
    return MixedDataset(two_files, CONFIG, augment=True)


@pytest.fixture(scope="module")
def plain(two_files):
    return MixedDataset(two_files, CONFIG, augment=False)


def test_one_file_follows_the_other(two_files, plain):
    assert (len(plain), plain.sizes) == (4, [3, 1])
    for number, (file, index) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0)]):
        alone = MixedDataset(two_files[file : file + 1], CONFIG, augment=False)
        assert all(map(torch.equal, plain[0, number], alone[0, index]))
        assert plain.image_id(number) == plain.image_id(number + 4) == alone.image_id(index)


def test_the_augmentation_depends_on_seed_epoch_and_sample_alone(augmented):
    items = [(3, number) for number in (2, 0, 3, 1)]
    images = [augmented[item].image for item in items]
    together = [batch.image[0] for batch in DataLoader(augmented, sampler=items, collate_fn=collate, num_workers=2)]
    assert all(map(torch.equal, images, together))
    assert not torch.equal(augmented[4, 2].image, images[0])


def test_numbers_beyond_the_last_repeat_the_samples_with_another_augmentation(augmented, plain):
    repeats = [augmented[0, 3 + 4 * repeat].image for repeat in range(3)]
    assert not torch.equal(repeats[0], repeats[1]) and not torch.equal(repeats[1], repeats[2])
    assert torch.equal(plain[0, 3].image, plain[0, 3 + 4].image)


def test_validation_is_not_augmented(augmented, plain):
    assert torch.equal(plain[5, 0].image, plain[0, 0].image)
    assert (augmented[0, 0].image.float() - plain[0, 0].image.float()).abs().max() > 3


def test_a_file_without_samples_is_named(tmp_path):
    build(tmp_path, [person(10, 10, visible=4)])
    with pytest.raises(UserError, match=r"training file .*out\.h5: holds no sample"):
        MixedDataset([tmp_path / "out.h5"], CONFIG, augment=True)


def test_a_batch_pads_people_with_zeros_and_nothing_else(plain):
    two, one = plain[0, 0], plain[0, 2]
    batch = collate([two, one])
    assert type(batch) is SimplePoseSample
    assert all(torch.equal(stacked[0], single) for stacked, single in zip(batch, two))
    assert torch.equal(batch.keypoints[1, :1], one.keypoints) and torch.equal(batch.labeled[1, :1], one.labeled)
    assert not batch.keypoints[1, 1:].any() and not batch.labeled[1, 1:].any() and batch.labeled.dtype == torch.bool
    with pytest.raises(RuntimeError, match="equal size"):
        collate([two, one._replace(mask_miss=one.mask_miss[:-1])])
    with pytest.raises(RuntimeError, match="equal size"):
        collate([two, one._replace(channel_mask=one.channel_mask[:-1])])
