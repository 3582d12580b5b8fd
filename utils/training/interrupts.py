"""Ctrl-C, and the SIGTERM of a scheduler, during long work."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupts:
    """A context in which both raise KeyboardInterrupt, and neither is lost.

    Python drops what is raised while it deletes an object, and at the end of an epoch that is where much of the time goes: to the
    loader and its processes. So it is noted here too, and `check`, called now and then, raises it again.
    """

    def __init__(self) -> None:
        self.asked = self._holding = False

    def check(self) -> None:
        if self.asked:
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, the first one is noted only: the caller looks at `asked` where it can keep its work. A second Ctrl-C raises."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False

    def __enter__(self) -> Interrupts:
        self._handlers = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        self._hook, sys.unraisablehook = sys.unraisablehook, self._dropped
        return self

    def __exit__(self, *_: object) -> None:
        if not self.asked:
            sys.unraisablehook = self._hook
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: object) -> None:
        first, self.asked = not self.asked, True
        # a launcher passes the terminal's Ctrl-C on as a SIGTERM, which is no second wish
        if not self._holding or (number == signal.SIGINT and not first):
            raise KeyboardInterrupt

    def _dropped(self, unraisable: object) -> None:
        if not self.asked:  # half-built objects complain when they are deleted, after the last word has been said
            self._hook(unraisable)
