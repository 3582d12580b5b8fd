"""Validation: a mean over plain samples that changes nothing, and a few images."""

import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from people import damage
from runs import ALONE, Replicas, copied, part_of, random_batch, same

from config import load_config
from config.signals import StopSignal
from data.hdf5 import TrainingHDF5
from utils.distributed import DistributedContext
from utils.training.data import build_loaders
from utils.training.step import to_device
from utils.training.trainer import train_one_epoch
from utils.training.validation import validate, validation_metrics


def test_it_changes_nothing_uses_the_stored_statistics_and_weighs_all_samples_alike(new_state):
    state = new_state()
    batch = random_batch(state, size=5)
    train_one_epoch(state, [batch], 0)
    before = copied(state)
    loss = validate(state, [part_of(batch, slice(0, 4)), part_of(batch, slice(4, 5))], 0)
    assert same(copied(state), before)
    state.network.eval()
    with torch.no_grad():
        images, targets = to_device(torch.device("cpu"), batch, state.config)
        assert loss == pytest.approx(state.step.loss(state.network(images), **targets._asdict()).item(), rel=1e-5)


def test_the_validation_files_samples_come_once_each_and_not_augmented(tiny, samples):
    contexts = [ALONE, *(DistributedContext("distributed", torch.device("cpu"), rank, 2) for rank in range(2))]
    loaders = [build_loaders(load_config(tiny, ("train.batch_size=5",)), context)[1] for context in contexts]
    alone, *shared = (sum(loader.batch_sampler, []) for loader in loaders)
    assert alone == [(0, number) for number in range(samples)] and not loaders[0].dataset.augment
    assert sorted(sum(shared, [])) == alone


def test_dataparallel_validates_on_all_its_devices(new_state):
    """No device sees more than its part of a batch, also of one that cannot be shared out evenly; the loss stays the same."""
    whole, spread = new_state(), new_state()
    spread.context, spread.step = DistributedContext("data_parallel", spread.context.device), Replicas(spread.step, 2)
    batch, seen = random_batch(whole, size=5), []
    spread.network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    assert validate(spread, [batch], 0) == pytest.approx(validate(whole, [batch], 0), rel=1e-5)
    assert seen == [3, 2]


@pytest.mark.parametrize("count", [0, 3])
def test_images_are_of_the_first_batch_and_no_more_than_configured(new_state, count):
    state, shown = new_state(f"train.val_images={count}"), []
    state.metrics = SimpleNamespace(add_images=lambda *images: shown.append(images))
    batches = [random_batch(state, size=4, seed=seed) for seed in range(2)]
    validate(state, batches, 6)
    assert [(epoch, name, len(images)) for epoch, name, images in shown] == [(7, "validation", count)] * (count > 0)
    for image, pixels in zip(shown[0][2] if shown else [], batches[0].image.numpy()):
        assert np.abs(image[:, :64] - pixels.astype(float)).max() <= 1


# AP


@pytest.fixture(scope="module")
def validation_file(hdf5, tiny) -> TrainingHDF5:
    return TrainingHDF5(hdf5, load_config(tiny).skeleton)


class AnnotatedPoses:
    """A decoder that returns the annotated people of each image, except the first `skipped` ones."""

    needs_boxes = True

    def __init__(self, file: TrainingHDF5, skipped: int):
        self.file, self.skipped, self.boxes = file, skipped, {}

    def batch_key(self, image_size):
        return image_size[0] % 2

    def __call__(self, images, boxes):
        predictions = []
        for image, given in zip(images, boxes):
            (number,) = (n for n in range(len(self.file)) if (self.file.image(n) == image).all())
            self.boxes[number] = given
            keypoints = self.file.joints(range(*self.file.first[number : number + 2]))[self.skipped :]
            keypoints[..., 2] = keypoints[..., 2] != 2
            predictions.append((keypoints, torch.linspace(1, 0.5, len(keypoints)).numpy()))
        return predictions


@pytest.mark.parametrize("skipped", [0, 1])
def test_validation_ap_is_one_only_for_all_annotated_people(validation_file, skipped):
    decoder = AnnotatedPoses(validation_file, skipped)
    images = 2 * [(validation_file, number) for number in range(len(validation_file))]
    metrics = validation_metrics(decoder, images, validation_file.skeleton, 3, ALONE, StopSignal())
    assert (metrics["AP"] == 1) == (skipped == 0)
    for number, boxes in decoder.boxes.items():  # those of its own people, with the score 1
        people = slice(*validation_file.first[number : number + 2])
        annotated = (validation_file.num_labeled[people] > 0) & ~validation_file.crowd[people]
        np.testing.assert_array_equal(boxes, np.c_[validation_file.boxes[people][annotated], np.ones(annotated.sum())])
    assert len(decoder.boxes) == len(validation_file)


def test_a_corrupt_image_is_skipped_and_named_once(validation_file, tmp_path, capsys):
    """Training goes on, as it does where a sample's image is corrupt."""
    path = tmp_path / "corrupt.h5"
    shutil.copy(validation_file.path, path)
    damage(path, 1, 0, np.zeros_like)
    decoder = AnnotatedPoses(validation_file, 0)
    images = [(TrainingHDF5(path, validation_file.skeleton), number) for number in range(len(validation_file))]
    for _ in range(2):
        assert validation_metrics(decoder, images, validation_file.skeleton, 3, ALONE, StopSignal())["AP"] == 1
    assert len(re.findall(r"warning: image .*corrupt.h5.*; skipped\n", capsys.readouterr().err)) == 1
    assert len(decoder.boxes) == len(validation_file) - 1
