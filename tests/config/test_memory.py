"""Scripts keep freed memory, unless the environment says otherwise. Page faults are counted, which no other program changes."""

import os
import platform
import subprocess
import sys

import pytest
from places import ROOT

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
MEGABYTES, ROUNDS = 48, 10  # glibc's defaults keep blocks of 32 MiB
ALLOCATE = f"""
import os, resource, threading
from config.errors import run_cli

def allocate():
    for _ in range({ROUNDS}):
        [bytearray(b"x") * (size * 2**20) for size in ({MEGABYTES}, 1, {MEGABYTES})]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    allocate()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def in_thread():
    counts = []
    thread = threading.Thread(target=lambda: counts.append(faults()))
    thread.start()
    thread.join()
    return counts[0]

def main():
    print(faults(), in_thread(), flush=True)
    if os.fork() == 0:
        print(faults(), flush=True)
        os._exit(0)
    os.wait()

"""


def page_faults(call, **environment):
    """Return the page faults of equal work in the first thread, in another one and in a fork, where `call` runs `main`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_") and name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", ALLOCATE + call]
    run = subprocess.run(command, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, check=True)
    return [int(word) for word in run.stdout.split()]


@pytest.fixture(scope="module")
def defaults():
    return page_faults("main()")


def test_scripts_keep_freed_memory_in_threads_and_forks(defaults):
    kept = page_faults("run_cli(main)")
    assert all(few < many / 3 for few, many in zip(kept, defaults, strict=True))


@pytest.mark.parametrize("environment", [{"MALLOC_TOP_PAD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.top_pad=131072"}])
def test_the_environment_comes_first(defaults, environment):
    for count, of_defaults in zip(page_faults("run_cli(main)", **environment), defaults, strict=True):
        assert count > of_defaults / 2
