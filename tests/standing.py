"""Keypoints of a standing person, for tests of what is rendered and read."""

import numpy as np

from config import Config

# A standing person, x and y in units of the height, by COCO's names; the neck is the middle of the shoulders.
STANDING = {
    "nose": (0, 0.08), "Reye": (-0.02, 0.06), "Leye": (0.02, 0.06), "Rear": (-0.05, 0.07), "Lear": (0.05, 0.07),
    "neck": (0, 0.2), "Rsho": (-0.12, 0.2), "Lsho": (0.12, 0.2), "Relb": (-0.17, 0.37), "Lelb": (0.17, 0.37),
    "Rwri": (-0.2, 0.52), "Lwri": (0.2, 0.52), "Rhip": (-0.08, 0.53), "Lhip": (0.08, 0.53),
    "Rkne": (-0.09, 0.76), "Lkne": (0.09, 0.76), "Rank": (-0.1, 0.98), "Lank": (0.1, 0.98),
}  # fmt: skip


def people(config: Config, *places: tuple[float, float, float]) -> np.ndarray:
    """(P, K, 3) joints of standing people at (x, y of the top, height), input pixels."""
    unit = np.array([STANDING[name] for name in config.skeleton.keypoints])
    return np.stack([np.concatenate([unit * height + (x, y), np.ones((len(unit), 1))], 1) for x, y, height in places])
