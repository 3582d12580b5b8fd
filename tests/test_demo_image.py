"""demo_image.py as a user runs it: options, detectors, and errors before the network is loaded."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from disk import read
from top_down_system import registered, write_checkpoint

from utils.inference import PoseEstimator
from utils.predictions import PosePredictions


@pytest.fixture
def demo(run, tmp_path):
    """Runs demo_image.py into a folder below tmp_path. Returns the folder."""

    def start(checkpoint: Path, path: Path, *more: object) -> Path:
        ended = run("demo_image.py", "--checkpoint", checkpoint, "--input", path, "--output", tmp_path / "demo", *more)
        assert ended.status == 0, ended.err
        return tmp_path / "demo"

    return start


def test_options_of_a_folder_taken_as_frames(demo, trained, images, tmp_path, monkeypatch):
    estimators, folder = [], tmp_path / "images" / "000012_walk"
    folder.mkdir(parents=True)
    for number, source in zip((10, 2, 1), sorted(images.iterdir())):
        (folder / f"{number:06d}.jpg").write_bytes(source.read_bytes())
    keypoints = np.dstack([np.tile(np.linspace(20, 100, 18), (2, 1)), np.tile([[30], [80]], 18), np.full((2, 18), 0.9)])

    def stream(estimator, frames, batch_size):
        estimators.append((estimator.config.model.channels, estimator.config.inference.flip, batch_size))
        return (PosePredictions(keypoints, np.array([0.8, 0.5]), estimator.config.skeleton) for _ in frames)

    monkeypatch.setattr(PoseEstimator, "stream", stream)
    more = ("--posetrack", tmp_path / "answer.json", "--sheet", tmp_path / "new" / "sheet.png", "--batch-size", 3, "inference.flip=false")
    output = demo(trained / "best.pth", folder, "--limit", 2, "--format", "json", "--format", "csv", *more)
    assert estimators == [(16, False, 3)], "the checkpoint's own configuration, and overrides"
    own = [f"{number}.jpg{ending}" for number in ("000001", "000002") for ending in ("", ".json")]
    assert sorted(path.name for path in output.iterdir()) == [*own, "people.csv"]
    assert [[person["id"] for person in read(output / f"00000{n}.jpg.json")["people"]] for n in (1, 2)] == [[0, 1]] * 2
    answer = read(tmp_path / "answer.json")
    assert answer["images"][1] == {"file_name": "images/000012_walk/000002.jpg", "id": 10000120002, "frame_id": 10000120002}
    assert sorted(person["track_id"] for person in answer["annotations"]) == [0, 0, 1, 1]
    assert cv2.imread(str(tmp_path / "new" / "sheet.png")).shape == (240, 2 * 300, 3)


def test_a_network_predicts_in_a_shared_video_with_heatmaps(demo, trained, shared):
    output = demo(trained / "best.pth", shared / "data" / "media" / "video.avi", "--limit", 1, "--maps", "data.input_size=[64, 64]")
    for name, shape in (("video.mp4", (720, 1280, 3)), ("video.maps.mp4", (3 * 720, 1280, 3))):
        assert cv2.VideoCapture(str(output / name)).read()[1].shape == shape


def test_errors_come_before_the_network_is_loaded(fails, trained, images, tmp_path, monkeypatch):
    monkeypatch.setattr(PoseEstimator, "__init__", None)
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    usual = ("demo_image.py", "--checkpoint", trained / "best.pth", "--input", images, "--output", tmp_path / "demo")
    assert "--show: no window can be opened, there is no screen" in fails(*usual, "--show")
    assert "people.txt: cannot be written as" in fails(*usual, "--sheet", tmp_path / "people.txt")
    for more in (("--output", images), ("--sheet", images / "000000000001.jpg", "--limit", 1), ("--posetrack", trained / "best.pth")):
        assert "would overwrite the input" in fails(*usual, *more)
    for path, problem in ((tmp_path, "is a folder; name a file"), (trained / "best.pth" / "a.json", "best.pth: cannot be written")):
        assert problem in fails(*usual, "--posetrack", path)
    assert "--min-score nan: expected at least 0" in fails(*usual, "--min-score", "nan")


@pytest.fixture
def top_down(tmp_path):
    """The checkpoint of a system that needs person boxes."""
    with registered():
        yield write_checkpoint(tmp_path / "top_down.pth")


def test_another_pose_system_finds_the_boxes(demo, top_down, trained, images, monkeypatch):
    monkeypatch.setattr("utils.inference.scored_boxes", lambda keypoints, scores, boxes, least: np.array([[10.0, 20, 60, 70, least]]))
    output = demo(top_down, images, "--limit", 1, "--detector", trained / "best.pth", "--detector-score", 0.5, "--min-score", 0)
    (person,) = read(output / "000000000001.jpg.json")["people"]
    keypoints = np.array(person["keypoints"])
    assert ((keypoints[:, :2] >= [9, 19]) & (keypoints[:, :2] <= [71, 91])).all()
    assert person["score"] == pytest.approx(0.5 * keypoints[:, 2].mean(), abs=1e-2)


def test_a_missing_detector_is_named(fails, top_down, trained, images, tmp_path):
    usual = ("demo_image.py", "--input", images, "--output", tmp_path / "demo", "--checkpoint")
    assert "weights.pth: add the torchvision detector's name" in fails(*usual, top_down, "--detector-weights", "weights.pth")
    assert "not found; use --detector" in fails(*usual, top_down, "--detector", "fasterrcnn_resnet51_fpn")
    assert "is bottom-up; omit the detector" in fails(*usual, trained / "best.pth", "--detector", "fasterrcnn_resnet50_fpn")
