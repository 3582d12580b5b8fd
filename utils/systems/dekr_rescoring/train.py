"""Train DEKR's rescoring network on the poses that a pose network has predicted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from config import UserError
from models.dekr_rescoring import RescoringNet
from utils.systems.dekr_rescoring.poses import PredictedPoses

VALIDATION = 0.1  # fraction of the images


def validation_split(images: np.ndarray, seed: int) -> np.ndarray:
    """images (N,) ids -> (N,) bool: the poses of randomly chosen images, at least one, that are not trained on."""
    ids = np.unique(images)
    chosen = np.random.default_rng(seed).permutation(ids)[: max(round(VALIDATION * len(ids)), 1)]
    return np.isin(images, chosen)


def train_rescoring(
    poses: PredictedPoses, epochs: int, batch_size: int, learning_rate: float, seed: int, log: Callable[[str], None] = print
) -> RescoringNet:
    """Minimize the mean squared error between predicted and true OKS with Adam; the same seed gives the same network.

    log: called with a line for each epoch: training loss, validation loss, and the validation loss of the original scores.
    """
    validation = torch.from_numpy(validation_split(poses.images, seed))
    keypoints, oks = torch.from_numpy(poses.keypoints).float(), torch.from_numpy(poses.oks).float()
    original = F.mse_loss(torch.from_numpy(poses.scores).float()[validation], oks[validation]).item()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = RescoringNet(poses.skeleton)
    optimizer = torch.optim.Adam(net.parameters(), learning_rate)
    generator, rows = torch.Generator().manual_seed(seed), torch.nonzero(~validation)[:, 0]
    for epoch in range(1, epochs + 1):
        total = 0.0
        for batch in rows[torch.randperm(len(rows), generator=generator)].split(batch_size):
            loss = F.mse_loss(net(keypoints[batch]), oks[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        trained, other = total / len(rows), _loss(net, keypoints[validation], oks[validation])
        if not np.isfinite([trained, other]).all():
            raise UserError(f"the loss is no longer a finite number in epoch {epoch}; lower --learning-rate")
        log(f"epoch {epoch}/{epochs}: training loss {trained:.5f}, validation loss {other:.5f} (of the original score {original:.5f})")
    return net.eval()


@torch.no_grad()
def _loss(net: RescoringNet, keypoints: Tensor, oks: Tensor, rows: int = 1 << 16) -> float:
    """Return the mean squared error over poses (N, K, 3) and their OKS (N,), computed `rows` at a time."""
    return F.mse_loss(torch.cat([net(part) for part in keypoints.split(rows)]), oks).item()
