"""How far PCKh here is from MPII's published evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.reference import Difference
from utils.evaluation.mpii import pckh


def pckh_differences(shared: Path) -> list[Difference]:
    """Every figure of the predictions on record, in percent."""
    with np.load(shared / "fixtures" / "mpii_pckh.npz") as record:
        arrays = (record[name] for name in ("predictions", "pos_gt_src", "jnt_missing", "headboxes_src"))
        ours, theirs = pckh(*arrays, threshold=0.5), json.loads(str(record["figures"]))
    return [Difference("PCKh", name, abs(ours[name] - value), 1e-9, "%") for name, value in theirs.items()]


PARTS = (pckh_differences,)
