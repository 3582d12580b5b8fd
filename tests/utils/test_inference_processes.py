"""PoseEstimator in several threads, and in processes that are forked or that get a pickled one."""

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import numpy as np
import pytest
import torch
from people import assert_same_people
from runs import in_a_child
from top_down_system import VALUES, registered, write_checkpoint
from torch import nn

from config import Config, UserError, load_config
from config.load import parse_config
from data.images import read_image
from models import build_model
from utils.inference import PoseEstimator
from utils.predictions import PosePredictions

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
MAX_SECONDS = 30  # of a fork, which would wait for ever


@pytest.fixture(scope="module")
def build(tiny, trained) -> Callable[[], PoseEstimator]:
    """Return a function that builds estimators with thresholds so low that an almost untrained network predicts people."""
    low = ["assignment.keypoint_threshold=1e-4", "assignment.lone_threshold=0", "assignment.max_peaks=2"]
    return lambda: PoseEstimator(load_config(tiny, low), trained / "best.pth", "cpu", min_score=0)


@pytest.fixture(scope="module")
def people(images) -> list[np.ndarray]:
    return [read_image(path) for path in sorted(images.iterdir())[:3]]


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def answers(estimator: PoseEstimator, images: list[np.ndarray]) -> list[PosePredictions]:
    """Return the predictions of a call, a batch and a stream."""
    return [estimator(images[0]), *estimator.batch(images), *estimator.stream(images, 2)]


def assert_ends_well(work: Callable[[], object], folder) -> None:
    """Run `work` in a fork and wait for its end."""

    def limited() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(MAX_SECONDS)
        work()

    status = os.waitpid(in_a_child(limited, folder / "output"), 0)[1]
    assert os.waitstatus_to_exitcode(status) == 0, "the fork hangs" if status == signal.SIGALRM else (folder / "output").read_text()


def test_threads_share_an_estimator(build, people, two_threads):
    estimator = build()
    expected = answers(estimator, people)
    assert sum(map(len, expected))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: answers(estimator, people), range(8)):
            assert_same_people(found, expected)


def test_estimators_that_threads_build_at_once_keep_their_threads(build, monkeypatch):
    """The second thread begins while the first one builds, with one thread."""
    building = Barrier(2)

    def build_together(config: Config) -> nn.Module:
        assert torch.get_num_threads() == 1
        building.wait(MAX_SECONDS)
        return build_model(config)

    def numbers() -> tuple[int, int, int]:
        before, estimator = torch.get_num_threads(), build()
        return before, torch.get_num_threads(), estimator._pool().submit(torch.get_num_threads).result()

    monkeypatch.setattr("utils.checkpoint.build_model", build_together)
    torch.set_num_threads(4)
    try:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(numbers)
            while building.n_waiting < 1 and not first.done():
                time.sleep(0.01)
            assert [pool.submit(numbers).result(), first.result()] == [(4, 4, 2)] * 2
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(1)


@forks
def test_a_fork_answers_as_its_parent_did(build, people, two_threads, tmp_path):
    torch.zeros(2**20).exp_()  # starts PyTorch's threads of this thread
    estimator = build()
    expected = answers(estimator, people)

    def work() -> None:
        assert torch.get_num_threads() == 2
        assert_same_people(answers(estimator, people), expected)
        assert_same_people(answers(build(), people), expected)
        assert PoseEstimator(device="cpu").config.system == "dekr", "the bundled model, whose weights are float16"

    assert_ends_well(work, tmp_path)


@forks
def test_a_fork_does_not_wait_for_its_parents_detector(people, tmp_path):
    begun, go_on, parent = Event(), Event(), os.getpid()

    def detect(images: list[np.ndarray]) -> list[np.ndarray]:
        if os.getpid() == parent:
            begun.set()
            assert go_on.wait(MAX_SECONDS)
        return [np.array([[0, 0, 20, 30]]) for _ in images]

    with registered(), ThreadPoolExecutor(1) as pool:
        config = parse_config(VALUES, "tiny")
        estimator = PoseEstimator(config, write_checkpoint(tmp_path / "tiny.pth"), "cpu", detect, min_score=0)
        running = pool.submit(estimator, people[0])
        assert begun.wait(MAX_SECONDS)
        assert_ends_well(lambda: estimator(people[0]), tmp_path)
        go_on.set()
        assert len(running.result()) == 1


def test_a_gpu_in_a_fork_is_refused(build, people, monkeypatch):
    estimator = build()
    monkeypatch.setattr(torch.cpu, "_is_in_bad_fork", lambda: True, raising=False)
    with pytest.raises(UserError, match="build the PoseEstimator in the new process only, or .* 'spawn'"):
        estimator(people[0])


def test_an_estimator_and_its_predictions_are_pickled(build, people):
    """As `multiprocessing` does for a process that it spawns."""
    estimator = build()
    expected = answers(estimator, people)
    assert_same_people(answers(pickle.loads(pickle.dumps(estimator)), people), pickle.loads(pickle.dumps(expected)))
