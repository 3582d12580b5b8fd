"""DEKR's rescoring network (paper section 3.4): how much a pose found looks like the annotated one, told from its shape and its scores.

The tensors have their published names (l1, l2, l3), so a published file needs no other ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config import Skeleton

WIDTH = 256
SCALE_LIMBS = (9, 11)  # their mean length is a pose's size: in COCO's skeleton from a shoulder to the hip below


class RescoringNet(nn.Module):
    """poses (P, K, 3) x, y, score in image pixels -> (P,) their OKS as predicted, which is not held within 0 and 1."""

    limb_ends: Tensor

    def __init__(self, skeleton: Skeleton):
        super().__init__()
        self.register_buffer("limb_ends", torch.from_numpy(skeleton.limb_ends), persistent=False)
        self.l1 = nn.Linear(num_features(skeleton), WIDTH)
        self.l2 = nn.Linear(WIDTH, WIDTH)
        self.l3 = nn.Linear(WIDTH, 1)

    def forward(self, poses: Tensor) -> Tensor:
        hidden = F.relu(self.l1(features(poses.float(), self.limb_ends)))
        return self.l3(F.relu(self.l2(hidden))).squeeze(1)


def num_features(skeleton: Skeleton) -> int:
    """A vector and a length for each limb, a score for each keypoint."""
    return 3 * skeleton.num_limbs + skeleton.num_keypoints


def features(poses: Tensor, limb_ends: Tensor) -> Tensor:
    """poses (P, K, 3) x, y, score; limb_ends (L, 2) -> (P, 3 L + K): limb vectors (from second end to first; x, y of one after the
    other), limb lengths, keypoint scores.

    Vectors and lengths are in units of the pose's size: the mean length of limbs 9 and 11, in a skeleton of fewer than 12 limbs the mean
    of all; at least a pixel, so that keypoints that are missing (0 0 0), or all in one place, are no division by zero.
    """
    vectors = poses[:, limb_ends[:, 0], :2] - poses[:, limb_ends[:, 1], :2]
    lengths = vectors.square().sum(2).sqrt()
    sized = lengths[:, list(SCALE_LIMBS)] if lengths.shape[1] > max(SCALE_LIMBS) else lengths
    size = sized.mean(1, keepdim=True).clamp(min=1)
    return torch.cat([(vectors / size[..., None]).flatten(1), lengths / size, poses[..., 2]], 1)


@torch.no_grad()
def rescored(net: RescoringNet, keypoints: Tensor, scores: Tensor) -> Tensor:
    """keypoints (P, K, 3) x, y, score in image pixels; scores (P,) -> (P,) predicted OKS times score, in the order that they came.

    As published the predicted OKS is taken as it is: a pose that looks like nothing may be below 0, and so stands behind all others.
    """
    return net(keypoints).to(scores.dtype) * scores
