"""Progress of long work: a tqdm bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 15.0


class Bar(tqdm):
    monitor_interval = 0  # starts no thread; with `miniters` 1 there is nothing to monitor


class Progress:
    """Count `total` units of work and show the rate and the time left. A log file gets a line every 15 seconds and one at the end."""

    def __init__(self, total: int | None, label: str, unit: str = "it", shown: bool = True, stream: TextIO | None = None):
        self.total, self.label, self.unit, self.stream = total, label, unit, stream or sys.stderr
        self.count, self.skipped, self.note = 0, 0, ""
        self.started = self.last_line = time.monotonic()
        self.in_log = shown and not self.stream.isatty()
        hidden = self.in_log or not shown
        self.bar = Bar(total=total, desc=label, unit=unit, file=self.stream, dynamic_ncols=True, miniters=1, disable=hidden)

    def skip(self, units: int) -> None:
        """Count `units` that an earlier run completed, before the first of this one: they do not change the rate."""
        self.count = self.skipped = self.bar.n = self.bar.initial = units
        self.bar.refresh()

    def advance(self, units: int = 1, note: str = "") -> None:
        """Count `units` more; show `note` behind the count."""
        self.count, self.note = self.count + units, note
        self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(units)
        if self.in_log and time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self._write_line()

    def _write_line(self) -> None:
        self.last_line = time.monotonic()
        rate = (self.count - self.skipped) / max(self.last_line - self.started, 1e-9)
        parts = [f"{self.label}: {self.count}" + (f"/{self.total}" if self.total is not None else "") + f" {self.unit}", f"{rate:.1f}/s"]
        if self.total and rate > 0 and self.count < self.total:
            parts.append(f"{(self.total - self.count) / rate:.0f} s left")
        print("  ".join(parts + [self.note] * bool(self.note)), file=self.stream, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bar.close()
        if self.in_log and kind is None:  # after an error its message is the last line of the log
            self._write_line()


def progress_bar(items: Iterable[T], total: int | None, label: str, unit: str = "it") -> Iterator[T]:
    """Iterate over `items` and show the progress."""
    with Progress(total, label, unit) as progress:
        for item in items:
            yield item
            progress.advance()
