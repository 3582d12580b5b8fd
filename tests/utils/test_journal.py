"""The journal of a long run over images: whatever happens to it, no whole line is lost; and what it is the journal of."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest
from places import ROOT

from config import load_config
from utils import journal as module
from utils.journal import Journal, fingerprint


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


# What it is the journal of


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """A checkpoint, annotations, a rescoring network."""
    paths = [tmp_path / name for name in ("a.pth", "b.json", "rescore.pth")]
    for path in paths:
        path.write_bytes(b"content")
    return paths


def fingerprint_of(files: list[Path], *overrides: str, folder: str = "images") -> str:
    config = load_config(ROOT / "config" / "dekr_w32_coco.yaml", [f"inference.rescore={files[2]}", *overrides])
    return fingerprint(config, Path(folder), *files[:2])


@pytest.mark.parametrize("replaced", [0, 1, 2])
def test_another_file_of_the_same_name_and_size_starts_anew(files, replaced):
    before = fingerprint_of(files)
    assert fingerprint_of(files) == before
    os.utime(files[replaced], ns=(1, 1))
    assert fingerprint_of(files) != before


def test_another_configuration_or_folder_starts_anew(files):
    one = fingerprint_of(files)
    others = [fingerprint_of(files, "inference.flip=false"), fingerprint_of(files, folder="others"), fingerprint_of([files[1], *files[1:]])]
    assert len({one, *others}) == 4
