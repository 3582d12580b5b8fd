"""The parameters of SimplePose's keypoint assignment, from maps to people."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from config.section import Count, NonNegative, Positive, Probability, Section


class AssignmentConfig(Section):
    """Keypoint assignment. Lengths are in map pixels (targets.stride input pixels each); values were set on the decoder benchmark of
    docs/assignment.md unless another source is given."""

    # Peaks
    keypoint_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.1  # the least response of a peak (paper's code)
    max_peaks: Count = 256  # the strongest so many of each keypoint are kept: noise must cost neither minutes nor memory

    # Limb evidence: the mean response of a limb's weakest third, 0 to 1
    limb_samples: Annotated[int, Field(ge=3, multiple_of=3)] = 18  # points along a limb at which its map is read
    limb_threshold: Probability = 0.25  # below this evidence there is no limb
    limb_rival: Probability = 0.7  # a limb is dropped where both its ends have another one of which its evidence is less than this part
    max_rivals: Count = 4  # in a picture full of limbs, the strongest so many of a kind are kept at each end

    # Limbs that end where no peak is: the missed keypoint is put at the limb's end
    trace: bool = True
    trace_threshold: Probability = 0.35  # the least response of the limb map at the peak where a limb starts
    trace_length: Count = 80  # no limb is followed further
    trace_distance: NonNegative = 3.0  # ends closer than this are one keypoint; an end this close to a peak is that peak
    trace_score: Probability = 0.5  # score of a traced keypoint, times the limb's mean response

    # Assembly: a person's worth is that of its limbs less `absent_limb` for every limb that is not there though both ends are
    end_weight: Probability = 0.5  # part of the weaker end's response in the worth of a limb; the evidence is the rest
    absent_limb: NonNegative = 0.4
    refine_passes: Annotated[int, Field(ge=0)] = 4  # rounds of moving and swapping single keypoints between people
    share_members: Count = 3  # a part of a person with so many keypoints of its own may share keypoints with another person ...
    share_evidence: NonNegative = 0.4  # ... each of which must raise its worth by this

    # Parts that no limb connects (a wrist whose elbow is hidden), joined by distance: per limb in between, in longest limbs of the person
    join_distance: NonNegative = 0.6  # to a person of at least 4 keypoints
    join_distance_small: NonNegative = 1.5  # to a smaller one, whose longest limb says little about its size
    join_scale: Positive = 20.0  # the longest limb, where neither part has a limb

    # People
    lone_threshold: Probability = 0.3  # the least response of a keypoint that stands alone; a lower one is dropped
