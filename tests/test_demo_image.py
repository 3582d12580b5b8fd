"""demo_image.py: every kind of picture and video, drawn on and written down."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from utils.inference import PoseEstimator


@pytest.fixture
def demo(run, trained, tmp_path):
    """Runs demo_image.py into a folder below tmp_path."""

    def start(path: Path, *more: object):
        ended = run("demo_image.py", "--checkpoint", trained / "best.pth", "--input", path, "--output", tmp_path / "demo", *more)
        assert ended.status == 0, ended.err
        return ended

    return start


@pytest.fixture
def two_people(monkeypatch):
    """Has the estimator find a person with a nose at (10, 20) and an unlikely one with a nose at (30, 40); what it was given."""
    keypoints = np.zeros((2, 18, 3), np.float32)
    keypoints[:, 0] = [[10, 20, 0.9], [30, 40, 0.5]]
    given = []

    def stream(estimator, images, batch_size):
        for image in images:
            given.append(image.copy())
            yield keypoints, np.array([0.8, 0.1])

    monkeypatch.setattr("utils.inference.PoseEstimator.stream", stream)
    return given


def picture(height: int = 60, width: int = 80) -> np.ndarray:
    """Dark, with a light square in its upper left corner: which way up it is can be seen."""
    image = np.full((height, width, 3), 40, np.uint8)
    image[:8, :8] = 200
    return image


def test_people_are_drawn_and_written_down(demo, two_people, tmp_path):
    path = tmp_path / "with blanks.png"
    cv2.imwrite(str(path), picture())
    demo(path)
    drawn = cv2.imread(str(tmp_path / "demo" / "with blanks.png"))
    assert drawn.shape == (60, 80, 3)
    assert (drawn[20, 10] != 40).any()  # the nose
    assert (drawn[40, 30] == 40).all()  # too unlikely to be drawn, but written down
    assert (drawn[50:, 50:] == 40).all()
    written = json.loads((tmp_path / "demo" / "with blanks.png.json").read_text())
    assert (written["image"], written["width"], written["height"]) == ("with blanks.png", 80, 60)
    assert written["keypoints"][:2] == ["nose", "neck"]
    assert [person["score"] for person in written["people"]] == [0.8, 0.1]
    assert written["people"][0]["keypoints"][:2] == [[10, 20, 0.9], [0, 0, 0]]
    demo(path, "--min-score", 0)
    assert (cv2.imread(str(tmp_path / "demo" / "with blanks.png"))[40, 30] != 40).any()


def test_kinds_of_pictures(demo, two_people, tmp_path):
    """All reach the estimator as (H, W, 3) uint8, upright."""
    folder = tmp_path / "kinds"
    folder.mkdir()
    bgr = picture()
    cv2.imwrite(str(folder / "alpha.png"), np.dstack([bgr, np.full((60, 80), 240, np.uint8)]))
    cv2.imwrite(str(folder / "deep.png"), bgr.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "grey.PNG"), bgr[..., 0])
    cv2.imwrite(str(folder / "plain.bmp"), bgr)
    turned, exif = Image.fromarray(np.ascontiguousarray(np.rot90(bgr))), Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    turned.save(folder / "turned.jpg", exif=exif, quality=95)
    Image.fromarray(bgr).convert("P").save(folder / "palette.png")
    (folder / "notes.txt").write_text("not a picture")
    assert "6 pictures" in demo(folder).out
    assert len(two_people) == 6
    for image in two_people:
        assert (image.shape, image.dtype) == ((60, 80, 3), np.uint8)
        assert image[2:6, 2:6].mean() > 180
        assert image[30:, 30:].mean() < 60
    assert len(list((tmp_path / "demo").iterdir())) == 12


def test_folder_limit_and_sheet(demo, two_people, images, tmp_path):
    assert "3 pictures" in demo(images, "--limit", 3, "--sheet", tmp_path / "new" / "people.png").out
    assert len(two_people) == 3
    assert sorted(path.name for path in (tmp_path / "demo").glob("*.json")) == [f"{i:012d}.jpg.json" for i in (1, 2, 3)]
    assert cv2.imread(str(tmp_path / "new" / "people.png")).shape == (240, 3 * 300, 3)


def test_video(demo, two_people, tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (80, 60))
    for _ in range(3):
        writer.write(picture())
    writer.release()
    assert "3 frames" in demo(path).out
    assert sorted(file.name for file in (tmp_path / "demo").iterdir()) == ["clip.json", "clip.mp4"]
    frames = json.loads((tmp_path / "demo" / "clip.json").read_text())
    assert [frame["image"] for frame in frames] == [0, 1, 2]
    assert all(len(frame["people"]) == 2 for frame in frames)
    capture = cv2.VideoCapture(str(tmp_path / "demo" / "clip.mp4"))
    assert (capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)) == (10, 3)
    there, frame = capture.read()
    assert there
    assert frame.shape == (60, 80, 3)
    assert np.abs(frame[20, 10].astype(int) - 40).max() > 40


RED, GREEN, BLUE = (0, 0, 255), (0, 255, 0), (255, 0, 0)


@pytest.fixture
def clip(tmp_path) -> Path:
    """Six frames of three coloured stripes, whose brightness tells them apart."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for n in range(6):
        frame = np.repeat(np.array([RED, GREEN, BLUE], float)[None] * (0.5 + 0.1 * n), 64, 0)
        writer.write(np.repeat(frame, 32, 1).astype(np.uint8))
    writer.release()
    return path


