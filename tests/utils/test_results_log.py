"""A resumable run over images: what survives a kill, what is run again, and which images form a batch."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from locks import locked_elsewhere
from places import ROOT

from config import UserError, load_config
from utils.results_log import InputImage, ResultsLog, fingerprint, predict_images

CPU = torch.device("cpu")


@pytest.fixture
def path(tmp_path) -> Path:
    """Return a log of two batches, whose file is `log.0.jsonl`."""
    with ResultsLog(tmp_path / "log", "this") as log:
        log.add([(5, [{"score": 0.1 + 0.2}]), (6, None)])
        log.add([(7, [])])
    return tmp_path / "log"


def completed(path: Path, fingerprint: str = "this") -> list[int]:
    with ResultsLog(path, fingerprint) as log:
        return sorted(log.completed)


def test_a_log_is_continued_with_the_same_fingerprint_only(path):
    with ResultsLog(path, "this") as log:
        assert log.results() == {5: [{"score": 0.1 + 0.2}], 6: None, 7: []}
        log.add([(8, [])])
    assert completed(path) == [5, 6, 7, 8]
    with ResultsLog(path, "that") as log:
        assert log.completed == set()
        log.add([(1, [])])
    assert (completed(path), completed(path, "that")) == ([], [1])


def test_a_batch_is_on_disk_at_once(path, tmp_path):
    with ResultsLog(path, "this") as log:
        log.add([(8, [])])
        (tmp_path / "killed.0.jsonl").write_bytes((tmp_path / "log.0.jsonl").read_bytes())
    assert completed(tmp_path / "killed") == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("damage", "remaining"),
    [
        (lambda content: content[:-1], [5, 6, 7]),
        (lambda content: content[:-3], [5, 6]),
        (lambda content: content[:9], []),
        (lambda content: content.replace(b'[[5, [{"sc', b"\x00\x00\x00\xff\xfe     "), [7]),  # after a power cut
    ],
)
def test_a_damaged_line_costs_its_batch_only(path, damage, remaining):
    file = path.with_name("log.0.jsonl")
    file.write_bytes(damage(file.read_bytes()))
    assert completed(path) == remaining
    with ResultsLog(path, "this") as log:
        log.add([(9, [])])
    assert completed(path) == [*remaining, 9], "a batch after a cut line counts"


def test_any_number_of_ranks_continues_another_numbers_log(path):
    with ResultsLog(path, "this") as first, ResultsLog(path, "this", 11) as other:
        assert other.completed == {5, 6, 7}
        other.add([(8, ["b"])])
        assert first.completed == {5, 6, 7}
        assert first.results()[8] == ["b"]
    with ResultsLog(path, "this") as log:
        assert log.completed == {5, 6, 7, 8}
        log.remove()
    assert list(path.parent.iterdir()) == []


def test_a_log_without_results_leaves_no_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), ResultsLog(tmp_path / "log", "this") as log:
        log.add([])
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_two_runs_do_not_write_to_one_log(path):
    with locked_elsewhere(path), pytest.raises(UserError, match="another process is writing to it"):
        ResultsLog(path, "that")
    assert completed(path) == [5, 6, 7]


# Running


class Brightness:
    """A decoder that predicts one person an image, at the image's gray value. It records the batches and ends after `stop` of them."""

    needs_boxes = False

    def __init__(self, stop: int | None = None):
        self.batches, self.stop = [], stop

    def batch_key(self, size):
        return size

    def __call__(self, images, boxes):
        if len(self.batches) == self.stop:
            raise KeyboardInterrupt
        self.batches.append([int(image.mean()) for image in images])
        return [(np.full((1, 1, 3), number), np.ones(1)) for number in self.batches[-1]]


@pytest.fixture
def images(tmp_path) -> dict[int, InputImage]:
    """Return seven gray images by value, the even ones higher than the odd ones, with listed sizes."""
    inputs = {}
    for number in range(10, 17):
        size = (3, 2) if number % 2 else (4, 2)
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((*size, 3), number, np.uint8))
        inputs[number] = InputImage(tmp_path / f"{number}.png", size)
    return inputs


