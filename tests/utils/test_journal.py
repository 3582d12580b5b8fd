"""The journal of a long run over images: whatever happens to it, no whole line is lost; and what it is the journal of."""

from __future__ import annotations

import os
import pickle
import resource
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from holding import held_elsewhere
from places import ROOT

from config import UserError, load_config
from config.progress import Progress
from utils import journal as module
from utils.journal import Journal, Others, find_people, fingerprint


@pytest.fixture
def path(tmp_path):
    """A journal of three images."""
    with Journal(tmp_path / "journal", "this") as journal:
        for image in (5, 6, 7):
            journal.add(image, [{"score": image}])
    return tmp_path / "journal"


def done(path, fingerprint: str = "this") -> list[int]:
    with Journal(path, fingerprint) as journal:
        return sorted(journal.done)


def test_what_was_done_is_known_again(path):
    assert done(path) == [5, 6, 7]
    with Journal(path, "this") as journal:
        assert journal.found()[6] == [{"score": 6}]
        journal.add(8, [])
    assert done(path) == [5, 6, 7, 8]
    assert done(path, "that") == []
    assert done(path) == []  # it is another run's now


def test_numbers_come_back_to_the_last_digit(tmp_path):
    found = {"scores": [0.1, 1 / 3, float(np.float32(0.1)), 5e-324, -0.0], "name": "\u00fc", "none": [None, True, []]}
    with Journal(tmp_path / "journal", "this") as journal:
        journal.add(2**40, found)
    with Journal(tmp_path / "journal", "this") as journal:
        assert repr(journal.found()) == repr({2**40: found})


def test_each_image_is_on_disk_at_once(path, tmp_path):
    """A kill that gives no time to close the file loses none."""
    with Journal(path, "this") as journal:
        journal.add(8, [])
        (tmp_path / "as after a kill").write_bytes(path.read_bytes())
    assert done(tmp_path / "as after a kill") == [5, 6, 7, 8]


def test_a_power_cut_loses_none_either(path, monkeypatch):
    synced = []
    with Journal(path, "this") as journal:
        monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_size))
        for image in (8, 9):
            journal.add(image, [])
            assert synced.pop() == path.stat().st_size and not synced


def test_nothing_to_go_on_from_leaves_no_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), Journal(tmp_path / "journal", "this"):
        raise KeyboardInterrupt
    with Journal(tmp_path / "journal", "this") as journal:
        journal.add(1, [])
        journal.finish()
    assert list(tmp_path.iterdir()) == []


DAMAGES = ["", "{", "null", "3", "[6]", '["6", []]', "[6, {}]", "[6, [3]]", "[6, [{}]]", "\x00\ufffd", '{"6": 1, "7": 2}']


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_line_costs_its_image_only(path, damage, checksum):
    lines = path.read_text().split("\n")
    lines[2] = lines[2].split(" ")[0] * checksum + " " * checksum + damage
    path.write_text("\n".join(lines))
    assert done(path) == [5, 7]
    assert len(path.read_text().splitlines()) == 3  # mended


def test_bytes_that_are_no_text(path):
    path.write_bytes(path.read_bytes().replace(b'[6, [{"score"', b"[6, [{\xff\xfe"))
    assert done(path) == [5, 7]


def test_a_changed_number_is_not_taken_for_what_was_found(path):
    path.write_text(path.read_text().replace('"score": 6', '"score": 8'))
    assert done(path) == [5, 7]


def test_a_line_cut_short_by_a_kill(path):
    path.write_bytes(path.read_bytes()[:-3])
    assert done(path) == [5, 6]


@pytest.mark.parametrize("part", [0, 0.5, 0.99])
def test_a_disk_that_fills_up_while_it_is_opened_loses_nothing(path, part):
    before, whole = resource.getrlimit(resource.RLIMIT_FSIZE), path.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(part * len(whole)), before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            Journal(path, "this")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("step", ["written_whole", "open"])
def test_a_kill_while_it_is_opened_loses_nothing(path, monkeypatch, step):
    """Before or after it is written anew."""

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "open":
            patch.setattr(type(path), "open", killed)
        else:
            patch.setattr(module, "written_whole", killed)
        with pytest.raises(KeyboardInterrupt):
            Journal(path, "this")
    assert done(path) == [5, 6, 7]


# Several processes


def test_the_first_process_takes_in_what_the_others_have_left(tmp_path):
    """In whatever number they come back; what another run left is not taken."""
    path = tmp_path / "a [b]" / "found.partial"
    path.parent.mkdir()
    with Journal(path, "this") as first:
        first.add(1, ["a"])
        with Journal(path, "this", 1) as second, Journal(path, "this", 12) as third:
            assert (second.done, third.done) == ({1}, {1})
            second.add_all([(2, ["b"]), (3, [])])
            third.add(4, ["d"])
        assert first.done == {1}
    (path.parent / "found.2.partial").write_text("that\n" + (path.parent / "found.12.partial").read_text().splitlines()[1] + "\n")
    (path.parent / "found.3.partial").write_bytes((path.parent / "found.12.partial").read_bytes()[:-1])
    with Journal(path, "this") as first:
        assert (first.done, list(path.parent.glob("found*"))) == ({1, 2, 3, 4}, [path])
        assert first.found() == {1: ["a"], 2: ["b"], 3: [], 4: ["d"]}
        with Journal(path, "this", 1) as second:
            assert second.done == {1, 2, 3, 4}
        assert list(path.parent.glob("found*")) == [path]  # one that did nothing leaves nothing
        first.finish()
    assert list(path.parent.iterdir()) == []


