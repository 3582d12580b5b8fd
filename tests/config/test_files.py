"""Atomic writes and locks, in folders that other processes write to as well."""

from __future__ import annotations

import os

import numpy as np
import pytest

from config import UserError
from config.files import atomic_write, file_lock, output_folder, write_json, write_text
from data.images import write_image


def test_only_one_process_writes(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "file"):
        with file_lock(path), pytest.raises(UserError, match=rf"{path}: another process is writing to it"), file_lock(path):
            pass
        with file_lock(path):
            pass
    assert [*tmp_path.rglob("*")] == [tmp_path / "folder"]


def test_images_and_unsynced_json_do_not_wait_for_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    write_json(tmp_path / "a.json", [1], sync=False)
    write_image(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))
    assert not synced
    write_text(tmp_path / "checkpoint.pth", "whole")
    assert synced == [5]


def test_an_error_leaves_the_former_file(tmp_path):
    write_text(tmp_path / "a.txt", "former")
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "a.txt") as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "former")]


def test_names_may_have_the_greatest_length(tmp_path):
    write_text(tmp_path / ("写真" * 41 + ".jpg"), "whole")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


def test_the_probe_of_an_output_folder_leaves_nothing(tmp_path):
    assert [*output_folder(tmp_path / "new" / "folder").iterdir()] == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"output folder .*file/below: cannot be written \(Not a directory\); choose another"):
        output_folder(tmp_path / "file" / "below")
