"""The bundled model: used where no checkpoint is named."""

from __future__ import annotations

from pathlib import Path

from config import UserError
from utils.checkpoint import Checkpoint
from utils.zoo import WEIGHTS

DEFAULT = WEIGHTS / "dekr_small.safetensors"
STRONGER = "dekr_w32_coco_mmpose"  # the network to try next


def bundled_checkpoint() -> Path:
    """Return its file. Raises UserError where the installed package lacks it."""
    if not DEFAULT.is_file():
        raise UserError(f"the bundled model {DEFAULT}: not found; name another checkpoint")
    return DEFAULT


def resolve_checkpoint(checkpoint: str | Path | None, config: str | None = None, announce: bool = True) -> Checkpoint:
    """Return the named checkpoint, or the bundled model, which is announced in a line on stdout.

    Raises UserError where only a configuration is named: the bundled model has its own; and as `bundled_checkpoint`.
    """
    if checkpoint is not None:
        return Checkpoint(checkpoint)
    if config is not None:
        trained = Path("runs") / Path(config).stem / "best.pth"
        raise UserError(f"--config {config}: no checkpoint given; add its weights, such as --checkpoint {trained}, or omit --config")
    bundled = Checkpoint(bundled_checkpoint())
    if announce:
        name, version = (bundled.content.get(key, "") for key in ("name", "version"))
        print(f"network: {name} {version}, the bundled model; --checkpoint {STRONGER} is stronger, and downloaded once", flush=True)
    return bundled
