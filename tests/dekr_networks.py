"""Small DEKR networks for tests, and their weights in the published format."""

from __future__ import annotations

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
Weights = dict[str, Tensor]

# Own keys to published ones, the inverse of the code's conversion. {k} is a keypoint's branch.
TO_PUBLISHED = [
    (r"^trunk\.", ""),
    (r"^heat_in\.", "transition_heatmap."),
    (r"^heat_block\.", "head_heatmap.0.0."),
    (r"^heat_out\.", "head_heatmap.1."),
    (r"^offset_in\.", "transition_offset."),
    (r"^offset_blocks\.(\d)\.matrix\.", r"offset_feature_layers.{k}.\1.transform_matrix_conv."),
    (r"^offset_blocks\.(\d)\.translation\.", r"offset_feature_layers.{k}.\1.translation_conv."),
    (r"^offset_blocks\.(\d)\.conv\.", r"offset_feature_layers.{k}.\1.adapt_conv."),
    (r"^offset_blocks\.(\d)\.norm\.", r"offset_feature_layers.{k}.\1.bn."),
    (r"^offset_out\.", "offset_final_layer.{k}."),
]


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


def published_weights(network: DEKR) -> Weights:
    """Return the network's tensors by published keys, with one branch per keypoint."""
    weights: Weights = {}
    for name, tensor in network.state_dict().items():
        theirs = name
        for pattern, replacement in TO_PUBLISHED:
            theirs = re.sub(pattern, replacement, theirs)
        if "{k}" not in theirs:
            weights[theirs] = tensor.clone()
            continue
        keypoints = network.heat_out.out_channels - 1
        parts = tensor.chunk(keypoints) if tensor.ndim else [tensor] * keypoints
        weights |= {theirs.format(k=k): part.clone() for k, part in enumerate(parts)}
    steps = torch.tensor([-1.0, 0, 1])
    grid = torch.stack([steps.repeat_interleave(3), steps.repeat(3)])
    branches = {name.rsplit(".", 2)[0] for name in weights if ".adapt_conv." in name}
    return weights | {f"{branch}.regular_matrix": grid for branch in branches}


def saved(path: Path, weights: object) -> Path:
    torch.save(weights, path)
    return path
