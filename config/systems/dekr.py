"""DEKR (Geng, Sun, Xiao, Zhang, Wang: Bottom-Up Human Pose Estimation Via Disentangled Keypoint Regression, CVPR 2021): its keys.

The defaults are the published recipe for HRNet-W32 on COCO.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializeAsAny, model_validator

from config.schema import Config, InferenceConfig, ModelConfig, StepwiseAdamConfig
from config.section import ConfigSection, Count, NonNegative, Positive, Probability
from config.systems.augment import AugmentationConfig
from config.systems.movenet import MoveNetConfig


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("expected an odd number")
    return value


Odd = Annotated[int, Field(ge=1), AfterValidator(_odd)]


class DekrModelConfig(ModelConfig):
    """HRNet with a heatmap head and a branch of adaptive convolutions for each keypoint (paper section 3). Published: W32 and W48."""

    name: Literal["dekr"] = "dekr"
    width: Count = 32  # channels of HRNet's finest branch; each coarser one has twice as many
    stem_width: Count = 64  # channels of the first layers
    modules: tuple[Count, Count, Count] = (1, 4, 3)  # exchanges between the branches in stages 2, 3, 4
    blocks: Count = 4  # basic blocks of each branch between two exchanges, and bottlenecks of stage 1
    heat_channels: Count = 32  # features of the heatmap head; W48: 48
    offset_channels: Count = 15  # features of each keypoint's branch
    offset_blocks: Count = 2  # adaptive blocks of each keypoint's branch

    @property
    def input_multiple(self) -> int:
        return 32  # HRNet's coarsest branch


class DekrMoveNetConfig(MoveNetConfig):
    """MoveNet MultiPose: a center, a heatmap and a regression head."""

    name: Literal["movenet"] = "movenet"


class DekrAugmentationConfig(AugmentationConfig):
    """One affine about the image's center (paper section 4.1)."""

    rotation: NonNegative = 30.0  # uniform in +-, degrees
    scale: tuple[Positive, Positive] = (0.75, 1.5)  # uniform; the crop's side over the image's short side
    shift: NonNegative = 40.0  # uniform in +-, image pixels at a crop of 200 pixels, each axis


class DekrTargetsConfig(ConfigSection):
    """Targets (paper section 3.3), in map pixels."""

    keypoint_sigma: Positive = 2.0
    centre_sigma: Positive = 4.0
    background_weight: NonNegative = 0.1  # of the heatmaps' pixels outside every person's window
    offset_radius: Count = 4  # half side of the square about a center in which offsets are learned
    mask_ignored: bool = True  # no loss over crowd regions, people without keypoints, and outside the image; CrowdPose: false
    min_area: NonNegative = 32.0 * 32  # a smaller person has no center, image pixels squared; CrowdPose: 0
    # The published code's bugs, to continue from weights trained with them: a person's area starts at the image's corner if a keypoint is
    # not labeled; centers of a skeleton of fewer than 17 keypoints are rendered with keypoint_sigma
    published_faults: bool = False


class DekrLossConfig(ConfigSection):
    """Weighted L2 for the heatmaps, weighted smooth L1 for the offsets (paper section 3.3)."""

    name: Literal["dekr"] = "dekr"
    heatmap_weight: NonNegative = 1.0
    offset_weight: NonNegative = 0.03
    beta: Positive = 1 / 9  # smooth L1 is quadratic below it, map pixels


class DekrTrainConfig(StepwiseAdamConfig):
    """As published, with 4 GPUs."""

    batch_size: Count = 10


class DekrInferenceConfig(InferenceConfig):
    """From an image to people (paper section 3.4)."""

    side: Literal["short", "long"] = "short"  # of the image, which data.input_size times a scale is the length of
    scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0,)  # of data.input_size; published: 0.5 1 2
    pad_multiple: Count = 64  # the long side is rounded up to a multiple of it; MMPose: 32
    # The image's exact center is mapped to the input's, and the long side is rounded up without rounding it down first; MMPose: true
    exact_resize: bool = False
    # What the flip test shifts, so that both halves coincide: the flipped image, or its heatmaps and offsets as MMPose does
    flip_shift: Literal["input", "maps"] = "input"
    max_people: Count = 30
    centre_threshold: Probability = 0.01  # lowest heatmap value of a person's center
    center_window: Odd | None = None  # map pixels, side of the square of which a center is the maximum; null: 3, 5, 7 by size; MMPose: 5
    # How a keypoint's heatmap value is read: published: at its whole pixel of the upsampled map; MMPose: bilinear, in the map itself
    keypoint_heat: Literal["published", "bilinear"] = "published"
    scale_decay: Positive = 0.9  # score factor of poses of scales other than 1; CrowdPose: 0.8
    nms_distance: Positive | None = None  # of a person's diagonal, at which two keypoints are one; null: 0.05, 0.15 with several scales
    nms_keypoints: Annotated[int, Field(ge=0)] | None = None  # two poses with more such keypoints are one person; null: half of them
    nms_order: Literal["center", "heat"] = "center"  # which poses gather overlapping ones first: highest center, or mean heat as in MMPose
    nms_oks: Probability | None = None  # the scales are decoded alone and of poses with a higher OKS the best is kept; null: pooled
    # Input pixels, root of the area that the keypoints extend over: with nms_oks, smaller people are ignored at all scales but the largest
    min_person_size: NonNegative = 0.0
    # Move keypoints to the maxima of heatmap times a Gaussian about them, of this variance in squares of the person's diagonal; null: no
    match_window: Positive | None = None
    match: bool = False  # move keypoints to the heatmaps' nearest peaks
    match_distance: Positive = 75.0  # input pixels; a keypoint without a peak nearer than this stays
    match_threshold: Probability = 0.05  # a peak of a lower value is not refined
    rescore: Path | None = None  # a rescoring network, made by utils.systems.dekr_rescoring; null: the checkpoint's, if it holds one
    own_rescoring: bool = True  # use the rescoring network of a checkpoint that holds one, as MMPose's do


class DekrConfig(Config):
    """The whole of a run of DEKR."""

    system: Literal["dekr"] = "dekr"
    model: SerializeAsAny[ModelConfig] = DekrModelConfig()
    augmentation: DekrAugmentationConfig = DekrAugmentationConfig()
    targets: DekrTargetsConfig = DekrTargetsConfig()
    loss: DekrLossConfig = DekrLossConfig()
    train: DekrTrainConfig = DekrTrainConfig()
    inference: DekrInferenceConfig = DekrInferenceConfig()

    @model_validator(mode="before")
    @classmethod
    def _no_mask_for_crowdpose(cls, values: dict[str, Any]) -> dict[str, Any]:
        # Earlier configurations of CrowdPose lack the key
        skeleton, targets = values.get("skeleton"), values.get("targets", {})
        name = skeleton.get("name") if isinstance(skeleton, dict) else getattr(skeleton, "name", None)
        return {**values, "targets": {"mask_ignored": False, **targets}} if name == "crowdpose" and isinstance(targets, dict) else values

    @model_validator(mode="after")
    def _fits(self) -> DekrConfig:
        height, width = self.data.input_size
        if height != width:
            raise ValueError(f"data.input_size: {height} x {width} must be square, since samples are cut by the image's short side")
        if 1.0 not in self.inference.scales:
            raise ValueError(f"inference.scales: {list(self.inference.scales)} must hold 1, the reference of the other scales")
        return self
