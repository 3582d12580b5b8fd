"""What README.md shows runs as it is written, on small data in the places that it names."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import cv2
import pytest
from places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Added to a command, so that it takes seconds
OPTIONS = {"train.py": ["--dry-run"], "evaluate.py": ["--limit=2"]}
NETWORK = ["model.stages=1", "model.channels=16", "model.channels_increase=0", "model.depth=2", "loss.scale_weights=[1,1,1]"]
KEYS = {
    "config/simplepose_coco_384.yaml": [*NETWORK, "data.input_size=[64,64]", "data.workers=0", "train.batch_size=2"],
    "config/finetune.yaml": ["data.workers=0", "train.batch_size=2"],
}


def commands(section: str) -> list[list[str]]:
    """Return the arguments of the section's Python commands."""
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("python ")]


@pytest.fixture
def clone(annotations, images, hdf5, tmp_path, monkeypatch) -> Path:
    """The working directory: a clone with a photo, COCO, and people of one's own."""
    for folder in ("config", "models"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    cv2.imwrite(str(tmp_path / "photo.jpg"), cv2.imread(str(ROOT / "docs" / "people.jpg"))[:, :240])  # one person
    for split in ("train", "val"):
        (tmp_path / "coco" / "annotations").mkdir(parents=True, exist_ok=True)
        shutil.copy(annotations, tmp_path / "coco" / "annotations" / f"person_keypoints_{split}2017.json")
        (tmp_path / "coco" / f"{split}2017").symlink_to(images)
    (tmp_path / "photos").symlink_to(images)
    for name in ("mine.json", "mine_val.json"):
        shutil.copy(annotations, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("section", "written"),
    [
        ("Install", ["runs/demo/photo.jpg", "runs/demo/photo.jpg.json"]),
        ("Train", ["data/coco/train2017.h5", "data/coco/val2017.h5"]),
        ("Evaluate", ["runs/evaluation/metrics.json", "runs/evaluation/worst"]),
        ("Your own data", ["runs/own/train.h5", "runs/own/val.h5"]),
        ("Export", ["model.onnx"]),
    ],
)
def test_commands_run_and_write_what_is_said(section, written, clone, run):
    if section == "Export":
        pytest.importorskip("onnxruntime")
    for script, *arguments in commands(section):
        if script == "-m":
            script = arguments.pop(0).replace(".", "/") + ".py"
        ended = run(script, *OPTIONS.get(script, []), *arguments, *(key for name in arguments for key in KEYS.get(name, [])))
        assert ended.status in (0, None), ended.err
    assert all((clone / path).exists() for path in written)


def test_python_example_prints_what_is_shown(clone, capsys):
    """Numbers aside."""
    example, shown = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL).groups()
    exec(compile(example, "README.md", "exec"), {})
    _, _, printed = capsys.readouterr().out.partition("downloaded once\n")
    assert re.split(r"[\d.\s\[\]]+", printed) == re.split(r"[\d.\s\[\]]+", shown)


def test_links_are_files():
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert [link for link in links if not (ROOT / link).is_file()] == []
