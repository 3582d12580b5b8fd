"""The network that comes with the project, for whoever names none."""

from __future__ import annotations

from pathlib import Path

from config import UserError
from config.files import existing_file
from utils.safetensors_file import read_about

DEFAULT = Path(__file__).parents[1] / "models" / "weights" / "simplepose_small.safetensors"
POINTER = b"version https://git-lfs"  # what git leaves in a large file's place where git LFS is not installed
HOW = "name another checkpoint (--checkpoint)"


def default_checkpoint() -> Path:
    """Its file. Raises UserError where it is not there, as in a package that was stripped of it."""
    try:
        path = existing_file(DEFAULT, "the project's own network")
    except UserError as error:
        raise UserError(f"{error}; {HOW}") from error
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise UserError(f"the project's own network {path}: only git LFS's pointer to it; fetch it by 'git lfs pull', or {HOW}")
    return path


def introduction(path: Path) -> str:
    """A line about the default network."""
    about = read_about(path)
    return f"network: {about.get('name', path.stem)} {about.get('version', '')}, which comes with the project (--checkpoint: another one)"


def named_or_default(checkpoint: Path | None, config: str | None, said: bool = True) -> Path:
    """The checkpoint that a user named, or the project's own, about which a line is said.

    Raises UserError where only a configuration is named: the project's own network has one of its own.
    """
    if checkpoint is not None:
        return checkpoint
    if config is not None:
        trained = Path("runs") / Path(config).stem / "best.pth"
        raise UserError(f"--config {config}: of which network? Name its weights, such as --checkpoint {trained}, or leave --config out")
    path = default_checkpoint()
    if said:
        print(introduction(path), flush=True)
    return path