def stripes(picture: np.ndarray) -> list[int]:
    """The strongest channel, of blue, green and red, in the middle of each third."""
    return [int(picture[32, x].argmax()) for x in (16, 48, 80)]


def test_colours_of_a_video_are_as_they_were(demo, two_people, clip, tmp_path):
    demo(clip)
    assert [stripes(frame) for frame in two_people] == [[2, 1, 0]] * 6
    there, frame = cv2.VideoCapture(str(tmp_path / "demo" / "clip.mp4")).read()
    assert (there, stripes(frame)) == (True, [2, 1, 0])


def test_unlikely_people_are_not_drawn_in_videos_either(demo, two_people, clip, tmp_path):
    """The likely one's nose is at (10, 20), the other one's at (30, 40)."""

    def changed(*more: object) -> list[bool]:
        demo(clip, *more)
        frame = cv2.VideoCapture(str(tmp_path / "demo" / "clip.mp4")).read()[1].astype(int)
        difference = np.abs(frame - two_people[-6]).max(2)
        return [bool(difference[y - 1 : y + 2, x - 1 : x + 2].max() > 60) for x, y in ((10, 20), (30, 40))]

    assert changed() == [True, False]
    assert changed("--min-score", 0) == [True, True]
    assert changed("--min-score", 0.9) == [False, False]


