"""The bundled model: used where no checkpoint is named."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from config import UserError
from utils.zoo import WEIGHTS

if TYPE_CHECKING:  # PyTorch takes seconds to import
    from utils.checkpoint import Checkpoint

DEFAULT = WEIGHTS / "dekr_small.safetensors"
STRONGER = "dekr_w32_coco_mmpose"  # the network to try next


def bundled_checkpoint() -> Path:
    """Return its file. Raises UserError where the installed package lacks it."""
    if not DEFAULT.is_file():
        raise UserError(f"the bundled model {DEFAULT}: not found; name another checkpoint")
    return DEFAULT


def bundled_export() -> Path | None:
    """Return the same network as `bundled_checkpoint` in ONNX; None where it is missing, or PyTorch may have a GPU."""
    path, has_gpu = DEFAULT.with_suffix(".onnx"), sys.platform == "darwin" or shutil.which("nvidia-smi") is not None
    return path if path.is_file() and not has_gpu else None


def announce(name: str, version: str) -> None:
    """Print which bundled network is used."""
    print(f"network: {name} {version}, the bundled model; --checkpoint {STRONGER} is stronger, and downloaded once", flush=True)


def resolve_checkpoint(checkpoint: str | Path | None, config: str | None = None, announced: bool = True) -> Checkpoint:
    """Return the named checkpoint, or the bundled model, which is announced in a line on stdout.

    Raises UserError where only a configuration is named: the bundled model has its own; and as `bundled_checkpoint`.
    """
    from utils.checkpoint import Checkpoint

    if checkpoint is not None:
        return Checkpoint(checkpoint)
    if config is not None:
        trained = Path("runs") / Path(config).stem / "best.pth"
        raise UserError(f"--config {config}: no checkpoint given; add its weights, such as --checkpoint {trained}, or omit --config")
    bundled = Checkpoint(bundled_checkpoint())
    if announced:
        announce(*(bundled.content.get(key, "") for key in ("name", "version")))
    return bundled
