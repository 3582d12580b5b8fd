"""benchmarks/inference.py: its table for a system that finds people, and for one that must be told where they are."""

from __future__ import annotations

import numpy as np
import pytest
from needing_boxes import registered, write_checkpoint

SCRIPT = "benchmarks/inference.py"


def figures(out: str) -> dict[str, list[float]]:
    """Of each row of the table its numbers, the part of the network's rate after the stream's."""
    rows = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| float")]
    return {name: [float(n) for cell in cells for n in cell.rstrip(" %)").replace("(", "/ ").split(" / ")] for name, *cells in rows}


@pytest.fixture
def measured(run):
    def start(*arguments: object) -> dict[str, list[float]]:
        ended = run(SCRIPT, *arguments, "--rounds", 1, "--device", "cpu")
        assert ended.status == 0, ended.err
        assert "1 threads" in ended.out.splitlines()[0]
        return figures(ended.out)

    return start


def test_rates_and_times(measured, trained, images):
    found = measured("--checkpoint", trained / "best.pth", "--images", images, "--batches", 1, 3)
    assert list(found) == [f"float32, {flip}, {size}" for flip in ("on", "off") for size in (1, 3)]
    for row in found.values():
        _, network, stream, part, *times = row
        assert min(row) > 0
        assert part == pytest.approx(100 * stream / network, abs=1.5)
        medians, most = times[0::2], times[1::2]
        assert all(median <= its_most for median, its_most in zip(medians, most))
        assert max(medians[:4]) < medians[4]
    with_flip, without = (found[f"float32, {flip}, 1"][0] for flip in ("on", "off"))
    assert with_flip == pytest.approx(without / 2, rel=0.02)  # of the network's work half is the mirror images'


def test_boxes_are_annotated_or_whole_pictures(measured, annotations, images, tmp_path):
    with registered():
        checkpoint = write_checkpoint(tmp_path / "tiny.pth")
        arguments = ("--checkpoint", checkpoint, "--images", images, "--batches", 2, "--flip", "on")
        (whole,), (annotated,) = (measured(*arguments, *more).values() for more in ((), ("--annotations", annotations)))
        assert np.isfinite([*whole, *annotated]).all()


def test_pictures_are_drawn_where_none_are_named(measured, tiny):
    assert len(measured("--config", tiny, "--count", 2, "--batches", 2)) == 2


def test_what_cannot_be_measured(fails, tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no pictures in it" in fails(SCRIPT, "--config", tiny, "--images", tmp_path / "empty")
    assert "not found" in fails(SCRIPT, "--config", tiny, "--images", tmp_path / "nowhere")
    assert "--batches 0: expected at least 1" in fails(SCRIPT, "--config", tiny, "--batches", 0)
