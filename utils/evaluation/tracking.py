"""How well people are tracked: multiple object tracking accuracy (MOTA; Bernardin, Stiefelhagen 2008) of whole people.

Somebody found is an annotated person where OKS is at least 0.5. PoseTrack's own MOTA is that of each keypoint by itself, by PCKh.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from utils.oks import object_keypoint_similarity

SAME_PERSON = 0.5  # OKS
FIGURES = ("MOTA", "people", "misses", "false_positives", "switches")


class TrackingFigures:
    """Counts over the frames of one video; `add` each of them in its order."""

    def __init__(self, sigmas: np.ndarray):
        """sigmas (D,): OKS's."""
        self.sigmas = sigmas
        self.people = self.misses = self.false_positives = self.switches = 0
        self._last: dict[int, int] = {}  # annotated track -> the id that it was last found under

    def add(self, joints: np.ndarray, areas: np.ndarray, boxes: np.ndarray, tracks: np.ndarray, found: np.ndarray, ids: np.ndarray) -> None:
        """One frame. joints (G, D, 3) x, y, v (0: not labelled), areas (G,), boxes (G, 4) and tracks (G,) are annotated.

        found (P, D, 2 or more) with ids (P,) from the tracker, those without an id (< 0) do not count. Annotated people without keypoints,
        as regions of many, do not count either, nor does who is found there.
        """
        found, ids = found[ids >= 0], ids[ids >= 0]
        similarity = object_keypoint_similarity(found, joints, areas, boxes, self.sigmas).T if len(joints) else np.zeros((0, len(found)))
        same = similarity >= SAME_PERSON
        counted = (joints[..., 2] > 0).any(1)
        last = np.array([self._last.get(track, -1) for track in tracks.tolist()], int)
        # who is still found under the same id stays so, also where somebody else is nearer: only then is each switch counted once
        value = np.where(same & counted[:, None], similarity + 2 * (last[:, None] == ids), 0)
        rows, columns = linear_sum_assignment(value, maximize=True)
        rows, columns = rows[value[rows, columns] > 0], columns[value[rows, columns] > 0]
        self.people += int(counted.sum())
        self.misses += int(counted.sum()) - len(rows)
        self.switches += int(((last[rows] >= 0) & (last[rows] != ids[columns])).sum())
        free = np.ones(len(found), bool)
        free[columns] = False
        self.false_positives += int((free & ~same[~counted].any(0)).sum())
        self._last |= dict(zip(tracks[rows].tolist(), ids[columns].tolist()))

    def figures(self) -> dict[str, float]:
        """MOTA, at most 1, and what it is made of."""
        wrong = self.misses + self.false_positives + self.switches
        values = (1 - wrong / max(self.people, 1), self.people, self.misses, self.false_positives, self.switches)
        return dict(zip(FIGURES, values))
