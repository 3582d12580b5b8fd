"""MPII's published evaluation, against reference numbers that lie beside the project."""

from __future__ import annotations

import pytest

from benchmarks import fidelity_mpii
from benchmarks.reference import SHARED, check


@pytest.mark.skipif(
    not (SHARED / "fixtures").is_dir(), reason="no reference numbers: there is no folder shared/fixtures beside the project"
)
def test_pckh_is_the_published_one():
    check(fidelity_mpii.pckh_differences(SHARED), places=9)
