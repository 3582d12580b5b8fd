"""Small DEKR networks for tests, and their weights in the published format."""

import re
from pathlib import Path

import torch
from places import ROOT
from random_weights import randomize_weights
from torch import Tensor

from config import load_config
from models import build_model
from models.dekr import DEKR

RECIPES = {name: ROOT / "config" / f"dekr_{name}.yaml" for name in ("w32_coco", "w48_coco", "w32_crowdpose", "w48_crowdpose")}
SMALL = [f"model.{key}" for key in ("width=4", "stem_width=8", "modules=[1, 2, 1]", "blocks=1", "heat_channels=5", "offset_channels=3")]


def build(*overrides: str, recipe: str = "w32_coco") -> DEKR:
    """Build a small network in evaluation mode."""
    return build_model(load_config(RECIPES[recipe], [*SMALL, *overrides])).eval()


def random_network(*overrides: str, recipe: str = "w32_coco", seed: int = 0) -> DEKR:
    """Build a network with random weights, whose kernel points spread over a few pixels."""
    network = build(*overrides, recipe=recipe)
    weights = network.state_dict()
    randomize_weights(weights, seed)
    for name, tensor in weights.items():
        if name.endswith("tracked"):
            tensor.fill_(seed + 7)
    return network


def published_weights(network: DEKR) -> dict[str, Tensor]:
    """Return the network's tensors with one branch per keypoint, as in published files; tests/fidelity has all published keys."""
    weights, keypoints = {}, network.heat_out.out_channels - 1
    for name, tensor in network.state_dict().items():
        if not name.startswith(("offset_blocks.", "offset_out.")):
            weights[name] = tensor.clone()
            continue
        theirs = re.sub(r"^offset_blocks\.", "offset_feature_layers.{k}.", name.replace("offset_out.", "offset_final_layer.{k}."))
        parts = tensor.chunk(keypoints) if tensor.ndim else [tensor] * keypoints
        weights |= {theirs.format(k=k): part.clone() for k, part in enumerate(parts)}
    return weights


def saved(path: Path, weights: object) -> Path:
    torch.save(weights, path)
    return path
