"""Compare PCKh with MPII's published evaluation."""

import json

import numpy as np
from reference import FIXTURES, assert_near, needs_fixtures

from utils.evaluation.mpii import pckh


@needs_fixtures
def test_pckh():
    with np.load(FIXTURES / "mpii_pckh.npz") as record:
        arrays = (record[name] for name in ("predictions", "pos_gt_src", "jnt_missing", "headboxes_src"))
        ours, reference = pckh(*arrays, threshold=0.5), json.loads(str(record["figures"]))
    assert len(reference) == 9
    for name, value in reference.items():
        assert_near(f"PCKh, {name}, %", ours[name], value, 1e-9)
