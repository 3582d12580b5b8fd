"""Run each benchmark on tiny input: its table has every row and column, whatever the times are."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from places import ROOT, SHARED
from top_down_system import registered, write_checkpoint

from benchmarks import report


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


@pytest.mark.skipif(not (SHARED / "oracle").is_dir(), reason=f"no decoder benchmark: no folder {SHARED / 'oracle'}")
def test_accuracy_of_assignment(table):
    heads, *rows = table("assignment", "--limit", 2, "--people", 1, "--frames", 1)[:3]
    assert heads == ["maps", "images", "AP", "AR", "detections", "frames/s", "slowest, ms"]
    assert [row[:2] for row in rows] == [["perfect", "2"], ["seed 1", "2"]]
    assert float(rows[0][2]) > 0.9


def test_data(table, tiny, annotations, images, hdf5, samples):
    given = ("--annotations", annotations, "--images", images, "--workers", 0, 1, "--samples", 6, "--device", "cpu")
    heads, row = table("data", "--config", tiny, *given)
    assert (row[0], heads[1:3]) == ("tiny", ["0 workers, samples/s", "1 workers, samples/s"])
    assert float(row[heads.index("KB a sample on disk")]) == pytest.approx(hdf5.stat().st_size / samples / 1000, rel=0.01)


def test_inference_with_and_without_person_boxes(table, tiny, images, tmp_path):
    given = ("--images", images, "--batches", 2, "--count", 2, "--rounds", 1)
    heads, row = table("inference", "--config", tiny, *given)
    assert heads == ["network, batch", "images/s", "latency, ms", "input, ms", "network, ms", "assignment, ms"]
    assert row[0] == "tiny, 2"
    with registered():
        assert table("inference", "--checkpoint", write_checkpoint(tmp_path / "top_down.pth"), *given)[1][0] == "top_down, 2"


def test_networks_by_name(table):
    """Of a bundled network."""
    heads, row = table("zoo", "simplepose_small")
    assert (heads[:3], row[:4]) == (["name", "parameters, M", "GFLOP"], ["`simplepose_small`", "4.92", "1.49", "192 x 192"])


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