def run(path: Path, images: dict[int, InputImage], decoder: Brightness, size: int = 2, **more: object) -> dict[int, float]:
    with ResultsLog(path, "this", more.get("rank", 0)) as log:
        with suppress(KeyboardInterrupt):
            predict_images(log, decoder, images, lambda i, keypoints, scores: [i, keypoints.mean()], size, CPU, "test", **more)
        return log.results()


def test_images_of_one_size_are_run_together_as_far_as_sizes_are_listed(tmp_path, images):
    decoder = Brightness()
    assert run(tmp_path / "log", images, decoder) == {number: [number, number] for number in images}
    assert decoder.batches == [[10, 12], [14, 16], [11, 13], [15]]
    decoder = Brightness()
    unlisted = {number: InputImage(image.path) for number, image in images.items()}
    assert run(tmp_path / "unlisted", unlisted, decoder) == {number: [number, number] for number in images}
    assert sorted(map(len, decoder.batches)) == [1, 2, 2, 2]


def test_batches_do_not_depend_on_ranks_and_interrupts(tmp_path, images):
    for rank, batch in enumerate(([10, 12], [14, 16])):
        decoder = Brightness(stop=1)
        run(tmp_path / "log", images, decoder, rank=rank, ranks=2)
        assert decoder.batches == [batch]
    decoder = Brightness()
    assert len(run(tmp_path / "log", images, decoder)) == 7
    assert decoder.batches == [[11, 13], [15]]


def test_an_image_that_cannot_be_read_is_returned_and_the_others_are_stored(tmp_path, images):
    def read(path: Path) -> np.ndarray | UserError:
        return UserError(path.name) if path.stem in unreadable else cv2.imread(str(path))

    def errors(decoder: Brightness, log: ResultsLog) -> list[str]:
        return [str(e) for e in predict_images(log, decoder, images, lambda i, *_: i, 2, CPU, "test", read=read)]

    unreadable, decoder = {"12"}, Brightness()
    with ResultsLog(tmp_path / "log", "this") as log:
        assert errors(decoder, log) == ["12.png"]
        assert sorted(log.results()) == [10, 11, 13, 14, 15, 16]
    unreadable = {str(number) for number in images}
    with ResultsLog(tmp_path / "none", "this") as log, pytest.raises(UserError, match="10.png"):
        errors(decoder, log)


def test_an_image_of_another_size_than_listed_is_named(tmp_path, images):
    images[13] = images[13]._replace(size=(4, 2))
    with pytest.raises(UserError, match=r"13.png: is 2 x 3, but the annotation file says 2 x 4"):
        run(tmp_path / "log", images, Brightness())


def test_running_out_of_device_memory_is_one_line(tmp_path, images, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Brightness, "__call__", fail)
    with pytest.raises(UserError, match="memory is used up; lower --batch-size"):
        run(tmp_path / "log", images, Brightness())


def test_the_fingerprint_differs_by_configuration_folder_and_files(tmp_path):
    """A file that another one of the same name and size replaces counts, too."""
    files = [tmp_path / name for name in ("a.pth", "b.json", "rescore.pth")]
    for file in files:
        file.write_bytes(b"content")

    def of(*overrides: str, folder: str = "images", order: int = 1) -> str:
        config = load_config(ROOT / "config" / "dekr_w32_coco.yaml", [f"inference.rescore={files[2]}", *overrides])
        return fingerprint(config, Path(folder), *files[:2][::order])

    usual = of()
    assert of() == usual
    others = [of("inference.flip=false"), of(folder="others"), of(order=-1)]
    for number, file in enumerate(files, start=1):
        os.utime(file, ns=(number, number))
        others.append(of())
    assert len({usual, *others}) == 7
