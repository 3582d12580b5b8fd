"""Run each benchmark on tiny input: its table has every row and column, whatever the times are."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from places import ROOT
from top_down_system import registered, write_checkpoint

from benchmarks import report, zoo
from benchmarks.inference import movenet_people
from utils.zoo import networks


@pytest.fixture
def table(run):
    """A function that runs a benchmark and returns the cells of its tables, without titles and rules."""

    def start(script: str, *arguments: object) -> list[list[str]]:
        ended = run(f"benchmarks/{script}.py", *arguments)
        assert ended.status == 0, ended.err
        rows = [line.strip("| ").split(" | ") for line in ended.out.splitlines() if line.startswith("| ")]
        assert rows and all(cell.strip() for row in rows for cell in row)
        return rows

    return start


def test_assignment(table, fails):
    assert "system 'dekr': has no keypoint assignment" in fails("benchmarks/assignment.py", "--config", "config/dekr_quickstart.yaml")
    heads, *rows = table("assignment", "--oracle", "nowhere", "--people", 1, 2, "--frames", 2, "--device", "cpu")
    assert heads == ["people", "ms", "ms in batches of 2, cpu"]
    assert [row[0] for row in rows] == ["1", "2"]


def test_data(table, tiny, annotations, images, hdf5, samples):
    given = ("--annotations", annotations, "--images", images, "--workers", 0, 1, "--samples", 6, "--device", "cpu")
    heads, row = table("data", "--config", tiny, *given)
    assert (row[0], heads[1:3]) == ("tiny", ["0 workers, samples/s", "1 workers, samples/s"])
    size = heads.index("KB a sample on disk")
    assert float(row[size]) == pytest.approx(hdf5.stat().st_size / samples / 1000, rel=0.01)
    assert table("data", "--config", tiny, *given, "--max-side", 80)[1][size] != row[size]


def test_deploy(table, trained, images):
    """The time of two processes that start is what it measures."""
    pytest.importorskip("onnxruntime")
    heads, row = table("deploy", "--checkpoints", trained / "last.pth", "--images", images, "--count", 1, "--rounds", 1)
    assert heads == ["network", "people", "distance, px", "first image, s", "images/s", "installed, MB"]
    deploy, estimator = map(int, row[heads.index("installed, MB")].split(" / "))
    assert 50 < deploy < estimator / 2
    assert float(row[heads.index("distance, px")].partition(",")[0]) < 0.1


def test_inference_with_and_without_person_boxes(table, fails, tiny, images, tmp_path):
    given = ("--images", images, "--batches", 2, "--count", 2, "--rounds", 1)
    heads, row = table("inference", "--config", tiny, *given)
    assert heads == ["network, batch", "images/s", "latency, ms", "input, ms", "network, ms", "assignment, ms"]
    assert row[0] == "tiny, 2"
    with registered():
        assert table("inference", "--checkpoint", write_checkpoint(tmp_path / "top_down.pth"), *given)[1][0] == "top_down, 2"
    assert "add --checkpoint dekr_small inference.scales=[1]" in fails("benchmarks/inference.py", "--movenet", "--config", tiny)


def test_movenet_people_are_where_the_heatmaps_are_highest_near_the_guess():
    """Two people of two keypoints; the guess of each is a pixel away from its peak, and nearer than the other person's."""
    places, maps, offset = [[(4, 3), (8, 6)], [(20, 12), (24, 15)]], np.zeros((3, 20, 32), np.float32), np.zeros((4, 20, 32), np.float32)
    for (first, second), score in zip(places, (0.8, 0.5)):
        maps[0][first[::-1]] = maps[1][second[::-1]] = 0.9
        maps[2][first[::-1]] = score
        offset[:, first[1], first[0]] = 0.5 - 1, 0.5, 0.5 + 1 - 4, 0.5 - 3  # from the keypoint to the center's middle
    keypoints, scores = movenet_people(maps, offset, 2)
    order = np.argsort(-scores)
    assert keypoints[order, :, :2].tolist() == [[list(point) for point in person] for person in places]
    assert scores[order] == pytest.approx(np.outer((0.8, 0.5), [0.9 * np.exp(-1 / (0.3 * 20))])[:, 0])


