"""DEKR's rescoring network (paper section 3.4): predict a pose's OKS from its shape and its scores.

The state-dict keys are the published ones (l1, l2, l3).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config import Skeleton

WIDTH = 256
SCALE_LIMBS = (9, 11)  # their mean length is a pose's size: in COCO's skeleton from a shoulder to the hip below


class RescoringNet(nn.Module):
    """poses (P, K, 3) x, y, score in image pixels -> (P,) predicted OKS, not clamped to [0, 1].

    of_heatmaps: as in MMPose, poses are in pixels of the pose network's input, and each keypoint has its heatmap value for its score.
    """

    limb_ends: Tensor

    def __init__(self, skeleton: Skeleton, of_heatmaps: bool = False):
        super().__init__()
        self.of_heatmaps = of_heatmaps
        self.register_buffer("limb_ends", torch.from_numpy(skeleton.limb_ends), persistent=False)
        self.l1 = nn.Linear(3 * skeleton.num_limbs + skeleton.num_keypoints, WIDTH)
        self.l2 = nn.Linear(WIDTH, WIDTH)
        self.l3 = nn.Linear(WIDTH, 1)

    def forward(self, poses: Tensor) -> Tensor:
        hidden = F.relu(self.l1(features(poses.float(), self.limb_ends)))
        return self.l3(F.relu(self.l2(hidden))).squeeze(1)


def features(poses: Tensor, limb_ends: Tensor) -> Tensor:
    """Return (P, 3 L + K): limb vectors (x, y, from second end to first), limb lengths, keypoint scores.

    poses (P, K, 3) x, y, score; limb_ends (L, 2). Vectors and lengths are divided by the pose's size: the mean length of limbs 9 and 11,
    or of all limbs if there are fewer than 12. The size is at least 1 pixel, since missing keypoints (0 0 0) have length 0.
    """
    vectors = poses[:, limb_ends[:, 0], :2] - poses[:, limb_ends[:, 1], :2]
    lengths = vectors.square().sum(2).sqrt()
    sized = lengths[:, list(SCALE_LIMBS)] if lengths.shape[1] > max(SCALE_LIMBS) else lengths
    size = sized.mean(1, keepdim=True).clamp(min=1)
    return torch.cat([(vectors / size[..., None]).flatten(1), lengths / size, poses[..., 2]], 1)


@torch.no_grad()
def rescore(net: RescoringNet, keypoints: Tensor, scores: Tensor) -> Tensor:
    """Return (P,) predicted OKS times score, in the given order. keypoints (P, K, 3) x, y, score in image pixels; scores (P,).

    As published, the predicted OKS is not clamped; it may be negative.
    """
    return net(keypoints).to(scores.dtype) * scores
