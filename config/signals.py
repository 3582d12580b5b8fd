"""Interrupts: Ctrl-C, and the SIGTERM of a scheduler or a container's end."""

from __future__ import annotations

import signal


class StopSignal:
    """A context in which Ctrl-C and a scheduler's SIGTERM are only noted, for work to end where nothing is lost or left half-written.

    A second Ctrl-C raises KeyboardInterrupt.
    """

    requested = False

    def check(self) -> None:
        """Raise KeyboardInterrupt where a signal has come."""
        if self.requested:
            raise KeyboardInterrupt

    def __enter__(self) -> StopSignal:
        self._handlers = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: object) -> None:
        if self.requested and number == signal.SIGINT:  # torchrun passes the terminal's Ctrl-C on as a SIGTERM, which is no second one
            raise KeyboardInterrupt
        self.requested = True


def leave_signals_to_parent(grace: int) -> None:
    """Ignore, in a worker process, the signals of the whole group, which the parent answers; after a SIGTERM, for `grace` seconds."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(grace))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
