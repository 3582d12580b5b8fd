"""The network that comes with the project, for whoever names none."""

from __future__ import annotations

from pathlib import Path

from config import UserError
from config.files import existing_file
from utils.safetensors_file import read_metadata

DEFAULT = Path(__file__).parents[1] / "models" / "weights" / "simplepose_small.safetensors"


def bundled_checkpoint() -> Path:
    """Its file. Raises UserError where it is not there, as in a package that was stripped of it."""
    try:
        return existing_file(DEFAULT, "the project's own network")
    except UserError as error:
        raise UserError(f"{error}; name another checkpoint") from error


def describe_checkpoint(path: Path) -> str:
    """A line about the default network."""
    about = read_metadata(path)
    return f"network: {about.get('name', path.stem)} {about.get('version', '')}, which comes with the project; no other checkpoint is named"


def resolve_checkpoint(checkpoint: str | Path | None, config: str | None = None, announce: bool = True) -> str | Path:
    """The checkpoint that a user named, or the project's own, which is announced in a line on stdout.

    Raises UserError where only a configuration is named: the project's own network has one of its own; and as `bundled_checkpoint`.
    """
    if checkpoint is not None:
        return checkpoint
    if config is not None:
        trained = Path("runs") / Path(config).stem / "best.pth"
        raise UserError(f"--config {config}: of which network? Name its weights, such as --checkpoint {trained}, or leave --config out")
    path = bundled_checkpoint()
    if announce:
        print(describe_checkpoint(path), flush=True)
    return path
