"""Images in folders and zip files, under paths of other machines, without mistaking one for another."""

import zipfile
from pathlib import Path

import pytest

from config import UserError
from data.formats.cleanup import AnnotationFixes
from data.image_source import ImageSource, present_images


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
        ("../images/./0.jpg", "0.jpg"),
        ("D:\\export\\images\\0.jpg", "0.jpg"),
        ("/home/me/images/0.jpg", "0.jpg"),
        ("/home/me/2.jpg", "below/2.jpg"),
        ("https://example.org/some/0.jpg?token=1#2", "0.jpg"),
        ("my%20image%20%C3%BC.jpg", "my image ü.jpg"),
        ("val2017/0.jpg", "0.jpg"),  # the folder has another name here
        ("2.jpg", "below/2.jpg"),
        ("val2017/2.jpg", None),  # this folder is beside the one of the file
        ("/home/me/1.jpg", None),  # two files have this name
        ("/home/me/below/1.jpg", "below/1.jpg"),
        ("/home/me/below/5.jpg", "below/5.png"),  # not other/5.jpg
        ("0", "0.jpg"),
        ("images\\0.JPG", "0.jpg"),
        ("0.png", "0.jpg"),
        ("3.png", "3.png"),
        ("3.bmp", None),  # two images have this stem
        ("0.txt", None),
        ("", None),
        ("a" * 5000, None),
    ],
)
def test_an_image_is_found_if_its_name_fits_one_file_best(tmp_path, name, expected):
    names = ["0.jpg", "my image ü.jpg", "below/1.jpg", "other/1.jpg", "below/2.jpg", "3.jpg", "3.png", "4.jpg", "0.json"]
    names += ["below/5.png", "other/5.jpg"]
    entry, _ = ImageSource([folder_of(tmp_path / "images", *names)]).find([name, "4.jpg"])
    if expected is None:
        assert (entry.size, entry.renamed) == (-1, False)
        with pytest.raises(UserError, match="not found"):
            entry.read()
    else:
        assert (entry.name, entry.read().decode(), entry.size) == (expected, expected, len(expected.encode()))
        assert entry.renamed == (name not in (expected, "2.jpg")), "a shorter path is not another one"


def test_a_file_belongs_to_one_name_and_an_exact_name_comes_first(tmp_path):
    source = ImageSource([folder_of(tmp_path / "images", "0.jpg", "1.jpg")])
    assert [entry.size >= 0 for entry in source.find(["/home/me/1.jpg", "1.jpg", "1.jpg"])] == [False, True, True]
    assert [entry.size >= 0 for entry in source.find(["/home/me/1.jpg", "1.png", "0.jpg"])] == [False, False, True]


def test_a_source_with_none_of_the_images_is_refused(tmp_path):
    source = ImageSource([folder_of(tmp_path / "images", "0.jpg")])
    assert source.find([]) == []
    with pytest.raises(UserError, match=r"images .*images: none of the 2 images listed is there, such as '1\.jpg'; check --images"):
        source.find(["1.jpg", "2.jpg"])


def test_a_frame_is_compared_with_the_frames_of_its_own_folder_name_only(tmp_path, monkeypatch):
    names = [f"{video:02d}/{frame:02d}.jpg" for video in range(10) for frame in range(3)]
    folder_of(tmp_path / "data", *(f"images/train/{name}" for name in names))
    compared, fit = [], ImageSource._fit
    monkeypatch.setattr(ImageSource, "_fit", lambda self, *given: compared.append(given) or fit(self, *given))
    found = ImageSource([tmp_path / "data"]).find(names)
    assert [entry.name for entry in found] == [f"images/train/{name}" for name in names]
    assert len(compared) == len(names)  # with those of all folders it grows with the square of a data set's size


def test_missing_images_are_counted_and_omitted(tmp_path):
    folder, path = folder_of(tmp_path / "images", "0.jpg", "1.jpg"), tmp_path / "a.json"
    images = {number: {"id": number, "file_name": name} for number, name in ((3, "x/0.jpg"), (1, "1.jpg"), (2, "2.jpg"))}
    fixes = AnnotationFixes()
    assert {number: file.name for number, file in present_images(images, path, [folder], fixes).items()} == {1: "1.jpg", 3: "0.jpg"}
    assert fixes.found == {
        "found under another path or name": [f"annotation file {path}: image 3 (x/0.jpg)"],
        "omitted: the image is missing": [f"annotation file {path}: image 2 (2.jpg)"],
    }
    assert list(present_images(images, path, [folder], fixes, limit=2)) == [1]
    assert list(present_images(images, path, [], fixes, limit=2)) == [1, 2]
    with pytest.raises(UserError, match=r"image 2 \(2\.jpg\): omitted: the image is missing \(--strict"):
        present_images({2: images[2], 1: images[1]}, path, [folder], AnnotationFixes(strict=True))
    with pytest.raises(UserError, match=r"a\.json: lists no image"):
        present_images({}, path, [folder], fixes)


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
