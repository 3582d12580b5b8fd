"""The parameters of keypoint assignment, from maps to people."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class AssignmentConfig(BaseModel):
    """Keypoint assignment (paper section 3.5)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: Literal["default", "published"] = "default"
    keypoint_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.1  # the least response of a peak
    max_peaks: Count = 256  # the strongest so many peaks of each keypoint are kept: noise must not cost minutes
    keypoint_sigma: Positive = 2.25  # of a drawn keypoint, map pixels: targets.keypoint_sigma / targets.stride
    limb_samples: Annotated[int, Field(ge=3, multiple_of=3)] = 12  # points along a limb at which its map is read
    limb_threshold: Probability = 0.15  # the least mean response over each third of a limb
    absent_limb: NonNegative = 0.4  # what a limb that should be there and is not counts against two parts being one person
