"""A resumable run over images: what survives a kill, what is run again, and which images form a batch."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from disk import largest_file
from places import ROOT

from config import UserError, load_config
from config.files import file_lock
from data.image_source import ImageEntry
from utils.results_log import InputImage, ResultsLog, fingerprint, predict_images

RESULTS = {5: [{"score": 0.1 + 0.2}], 6: None, 7: []}


@pytest.fixture
def path(tmp_path) -> Path:
    """Return the path of a log of three images, whose process was killed."""
    log = ResultsLog(tmp_path / "log", "this")
    for image_id, result in RESULTS.items():
        log.add(image_id, result)
    return tmp_path / "log"


def test_a_log_is_continued_with_the_same_fingerprint_only(path):
    """By any number of ranks."""
    log, other, another = ResultsLog(path, "this"), ResultsLog(path, "this", 11), ResultsLog(path, "that")
    assert log.results() == RESULTS
    assert log.completed == other.completed == set(RESULTS)
    assert another.completed == set()
    other.add(8, ["b"])
    another.add(1, [])
    assert ResultsLog(path, "this").completed == {5, 6, 7, 8}
    assert log.results()[8] == ["b"]
    log.remove()
    assert list(path.parent.iterdir()) == []
    with file_lock(path), pytest.raises(UserError, match="another process is writing to it"), another:
        pass


def test_an_error_of_a_full_disk_names_the_log(path):
    """The limit on the size of files acts as one."""
    log = ResultsLog(path, "this")
    with largest_file(100), pytest.raises(OSError) as error:
        log.add(8, "a" * 200)
    assert error.value.filename == str(path.with_name("log.this.0.jsonl"))
    assert ResultsLog(path, "this").results() == RESULTS


@pytest.mark.parametrize(
    ("damage", "remaining"),
    [
        (lambda content: content[:-1], [5, 6]),
        (lambda content: content[:9], []),
        (lambda content: content.replace(b'[5, [{"sc', b"\x00\x00\xff\xfe     "), [6, 7]),  # after a power cut
    ],
)
def test_a_damaged_line_costs_its_image_only(path, damage, remaining):
    (file,) = path.parent.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    log = ResultsLog(path, "this")
    assert sorted(log.completed) == remaining
    log.add(9, [])
    assert sorted(log.results()) == [*remaining, 9], "an image after a cut line counts"


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
    (tmp_path / "images").mkdir()
    for number in range(10, 17):
        path, size = tmp_path / "images" / f"{number}.png", (3, 2) if number % 2 else (4, 2)
        cv2.imwrite(str(path), np.full((*size, 3), number, np.uint8))
        inputs[number] = InputImage(ImageEntry(path.parent, path.name, path.stat().st_size), size)
    return inputs


def run(path: Path, images: dict[int, InputImage], decoder: Brightness, **more: object) -> list[str]:
    """Return the errors."""
    arguments = (lambda image_id, people: [image_id, people[0].mean()], 2, torch.device("cpu"), "test")
    with ResultsLog(path, "this", more.get("rank", 0)) as log, suppress(KeyboardInterrupt):
        return [str(error) for error in predict_images(log, decoder, images, *arguments, **more)]


def test_images_of_one_size_are_run_together_as_far_as_sizes_are_listed(tmp_path, images):
    unlisted = {number: InputImage(image.file) for number, image in images.items()}
    decoder, other = Brightness(), Brightness()
    run(tmp_path / "log", images, decoder)
    run(tmp_path / "unlisted", unlisted, other)
    assert decoder.batches == [[10, 12], [14, 16], [11, 13], [15]]
    assert sorted(map(len, other.batches)) == [1, 2, 2, 2]
    for name in ("log", "unlisted"):
        assert ResultsLog(tmp_path / name, "this").results() == {number: [number, number] for number in images}


def test_batches_do_not_depend_on_ranks_and_interrupts(tmp_path, images):
    """An interrupt within a batch too, whose second image is missing then."""
    for rank, batch in enumerate(([10, 12], [14, 16])):
        decoder = Brightness(stop=1)
        run(tmp_path / "log", images, decoder, rank=rank, ranks=2)
        assert decoder.batches == [batch]
    (of_rank_1,) = tmp_path.glob("log.*.1.jsonl")
    of_rank_1.write_text(of_rank_1.read_text()[:-1])
    decoder = Brightness()
    run(tmp_path / "log", images, decoder)
    assert decoder.batches == [[14, 16], [11, 13], [15]]
    assert ResultsLog(tmp_path / "log", "this").results() == {number: [number, number] for number in images}


def test_an_image_that_cannot_be_read_is_returned_and_the_others_are_stored(tmp_path, images):
    def read(file: ImageEntry) -> np.ndarray | UserError:
        return UserError(file.name) if file.path.stem in unreadable else cv2.imread(str(file.path))

    unreadable = {"12"}
    assert run(tmp_path / "log", images, Brightness(), read=read) == ["12.png"]
    assert sorted(ResultsLog(tmp_path / "log", "this").completed) == [10, 11, 13, 14, 15, 16]
    unreadable = set(map(str, images))
    with pytest.raises(UserError, match="10.png"):
        run(tmp_path / "none", images, Brightness(), read=read)


def test_errors_are_one_line_and_leave_no_log(tmp_path, images, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(UserError, match=r"13.png: is 2 x 3, but the annotation file says 2 x 4"):
        run(tmp_path / "log", {13: images[13]._replace(size=(4, 2))}, Brightness())
    monkeypatch.setattr(Brightness, "__call__", fail)
    with pytest.raises(UserError, match="memory is used up; lower --batch-size"):
        run(tmp_path / "log", images, Brightness())
    shutil.rmtree(tmp_path / "images")
    assert list(tmp_path.iterdir()) == []


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
    others = [of("inference.flip=false"), of(folder="others"), of(folder=os.fsdecode(b"\xff")), of(order=-1)]
    for number, file in enumerate(files, start=1):
        os.utime(file, ns=(number, number))
        others.append(of())
    assert len({usual, *others}) == 8
