"""evaluate.py in several processes: what they write together is what one writes, whatever dies on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from places import ROOT

from utils.inference import PoseEstimator

FAINT = ("assignment.keypoint_threshold=1e-4", "assignment.lone_threshold=0", "assignment.max_peaks=2")  # the network has hardly learned
WRITTEN = ("detections.json", "figures.json", "details.json", "curves.png", "errors.png")


def together(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Two processes of a script, started as a user does."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", ROOT / script]
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    words = [*map(str, [*command, *arguments])]
    return subprocess.run(words, env={**os.environ, **path}, capture_output=True, text=True, timeout=120)


@pytest.fixture
def arguments(tiny, trained, annotations, images) -> Callable[[Path], list[object]]:
    """Of an evaluation of the drawn people into a folder."""
    usual = {"config": tiny, "checkpoint": trained / "last.pth", "annotations": annotations, "images": images, "batch-size": 2}
    named = [word for name, value in usual.items() for word in (f"--{name}", value)]
    return lambda output: [*named, "--device", "cpu", "--output", output, *FAINT]


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """How many images each batch has that this process looks at."""
    sizes, plain = [], PoseEstimator.batch
    monkeypatch.setattr(PoseEstimator, "batch", lambda self, images: sizes.append(len(images)) or plain(self, images))
    return sizes


def same(one: Path, other: Path) -> bool:
    assert (one / "detections.json").stat().st_size > 100  # somebody was found
    assert {path.name for path in other.iterdir()} == set(WRITTEN)
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in WRITTEN)


@pytest.mark.slow
def test_photographs_in_two_processes(run, shared, tiny, trained, tmp_path):
    mini = shared / "data" / "coco_mini"
    usual = ("--annotations", mini / "annotations" / "person_keypoints_val2017.json", "--images", mini / "val2017", "--limit", 30)
    usual += ("--config", tiny, "--checkpoint", trained / "last.pth", "--device", "cpu", *FAINT)
    alone = run("evaluate.py", *usual, "--output", tmp_path / "alone")
    assert alone.status == 0, alone.err
    both = together("evaluate.py", *usual, "--output", tmp_path / "together")
    assert both.returncode == 0, both.stderr
    assert both.stdout.replace("together", "alone") == alone.out  # one of them speaks
    assert "evaluate: 30/30 image" in both.stderr
    assert same(tmp_path / "alone", tmp_path / "together")


@pytest.mark.slow
@pytest.mark.parametrize("dying", [0, 1])
def test_one_process_goes_on_where_one_of_two_died(run, arguments, asked, tmp_path, dying):
    """The one that dies has done one batch of its two; the other one does not wait for it for ever."""
    died = together("tests/dying_process.py", dying, 1, *arguments(tmp_path / "together"))
    assert died.returncode != 0
    assert not (tmp_path / "together" / "detections.json").exists()
    ended = run("evaluate.py", *arguments(tmp_path / "together"))
    assert ended.status == 0, ended.err
    assert asked in ([2], [2, 2], [2, 2, 2])  # those that died with the process, and what the other one had no time for
    run("evaluate.py", *arguments(tmp_path / "alone"))
    assert same(tmp_path / "alone", tmp_path / "together")


@pytest.mark.slow
def test_two_processes_go_on_where_one_was_interrupted(run, arguments, asked, monkeypatch, tmp_path):
    run("evaluate.py", *arguments(tmp_path / "alone"))
    whole = PoseEstimator.batch
    asked.clear()

    def estimate(self, images):
        if asked == [2, 2]:
            raise KeyboardInterrupt
        return whole(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(PoseEstimator, "batch", estimate)
        assert run("evaluate.py", *arguments(tmp_path / "together")).status == 130
    ended = together("tests/dying_process.py", 0, 1, *arguments(tmp_path / "together"))  # would die at a second batch: one is left to each
    assert ended.returncode == 0, ended.stderr
    assert same(tmp_path / "alone", tmp_path / "together")
