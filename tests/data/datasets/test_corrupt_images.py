"""Images that a people file holds and that turn out to be damaged in training: named once, counted, another sample in their place."""

import multiprocessing
import re

import h5py
import numpy as np
import pytest
import torch
from people import build, person
from people import damage as damage_part
from torch.utils.data import DataLoader

from config import UserError, load_config
from data.datasets import MixedDataset, collate
from utils.distributed import DistributedContext
from utils.training.trainer import train

KINDS = {
    "no picture": np.zeros_like,
    "empty": lambda whole: whole[:0],
    "start only": lambda whole: whole[:20],
    "not a PNG": lambda whole: whole[5:],
    "mask": lambda whole: np.arange(9, dtype=np.uint8),
}
OVERRIDES = ("data.input_size=[64, 64]",)


def training_set(path, *overrides) -> MixedDataset:
    config = load_config("config/simplepose_coco_512.yaml", [*OVERRIDES, *overrides])
    return MixedDataset([path], config, augment=True)


@pytest.fixture
def damage(tmp_path):
    """Builds a file of five images with a sample each, and damages some in one way."""

    def make(*numbers: int, kind: str = "no picture"):
        build(tmp_path, *[[person(10 + 9 * n, 10)] for n in range(5)])
        path = tmp_path / "out.h5"
        for number in numbers:
            if kind == "another size":
                with h5py.File(path, "r+") as file:
                    file["images/size"][number] = 40, 40
            else:
                damage_part(path, number, kind == "mask", KINDS[kind])
        return path

    return make


@pytest.mark.parametrize("kind", ["no picture", "empty", "start only", "not a PNG", "mask", "another size"])
def test_another_sample_takes_its_place_and_it_is_named_once(damage, capsys, kind):
    samples = training_set(damage(1, 2, kind=kind))
    assert len(samples) == 5
    again = [samples[0, 1], samples[0, 1], samples[0, 2]]
    err = capsys.readouterr().err
    assert [line.split(":")[:2] for line in err.splitlines()[1:]] == [["warning", f" image {n} in {samples.paths[0]}"] for n in (1, 2)], err
    assert "(2 damaged so far)" in err
    assert all(map(torch.equal, again[0], again[1]))
    assert not torch.equal(again[0][0], samples[0, 3][0])  # the same person, with the chance of the number that was asked for


def test_in_every_number_of_workers_alike(damage, capfd):
    path = damage(0, 4)
    options = {"sampler": [(0, n) for n in (4, 0, 1, 9, 3)], "collate_fn": collate}
    batches = [[s[0] for s in DataLoader(training_set(path), num_workers=n, **options)] for n in (0, 1, 2)]
    assert all(all(map(torch.equal, batches[0], other)) for other in batches[1:])
    counts = re.findall(r"image (\d) in", capfd.readouterr().err)
    assert counts.count("0") in range(3, 5) and counts.count("4") in range(3, 5)  # once a set, but for two workers at one moment


def test_workers_count_together(damage):
    samples = training_set(damage(0, 2))
    list(DataLoader(samples, sampler=[(0, 0), (0, 2)], collate_fn=collate, num_workers=2))
    assert samples.broken[0].tolist() == [True, False, True, False, False]


def test_too_many_are_an_error(damage):
    path = damage(0, 2, 4)
    samples = training_set(path, "data.max_broken=2")
    samples[0, 0], samples[0, 2]
    with pytest.raises(UserError, match=r"image 4 in .*3 images are damaged, more than data\.max_broken=2"):
        samples[0, 4]
    with pytest.raises(UserError, match=r"data\.max_broken=0"):
        training_set(path, "data.max_broken=0")[0, 0]


def test_a_file_of_nothing_else_is_an_error(damage):
    with pytest.raises(UserError, match=r"training file .*out\.h5: the images of all its samples are damaged"):
        training_set(damage(*range(5)))[0, 3]


def test_training_goes_on(run, tiny, hdf5, tmp_path):
    broken = tmp_path / "broken.h5"
    broken.write_bytes(hdf5.read_bytes())
    damage_part(broken, 7, 0, np.zeros_like)
    command = ("train.py", "--config", tiny, f"data.train={broken}", "train.epochs=1")
    status, _, err = run(*command, "--output", tmp_path / "run")
    assert (status, err.count("cannot be decoded")) == (0, 1), err
    status, _, err = run(*command, "--output", tmp_path / "other", "data.max_broken=0")
    assert (status, err.count("more than data.max_broken=0")) == (2, 1), err


def test_loader_processes_end_with_the_error_that_one_of_them_met(tiny, hdf5, tmp_path):
    """Also as long as somebody holds the error."""
    broken = tmp_path / "broken.h5"
    broken.write_bytes(hdf5.read_bytes())
    damage_part(broken, 2, 0, np.zeros_like)
    config = load_config(tiny, (f"data.train={broken}", "data.workers=2", "data.max_broken=0"))
    with pytest.raises(UserError, match="more than data.max_broken=0") as held:
        train(config, tmp_path / "run", DistributedContext("none", torch.device("cpu")))
    assert multiprocessing.active_children() == [], held
