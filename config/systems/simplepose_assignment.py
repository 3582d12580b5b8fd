"""The parameters of SimplePose's keypoint assignment, from heatmaps to people."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from config.section import ConfigSection, Count, NonNegative, Positive, Probability


class AssignmentConfig(ConfigSection):
    """Keypoint assignment. Lengths are in map pixels (targets.stride input pixels each); values were set on the decoder benchmark of
    docs/assignment.md unless another source is given."""

    # Peaks
    keypoint_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.1  # the lowest heatmap value of a peak (paper's code)
    max_peaks: Count = 256  # of each keypoint type; the strongest are kept, to bound time and memory on noise

    # Limb score: the mean heatmap value of a limb's weakest third, 0 to 1
    limb_samples: Annotated[int, Field(ge=3, multiple_of=3)] = 18  # points along a limb at which its map is read
    limb_threshold: Probability = 0.25  # a limb has a higher score than this
    limb_rival: Probability = 0.7  # a limb is dropped if its score is below this fraction of the best limb's at both its ends
    max_rivals: Count = 4  # strongest limbs of a type that are kept at each end

    # Limb extrapolation: where a limb ends without a peak, a missed keypoint is placed
    trace: bool = True
    trace_threshold: Probability = 0.35  # the lowest value of the limb map at the peak where a limb starts
    trace_length: Count = 80  # greatest length of an extrapolated limb
    trace_distance: NonNegative = 3.0  # ends closer than this are one keypoint; an end this close to a peak is that peak
    trace_score: Probability = 0.5  # score of an extrapolated keypoint, times the limb's mean value

    # Grouping: a person's objective is the sum over its limbs, less `absent_limb` for every limb that is missing between present ends
    end_weight: Probability = 0.5  # fraction of the weaker end's score in what a limb counts; the rest is the limb score
    absent_limb: NonNegative = 0.4
    refine_passes: Annotated[int, Field(ge=0)] = 4  # rounds of moving and swapping single keypoints between people
    share_members: Count = 3  # a cluster with at least this many own keypoints may share keypoints with another person ...
    share_evidence: NonNegative = 0.4  # ... each of which must raise its objective by this

    # Fragments that no limb connects (a wrist whose elbow is hidden), merged by distance: per limb in between, in longest limbs
    join_distance: NonNegative = 0.6  # to a person of at least 4 keypoints
    join_distance_small: NonNegative = 1.5  # to a smaller one, whose longest limb is a poor estimate of its size
    join_scale: Positive = 20.0  # the longest limb, where neither fragment has a limb

    # People
    lone_threshold: Probability = 0.3  # an isolated keypoint with a lower score is dropped