def test_limit_and_sheet_of_a_video(demo, two_people, clip, tmp_path):
    assert "4 frames" in demo(clip, "--limit", 4, "--sheet", tmp_path / "sheet.png").out
    assert len(two_people) == 4
    assert len(json.loads((tmp_path / "demo" / "clip.json").read_text())) == 4
    assert cv2.VideoCapture(str(tmp_path / "demo" / "clip.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (240, 4 * 360, 3)


def test_the_sheet_of_a_long_video_shows_some_frames_of_all_of_it(demo, two_people, tmp_path):
    path = tmp_path / "long.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (80, 60))
    for n in range(60):
        writer.write(np.full((60, 80, 3), 4 * n, np.uint8))
    writer.release()
    demo(path, "--sheet", tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (4 * 240, 4 * 320, 3)
    shown = [int(sheet[240 * row + 230, 320 * column + 310, 0]) for row in range(4) for column in range(4)][:15]
    np.testing.assert_allclose(shown, 4 * np.arange(0, 60, 4), atol=4)


def test_a_video_that_is_cut_short_gives_what_there_is(demo, two_people, clip, tmp_path):
    whole = clip.read_bytes()
    clip.write_bytes(whole[: whole.rindex(b"00dc", 0, whole.index(b"idx1"))])  # up to the last frame, and without the index
    demo(clip)
    frames = json.loads((tmp_path / "demo" / "clip.json").read_text())
    assert len(frames) == 5
    assert cv2.VideoCapture(str(tmp_path / "demo" / "clip.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == len(frames)


def test_photographs_and_their_video(demo, shared, tmp_path):
    media = shared / "data" / "media"
    assert "20 pictures" in demo(media, "data.input_size=[64, 64]").out
    written = sorted(path.name for path in (tmp_path / "demo").iterdir())
    originals = sorted(media.glob("*.jpg"))
    assert written == sorted([p.name for p in originals] + [f"{p.name}.json" for p in originals])
    for original in originals[:3]:
        assert cv2.imread(str(tmp_path / "demo" / original.name)).shape == cv2.imread(str(original)).shape


def test_the_input_is_not_overwritten(fails, trained, copy_of, images):
    folder = copy_of(images)
    checkpoint = ("--checkpoint", trained / "best.pth")
    for path in (folder, folder / "000000000001.jpg"):
        assert "would be overwritten" in fails("demo_image.py", *checkpoint, "--input", path, "--output", folder / ".." / folder.name)


def test_broken_pictures_do_not_stop_the_others(run, two_people, trained, copy_of, images, tmp_path):
    folder, demo = copy_of(images), tmp_path / "demo"
    for number in (3, 5):
        (folder / f"{number:012d}.jpg").write_bytes(b"no picture")
    arguments = ("--checkpoint", trained / "best.pth", "--input", folder, "--output", demo, "--sheet", tmp_path / "sheet.png")
    status, out, err = run("demo_image.py", *arguments)
    assert (status, err.splitlines()[-1]) == (2, "error: 2 of 8 pictures cannot be read: 000000000003.jpg, 000000000005.jpg")
    assert "6 pictures" in out
    assert len(list(demo.glob("*.json"))) == len(two_people) == 6
    assert (tmp_path / "sheet.png").exists()


def test_a_very_wide_picture_leaves_the_others_their_room_on_the_sheet(demo, two_people, tmp_path):
    (tmp_path / "wide").mkdir()
    for name, width in (("a.png", 80), ("b.png", 3000)):
        cv2.imwrite(str(tmp_path / "wide" / name), picture(60, width))
    demo(tmp_path / "wide", "--sheet", tmp_path / "sheet.png")
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (240, 320 + 480, 3)


def test_a_sheet_of_no_format_is_refused_before_the_network_is_loaded(fails, trained, images, tmp_path, monkeypatch):
    monkeypatch.setattr(PoseEstimator, "__init__", None)
    arguments = ("--checkpoint", trained / "best.pth", "--input", images, "--output", tmp_path / "demo", "--sheet")
    for name in ("people", "people.txt"):
        assert f"{name}: cannot be written as" in fails("demo_image.py", *arguments, tmp_path / name)


def test_a_folder_may_be_named_like_a_video(demo, two_people, images, tmp_path):
    folder = tmp_path / "clips.mp4"
    folder.mkdir()
    (folder / "1.jpg").write_bytes((images / "000000000001.jpg").read_bytes())
    assert "1 pictures" in demo(folder).out


def test_the_checkpoints_own_configuration_is_used(demo, trained, images, monkeypatch):
    configs = []
    monkeypatch.setattr(
        "utils.inference.PoseEstimator.stream", lambda estimator, images, batch_size: configs.append(estimator.config) or iter(())
    )
    demo(images / "000000000001.jpg", "inference.flip=false")
    assert (configs[0].model.channels, configs[0].inference.flip) == (16, False)
