"""Training sets: several files, and chance that depends on the seed, the epoch and the sample alone."""

import numpy as np
import pytest
import torch
from people import build, person
from torch.utils.data import DataLoader

from config import UserError, load_config
from data.datasets import MixedDataset, collate

CONFIG = load_config("config/simplepose_coco_512.yaml", ["data.input_size=[64, 64]"])


@pytest.fixture
def two_files(tmp_path):
    """Of three samples and of one."""
    (tmp_path / "b").mkdir()
    build(tmp_path, [person(10, 10), person(100, 60)], [person(20, 20)])
    build(tmp_path / "b", [person(30, 30)])
    return [tmp_path / "out.h5", tmp_path / "b" / "out.h5"]


def training_set(paths, augment=True) -> MixedDataset:
    return MixedDataset(paths, CONFIG, augment)


def test_one_file_after_the_other(two_files):
    together = training_set(two_files, augment=False)
    assert (len(together), together.sizes) == (4, [3, 1])
    for number, (file, index) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0)]):
        alone = training_set(two_files[file : file + 1], augment=False)[0, index]
        assert all(map(torch.equal, together[0, number], alone))


def test_chance_depends_on_seed_epoch_and_sample_alone(two_files):
    samples = training_set(two_files)
    items = [(3, number) for number in (2, 0, 3, 1)]
    images = [samples[item][0] for item in items]
    together = [batch[0][0] for batch in DataLoader(samples, sampler=items, collate_fn=collate, num_workers=2)]
    assert all(map(torch.equal, images, together))
    assert not torch.equal(samples[4, 2][0], images[0])


def test_numbers_beyond_the_last_are_further_draws_of_the_same_samples(two_files):
    samples = training_set(two_files)
    draws = [samples[0, 3 + 4 * draw][0] for draw in range(3)]
    assert not torch.equal(draws[0], draws[1]) and not torch.equal(draws[1], draws[2])
    plain = training_set(two_files, augment=False)
    assert torch.equal(plain[0, 3][0], plain[0, 3 + 4][0])


def test_a_file_without_samples_is_named(tmp_path):
    build(tmp_path, [person(10, 10, visible=4)])
    with pytest.raises(UserError, match=r"training file .*out\.h5: holds no sample"):
        training_set([tmp_path / "out.h5"])


def test_validation_is_not_augmented(two_files):
    plain = training_set(two_files, augment=False)
    first = plain[0, 0][0]
    assert torch.equal(plain[5, 0][0], first)
    assert np.abs(training_set(two_files)[0, 0][0].float() - first.float()).max() > 3