def test_a_batch_is_kept_whole_or_not_at_all(path):
    """What is left of it would be another batch, whose results could differ in their last digits."""
    with Journal(path, "this") as journal:
        journal.add_all([(8, []), (9, []), (10, [])])
    path.write_bytes(path.read_bytes()[:-4])
    assert done(path) == [5, 6, 7]


def test_others_progress_is_seen_line_by_line(path):
    with Journal(path, "this") as first, Journal(path, "this", 1) as second:
        others = Others(first, 3)  # the third has not yet begun
        assert others.advanced() == 0
        first.add(8, [])
        second.add_all([(9, []), (10, ["\u00fc"])])
        assert (others.advanced(), others.advanced()) == (2, 0)
        with second.path.open("a") as file:
            file.write("12345678 [[11")
        assert others.advanced() == 0


def test_what_was_found_is_not_held_in_memory(tmp_path):
    with Journal(tmp_path / "journal", "this") as journal:
        journal.add(1, ["x" * 10**6])
        held = pickle.dumps({name: value for name, value in vars(journal).items() if name not in ("file", "_held")})
    assert len(held) < 1000


# The batches


def test_two_runs_do_not_write_to_one_journal(path):
    with held_elsewhere(path), pytest.raises(UserError, match="another process is writing to it"):
        Journal(path, "that")
    assert done(path) == [5, 6, 7]


@pytest.fixture
def files(tmp_path) -> dict[int, Path]:
    """Seven pictures, each of a grey of its own."""
    paths = {number: tmp_path / f"{number}.png" for number in range(10, 17)}
    for number, path in paths.items():
        cv2.imwrite(str(path), np.full((2, 2, 3), number, np.uint8))
    return paths


def looked_at(path: Path, files: dict[int, Path], stop: int | None = None, rank: int = 0, count: int = 1, size: int = 2) -> list[list[int]]:
    """The batches of one process, which is interrupted before so many."""
    batches = []

    def estimate(ids, images):
        assert [int(image.mean()) for image in images] == list(ids)
        if len(batches) == stop:
            raise KeyboardInterrupt
        batches.append(list(ids))
        return [([number],) for number in ids]

    with Journal(path, "this", rank) as journal, Progress(len(files), "test", shown=False) as progress, suppress(KeyboardInterrupt):
        find_people(journal, files, estimate, lambda number, found: found, size, progress, share=(rank, count))
        assert progress.count == len(files) or count > 1
    return batches


def test_the_same_images_make_a_batch_whoever_runs_it(tmp_path, files):
    path = tmp_path / "journal"
    whole = looked_at(tmp_path / "whole", files)
    assert whole == [[10, 11], [12, 13], [14, 15], [16]]
    first, second = looked_at(path, files, 1, 0, 2), looked_at(path, files, 1, 1, 2)
    assert (first, second) == ([[10, 11]], [[12, 13]])
    assert looked_at(path, files) == [[14, 15], [16]]
    assert looked_at(path, files) == []


def test_what_is_done_is_not_done_again_in_batches_of_another_size(tmp_path, files):
    looked_at(tmp_path / "journal", files, 1, size=3)
    assert looked_at(tmp_path / "journal", files, size=4) == [[13], [14, 15, 16]]


# What it is the journal of


@pytest.fixture
def inputs(tmp_path) -> list[Path]:
    """A checkpoint, annotations, a rescoring network."""
    paths = [tmp_path / name for name in ("a.pth", "b.json", "rescore.pth")]
    for path in paths:
        path.write_bytes(b"content")
    return paths


def fingerprint_of(files: list[Path], *overrides: str, folder: str = "images") -> str:
    config = load_config(ROOT / "config" / "dekr_w32_coco.yaml", [f"inference.rescore={files[2]}", *overrides])
    return fingerprint(config, Path(folder), *files[:2])


@pytest.mark.parametrize("replaced", [0, 1, 2])
def test_another_file_of_the_same_name_and_size_starts_anew(inputs, replaced):
    before = fingerprint_of(inputs)
    assert fingerprint_of(inputs) == before
    os.utime(inputs[replaced], ns=(1, 1))
    assert fingerprint_of(inputs) != before


def test_another_configuration_or_folder_starts_anew(inputs):
    one = fingerprint_of(inputs)
    others = [
        fingerprint_of(inputs, "inference.flip=false"),
        fingerprint_of(inputs, folder="others"),
        fingerprint_of([inputs[1], *inputs[1:]]),
    ]
    assert len({one, *others}) == 4
