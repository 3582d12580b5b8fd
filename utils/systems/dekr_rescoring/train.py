"""Training DEKR's rescoring network on the poses that a pose network has found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from config import UserError
from models.dekr_rescoring import RescoringNet
from utils.systems.dekr_rescoring.poses import PredictedPoses

HELD_OUT = 0.1  # part of the images whose poses are not trained on


def held_out(images: np.ndarray, seed: int) -> np.ndarray:
    """images (N,) ids -> (N,) bool: the poses of some of them, at least one, drawn by the seed."""
    ids = np.unique(images)
    drawn = np.random.default_rng(seed).permutation(ids)[: max(round(HELD_OUT * len(ids)), 1)]
    return np.isin(images, drawn)


def train_rescoring(
    poses: PredictedPoses, epochs: int, batch_size: int, learning_rate: float, seed: int, tell: Callable[[str], None] = print
) -> RescoringNet:
    """Mean squared error between predicted and true OKS, by Adam; the same seed gives the same network.

    tell: is given a line for each epoch, with the loss on the images held out beside that of the scores as they were found.
    """
    held = torch.from_numpy(held_out(poses.images, seed))
    keypoints, oks = torch.from_numpy(poses.keypoints).float(), torch.from_numpy(poses.oks).float()
    untouched = F.mse_loss(torch.from_numpy(poses.scores).float()[held], oks[held]).item()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = RescoringNet(poses.skeleton)
    optimizer = torch.optim.Adam(net.parameters(), learning_rate)
    generator, rows = torch.Generator().manual_seed(seed), torch.nonzero(~held)[:, 0]
    for epoch in range(1, epochs + 1):
        total = 0.0
        for batch in rows[torch.randperm(len(rows), generator=generator)].split(batch_size):
            loss = F.mse_loss(net(keypoints[batch]), oks[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        trained, other = total / len(rows), _loss(net, keypoints[held], oks[held])
        if not np.isfinite([trained, other]).all():
            raise UserError(f"the loss is no longer a finite number in epoch {epoch}; lower --learning-rate")
        tell(f"epoch {epoch}/{epochs}: training loss {trained:.5f}, held-out loss {other:.5f} (of the untouched score {untouched:.5f})")
    return net.eval()


@torch.no_grad()
def _loss(net: RescoringNet, keypoints: Tensor, oks: Tensor, rows: int = 1 << 16) -> float:
    """The mean squared error over poses (N, K, 3) and their OKS (N,), so many rows at a time."""
    return F.mse_loss(torch.cat([net(part) for part in keypoints.split(rows)]), oks).item()
