"""Progress of long work: a tqdm bar on a terminal, plain lines in a log file."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 15.0


class Progress(tqdm):  # type: ignore[type-arg]  # only its stubs are generic
    """Count `total` units of work and show the rate and the time left. A log file gets a line every 15 seconds and one at the end."""

    monitor_interval = 0  # starts no thread; with `miniters` 1 there is nothing to monitor

    def __init__(self, total: int | None, label: str, unit: str = "it", shown: bool = True):
        self.in_log = not sys.stderr.isatty()
        log_style = {"ncols": 0, "delay": 1e-9, "smoothing": 0, "mininterval": SECONDS_BETWEEN_LINES}
        style = log_style if self.in_log else {"dynamic_ncols": True}
        super().__init__(total=total, desc=label, unit=unit, unit_scale=unit == "B", miniters=1, disable=not shown, **style)

    def skip(self, units: int) -> None:
        """Count `units` that an earlier run completed, before the first of this one: they do not change the rate."""
        self.n = self.initial = units

    def advance(self, units: int = 1, note: str = "") -> None:
        """Count `units` more; show `note` behind the count."""
        self.set_postfix_str(note, refresh=False)
        self.update(units)

    def clear(self, nolock: bool = False) -> None:
        """Clear the bar before a message; a log file keeps its lines, without cursor movements."""
        if not self.in_log:
            super().clear(nolock)

    def refresh(self, nolock: bool = False, lock_args: Any = None) -> None:
        """Show the state; in a log file not again after a message, for which tqdm asks without the lock."""
        if not (self.in_log and nolock):
            super().refresh(nolock, lock_args)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Show the state; in a log file as a line of its own."""
        if self.in_log:
            print(self, file=self.fp, flush=True)
        else:
            super().display(msg, pos)

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if self.in_log and not self.disable:
            if kind is None:  # after an error its message is the last line of the log
                self.display()
            self.disable = True
        super().__exit__(kind, *error)


def progress_bar(items: Iterable[T], total: int | None, label: str, unit: str = "it") -> Iterator[T]:
    """Iterate over `items` and show the progress."""
    with Progress(total, label, unit) as progress:
        for item in items:
            yield item
            progress.advance()
