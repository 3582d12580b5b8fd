"""PoseEstimator: one photograph or several, with a network that is ready for use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import torch
from top_down_system import VALUES, registered, write_checkpoint
from torch import nn

from config import UserError, load_config
from config.load import parse_config
from data.images import read_image
from models import build_model
from utils.checkpoint import read_checkpoint
from utils.inference import PoseEstimator
from utils.systems import PosePredictions


@pytest.fixture
def estimator(tiny, trained) -> PoseEstimator:
    """Of a network that has hardly been trained, and is taken at its faintest word."""
    faint = ["assignment.keypoint_threshold=1e-4", "assignment.lone_threshold=0", "assignment.max_peaks=2"]
    return PoseEstimator(load_config(tiny, faint), trained / "best.pth")


def test_the_network_is_not_in_training(estimator, images):
    """Else what is found would depend on what else is in the batch, and change the network."""
    assert not any(module.training for module in estimator.network.modules())
    before = {name: tensor.clone() for name, tensor in estimator.network.state_dict().items()}
    estimator(read_image(min(images.iterdir())))
    assert all(torch.equal(tensor, before[name]) for name, tensor in estimator.network.state_dict().items())
    assert any(isinstance(module, nn.BatchNorm2d) for module in build_model(estimator.config).modules())  # which would have changed


def test_photographs_of_a_batch_do_not_matter_to_each_other(estimator, images):
    pictures = [read_image(path) for path in sorted(images.iterdir())[:3]]
    pictures += [np.ascontiguousarray(pictures[0][:, :90]), np.ascontiguousarray(pictures[1][:70])]
    together = estimator.batch(pictures)
    assert len(together) == 5
    assert sum(len(scores) for _, scores in together) > 0
    for picture, (keypoints, scores) in zip(pictures, together):
        alone, its_scores = estimator(picture)
        np.testing.assert_allclose(keypoints, alone, atol=1e-2)
        np.testing.assert_allclose(scores, its_scores, atol=1e-4)
    assert estimator.batch([]) == []


@pytest.mark.parametrize(("shape", "kind"), [((9, 9), np.uint8), ((9, 9, 4), np.uint8), ((9, 9, 3), float), ((0, 9, 3), np.uint8)])
def test_what_is_no_photograph_is_refused(estimator, shape, kind):
    with pytest.raises(UserError, match=r"expected \(H, W, 3\) uint8, BGR"):
        estimator.batch([np.zeros((9, 9, 3), np.uint8), np.zeros(shape, kind)])


def pictures_of(images: Path) -> list[np.ndarray]:
    """Of several sizes, mixed."""
    whole = [read_image(path) for path in sorted(images.iterdir())]
    parts = [np.ascontiguousarray(picture[:, :90]) for picture in whole[:3]] + [np.ascontiguousarray(picture[:70]) for picture in whole[:2]]
    return [picture for pair in zip_longest(whole, parts) for picture in pair if picture is not None]


def assert_same(found: Iterable[PosePredictions], expected: Iterable[PosePredictions]) -> None:
    for (keypoints, scores), (its_keypoints, its_scores) in zip(found, expected, strict=True):
        np.testing.assert_allclose(keypoints, its_keypoints, atol=1e-2)
        np.testing.assert_allclose(scores, its_scores, atol=1e-4)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_stream_gives_what_calls_give_in_their_order(estimator, images, monkeypatch, workers, batch_size):
    estimator.workers, pictures = workers, pictures_of(images)
    expected = [estimator(picture) for picture in pictures]
    assert sum(len(scores) for _, scores in expected) > 0
    sizes, plain = [], estimator.decoder.preprocess
    monkeypatch.setattr(estimator.decoder, "preprocess", lambda some, boxes: sizes.append(len(some)) or plain(some, boxes))
    assert_same(estimator.stream(iter(pictures), batch_size), expected)
    assert max(sizes) == batch_size
    assert len(sizes) == (len(pictures) if batch_size == 1 else 3 + 1 + 1)  # 8 whole ones, 3 narrow ones, 2 low ones
    assert_same(estimator.batch(pictures), expected)


def test_overlays_come_from_the_pass_that_people_come_from(estimator, images, monkeypatch):
    pictures, passes, plain = pictures_of(images), [], estimator.network.predict
    expected = list(estimator.stream(pictures, 3))
    monkeypatch.setattr(estimator.network, "predict", lambda batch: passes.append(len(batch)) or plain(batch))
    found = list(estimator.stream_with_overlays(pictures, 3))
    assert sum(passes) == 2 * len(pictures), "each image and its mirror image once"
    assert_same([people for people, _ in found], expected)
    for picture, (_, overlays) in zip(pictures, found, strict=True):
        assert {name: overlay.shape for name, overlay in overlays.items()} == dict.fromkeys(("keypoints", "limbs"), picture.shape[:2])


def test_a_stream_is_not_read_to_its_end_at_first(estimator, images):
    picture, taken = read_image(min(images.iterdir())), 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield picture if taken % 5 else picture[:70]

    people = estimator.stream(endless(), 2)
    for number in range(30):
        next(people)
        assert taken - number <= 4 * 2 + 4 * 2
    people.close()


def test_a_stream_of_nothing(estimator):
    assert list(estimator.stream(iter([]), 4)) == []
    assert list(estimator.stream([], boxes=[])) == []


def test_the_seconds_of_each_part_are_counted(estimator, images):
    pictures = pictures_of(images)[:3]
    assert estimator.seconds == {"input": 0, "network": 0, "assignment": 0}
    begun = time.perf_counter()
    estimator(pictures[0])
    called = dict(estimator.seconds)
    assert all(seconds > 0 for seconds in called.values())
    assert sum(called.values()) <= time.perf_counter() - begun
    list(estimator.stream(pictures, 2))
    assert all(estimator.seconds[part] > seconds for part, seconds in called.items())


def test_a_worker_leaves_others_their_threads(estimator, images):
    """PyTorch's number of threads is also that of threads which are begun later."""
    assert torch.get_num_threads() == 1
    torch.set_num_threads(4)
    try:
        estimator.workers = 2
        list(estimator.stream([read_image(min(images.iterdir()))] * 3))
        assert torch.get_num_threads() == 4
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 4
        assert estimator._pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(1)


