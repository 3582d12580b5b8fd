"""Where the time went."""

from __future__ import annotations

import pytest

from utils.demo import clock as module
from utils.demo.clock import Clock


@pytest.fixture
def seconds(monkeypatch):
    """Has time pass as the test says: the list's one number is now."""
    now = [0.0]
    monkeypatch.setattr(module, "perf_counter", lambda: now[0])
    return now


def test_a_part_within_another_stops_it(seconds):
    clock = Clock()

    def read():
        for number in range(2):
            seconds[0] += 1
            yield number

    def find(items):
        for item in items:
            seconds[0] += 10
            yield item

    for _ in clock.waiting(find(clock.waiting(read(), "decode")), "network"):
        with clock.part("write"):
            seconds[0] += 100
    assert dict(clock.seconds) == {"decode": 2, "network": 20, "write": 200}
    assert clock.report(2, "frame") == "2 frames in 222.0 s, 0.0 a second: network 9%, decode 1%, write 90%"


def test_a_part_is_divided(seconds):
    clock = Clock()
    with clock.part("people"):
        seconds[0] += 8
    with clock.part("draw"):
        seconds[0] += 2
    said = clock.report(1, "picture", "people", {"network": 30.0, "assignment": 10.0})
    assert said == "1 picture in 10.0 s, 0.1 a second: network 60%, assignment 20%, draw 20%"
    assert "people 80%" in clock.report(1, "picture", "people", {"network": 0.0})
