"""Files in any encoding, atomic writes, and locks in folders that other processes write to as well."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from places import ROOT

from config import UserError
from config.files import atomic_write, check_outputs, file_lock, output_folder, parse_json, read_json, write_json, write_text
from data.images import write_image


def test_only_one_process_writes(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "file"):
        with file_lock(path), pytest.raises(UserError, match=rf"{path}: another process is writing to it"), file_lock(path):
            pass
        with file_lock(path):
            pass
    assert [*tmp_path.rglob("*")] == [tmp_path / "folder"]


def test_a_lock_file_that_was_removed_before_it_is_locked_is_no_lock(tmp_path, monkeypatch):
    """As where its owner ends between another process's opening and locking of it."""
    fcntl = pytest.importorskip("fcntl")
    flock = fcntl.flock

    def late(descriptor, operation):
        (tmp_path / ".file.lock").unlink(missing_ok=True)
        flock(descriptor, operation)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", late)
        with pytest.raises(UserError, match="another process"), file_lock(tmp_path / "file"):
            pass
    with file_lock(tmp_path / "file"):
        pass


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


def test_an_error_names_the_file_and_not_the_partial_one(tmp_path):
    with pytest.raises(FileNotFoundError) as error, atomic_write(tmp_path / "a.txt"):
        pass
    assert error.value.filename == str(tmp_path / "a.txt")


def test_names_may_have_the_greatest_length(tmp_path):
    write_text(tmp_path / ("写真" * 41 + ".jpg"), "whole")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


def test_the_probe_of_an_output_folder_leaves_nothing(tmp_path):
    assert [*output_folder(tmp_path / "new" / "folder").iterdir()] == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"output folder .*file/below: cannot be written \(Not a directory\); choose another"):
        output_folder(tmp_path / "file" / "below")


def test_nothing_but_a_file_is_replaced(tmp_path):
    """As root, a rename could put a file in the place of /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, what in (("pipe", "not a regular file"), ("folder", "a folder")):
        for refused in (lambda path: check_outputs([path], []), lambda path: write_text(path, "")):
            with pytest.raises(UserError, match=rf"output .*/{name}: is {what}; name a file"):
                refused(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.is_file()) == ["folder", "pipe"]
    check_outputs([tmp_path / "new.txt"], [], [tmp_path / "folder"])


CONTENT = {"name": "Übung 写真", "values": [1, 2.5, None, True]}
REFUSED = {
    "Latin-1": (json.dumps(CONTENT, ensure_ascii=False).replace("写真", "").encode("latin-1"), "neither UTF-8 nor UTF-16"),
    "gzip": (b"\x1f\x8b\x08\x00", "is packed; unpack it first"),
    "zip": (b"PK\x03\x04\x14\x00", "is packed; unpack it first"),
    "lists in lists": (b"[" * 20_000 + b"]" * 20_000, "nested too deeply"),
    "keys in keys": (b'{"a": ' * 20_000 + b"1" + b"}" * 20_000, "nested too deeply"),
    "digits": (b'[{"unused": ' + b"9" * 5000 + b"}]", "a number of more than 4,300 digits"),
    "key twice": (b'[{"id": 7, "box": [1], "box": [2]}]', "the key 'box' is given twice in the entry with the id 7"),
    "id twice": (b'{"id": 7, "id": 8}', "the key 'id' is given twice"),
    "cut short": (b'{"a": [1,', "not valid JSON"),
    "two documents": (b"{}\n{}", "not valid JSON"),
    "empty": (b"", "not valid JSON"),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_json_is_read_in_utf_8_and_utf_16(tmp_path, encoding):
    (tmp_path / "a.json").write_bytes(json.dumps(CONTENT, ensure_ascii=False, indent=1).replace("\n", "\r\n").encode(encoding))
    assert read_json(tmp_path / "a.json", "file") == CONTENT


@pytest.mark.parametrize(("content", "problem"), REFUSED.values(), ids=REFUSED)
def test_other_files_than_json_are_refused_in_one_line(tmp_path, content, problem):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_json(tmp_path / "a.json", "boxes file")
    message = str(error.value)
    assert message.startswith(f"boxes file {tmp_path / 'a.json'}: ") and problem in message and "\n" not in message


def test_the_configuration_is_imported_without_fcntl():
    """There is none on Windows."""
    code = "import sys; sys.modules['fcntl'] = None; import config.files, config.load, filelock"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_of_very_many_keys_the_one_given_twice_is_found_at_once():
    keys = ", ".join(f'"{number}": 0' for number in range(100_000))  # with a time that grows with its square this takes many minutes
    with pytest.raises(UserError, match="the key '99999' is given twice"):
        parse_json(f'{{{keys}, "99999": 1}}', "file")
