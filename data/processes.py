"""Processes that share out work on images."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import cv2

from config import UserError

T = TypeVar("T")
AHEAD = 4  # pieces of work in flight, per process


def in_processes(function: Callable[..., T], jobs: Iterable[tuple], workers: int) -> Iterator[T]:
    """function(*job) for each job, in order, by so many processes, with no more in flight than the caller can keep up with."""
    if workers < 2:
        yield from (function(*job) for job in jobs)
        return
    waiting = iter(jobs)
    # spawn is the one way to start a process that every system has; one that has loaded OpenCV must not fork
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker) as pool:
        running: list[Future[T]] = []
        try:
            with _interrupts_waiting():
                running += [pool.submit(function, *job) for job in islice(waiting, AHEAD * workers)]
            while running:
                yield running.pop(0).result()
                running += [pool.submit(function, *job) for job in islice(waiting, 1)]
        except BrokenProcessPool as error:
            raise UserError("a process was killed, perhaps for lack of memory; try fewer --workers") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _interrupts_waiting() -> Iterator[None]:
    """Ctrl-C reaches every process of the terminal, and only the first should answer, after this.

    Those that are started within do not, from their first moment on: a process inherits the signals that are held back. Held back in this
    thread alone a signal still comes by way of others, such as NumPy's, and Python's handler would break off in the middle of starting a
    process: so it is only noted here.
    """
    ours = threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT))
    if not ours:  # or ignored, as in the background of a shell
        yield
        return
    asked: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None  # not on Windows
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if asked:
            handler(signal.SIGINT, None)


def _start_worker() -> None:
    """One thread of OpenCV, since there are several workers; and end with the parent, however it ends."""
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
