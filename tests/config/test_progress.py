"""Progress in a log and on a terminal."""

from __future__ import annotations

import io
import re

import pytest

from config import progress as module
from config.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Replace the clock; return its time in seconds, a list of one number to set."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_units_of_an_earlier_run_do_not_change_rate_and_time_left(clock, stream):
    shown = stream()
    with Progress(1000, "poses", "image", stream=shown) as progress:
        progress.skip(900)
        for _ in range(20):
            clock[0] += 1
            progress.advance(2)
    first, *_, last = filter(None, re.split(r"[\r\n]", shown.getvalue()))
    if stream is Terminal:
        assert "940/1000" in last and "2.00image/s" in last
    else:
        assert first.split("  ") == ["poses: 930/1000 image", "2.0/s", "35 s left"]
        assert last.split("  ") == ["poses: 940/1000 image", "2.0/s", "30 s left"]
