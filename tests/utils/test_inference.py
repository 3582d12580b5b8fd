"""PoseEstimator: one image, several, or a stream of them, with and without boxes."""

import textwrap
import time
from collections.abc import Callable, Iterator
from itertools import zip_longest

import numpy as np
import pytest
import torch
from devices import GPU
from people import assert_same_people
from PIL import Image
from top_down_system import VALUES, registered, write_checkpoint

from config import UserError, load_config
from config.load import parse_config
from data.images import read_image
from utils.bundled_model import resolve_checkpoint
from utils.checkpoint import config_for
from utils.inference import PoseEstimator


@pytest.fixture(scope="module")
def estimator(tiny, trained) -> PoseEstimator:
    """Return an estimator with thresholds so low that an almost untrained network predicts people."""
    low = ["assignment.keypoint_threshold=1e-4", "assignment.lone_threshold=0", "assignment.max_peaks=2"]
    return PoseEstimator(load_config(tiny, low), trained / "best.pth", min_score=0)


@pytest.fixture(scope="module")
def mixed(images) -> list[np.ndarray]:
    """Return images of three sizes in mixed order: 8 whole ones, 3 narrow ones, 2 low ones."""
    whole = [read_image(path) for path in sorted(images.iterdir())]
    parts = [image[:, :90] for image in whole[:3]] + [image[:70] for image in whole[:2]]
    return [np.ascontiguousarray(image) for pair in zip_longest(whole, parts) for image in pair if image is not None]


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 3), (2, 1), (2, 3)])
def test_a_stream_and_a_batch_give_what_calls_give_in_order(estimator, mixed, monkeypatch, workers, batch_size):
    monkeypatch.setattr(estimator, "workers", workers)
    expected = [estimator(image) for image in mixed]
    assert sum(len(scores) for _, scores in expected) > 0
    sizes, preprocess = [], estimator.decoder.preprocess
    monkeypatch.setattr(estimator.decoder, "preprocess", lambda images, boxes: sizes.append(len(images)) or preprocess(images, boxes))
    assert_same_people(estimator.stream(iter(mixed), batch_size), expected)
    assert (max(sizes), len(sizes)) == (batch_size, len(mixed) if batch_size == 1 else 3 + 1 + 1)
    assert_same_people(estimator.batch(mixed), expected)
    assert estimator.batch([]) == list(estimator.stream(iter([]), 4)) == list(estimator.stream([], boxes=[])) == []


def test_people_below_the_least_score_are_left_out(estimator, mixed, monkeypatch):
    everyone, scores = estimator(mixed[0])
    least = float(np.median(scores))
    monkeypatch.setattr(estimator, "min_score", least)
    assert 0 < (scores >= least).sum() < len(scores)
    assert_same_people([estimator(mixed[0])], [(everyone[scores >= least], scores[scores >= least])])


def test_overlays_come_from_the_forward_pass_of_the_predictions(estimator, mixed, monkeypatch):
    passes, predict = [], estimator.network.predict
    expected = list(estimator.stream(mixed, 3))
    monkeypatch.setattr(estimator.network, "predict", lambda batch: passes.append(len(batch)) or predict(batch))
    results = list(estimator.stream_with_overlays(mixed, 3))
    assert sum(passes) == 2 * len(mixed), "each image and its flipped image once"
    assert_same_people([people for people, _ in results], expected)
    for image, (_, overlays) in zip(mixed, results, strict=True):
        assert {name: overlay.shape for name, overlay in overlays.items()} == dict.fromkeys(("keypoints", "limbs"), image.shape[:2])


def test_a_stream_reads_only_a_few_batches_ahead(estimator, mixed):
    read = []
    many = (read.append(n) or (mixed[0] if n else mixed[0][:70]) for n in range(100))
    predictions = estimator.stream(many, 2)
    for number in range(12):
        next(predictions)
        assert len(read) - number <= 4 * 2 + 4 * 2
    predictions.close()


