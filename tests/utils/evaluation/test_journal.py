"""The journal of an evaluation: whatever happens to it, no whole line is lost."""

from __future__ import annotations

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


@pytest.mark.parametrize("damage", ["", "{", "null", "3", "[6]", '["6", []]', "[6, {}]", "[6, [3]]", "\x00\ufffd", '{"6": 1, "7": 2}'])
def test_a_damaged_line_costs_its_image_only(path, damage):
    lines = path.read_text().split("\n")
    lines[2] = damage
    path.write_text("\n".join(lines))
    assert done(path) == [5, 7]
    assert len(path.read_text().splitlines()) == 3  # mended


def test_bytes_that_are_no_text(path):
    path.write_bytes(path.read_bytes().replace(b'[6, [{"score"', b"[6, [{\xff\xfe"))
    assert done(path) == [5, 7]


def test_a_line_cut_short_by_a_kill(path):
    path.write_bytes(path.read_bytes()[:-3])
    assert done(path) == [5, 6]


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
