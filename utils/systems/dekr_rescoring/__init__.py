"""DEKR's rescoring network as a file (paper section 3.4). `python -m utils.systems.dekr_rescoring` makes one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from config import Skeleton, UserError
from models.dekr_rescoring import RescoringNet, num_features
from utils.checkpoint import Checkpoint, load_weights, save_checkpoint


def load_rescoring(path: str | Path, skeleton: Skeleton, device: torch.device | str = "cpu") -> RescoringNet:
    """Load the network from a file of ours or a published one, in evaluation mode.

    Raises UserError where the file holds no rescoring network, or one for another skeleton.
    """
    checkpoint = Checkpoint(path)
    content = checkpoint.content
    weights, stored = content.get("weights", content.get("state_dict", content)), content.get("skeleton")
    names = ("l1.weight", "module.l1.weight")
    first = next((weights[name] for name in names if name in weights), None) if isinstance(weights, Mapping) else None
    if not isinstance(first, Tensor) or first.ndim != 2:
        raise UserError(f"rescoring network {path}: is none, it has no tensor l1.weight; train one with utils.systems.dekr_rescoring")
    ours = isinstance(stored, Mapping)  # a published file shows only the number of features
    mismatch = ours and {**_skeleton_metadata(skeleton), "name": None} != {**stored, "name": None}
    if mismatch or first.shape[1] != num_features(skeleton):
        of_file = f"{first.shape[1]} features" + (f" of the skeleton {stored.get('name')!r}" if ours else "")
        of_config = f"{num_features(skeleton)} of {skeleton.name!r}"
        remedy = "train one for this skeleton with utils.systems.dekr_rescoring, or set inference.rescore=null"
        raise UserError(f"rescoring network {path}: was made for {of_file}, the configuration has {of_config}; {remedy}")
    net = RescoringNet(skeleton)
    load_weights(net, checkpoint)
    return net.to(device).eval()


def save_rescoring(path: Path, net: RescoringNet, skeleton: Skeleton) -> None:
    """Write the network and the parts of the skeleton that it depends on."""
    save_checkpoint(path, weights=net.state_dict(), skeleton=_skeleton_metadata(skeleton))


def _skeleton_metadata(skeleton: Skeleton) -> dict[str, object]:
    """Return the skeleton's name and the parts on which the features depend."""
    return {"name": skeleton.name, "keypoints": list(skeleton.keypoints), "limbs": [list(limb) for limb in skeleton.limbs]}
