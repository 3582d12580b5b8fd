"""Work shared out to processes: its order, how much of it waits, and how it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from places import ROOT

from config import UserError
from data.processes import AHEAD, in_processes

# As on a terminal, Ctrl-C reaches every process; here at the moment when the process of this number has been started
INTERRUPTED = """
import os, signal, sys, threading, time
from multiprocessing import util

from config.errors import run_script
from data.processes import in_processes

started, start = [], util.spawnv_passfds

def start_and_interrupt(*arguments):
    started.append(start(*arguments))
    if len(started) == int(sys.argv[1]):
        interrupt()
    return started[-1]

def interrupt():
    os.killpg(0, signal.SIGINT)
    time.sleep(0.2)  # for it to arrive

def slowly(*_):  # as where the machine is busy
    time.sleep(0.5)
    raise KeyboardInterrupt

def main():
    signal.signal(signal.SIGINT, slowly)
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()  # a library's thread, which takes signals too
    util.spawnv_passfds = start_and_interrupt
    if sys.argv[1] == "0":
        threading.Timer(0.3, interrupt).start()
    for _ in in_processes(time.sleep, [(0.5,)] * 1000, 2):
        pass

if __name__ == "__main__":
    run_script(main)
"""


def test_results_come_in_order_and_not_too_many_wait():
    taken = []

    def jobs():
        for number in range(40):
            taken.append(number)
            yield (-number,)

    for number, result in enumerate(in_processes(abs, jobs(), 2)):
        assert result == number
        assert len(taken) <= number + 1 + 2 * AHEAD
    assert len(taken) == 40
    assert not multiprocessing.active_children()


def test_a_fault_in_one_job_ends_the_others():
    """All but those that are under way, which are waited for: nobody is left behind."""
    began = time.monotonic()
    with pytest.raises(ValueError, match="negative"):
        list(in_processes(time.sleep, [(-1,), *[(0.5,)] * 1000], 2))
    assert time.monotonic() - began < 30
    assert not multiprocessing.active_children()


def test_what_is_left_half_way_ends_whatever_the_size_of_its_results():
    """Some are more than fits into a pipe, and are on their way just then."""
    for _ in range(4):
        results = in_processes(bytes, [(10_000_000,)] * 100, 2)
        assert len(next(results)) == 10_000_000
        results.close()
    assert not multiprocessing.active_children()


def test_a_killed_process_is_one_line():
    with pytest.raises(UserError, match="a process was killed.*fewer --workers"):
        list(in_processes(os._exit, [(9,)] * 3, 2))


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals are another matter on Windows")
@pytest.mark.parametrize(
    "which", [1, 2, 3, 0], ids=["before the workers", "at the first worker", "at the second worker", "while they start"]
)
def test_ctrl_c_is_answered_once(tmp_path, which):
    """Whenever it comes: by no process that is still starting, nor by one that misses what it starts from."""
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, script, str(which)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert process.communicate(timeout=30)[1] == "error: interrupted\n"
    assert process.returncode == 130
