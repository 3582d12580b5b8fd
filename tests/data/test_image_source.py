"""Images in folders and zip files, under paths of other machines, without mistaking one for another."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from config import UserError
from data.image_source import ImageSource


def folder_of(path: Path, *names: str) -> Path:
    """Write files that contain their own names; return the folder."""
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    return path


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, name)
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0.jpg", "0.jpg"),
        ("images\\0.jpg", "0.jpg"),
        ("/home/me/images/0.jpg", "0.jpg"),
        ("https://example.org/some/0.jpg", "0.jpg"),
        ("my%20image%20%C3%BC.jpg", "my image ü.jpg"),
        ("2.jpg", "below/2.jpg"),
        ("elsewhere/0.jpg", None),
        ("/home/me/1.jpg", None),  # two files have this name
        ("", None),
        ("a" * 5000, None),
    ],
)
def test_an_image_is_found_if_its_name_matches_one_path_only(tmp_path, name, expected):
    folder = folder_of(tmp_path / "images", "0.jpg", "my image ü.jpg", "below/1.jpg", "other/1.jpg", "below/2.jpg")
    (entry,) = ImageSource([folder]).find([name])
    if expected is None:
        assert (entry.size, entry.renamed) == (-1, False)
        with pytest.raises(UserError, match="not found"):
            entry.read()
    else:
        assert (entry.name, entry.read().decode(), entry.size) == (expected, expected, len(expected.encode()))
        assert entry.renamed == (name not in (expected, "2.jpg")), "a shorter path is not another one"


def test_a_file_belongs_to_one_name_and_an_exact_name_comes_first(tmp_path):
    source = ImageSource([folder_of(tmp_path / "images", "1.jpg")])
    assert [entry.size >= 0 for entry in source.find(["/home/me/1.jpg", "1.jpg"])] == [False, True]
    assert [entry.size >= 0 for entry in source.find(["/home/me/1.jpg", "/home/you/1.jpg"])] == [True, False]


def test_images_in_a_zip_file_are_found_below_any_folder_and_by_the_name_of_the_file(tmp_path):
    for name, inside in (("a.zip", ""), ("b.zip", "deep/down/train2017/")):
        path = zipped(tmp_path / name, *(f"{inside}{n}.jpg" for n in range(2)))
        entries = ImageSource([path]).find(["0.jpg", "1.jpg"])
        assert [(entry.read().decode(), entry.renamed) for entry in entries] == [(f"{inside}{n}.jpg", False) for n in range(2)]
    source = ImageSource([zipped(tmp_path / "train2017.zip", "0.jpg", "1.jpg"), folder_of(tmp_path / "val2017", "2.jpg")])
    assert [entry.size for entry in source.find(["train2017/0.jpg", "val2017/1.jpg", "val2017/2.jpg"])] == [5, -1, 5]


def test_corrupt_zip_files_are_named(tmp_path):
    path = zipped(tmp_path / "a.zip", "0.jpg", "1.jpg")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"0.jpg0.jpg", b"0.jpg9.jpg", 1))  # the content's checksum no longer fits
    first, second = ImageSource([path]).find(["0.jpg", "1.jpg"])
    assert second.read() == b"1.jpg"
    with pytest.raises(UserError, match=r"image .*a\.zip/0\.jpg: cannot be read \(Bad CRC"):
        first.read()
    (tmp_path / "cut.zip").write_bytes(data[:-30])
    for name, problem in (("cut.zip", "neither a folder nor a zip file that can be read"), ("none", "not found")):
        with pytest.raises(UserError, match=rf"{name}: {problem}"):
            ImageSource([tmp_path / name])
