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
    running: list[Future[T]] = []
    with _interrupts_waiting():
        # spawn is the one way to start a process that every system has; one that has loaded OpenCV must not fork
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)

    def submit(count: int) -> None:
        with _interrupts_waiting():  # what is submitted may start a process
            running.extend(pool.submit(function, *job) for job in islice(waiting, count))

    try:
        submit(AHEAD * workers)
        while running:
            yield running.pop(0).result()
            submit(1)
    except BrokenProcessPool as error:
        raise UserError("a process was killed, perhaps for lack of memory; try fewer --workers") from error
    finally:
        # Those that are still starting are waited for, as they complain of a caller that is gone; killed while it hands over a result,
        # a worker would leave the pool waiting for the rest of it
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_waiting() -> Iterator[None]:
    """Ctrl-C reaches every process of the terminal, and only the first should answer, after this.

    Those that are started within do not, from their first moment on: a process inherits the signals that are held back. In the first one
    that is not enough, since a thread of a library may take the signal and Python then raises it here all the same: in the middle of
    starting a process, which finds nobody to tell it what to do.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):  # the latter: Windows
        yield
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def _start_worker() -> None:
    """One thread of OpenCV, since there are several workers; and end with the parent, however it ends."""
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
