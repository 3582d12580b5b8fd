"""HRNet (Sun et al., Deep High-Resolution Representation Learning, CVPR 2019) as a backbone: timm's, without its classifier.

timm's state-dict keys are those of the authors' published files.
"""

from collections.abc import Sequence

import torch
from timm.models import hrnet
from torch import Tensor
from torch.nn import functional as F

CLASSIFIER = ("incre_modules", "downsamp_modules", "final_layer", "classifier")  # keys of ImageNet's files that are not the backbone's


def hrnet_backbone(width: int, stem_width: int, modules: Sequence[int], blocks: int) -> hrnet.HighResolutionNet:
    """Build a network from normalized images (N, 3, H, W) to a list of four features (N, width 2^i, H / 4 / 2^i, W / 4 / 2^i).

    stem_width: channels of the stem; stage 1 has four times as many. modules: exchanges between the branches in stages 2, 3, 4.
    blocks: basic blocks in each branch before an exchange. Published: width 32 or 48, stem 64, modules 1 4 3, blocks 4.
    """

    def stage(count: int, block: str, channels: tuple[int, ...]) -> dict[str, object]:
        branches = {"num_branches": len(channels), "num_blocks": (blocks,) * len(channels), "num_channels": channels}
        return {"num_modules": count, "block_type": block, "fuse_method": "SUM", **branches}

    stages = {"stem_width": stem_width, "stage1": stage(1, "BOTTLENECK", (stem_width,))}
    for number, count in zip((2, 3, 4), modules):
        stages[f"stage{number}"] = stage(count, "BASIC", tuple(width * 2**branch for branch in range(number)))
    return hrnet.HighResolutionNet(stages, head="")


def upsample_concat(branches: Sequence[Tensor]) -> Tensor:
    """Upsample all branches to the first one's size and concatenate them: (N, 15 width, h, w)."""
    size = branches[0].shape[2:]
    return torch.cat([branches[0], *(F.interpolate(branch, size, mode="bilinear") for branch in branches[1:])], 1)