def test_zoo_measures_in_annotated_and_in_predicted_boxes(table, annotations, images, monkeypatch):
    """Of two annotation files, each with one image. All people of the detector count; the real one has up to thirty boxes an image."""

    def one_box(checkpoint: Path, least_score: float) -> Callable:
        assert (checkpoint.stem, least_score) == ("dekr_small", 0)
        return lambda images: [np.array([[20.0, 10, 60, 90, 0.9]]) for _ in images]

    monkeypatch.setattr("utils.inference.PoseDetector", one_box)
    content = json.loads(annotations.read_text())
    halves = [annotations.with_name(f"{half}.json") for half in "ab"]
    for half, path in enumerate(halves):
        image = content["images"][half]
        people = [person for person in content["annotations"] if person["image_id"] == image["id"]]
        path.write_text(json.dumps({**content, "images": [image], "annotations": people}))
    heads, annotated, predicted, _, row = table("zoo", "simple_baselines_small", "--annotations", *halves, "--images", images)
    assert heads[2:4] == ["parameters, M", "GFLOP"] and annotated[2:4] == ["6.2", "2.4"]
    assert heads[6:] == ["boxes", "images/s", "AP", "AP50", "found", "drawn"]
    assert (annotated[6], predicted[6]) == ("annotated", "of `dekr_small`")
    ap, ap50 = (cell.lstrip("0") for cell in annotated[8:10])
    assert row[6] == f"AP {ap}, AP50 {ap50} in annotated boxes (measured here)" and float(ap50) > 0.5


def test_zoo_writes_its_tables_into_the_pages(tmp_path):
    paths = "README.md", "docs/model_zoo.md", "models/weights/zoo.yaml"
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    keys = dict.fromkeys([*zoo.README_COLUMNS, "input"], "-")
    rows = {name: {**keys, "name": f"`{name}`", "result": network.reported} for name, network in networks().items()}
    rows["dekr_small"]["result"] = "AP .999 (measured here)"
    zoo.write_pages(tmp_path, rows, [{"name": "`dekr_small`", "AP": "0.999"}], "Measured on a machine.")
    readme, page, entries = ((tmp_path / path).read_text() for path in paths)
    assert entries == re.sub('reported: ".*"', 'reported: "AP .999 (measured here)"', (ROOT / paths[2]).read_text(), count=1)
    assert "<!-- measured -->\nMeasured on a machine.\n\n| name | AP |\n|---|---:|\n| `dekr_small` | 0.999 |\n<!-- /measured -->\n" in page
    assert "| `dekr_small` | - | - | - | - | AP .999 (measured here) | - |\n" in readme
    assert "| `dekr_w32_coco_mmpose` | - | - | - | - | AP .686, AR .735 (reported) | - |\n" in readme
    assert readme.count("\n| `") == (ROOT / paths[0]).read_text().count("\n| `")


def test_the_page_is_that_of_the_results():
    assert (ROOT / "docs" / "benchmarks.md").read_text() == report.page(), "python benchmarks/report.py > docs/benchmarks.md"


def test_the_page_shows_what_was_saved(table, tiny, monkeypatch, tmp_path):
    """The same command replaces its own rows and no others."""
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    for overrides in ((), ("train.precision=bfloat16",), ()):
        heads, row = table("training", "--config", tiny, "--steps", 1, "--device", "cpu", "--save", *overrides)
    assert row[:2] == ["tiny", "2 x 64 x 64"]
    with Path(tmp_path / "training.csv").open(newline="") as file:
        precise, saved = csv.DictReader(file)
    assert list(saved) == ["title", "date", "machine", "versions", "command", *heads]
    assert [saved[head] for head in heads] == row and precise["recipe"] == "tiny train.precision=bfloat16"
    page = report.page()
    assert page.count("## A training step") == 1 and f"on {saved['machine']}, with PyTorch" in page
    command = f"    python benchmarks/training.py --config '{tiny}' --steps 1 --device cpu"
    assert f"{command} train.precision=bfloat16\n{command}\n\n| {' | '.join(heads)} |\n|" in page
    assert f"| {' | '.join(row)} |\n" in page


def test_gpu(table, fails, monkeypatch, tmp_path):
    """On a CPU with --tiny: each row beside its roofline, in files that the page takes."""
    assert "no NVIDIA GPU; " in fails("benchmarks/gpu.py", "--device", "cpu")
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    rows = table("gpu", "--tiny", "--device", "cpu", "--save")
    heads = [row for row in rows if row[0] in ("side", "measured")]
    assert [len([head for head in row if "roofline" in head]) for row in heads] == [0, 1, 1, 1, 1]
    networks = ["quickstart", "dekr_quickstart", "simple_baselines_quickstart"]
    names = [row[0] for row in rows if row not in heads]
    expected = [*(f"{name}, TF32" for name in networks), *networks, "1 people", *(f"{name}, float32" for name in networks)]
    assert names == ["256", *expected]
    for row in rows[-3:]:
        rate, roofline, percent = map(float, row[2:5])
        assert 0 < rate < roofline and percent == pytest.approx(100 * rate / roofline, rel=0.02)
    assert report.page().count("## ") == 5
