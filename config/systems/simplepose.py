"""SimplePose (Li, Su, Wang: Simple Pose, AAAI 2020): its keys and their consistency.

The defaults are the published recipe, the paper's code where the two differ.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, ClassVar, Literal

from pydantic import Field, SerializeAsAny, model_validator

from config.schema import Config, InferenceConfig, ModelConfig
from config.section import ConfigSection, Count, NonNegative, Positive, Probability
from config.systems.augment import AugmentationConfig
from config.systems.movenet import MoveNetConfig
from config.systems.simplepose_channels import Channels


class ImhnConfig(ModelConfig):
    """The identity mapping hourglass network (paper section 3.3). Published: 4 stages, 256 channels, 129.0 M parameters."""

    name: Literal["imhn"] = "imhn"
    stages: Count = 4
    channels: Annotated[int, Field(ge=16, multiple_of=16)] = 256  # width at stride 4, and of every scale's features
    channels_increase: Annotated[int, Field(ge=0, multiple_of=2)] = 128  # more channels at each halving of the resolution
    depth: Count = 4  # halvings inside an hourglass; depth + 1 scales are supervised

    @property
    def input_multiple(self) -> int:
        return self.stride * 2**self.depth

    @property
    def num_scales(self) -> int:
        return self.depth + 1


class SimplePoseMobileConfig(MoveNetConfig):
    """MoveNet's trunk, pyramid and keypoint heads, and a head for limbs, midpoints, person mask and maximum."""

    name: Literal["mobile"] = "mobile"
    limb_channels: Count = 64  # features of the limb head at every scale

    @property
    def num_scales(self) -> int:
        return 4  # strides 4, 8, 16, 32


class SimplePoseAugmentationConfig(AugmentationConfig):
    """One affine about the main person, and a color jitter (paper section 4.1). Validation crops the person only."""

    person_size: Positive = 0.6  # height of the main person's box as a part of the input height, before `scale`
    rotation: NonNegative = 40.0  # uniform in +-, degrees
    scale: tuple[Positive, Positive] = (0.7, 1.3)  # uniform
    scale_probability: Probability = 0.8
    shift: Annotated[int, Field(ge=0)] = 50  # uniform in +-, whole input pixels, each axis
    hsv_probability: Probability = 0.2
    # Beyond the paper
    wide_scale: tuple[Positive, Positive] = (0.25, 2.0)  # log-uniform, in place of `scale`
    wide_scale_probability: Probability = 0.0
    joint_centre_probability: Probability = 0.0  # crop around one of the person's keypoints instead of the box, as in close-ups


class TargetsConfig(ConfigSection):
    """Targets (paper section 3.2)."""

    stride: Literal[4] = 4  # input pixels per map pixel: the network's front halves the resolution twice
    keypoint_sigma: Positive = 9.0  # input pixels
    limb_sigma: Positive = 7.0  # input pixels
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.015  # below this response a keypoint's window ends
    limb_floor: Probability = 0.01  # value in a limb's box where the response is at most `threshold`
    limb_margin: NonNegative = 4.0  # a limb's box is the box of its ends grown by this, input pixels

    @property
    def on_maps(self) -> tuple[float, float]:
        """keypoint_sigma and limb_margin in map pixels, for keypoint assignment."""
        return self.keypoint_sigma / self.stride, self.limb_margin / self.stride


class FocalL2Config(ConfigSection):
    """Focal L2 loss (paper section 3.4). gamma, alpha, beta: 1, 0, 0 in the published code; 2, 0.1, 0.02 in the paper."""

    name: Literal["focal_l2"] = "focal_l2"
    focal: bool = True  # false: plain L2, without the focal factor
    gamma: NonNegative = 1.0  # focusing exponent
    alpha: float = 0.0  # shift of the response at foreground pixels
    beta: float = 0.0  # shift of the response at background pixels
    foreground: Probability = 0.01  # a target of at least this is foreground
    keypoint_weight: NonNegative = 3.0
    person_weight: NonNegative = 0.1  # weight of the person mask channel
    scale_weights: tuple[NonNegative, ...] = (0.1, 0.2, 0.4, 1.6, 6.4)  # finest scale first; divided by their sum


class SimplePoseInferenceConfig(InferenceConfig):
    """From an image to maps (paper section 4.1, testing)."""

    scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0,)  # of data.input_size's height; published: 0.5 1 1.5 2 3
    rotations: Annotated[tuple[float, ...], Field(min_length=1)] = (0.0,)  # degrees about the image's center
    max_size: tuple[Count, Count] = (2600, 3800)  # height, width of the largest resized image, pixels
    pad_multiple: Count = 64  # the padded sides are multiples of this
    pad_value: Annotated[int, Field(ge=0, le=255)] = 128


class AssignmentConfig(ConfigSection):
    """Keypoint assignment. Lengths are in map pixels (targets.stride input pixels each); values were set on the decoder benchmark of
    docs/simplepose.md unless another source is given."""

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
    join_distance_small: NonNegative = 1.5  # to a smaller one: its longest limb is a poor estimate of its size
    join_scale: Positive = 20.0  # the longest limb, where neither fragment has a limb

    # People
    lone_threshold: Probability = 0.3  # an isolated keypoint with a lower score is dropped


class SimplePoseConfig(Config):
    """The whole of a run of SimplePose."""

    deprecated_keys: ClassVar[dict[str, tuple[str, ...]]] = {"assignment": ("keypoint_sigma", "trace_margin", "preset", "published")}

    loss_comparability_keys: ClassVar[tuple[str, ...]] = (*Config.loss_comparability_keys, "augmentation.person_size")

    system: Literal["simplepose"] = "simplepose"
    model: SerializeAsAny[ModelConfig] = ImhnConfig()
    augmentation: SimplePoseAugmentationConfig = SimplePoseAugmentationConfig()
    targets: TargetsConfig = TargetsConfig()
    loss: FocalL2Config = FocalL2Config()
    inference: SimplePoseInferenceConfig = SimplePoseInferenceConfig()
    assignment: AssignmentConfig = AssignmentConfig()

    @cached_property
    def channels(self) -> Channels:
        """The order of the maps."""
        return Channels(self.skeleton)

    @model_validator(mode="after")
    def _fits(self) -> SimplePoseConfig:
        model, weights = self.model, len(self.loss.scale_weights)
        if self.targets.stride != model.stride:
            raise ValueError(f"targets.stride: {self.targets.stride}, but the maps of model.name {model.name} have stride {model.stride}")
        if weights != model.num_scales:
            raise ValueError(f"loss.scale_weights: {weights} weights for the {model.num_scales} scales of model.name {model.name}")
        return self
