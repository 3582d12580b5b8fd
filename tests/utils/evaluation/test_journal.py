"""The journal of an evaluation: whatever happens to it, no whole line is lost."""

from __future__ import annotations

import resource

import pytest

from utils.evaluation import journal as module
from utils.evaluation.journal import Journal


@pytest.fixture
def path(tmp_path):
    """A journal of three images."""
    with Journal(tmp_path / "journal", "this") as journal:
        for image in (5, 6, 7):
            journal.add(image, [{"score": image}])
    return tmp_path / "journal"


def done(path, fingerprint: str = "this") -> list[int]:
    with Journal(path, fingerprint) as journal:
        return list(journal.done)


def test_what_was_done_is_known_again(path):
    assert done(path) == [5, 6, 7]
    with Journal(path, "this") as journal:
        assert journal.done[6] == [{"score": 6}]
        journal.add(8, [])
    assert done(path) == [5, 6, 7, 8]
    assert done(path, "that") == []
    assert done(path) == []  # it is another evaluation's now


def test_each_image_is_on_disk_at_once(path, tmp_path):
    """A kill that gives no time to close the file loses none."""
    with Journal(path, "this") as journal:
        journal.add(8, [])
        (tmp_path / "as after a kill").write_bytes(path.read_bytes())
    assert done(tmp_path / "as after a kill") == [5, 6, 7, 8]


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


@pytest.mark.parametrize("step", ["write_text", "open"])
def test_a_kill_while_it_is_opened_loses_nothing(path, monkeypatch, step):
    """Before or after it is written anew."""

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "open":
            patch.setattr(type(path), "open", killed)
        else:
            patch.setattr(module, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            Journal(path, "this")
    assert done(path) == [5, 6, 7]
