"""The parameters of keypoint assignment, from maps to people."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class AssignmentConfig(BaseModel):
    """Keypoint assignment (paper section 3.5)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    keypoint_threshold: float = 0.1  # the least response of a peak