def test_the_seconds_of_each_part_are_summed(tiny, mixed):
    estimator = PoseEstimator(load_config(tiny))
    start = time.perf_counter()
    estimator(mixed[0])
    called = dict(estimator.seconds)
    assert set(called) == {"input", "network", "assignment"}
    assert min(called.values()) > 0 and sum(called.values()) <= time.perf_counter() - start
    list(estimator.stream(mixed[:3], 2))
    assert all(estimator.seconds[part] > seconds for part, seconds in called.items())


@pytest.mark.parametrize("device", GPU)
@pytest.mark.parametrize("name", ["simplepose_small", "dekr_small", "simple_baselines_small"])
def test_a_gpu_predicts_as_the_cpu(mixed, monkeypatch, name, device):
    """Without TF32. A bundled network, since a random one has peaks of all heights around every threshold."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    on_cpu, on_device = (PoseEstimator(resolve_checkpoint(name), device=on) for on in ("cpu", device))
    assert_same_people(on_device.stream(mixed, 2), on_cpu.stream(mixed, 2))


def test_a_network_is_compiled_where_it_is_configured(tiny, mixed, monkeypatch):
    calls: list[int] = []
    monkeypatch.setattr(torch, "compile", lambda predict: lambda images: calls.append(len(images)) or predict(images))
    for compiles in (False, True):
        PoseEstimator(load_config(tiny, [f"inference.compile={str(compiles).lower()}"]), device="cpu").batch(mixed[:2])
        assert bool(calls) is compiles


def test_arrays_that_are_no_images_are_refused(estimator):
    good = np.zeros((9, 9, 3), np.uint8)
    for wrong in (good[..., 0], np.zeros((9, 9, 4), np.uint8), good.astype(float), good[:0]):
        for predict in (estimator.batch, estimator.stream):
            with pytest.raises(UserError, match=r"expected \(H, W, 3\) uint8, BGR"):
                list(predict([good, wrong]))


def test_files_and_pil_images_and_rgb_arrays_give_what_the_bgr_array_gives(estimator, images, monkeypatch):
    path = min(images.iterdir())
    expected, bgr = [estimator(read_image(path))], read_image(path)
    assert len(expected[0]) > 0
    with Image.open(path) as opened:
        assert_same_people([estimator(str(path)), estimator(path), estimator(opened)], expected * 3)
        assert_same_people(estimator.batch([path, opened]), expected * 2)
        assert_same_people(estimator.stream(iter([path, opened])), expected * 2)
    monkeypatch.setattr(estimator, "color", "rgb")
    (people,) = estimator.batch([np.ascontiguousarray(bgr[..., ::-1])])
    assert_same_people([people, estimator(path)], expected * 2)
    np.testing.assert_array_equal(people.draw(bgr[..., ::-1])[..., ::-1], expected[0].draw(bgr))


def test_other_inputs_are_refused_with_what_is_expected(estimator, tmp_path):
    image = np.zeros((9, 9, 3), np.uint8)
    for given, expected in (
        (None, "image of type NoneType: expected a file's name, a PIL image or an array"),
        ([image, image], "image of type list: .*`batch` takes several images"),
        (torch.zeros(3, 9, 9), "image of type Tensor: expected"),
        (tmp_path / "none.jpg", "none.jpg: not found"),
        ("http://user:secret@127.0.0.1:9/photo.jpg", "^image: expected a file's name, not a URL"),
    ):
        with pytest.raises(UserError, match=expected) as error:
            estimator(given)
        assert "secret" not in str(error.value)
    for given in ("photo.jpg", image, None):
        with pytest.raises(UserError, match="expected several images"):
            estimator.batch(given)


def test_the_example_of_the_docstring_runs(trained, images, tmp_path, monkeypatch):
    (tmp_path / "best.pth").symlink_to(trained / "best.pth")
    (tmp_path / "photo.jpg").symlink_to(min(images.iterdir()))
    monkeypatch.chdir(tmp_path)
    exec(textwrap.dedent(PoseEstimator.__doc__.partition("\n\n")[2].partition("\n\n    An image is")[0]))
    assert read_image("drawn.jpg").shape == read_image("photo.jpg").shape


def test_a_checkpoint_can_come_first(trained):
    low = PoseEstimator(trained / "best.pth", min_score=0.25)
    assert (low.config, low.min_score) == (config_for(trained / "best.pth"), 0.25)
    with pytest.raises(UserError, match="configuration, as load_config returns it"):
        PoseEstimator("config/simplepose_coco_512.yaml", trained / "best.pth")
    with pytest.raises(UserError, match="expected a checkpoint alone, or a configuration"):
        PoseEstimator({"system": "simplepose"})
    with pytest.raises(UserError, match="color 'RGB': expected 'bgr' or 'rgb'"):
        PoseEstimator(trained / "best.pth", color="RGB")


# Boxes


@pytest.fixture
def boxed(tmp_path) -> Iterator[Callable[..., PoseEstimator]]:
    """Return a function detector -> estimator of a top-down system."""
    with registered():
        yield lambda detector=None: PoseEstimator(
            parse_config(VALUES, "tiny"), write_checkpoint(tmp_path / "tiny.pth"), "cpu", detector, min_score=0
        )


def test_a_stream_takes_boxes_beside_its_images(boxed):
    estimator, image = boxed(), np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    boxes = [np.array([[0, 0, 20, 30]] * count + [[9, 9, 5, 5]], float)[:count] for count in (2, 0, 1)]
    expected = [estimator(image, of_image) for of_image in boxes]
    assert [len(scores) for _, scores in expected] == [2, 0, 1]
    assert_same_people(estimator.stream([image] * 3, 2, iter(boxes)), expected)
    for predict in (lambda: list(estimator.stream([image] * 4, 2, iter(boxes))), lambda: estimator.batch([image] * 2, boxes[:1])):
        with pytest.raises(ValueError, match="shorter"):
            predict()


def test_without_boxes_and_detector_the_bundled_model_finds_the_boxes(boxed, trained, monkeypatch, capsys):
    monkeypatch.setattr("utils.bundled_model.DEFAULT", trained / "best.pth")
    monkeypatch.setattr("utils.inference.scored_boxes", lambda keypoints, scores, boxes, least: np.array([[10.0, 20, 60, 70, least]]))
    estimator, image = boxed(), np.zeros((90, 80, 3), np.uint8)
    expected = estimator(image, np.array([[10.0, 20, 60, 70, 0.3]]))
    assert_same_people(estimator.stream([image] * 3, 2), [expected] * 3)
    assert capsys.readouterr().out.count("detector: best, the bundled model; none was named, and system 'tiny' needs person boxes\n") == 1


def test_a_detector_gives_the_boxes_where_none_are_given(boxed):
    calls = []

    def detect(images: list[np.ndarray]) -> list[np.ndarray]:
        calls.append(len(images))
        return [np.array([[0, 0, image.shape[1], 30, 0.5]]) for image in images]

    estimator, images = boxed(detect), [np.full((40, 50 + n, 3), n, np.uint8) for n in range(3)]
    expected = [estimator(image) for image in images]
    assert_same_people(estimator.stream(images, 2), expected)
    assert_same_people(estimator.batch(images), expected)
    assert estimator.seconds["detection"] > 0
    calls.clear()
    assert len(estimator(images[0], np.array([[0, 0, 9, 9], [5, 5, 9, 9]]))[1]) == 2
    assert not calls


def test_boxes_are_checked(boxed):
    estimator, image = boxed(), np.zeros((40, 50, 3), np.uint8)
    assert estimator(image, [[0, 0, 50, 40, 1.0], [5, 5, 20, 20, 0.5], [60, 5, 20, 20, 0.5]])[0].shape == (2, 17, 3), "lists are accepted"
    assert len(estimator(image, [])) == 0
    for boxes in (np.zeros(4), np.zeros((2, 3)), np.zeros((2, 6)), [[1, 2, np.nan, 4]], [[1, 2, 3, 4], [5]], "a"):
        with pytest.raises(UserError, match=r"boxes .*: expected \(B, 4\) or \(B, 5\)"):
            estimator.batch([image, image], [np.zeros((0, 4)), boxes])
