"""Progress in a log file."""

from __future__ import annotations

import io

from config.progress import Progress


def test_units_of_an_earlier_run_do_not_change_rate_and_time_left(monkeypatch):
    now, log = [0.0], io.StringIO()
    monkeypatch.setattr("config.progress.time.monotonic", lambda: now[0])
    with Progress(1000, "poses", "image", stream=log) as progress:
        progress.skip(900)
        for _ in range(20):
            now[0] += 1
            progress.advance(2, note="few")
    assert log.getvalue().splitlines() == ["poses: 930/1000 image  2.0/s  35 s left  few", "poses: 940/1000 image  2.0/s  30 s left  few"]
