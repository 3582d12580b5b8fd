"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """Counts `total` units of work and shows how far it is; `note` is shown behind the count.

    On a terminal this is a tqdm bar. In a log file it is one plain line at most every 15 seconds and one at the end, so that logs
    stay readable.
    """

    def __init__(self, total: int | None, label: str, unit: str = "it", shown: bool = True, stream: TextIO | None = None):
        self.total, self.label, self.unit, self.shown = total, label, unit, shown
        self.stream = stream or sys.stderr
        self.count, self.skipped, self.text = 0, 0, ""
        self.started = self.last_line = time.monotonic()
        self.bar = None
        if shown and self.stream.isatty():
            self.bar = tqdm(total=total, desc=label, unit=unit, file=self.stream, dynamic_ncols=True, leave=True)

    def skip(self, units: int) -> None:
        """Count `units` that an earlier run has done, before the first of this one: they say nothing about the rate."""
        self.count = self.skipped = units
        if self.bar is not None:
            self.bar.n = self.bar.initial = units
            self.bar.refresh()

    def advance(self, units: int = 1, note: str = "") -> None:
        """Count `units` more."""
        self.count += units
        self.text = note
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(units)
        elif self.shown and time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self._line()

    def close(self) -> None:
        """Show the final state."""
        if self.bar is not None:
            self.bar.close()
        elif self.shown:
            self._line()

    def _line(self) -> None:
        self.last_line = time.monotonic()
        rate = (self.count - self.skipped) / max(self.last_line - self.started, 1e-9)
        parts = [f"{self.label}: {self.count}" + (f"/{self.total}" if self.total is not None else "") + f" {self.unit}", f"{rate:.1f}/s"]
        if self.total and rate > 0 and self.count < self.total:
            parts.append(f"{(self.total - self.count) / rate:.0f} s left")
        print("  ".join(parts + [self.text] * bool(self.text)), file=self.stream, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        elif self.bar is not None:
            self.bar.close()  # what went wrong is the last line to be read, in a log the only one


def track(items: Iterable[T], total: int | None, label: str, unit: str = "it", shown: bool = True) -> Iterator[T]:
    """Iterate over `items` and show the progress."""
    with Progress(total, label, unit, shown) as progress:
        for item in items:
            yield item
            progress.advance()