def test_a_network_is_read_in_one_thread_and_run_in_all(tiny, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("utils.inference.fuse_conv_bn", lambda network: seen.append(torch.get_num_threads()))
    monkeypatch.setattr("utils.checkpoint.read_checkpoint", lambda path: seen.append(torch.get_num_threads()) or read_checkpoint(path))
    config = load_config(tiny)
    torch.set_num_threads(3)
    try:
        PoseEstimator(config, device="cpu")
        with pytest.raises(UserError):
            PoseEstimator(config, tmp_path / "nowhere.pth", "cpu")
        assert (seen, torch.get_num_threads()) == ([1, 1], 3)
    finally:
        torch.set_num_threads(1)


def test_what_is_no_photograph_in_a_stream_is_refused(estimator):
    with pytest.raises(UserError, match=r"expected \(H, W, 3\) uint8, BGR"):
        list(estimator.stream([np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8)]))


def boxed(tmp_path: Path, detector: Callable | None = None) -> PoseEstimator:
    return PoseEstimator(parse_config(VALUES, "tiny"), write_checkpoint(tmp_path / "tiny.pth"), "cpu", detector)


def test_boxes_come_beside_the_images_of_a_stream(tmp_path):
    with registered():
        estimator, picture = boxed(tmp_path), np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
        boxes = [np.array([[0, 0, 20, 30]] * count + [[9, 9, 5, 5]], float)[:count] for count in (2, 0, 1)]
        expected = [estimator(picture, of_image) for of_image in boxes]
        assert [len(scores) for _, scores in expected] == [2, 0, 1]
        assert_same(estimator.stream([picture] * 3, 2, iter(boxes)), expected)
        with pytest.raises(UserError, match="boxes end after 3, images do not: expected an array of boxes for each image"):
            list(estimator.stream([picture] * 4, 2, iter(boxes)))
        with pytest.raises(UserError, match="must be told where they are: give boxes"):
            list(estimator.stream([picture] * 3, 2))


def test_a_streams_boxes_are_the_detectors(tmp_path):
    with registered():
        estimator = boxed(tmp_path, lambda images: [np.array([[0, 0, image.shape[1], 30, 0.5]]) for image in images])
        pictures = [np.full((40, 50 + n, 3), n, np.uint8) for n in range(5)]
        assert_same(estimator.stream(pictures, 2), [estimator(picture) for picture in pictures])
        assert estimator.seconds["detection"] > 0


@pytest.mark.parametrize(
    "boxes",
    [
        np.zeros(4),
        np.zeros((2, 3)),
        np.zeros((2, 6)),
        np.array([[1, 2, np.nan, 4]]),
        np.array([["a", "b", "c", "d"]]),
        [[1, 2, 3, 4], [1, 2, 3]],
    ],
    ids=str,
)
def test_boxes_from_python_are_checked(tmp_path, boxes):
    image = np.zeros((40, 50, 3), np.uint8)
    with registered():
        estimator = PoseEstimator(parse_config(VALUES, "tiny"), write_checkpoint(tmp_path / "tiny.pth"))
        assert estimator(image, [[0, 0, 50, 40, 1.0], [5, 5, 20, 20, 0.5], [60, 5, 20, 20, 0.5]])[0].shape == (2, 17, 3), "lists may do"
        with pytest.raises(UserError, match=r"boxes .*: expected \(B, 4\) or \(B, 5\), x, y, width, height and maybe a score, finite"):
            estimator.batch([image, image], [np.zeros((0, 4)), boxes])
