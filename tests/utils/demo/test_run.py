"""The demo from sources to files, with an estimator that predicts fixed poses."""

import os
import signal
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from disk import read
from PIL import Image
from places import ROOT

from config import UserError, load_config
from utils.demo.inputs import find_sources
from utils.demo.outputs import FORMATS, OPENPOSE
from utils.demo.run import SHOWN, DemoOptions, FrameResult, run_demo
from utils.predictions import PosePredictions
from utils.visualize import video
from utils.visualize.contact_sheet import ContactSheet

GRAY = 40
NOSE, UNLIKELY = (10, 20), (30, 40)  # x, y of the noses of two people with scores 0.8 and 0.1


class FakeEstimator:
    """Predicts two people in every image. images: those it got; interrupt: the frame of Ctrl-C."""

    config = load_config(ROOT / "config" / "simplepose_coco_512.yaml")

    def __init__(self):
        self.images, self.interrupt = [], None
        self.keypoints = np.zeros((2, 18, 3), np.float32)
        self.keypoints[:, 0] = [[*NOSE, 0.9], [*UNLIKELY, 0.5]]

    def stream(self, images, batch_size):
        for image in images:
            if len(self.images) == self.interrupt:
                signal.raise_signal(signal.SIGINT)
            self.images.append(image.copy())
            yield PosePredictions(self.keypoints, np.array([0.8, 0.1]), self.config.skeleton)

    def stream_with_overlays(self, images, batch_size):
        return ((people, {"keypoints": np.zeros((60, 80), np.float32)}) for people in self.stream(images, batch_size))


@pytest.fixture
def estimator() -> FakeEstimator:
    return FakeEstimator()


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "demo"


