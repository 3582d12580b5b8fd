"""Videos of people who walk: who is who, what hides what, and that each looks the same in every frame."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from config.errors import UserError
from data import synthetic
from data.drawn.figure import KEYPOINTS
from data.synthetic import write_video

FRAMES, PEOPLE, SIZE = 100, 4, (128, 192)
TRUNK = [KEYPOINTS.index(name) for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")]


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """The folder of a drawn video."""
    return write_video(tmp_path_factory.mktemp("walk"), FRAMES, PEOPLE, seed=1, size=SIZE).parent


@pytest.fixture(scope="module")
def people(video) -> dict[int, dict[int, np.ndarray]]:
    """track_id -> frame -> keypoints (17, 3)."""
    found: dict[int, dict[int, np.ndarray]] = {}
    for annotation in json.loads((video / "annotations.json").read_text())["annotations"]:
        of_person = found.setdefault(annotation["track_id"], {})
        of_person[annotation["image_id"] - 1] = np.array(annotation["keypoints"], float).reshape(-1, 3)
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.j*"))}


def test_frames_are_a_folder_and_a_video(video):
    entries = json.loads((video / "annotations.json").read_text())["images"]
    assert [entry["file_name"] for entry in entries] == [f"{n:06d}.jpg" for n in range(FRAMES)]
    capture = cv2.VideoCapture(str(video / "video.avi"))
    for entry in entries:
        frame, (there, of_video) = cv2.imread(str(video / "images" / entry["file_name"])), capture.read()
        assert there and frame.shape == of_video.shape == (*SIZE, 3) == (entry["height"], entry["width"], 3)
        assert np.abs(frame.astype(int) - of_video).mean() < 5
    assert not capture.read()[0]


def test_everybody_walks_on_without_a_jump(people):
    assert sorted(people) == list(range(1, PEOPLE + 1))
    for of_person in people.values():
        assert len(of_person) > 0.8 * FRAMES
        middles = {frame: joints[TRUNK, :2].mean(0) for frame, joints in of_person.items() if (joints[TRUNK, 2] > 0).all()}
        steps = [np.linalg.norm(middles[frame + 1] - middles[frame]) for frame in middles if frame + 1 in middles]
        assert max(steps) < 0.05 * SIZE[0]
        assert np.median(steps) > 0.005 * SIZE[0]


def test_legs_and_arms_swing(people):
    for of_person in people.values():
        for joint in ("ankle", "wrist"):
            pair = [KEYPOINTS.index(f"{side}_{joint}") for side in ("left", "right")]
            apart = np.array([np.subtract(*joints[pair, 0]) for joints in of_person.values() if (joints[pair, 2] > 0).all()])
            turns = np.flatnonzero(np.diff(np.sign(np.diff(apart))))
            assert len(turns) >= 4 and np.ptp(apart) > 0.1 * SIZE[0], joint


def test_people_cross_and_hide_each_other(people):
    crossings = hidden = 0
    for a in people:
        for b in range(a + 1, PEOPLE + 1):
            both = sorted(people[a].keys() & people[b].keys())
            side = np.sign([people[a][frame][TRUNK, 0].mean() - people[b][frame][TRUNK, 0].mean() for frame in both])
            crossings += int((np.diff(side) != 0).sum())
    for of_person in people.values():
        hidden += sum(int((joints[:, 2] == 1).sum()) for joints in of_person.values())
    assert crossings >= 5
    assert 0.05 < hidden / sum(len(of_person) * 17 for of_person in people.values()) < 0.5
    # the side turned away hides two of these at most
    covered = [np.mean([(joints[TRUNK, 2] == 1).sum() > 2 for joints in people[track].values()]) for track in (1, PEOPLE)]
    assert covered[0] > covered[1] + 0.03, "who is nearer hides, and is not hidden"


def test_each_looks_the_same_in_every_frame_and_nobody_like_another(video, people):
    """By the colour between a shoulder and a hip that are seen, on the shirt."""
    ends, means = [KEYPOINTS.index("left_shoulder"), KEYPOINTS.index("left_hip")], []
    for of_person in people.values():
        colours = []
        for frame, joints in of_person.items():
            if (joints[ends, 2] == 2).all():
                image = cv2.GaussianBlur(cv2.imread(str(video / "images" / f"{frame:06d}.jpg")), (0, 0), 3)
                x, y = np.rint(joints[ends, :2].mean(0)).astype(int)
                colours.append(image[y, x])
        assert len(colours) > 10
        means.append(np.median(colours, axis=0))
        assert np.percentile(np.abs(colours - means[-1]).mean(1), 75) < 25
    apart = np.abs(np.array(means)[:, None] - means).mean(-1)[~np.eye(PEOPLE, dtype=bool)]
    assert apart.min() > 12


def test_the_cameras_grain_is_new_in_every_frame(video):
    """In a corner that nobody walks through: a grain that stands still would hold back who is followed by flow."""
    corners = [cv2.imread(str(video / "images" / f"{frame:06d}.jpg"))[:10, :40].astype(int) for frame in (0, 1)]
    assert np.abs(corners[0] - corners[1]).mean() > 0.5


def test_the_same_seed_with_any_number_of_workers_and_frames(tmp_path):
    one = write_video(tmp_path / "one", 5, 2, seed=3, size=(64, 80)).parent
    two = write_video(tmp_path / "two", 5, 2, seed=3, size=(64, 80), workers=2).parent
    assert files(one) == files(two)
    other = write_video(tmp_path / "other", 3, 2, seed=4, size=(64, 80)).parent
    fewer = write_video(tmp_path / "fewer", 3, 2, seed=3, size=(64, 80)).parent
    assert files(fewer / "images").items() < files(one / "images").items()
    assert files(other / "images")["000000.jpg"] != files(one / "images")["000000.jpg"]


def test_an_interrupted_run_leaves_nothing_of_an_earlier_video(tmp_path, monkeypatch):
    """Nor does a shorter one. Other pictures stay."""
    write_video(tmp_path, 5, 2, seed=3, size=(64, 80))
    (tmp_path / "images" / "000009.jpg").touch()
    write_video(tmp_path, 3, 2, seed=3, size=(64, 80))
    assert [path.name for path in sorted((tmp_path / "images").iterdir())] == ["000000.jpg", "000001.jpg", "000002.jpg", "000009.jpg"]

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "_draw_walkers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path, 2, 2, seed=3, size=(64, 80))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "images" / "000009.jpg"]


def test_where_no_video_can_be_written_there_are_no_annotations(tmp_path, monkeypatch):
    """These come last: where they are, everything is."""
    released = []

    class Closed:
        def __init__(self, *_):
            pass

        def isOpened(self):
            return False

        def release(self):
            released.append(self)

    monkeypatch.setattr(cv2, "VideoWriter", Closed)
    with pytest.raises(UserError, match="video .*video.avi: OpenCV cannot write AVI of 80 x 64 pixels here"):
        write_video(tmp_path, 2, 2, seed=3, size=(64, 80))
    assert released and [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize("arguments", [{"video": 0}, {"people": 0}, {"size": (63, 320)}, {"seed": -1}], ids=lambda a: next(iter(a)))
def test_bad_arguments_are_named(tmp_path, fails, arguments):
    given = {"video": 3, "people": 2, "size": (64, 80), "seed": 0, **arguments}
    size = [str(side) for side in given.pop("size")]
    flags = [text for name, value in given.items() for text in (f"--{name}", value)]
    message = fails("data/synthetic.py", "--output", tmp_path / "out", *flags, "--size", *size)
    assert f"error: --{next(iter(arguments))} " in message


def test_a_video_in_photographs_is_refused(tmp_path, fails):
    """Not drawn without a word in another place."""
    options = ("--output", tmp_path / "out", "--video", 3, "--seed", 1, "--size", 64, 80, "--backgrounds", tmp_path)
    assert "error: --backgrounds" in fails("data/synthetic.py", *options)
    assert not (tmp_path / "out").exists()


def test_script(run, tmp_path):
    ended = run("data/synthetic.py", "--output", tmp_path, "--video", 3, "--people", 2, "--seed", 1, "--size", 64, 80, "--workers", 1)
    assert (ended.status, ended.out) == (0, f"3 frames: {tmp_path / 'annotations.json'}\n")
    with pytest.raises(UserError, match="people"):
        write_video(tmp_path, 3, 0, seed=1)
