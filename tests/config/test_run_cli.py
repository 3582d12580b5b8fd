"""How scripts end: one line for any error, and its traceback where `--traceback` asks for it."""

import errno
import io
import os
import re
import signal
import sys

import pytest
from places import ROOT

from config import UserError
from config.errors import run_cli
from config.files import atomic_write
from config.load import load_skeleton
from config.progress import Progress


@pytest.fixture
def ends(monkeypatch, capsys):
    """Runs a function as a script's main, with arguments, and returns the exit status and the lines on stderr."""

    def start(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["script.py", *arguments])
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with pytest.raises(SystemExit) as end:
            run_cli(main)
        signal.signal(signal.SIGTERM, before)
        return end.value.code, capsys.readouterr().err.splitlines()

    return start


def raising(error):
    def main():
        raise error

    return main


def test_an_unexpected_error_is_one_line_that_says_where(ends):
    status, (line,) = ends(lambda: load_skeleton(None))
    where = re.fullmatch(r"error: unexpected AttributeError in config/load\.py:(\d+): .*; run with --traceback to see where", line)
    assert status == 1 and "endswith" in (ROOT / "config/load.py").read_text().splitlines()[int(where[1]) - 1], line
    worker = "Caught TypeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File x\nTypeError: no len"
    assert ": TypeError: no len; run with" in ends(raising(TypeError(worker)))[1][0]


@pytest.mark.parametrize(("error", "status"), [(ValueError("wrong"), 1), (UserError("wrong"), 2)])
def test_every_script_takes_traceback(ends, error, status):
    def main():
        assert sys.argv == ["script.py", "a=1"]
        raise error

    ended, lines = ends(main, "--traceback", "a=1")
    assert (ended, lines[0]) == (status, "Traceback (most recent call last):")
    assert lines[-1].startswith("error: ") and "wrong" in lines[-1]


def test_a_kill_leaves_no_partial_file(ends, tmp_path):
    """As of `timeout`, a scheduler or a container's end."""

    def main():
        with atomic_write(tmp_path / "a.txt") as partial:
            partial.touch()
            signal.raise_signal(signal.SIGTERM)

    assert ends(main) == (130, ["error: interrupted"])
    assert not [*tmp_path.iterdir()]


def test_names_that_the_terminal_lacks_are_escaped(monkeypatch):
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)

    def main():
        print("Übung 🏃 \udcff.jpg")
        raise UserError("Übung")

    with pytest.raises(SystemExit):
        run_cli(main)
    assert [stream.buffer.getvalue() for stream in streams.values()] == [b"\\xdcbung \\U0001f3c3 \\udcff.jpg\n", b"error: \\xdcbung\n"]


def test_scripts_run_without_terminal(monkeypatch):
    """As a service, or where the shell closed the streams (2>&-): Python has None in their place."""

    def main():
        with Progress(1, "images"):
            print("done")
        raise UserError("wrong")

    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    with pytest.raises(SystemExit) as end:
        run_cli(main)
    assert end.value.code == 2


def test_all_scripts_run_by_run_cli():
    folders = ("config", "data", "models", "losses", "utils", "benchmarks", "examples")
    files = [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    scripts = [path for path in files if '\nif __name__ == "__main__":' in path.read_text()]
    assert len(scripts) >= 12
    assert not [path.name for path in scripts if "__doc__." in path.read_text()]  # `python -OO` has no docstrings
    assert [path.name for path in scripts if "\n    run_cli(" not in path.read_text()] == ["report.py"]  # it has no options


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "free some space"), (errno.EFBIG, "ulimit -f")]
)
def test_a_full_disk_is_one_line_with_the_file_and_a_way_out(ends, tmp_path, number, remedy):
    def main():
        with atomic_write(tmp_path / "a.json"):
            raise OSError(number, "what HDF5 says of its insides")

    status, (line,) = ends(main)
    assert status == 2 and line.startswith(f"error: {tmp_path / 'a.json'}: {os.strerror(number)}; ") and remedy in line, line


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 8 TiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        ValueError("OpenCV(5) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 8 bytes"),
    ],
)
def test_out_of_memory_is_one_line_with_a_way_out(ends, error):
    status, (line,) = ends(raising(error))
    assert status == 2 and line.startswith("error: not enough memory (") and "allocate " in line and "lower the batch size" in line, line


def test_a_name_that_no_file_can_have_is_printed(ends):
    assert ends(raising(UserError("image \ud800\0\x1b[2J\n写.jpg: not found")))[1] == [r"error: image \ud800\x00\x1b[2J 写.jpg: not found"]
