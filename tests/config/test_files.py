"""Outputs that appear whole or not at all, in folders that others write to as well."""

from __future__ import annotations

from pathlib import Path

import pytest
from holding import held_elsewhere

from config import UserError
from config.files import output_folder, sole_writer, write_text


@pytest.mark.parametrize("name", ["folder", "file"])
def test_only_one_process_writes(tmp_path, name):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    says = pytest.raises(UserError, match=rf"{path}: another process is writing to it; .* --output")
    with held_elsewhere(path), says, sole_writer(path):
        pass
    with sole_writer(path):  # a kill leaves nothing in the way
        pass
    assert [*tmp_path.rglob("*")] == [path] * (name == "folder")


@pytest.mark.parametrize("name", ["写真" * 41 + ".jpg", "a" * 251 + ".jpg"])
def test_names_as_long_as_they_may_be(tmp_path, name):
    write_text(tmp_path / name, "whole")
    assert (tmp_path / name).read_text() == "whole"
    assert len([*tmp_path.iterdir()]) == 1


def test_a_name_that_is_too_long_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"a\.json: the name is too long for a file"):
        write_text(tmp_path / ("a" * 255 + ".json"), "whole")
    assert [*tmp_path.iterdir()] == []


def test_another_machines_process_may_probe_the_folder_too(tmp_path, monkeypatch):
    """It has the same number, and is faster."""
    touch = Path.touch
    monkeypatch.setattr(Path, "touch", lambda path: (touch(path), path.unlink()))
    assert output_folder(tmp_path) == tmp_path
