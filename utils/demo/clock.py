"""Where the time went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")


class Clock:
    """Seconds by part; a part that begins within another one stops it meanwhile."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._started = self._since = perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is done within counts as this part."""
        self._turn()
        self._running.append(name)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()

    def waiting(self, items: Iterable[T], name: str) -> Iterator[T]:
        """The same items; the time that the caller waits for them counts as this part."""
        upcoming, end = iter(items), object()
        while True:
            with self.part(name):
                item = next(upcoming, end)
            if item is end:
                return
            yield item

    def report(self, count: int, unit: str, split: str = "", shares: Mapping[str, float] | None = None) -> str:
        """One line. shares: into which the part `split` is divided, such as seconds of threads that worked side by side."""
        whole = max(perf_counter() - self._started, 1e-9)
        shown: dict[str, float] = {}
        for name, seconds in self.seconds.items():
            divided = shares if name == split and shares and sum(shares.values()) > 0 else {name: 1.0}
            shown |= {of: seconds * share / sum(divided.values()) for of, share in divided.items()}
        parts = ", ".join(f"{name} {100 * seconds / whole:.0f}%" for name, seconds in shown.items())
        return f"{count} {unit}{'s' * (count != 1)} in {whole:.1f} s, {count / whole:.1f} a second: {parts}"

    def _turn(self) -> None:
        now = perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now
