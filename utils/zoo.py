"""Networks by name: the bundled ones, and published ones, which are downloaded once into the folder of PyTorch's hub."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from functools import cache
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from config import UserError
from config.errors import FULL_DISK, suggestion
from config.files import atomic_write, file_lock
from config.progress import Progress
from config.yaml_files import read_yaml

WEIGHTS = Path(__file__).parents[1] / "models" / "weights"
TIMEOUT = 10.0  # seconds without an answer, or without the next bytes
CHUNK = 1 << 18  # bytes
LIST = "python demo_image.py --list"
NOTES = """
"reported" is the publisher's result with flip test, not measured here: Simple Baselines on COCO with boxes of a detector of AP .564, on
CrowdPose with boxes of YOLOv3. All but the bundled networks are downloaded at first use; their sizes are approximate. Their publisher,
MMPose (https://github.com/open-mmlab/mmpose), is licensed under Apache-2.0 and names no other license for its weights. DEKR's rescoring
networks come from DEKR's authors (MIT). The photographs that the networks were trained on have their own licenses. The addresses are in
docs/model_zoo.md.
"""


class Network(NamedTuple):
    """A network of the table `models/weights/zoo.yaml`."""

    megabytes: int
    input: str
    data: str  # the data set of `reported`
    reported: str
    license: str
    url: str | None = None  # None: bundled
    sha256: str = ""  # its first digits


@cache
def networks() -> dict[str, Network]:
    """Return all networks by their names."""
    return {name: Network(**entry) for name, entry in read_yaml(WEIGHTS / "zoo.yaml", "table of networks").items()}


def list_networks() -> str:
    """Return a table of all networks for the shell."""
    rows = [("name", "MB", "input", "reported", "on", "license")]
    rows += [(name, str(n.megabytes), n.input, n.reported, n.data, n.license) for name, n in networks().items()]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows) + "\n" + NOTES.rstrip()


def is_network(checkpoint: str | Path) -> bool:
    """Return whether a checkpoint is given by a network's name; a file of that name comes first."""
    return str(checkpoint) in networks() and not Path(checkpoint).is_file()


def network_file(checkpoint: str | Path) -> Path:
    """Return a checkpoint's file: a path as it is; for a network's name its file, downloaded if needed.

    Raises UserError where the download fails, or where a word is neither a file nor a name.
    """
    name, path = str(checkpoint), Path(checkpoint)
    if not is_network(checkpoint):
        if len(path.parts) == 1 and not path.suffix and not path.exists():
            hint = f"{suggestion(name, networks())} ({LIST} shows all)"
            raise UserError(f"checkpoint {name}: not found, and no network has this name; {hint}")
        return path
    network = networks()[name]
    if network.url is None:
        return WEIGHTS / f"{name}.safetensors"
    path = cached_file(network.url)
    digest = _sha256(path)
    if not digest.startswith(network.sha256):
        other = f" in place of the one there, with a SHA-256 that begins with {digest[:8]}, not {network.sha256}" if digest else ""
        remedy = f"give the file in place of the name, or put it into {path.parent}{other}"
        download(network.url, network.sha256, f"network {name}", remedy)
    return path


def recipe_name(path: Path) -> str | None:
    """Return the name of the network, which is its recipe's too, of a published file. Its name has the hash; None for other files."""
    return next((name for name, network in networks().items() if network.sha256 and network.sha256 in path.name), None)


def cached_file(url: str) -> Path:
    """Return the path of an address' file, which may not be there yet, in the folder of PyTorch's hub."""
    import torch  # takes seconds

    return Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])


def download(url: str, sha256: str, what: str, remedy: str) -> None:
    """Download a file into the folder of PyTorch's hub, whole or not at all. Another process' download of the file is waited for.

    sha256: its first digits. what: begins an error. remedy: completes "download it elsewhere and". Raises UserError.
    """
    path = cached_file(url)
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(path, waiting=f"{what}: waiting for another process, which downloads it"):
            if _sha256(path).startswith(sha256):
                return
            for leftover in path.parent.glob(f".{path.stem[:40]}.*.partial{path.suffix}"):  # of a kill
                leftover.unlink()
            with atomic_write(path) as partial, Progress(None, what, "B") as progress:
                with open(partial, "wb") as file:
                    for chunk, total in _content(url, what, remedy):
                        file.write(chunk)
                        progress.total = total
                        progress.advance(len(chunk))
                digest = _sha256(partial)
                if not digest.startswith(sha256):
                    raise _failure(what, url, f"its SHA-256 begins with {digest[:8]}, expected {sha256}", remedy)
    except OSError as error:
        instead = f"{FULL_DISK[error.errno]}, or " if error.errno in FULL_DISK else ""
        raise UserError(f"{what}: {path}: {error.strerror}; {instead}set TORCH_HOME to another folder") from error
    finally:
        for folder in made:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _sha256(path: Path) -> str:
    """Return a file's hash, "" where there is none. That takes 0.1 s for 100 MB."""
    digest = hashlib.sha256()
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _content(url: str, what: str, remedy: str) -> Iterator[tuple[bytes, int | None]]:
    """Yield the parts of an address' content, each with the number of all bytes if it is known. Raises UserError where that fails."""
    try:
        with _open(url) as response:
            total, received = response.length, 0
            while chunk := response.read(CHUNK):
                received += len(chunk)
                yield chunk, total
        if total is not None and received < total:
            raise ConnectionError(f"cut short at {received:,} of {total:,} bytes")
    except (OSError, HTTPException, FutureTimeout) as error:
        reason = getattr(error, "reason", error)
        if isinstance(error, HTTPError):
            reason = f"the server answers {error.code} {error.reason}"
        elif isinstance(reason, TimeoutError | FutureTimeout):
            reason = f"no answer for {TIMEOUT:g} s"
        raise _failure(what, url, reason, remedy) from error


def _failure(what: str, url: str, reason: object, remedy: str) -> UserError:
    return UserError(f"{what}: {url} cannot be downloaded ({reason}); download it elsewhere and {remedy}")


class _SameScheme(HTTPRedirectHandler):
    """Follow no redirection from https to http."""

    def redirect_request(self, request: Request, file: Any, code: int, message: str, headers: Any, url: str) -> Request | None:
        same = urlsplit(url).scheme == urlsplit(request.full_url).scheme
        return super().redirect_request(request, file, code, message, headers, url) if same else None


def _open(url: str) -> HTTPResponse:
    """Request an address, by the proxies of the environment.

    In a thread: without a connection, resolving the name and trying all addresses of a server can take minutes, each with its own timeout.
    """
    answer: Future[HTTPResponse] = Future()

    def request() -> None:
        try:
            answer.set_result(build_opener(_SameScheme).open(Request(url, headers={"User-Agent": "simplepose"}), timeout=TIMEOUT))
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=request, daemon=True).start()
    return answer.result(TIMEOUT)
