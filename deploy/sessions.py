"""ONNX Runtime's sessions on a CPU. To open one takes 0.2 s, in which a script can import what it needs besides."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

_opening: dict[str, Future[Any]] = {}


def begin_to_open(words: Sequence[str]) -> None:
    """Begin to open the exported networks among a command's words, each in a thread."""
    paths = [str(Path(word).absolute()) for word in words if word.lower().endswith(".onnx")]
    _opening.update((path, ThreadPoolExecutor(1).submit(new_session, path)) for path in paths)


def open_session(path: str | Path, threads: int = 0) -> Any:
    """Return the session of a file, once that which was begun. threads: 0 takes one a core. Raises ONNX Runtime's errors."""
    begun = _opening.pop(str(Path(path).absolute()), None)
    # What failed then may work now: the command wrote the file
    return new_session(path, threads) if begun is None or begun.exception() is not None else begun.result()


def new_session(path: str | Path, threads: int = 0, providers: Sequence[Any] = ("CPUExecutionProvider",)) -> Any:
    """Open a session. providers: ONNX Runtime's, the first one that it can use counts. Raises its errors."""
    import onnxruntime  # optional

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, threads  # errors come as exceptions
    return onnxruntime.InferenceSession(str(path), options, list(providers))
