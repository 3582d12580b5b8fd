"""The predicted people of one image, as decoders, estimator, evaluation, demo and tracking hand them on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from config import Skeleton

BOX_MARGIN = 0.1  # around keypoints, of the longer side: keypoints end at eyes, wrists and ankles, people do not


class PosePredictions:
    """The P people of one image, best first; `len` is P. All positions are in pixels of the image.

    keypoints: (P, K, 3) float x, y and score, in the order of `names`; 0, 0, 0 where a keypoint is missing. (0, 0) is the center of the
        upper left pixel.
    scores: (P,) float, higher is better.
    boxes: (P, 4) float x, y of the upper left corner, width, height, as in COCO. A top-down system's are the given person boxes. Those of
        other systems surround the keypoints, see `boxes_around`. They may reach beyond the image.
    ids: (P,) int identities in a video, -1 for none; None without tracking.

    Unpacks as `keypoints, scores = predictions`.
    """

    def __init__(
        self,
        keypoints: np.ndarray,
        scores: np.ndarray,
        skeleton: Skeleton,
        boxes: np.ndarray | None = None,
        ids: np.ndarray | None = None,
    ):
        self.keypoints, self.scores, self.skeleton, self.ids = keypoints, scores, skeleton, ids
        self.boxes = boxes_around(keypoints) if boxes is None else boxes

    @property
    def names(self) -> tuple[str, ...]:
        """The K keypoints' names."""
        return self.skeleton.keypoints

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.keypoints, self.scores))

    def __getitem__(self, index: int) -> np.ndarray:
        return (self.keypoints, self.scores)[index]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} people, {len(self.names)} keypoints of skeleton {self.skeleton.name!r})"

    def select(self, rows: np.ndarray) -> PosePredictions:
        """Return the people at `rows`, a mask (P,) or indices."""
        ids = None if self.ids is None else self.ids[rows]
        return type(self)(self.keypoints[rows], self.scores[rows], self.skeleton, self.boxes[rows], ids)


def extents(keypoints: np.ndarray) -> np.ndarray:
    """Return (P, 4) x, y, width, height of the present keypoints (score > 0) of people (P, K, 3); zeros where there is none."""
    present = keypoints[..., 2:] > 0
    low = np.where(present, keypoints[..., :2], np.inf).min(1, initial=np.inf)
    high = np.where(present, keypoints[..., :2], -np.inf).max(1, initial=-np.inf)
    return np.where(present.any(1), np.concatenate([low, high - low], 1), 0)


def boxes_around(keypoints: np.ndarray) -> np.ndarray:
    """Return (P, 4) x, y, width, height: `extents` with a margin of BOX_MARGIN times the longer side on each side.

    A person with one keypoint has a box without area.
    """
    boxes = extents(keypoints)
    margin = BOX_MARGIN * boxes[:, 2:].max(1, keepdims=True, initial=0)
    return np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + 2 * margin], 1)