@pytest.fixture
def demo(estimator, output):
    def start(path: object, limit: int | None = None, **options: object) -> list[FrameResult]:
        sources, passed_over = find_sources([str(path)], limit)
        return run_demo(sources, estimator, DemoOptions(output=output, **options), passed_over)

    return start


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four images, of which two have the same stem."""
    (tmp_path / "in").mkdir()
    for name in ("000001.jpg", "000002.jpg", "000002.png", "000004.gif"):
        Image.new("RGB", (80, 60), (GRAY,) * 3).save(tmp_path / "in" / name)
    return tmp_path / "in"


@pytest.fixture
def clip(tmp_path) -> Path:
    """Six frames of a red, a green and a blue stripe."""
    stripes = np.repeat(np.eye(3)[[2, 1, 0]] * 220, 32, 0)[None].repeat(64, 0).astype(np.uint8)
    writer = cv2.VideoWriter(str(tmp_path / "000007_clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for _ in range(6):
        writer.write(stripes)
    writer.release()
    return tmp_path / "000007_clip.avi"


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def noses_drawn(image: np.ndarray, original: np.ndarray) -> list[bool]:
    """Return whether the likely and the unlikely person are drawn."""
    difference = np.abs(image.astype(int) - original).max(2)
    return [bool(difference[y - 1 : y + 2, x - 1 : x + 2].max() > 60) for x, y in (NOSE, UNLIKELY)]


def test_people_are_drawn_and_written(demo, folder, output, capsys):
    original = cv2.imread(str(folder / "000002.png"))
    for options, drawn in (({"maps": True}, [True, False]), ({"min_score": 0}, [True, True])):
        demo(folder / "000002.png", **options)
        assert noses_drawn(cv2.imread(str(output / "000002.png")), original) == drawn
    assert cv2.imread(str(output / "000002.maps.png")).shape == (60, 160, 3)
    result = read(output / "000002.png.json")
    assert (result["image"], result["width"], result["height"], result["keypoints"][:2]) == ("000002.png", 80, 60, ["nose", "neck"])
    assert [(set(person), person["score"]) for person in result["people"]] == [({"score", "box", "keypoints"}, s) for s in (0.8, 0.1)]
    assert result["people"][0]["keypoints"][:2] == [[10, 20, 0.9], [0, 0, 0]]
    assert "images: 1 in " in capsys.readouterr().out


def test_formats_of_images(demo, folder, output):
    demo(folder, formats=("json", "coco", "csv", "openpose", "yolo"))
    own = ["000001.jpg", "000001.jpg.json", "000001_keypoints.json", "000004.gif.json", "000004.gif.png", "000004_keypoints.json"]
    own += ["000001.txt", "000004.txt"]
    same_stem = [f"000002.{suffix}{ending}" for suffix in ("jpg", "png") for ending in ("", ".json", "_keypoints.json", ".txt")]
    assert written(output) == sorted([*own, *same_stem, "people.coco.json", "people.csv"])
    assert [line.split()[5:8] for line in (output / "000001.txt").read_text().splitlines()] == [["0.125000", "0.333333", "0.900000"]]
    coco = read(output / "people.coco.json")
    expected = [(0, "000001.jpg", 0.8), (0, "000001.jpg", 0.1), (1, "000002.jpg", 0.8)]
    assert [(person["image_id"], person["file_name"], person["score"]) for person in coco[:3]] == expected
    rows = (output / "people.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["000001.jpg", "000002.jpg", "000002.png", "000004.gif"]


def test_no_output_overwrites_another_or_a_file_that_the_user_names(demo, folder, clip, output):
    for path in folder.iterdir():
        path.rename(folder / path.name.replace("00000", "x"))  # x1.jpg, x2.jpg, x2.png, x4.gif
    for name in ("x4.gif.png", "x4.maps.gif", "x1.maps.jpg"):
        Image.new("RGB", (80, 60), (GRAY,) * 3).save(folder / name)
    clip.rename(folder / "people.avi")
    demo(folder / "*", formats=FORMATS, maps=True, reserved=[output / ".." / "demo" / "x1.jpg"])
    of_an_image = of_the_video = len(["image or video", "maps", "json", "yolo", "openpose", "openpose25"])
    assert len(written(output)) == 7 * of_an_image + of_the_video + 5 * len(["yolo", *OPENPOSE]) + 2 * len(["coco", "csv", "mot"])
    assert "x1.jpg" not in written(output)
    assert [len(read(output / f"x1{layout}_keypoints.json")["keypoints"]) for layout in ("", ".openpose25")] == [18, 25]
    assert {read(output / f"{name}.json")["image"] for name in ("x4.gif", "x4.gif.png")} == {"x4.gif", "x4.gif.png"}
    assert {"x4.gif.png", "x4.gif_2.png", "people.csv", "people_2.csv"} <= set(written(output))


def test_a_video(demo, estimator, clip, output):
    assert len(demo(clip, formats=FORMATS, limit=4)) == 4
    own = [f"000007_clip{layout}_{n:012d}_keypoints.json" for n in range(4) for layout in ("", ".openpose25")]
    own += [f"000007_clip_{n:012d}.txt" for n in range(4)]
    assert written(output) == sorted([*own, *(f"000007_clip.{ending}" for ending in ("coco.json", "csv", "json", "mot.txt", "mp4"))])
    frames = [(frame["image"], frame["time"], len(frame["people"])) for frame in read(output / "000007_clip.json")]
    assert frames == [(n, pytest.approx(n / 10), 1) for n in range(4)]
    assert [person["image_id"] for person in read(output / "000007_clip.coco.json")] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert not (output / "000007_clip.mot.txt").read_text(), "people of one keypoint start no track"
    capture = cv2.VideoCapture(str(output / "000007_clip.mp4"))
    assert (capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)) == (10, 4)
    frame = capture.read()[1]
    assert [image[32, [16, 48, 80]].argmax(1).tolist() for image in (estimator.images[0], frame)] == [[2, 1, 0]] * 2
    assert noses_drawn(frame, estimator.images[0]) == [True, False]


def test_corrupt_files_do_not_stop_the_others(demo, folder, clip, output, capsys):
    for name in ("new\nline.png", "clip.mp4"):
        (folder / name).write_bytes(b"no image")
    (folder / os.fsdecode(b"no text \xff.png")).write_bytes((folder / "000002.png").read_bytes())
    for number in range(SHOWN + 2):
        (folder / f"notes_{number:02}.txt").touch()
    clip.rename(folder / "good.avi")
    sheet = ContactSheet(output / "sheet.png")
    with pytest.raises(UserError, match=f"^{2 + SHOWN + 2} of {8 + SHOWN + 2} files failed"):
        demo(folder, sheet=sheet, formats=FORMATS, batch_size=2)
    assert len(sheet.thumbnails) == 5 + 6
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith(("image ", "video "))]
    assert ["new line.png: cannot be decoded" in lines[0], "clip.mp4: no frame can be read" in lines[1], len(lines)] == [True, True, 2]
    (passed_over,) = [line for line in shown.err.splitlines() if "no image or video by their endings" in line]
    shown_or_counted = [f"notes_{SHOWN - 1:02}.txt", f"notes_{SHOWN:02}.txt", "and 2 more"]
    assert [text in passed_over for text in shown_or_counted] == [True, False, True]
    assert "5 images and their keypoints" in shown.out
    for name, reason in (("new*", "cannot be decoded"), ("clip.mp4", "no frame can be read")):
        with pytest.raises(UserError, match=reason):
            demo(folder / name)


def test_a_closed_window_ends_the_demo(demo, folder, clip):
    waits: list[bool] = []
    window = SimpleNamespace(show=lambda image, wait: waits.append(wait) or len(waits) not in (2, 5), closed=False)
    assert [len(demo(path, window=window)) for path in (folder, clip)] == [2, 3]
    assert waits == [True, True, False, False, False]


@pytest.mark.parametrize(("name", "interrupt"), [("clip", 4), ("camera", 0), ("camera", 3)])
def test_ctrl_c_leaves_nothing_of_a_video_but_the_frames_of_a_camera(demo, estimator, output, clip, monkeypatch, name, interrupt):
    frame = np.full((64, 80, 3), GRAY, np.uint8)
    camera = SimpleNamespace(read=lambda: (True, frame), get=lambda prop: 15.0 if prop == cv2.CAP_PROP_FPS else -1, release=lambda: None)
    estimator.interrupt = interrupt
    with monkeypatch.context() as patch, nullcontext() if interrupt == 3 else pytest.raises(KeyboardInterrupt):
        if name == "camera":
            patch.setattr(video.cv2, "VideoCapture", lambda source, real=cv2.VideoCapture: camera if source == 0 else real(source))
        assert len(demo("0" if name == "camera" else clip)) == 3
    if interrupt == 3:
        capture = cv2.VideoCapture(str(output / "camera.mp4"))
        assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS), len(read(output / "camera.json"))) == (3, 15, 3)
    else:
        assert written(output) == []


@pytest.fixture
def jumping(estimator, monkeypatch):
    """The estimator's first person has four keypoints, and is a pixel further to the right in every other image."""
    estimator.keypoints[0, :4] = [[10, 20, 0.9], [12, 40, 0.9], [50, 22, 0.9], [54, 44, 0.9]]
    plain = estimator.stream

    def stream(images, batch_size):
        for number, people in enumerate(plain(images, batch_size)):
            yield PosePredictions(people.keypoints + [number % 2, 0, 0], people.scores, people.skeleton)

    monkeypatch.setattr(estimator, "stream", stream)


def test_tracked_people_are_smoothed_by_the_times_of_the_frames(demo, jumping, clip, folder, output):
    def jump(path: object, **options: object) -> float:
        first, second = (result.people.keypoints[0, 0, 0] for result in demo(path, 2, track=True, **options))
        return second - first

    assert jump(clip, smooth=False) == 1
    assert 0.1 < jump(folder) < jump(clip) - 0.05 < 0.9, "a folder's frames are taken for 30 per second, the video has 10"


def test_mot_has_the_tracks_of_a_video_and_of_a_folder(demo, jumping, clip, folder, output):
    (folder / "000002.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="1 of 4 files failed"):
        demo(folder, formats=("mot",), smooth=False)
    demo(clip, 2, formats=("mot",), smooth=False)
    first, second = "0,5.6,15.6,52.8,32.8,0.8,-1,-1,-1", "0,6.6,15.6,52.8,32.8,0.8,-1,-1,-1"
    assert (output / "000007_clip.mot.txt").read_text().splitlines() == [f"1,{first}", f"2,{second}"]
    assert (output / "people.mot.txt").read_text().splitlines() == [f"1,{first}", f"3,{second}", f"4,{first}"]
