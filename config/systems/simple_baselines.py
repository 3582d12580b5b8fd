"""Simple Baselines (Xiao, Wu, Wei: Simple Baselines for Human Pose Estimation and Tracking, ECCV 2018): its keys.

The defaults are the published recipe for ResNet-50 on COCO at 256 x 192.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, SerializeAsAny, model_validator

from config.schema import Config, DataConfig, InferenceConfig, ModelConfig, StepwiseAdamConfig
from config.section import ConfigSection, Count, NonNegative, Positive, Probability, Side
from config.systems.augment import AugmentationConfig
from config.systems.movenet import MoveNetConfig

RESNET_STRIDE = 32  # of a ResNet's last features: input pixels per feature


class SimpleBaselinesModelConfig(ModelConfig):
    """A ResNet and three deconvolutions (paper section 2)."""

    name: Literal["simple_baselines"] = "simple_baselines"
    depth: Literal[10, 18, 34, 50, 101, 152] = 50  # of the ResNet; published: 50, 101, 152. 10: one basic block a stage
    style: Literal["pytorch", "caffe"] = "pytorch"  # where a bottleneck of 50 layers and more has its stride: caffe in the first 1 x 1
    deconv_channels: Count = 256
    channel_order: Literal["bgr", "rgb"] = "bgr"  # of the input; published: BGR, although mean and std are those of RGB

    @property
    def input_multiple(self) -> int:
        return RESNET_STRIDE

    @model_validator(mode="after")
    def _fits(self) -> SimpleBaselinesModelConfig:
        if self.style == "caffe" and self.depth < 50:
            raise ValueError(f"model.style: a ResNet of {self.depth} layers has no bottlenecks; caffe is for 50 and more")
        return self


class TimmModelConfig(ModelConfig):
    """Any backbone of timm with `features_only`, and a deconvolution for each halving below stride 4. RGB, with timm's mean and std."""

    name: Literal["timm"] = "timm"
    backbone_name: str  # timm's, such as resnet50 or convnext_tiny; its random weights, unless `backbone` names others
    deconv_channels: Count = 256

    @property
    def input_multiple(self) -> int:
        return RESNET_STRIDE


class SimpleBaselinesMobileConfig(MoveNetConfig):
    """MoveNet SinglePose: Thunder, or with width 1 Lightning."""

    name: Literal["mobile"] = "mobile"
    width: Positive = 1.75


class SimpleBaselinesDataConfig(DataConfig):
    """As published."""

    input_size: tuple[Side, Side] = (256, 192)
    clean_boxes: bool = True  # clip boxes to their images in training; published: yes for COCO, no for MPII


class SimpleBaselinesAugmentationConfig(AugmentationConfig):
    """One affine about the person's box (paper section 3.1)."""

    scale: NonNegative = 0.3  # standard deviation of the crop's size, and the most it changes
    rotation: NonNegative = 40.0  # standard deviation, degrees; at most twice as much
    rotation_probability: Probability = 0.6


class SimpleBaselinesTargetsConfig(ConfigSection):
    """Targets."""

    sigma: Positive = 2.0  # map pixels; 3 at 384 x 288


class SimpleBaselinesLossConfig(ConfigSection):
    """Half of the squared error, mean over the pixels and keypoints, where a keypoint is labeled."""

    name: Literal["simple_baselines"] = "simple_baselines"


class SimpleBaselinesTrainConfig(StepwiseAdamConfig):
    """As published, with 4 GPUs."""

    batch_size: Count = 32


class SimpleBaselinesInferenceConfig(InferenceConfig):
    """From boxes in a photograph to people."""

    # At each scale the crop is enlarged about its middle; the heatmaps are averaged. Tighter crops show fewer neighbors
    scales: Annotated[tuple[Annotated[float, Field(ge=1)], ...], Field(min_length=1)] = (1.0,)
    # How a keypoint is placed between pixels; published: quarter. MMPose: quarter_by_axis, which also moves pixels near one border
    subpixel: Literal["parabola", "quarter", "quarter_by_axis"] = "parabola"
    keypoint_threshold: Probability = 0.2  # keypoints of a higher response make up a person's score
    nms_threshold: Probability = 0.9  # of two people of a higher OKS only the better one is kept
    crops: Count = 64  # boxes that are run together


class SimpleBaselinesConfig(Config):
    """The whole of a run of Simple Baselines."""

    loss_comparability_keys: ClassVar[tuple[str, ...]] = (*Config.loss_comparability_keys, "model.channel_order")

    system: Literal["simple_baselines"] = "simple_baselines"
    model: SerializeAsAny[ModelConfig] = SimpleBaselinesModelConfig()
    data: SimpleBaselinesDataConfig = SimpleBaselinesDataConfig()
    augmentation: SimpleBaselinesAugmentationConfig = SimpleBaselinesAugmentationConfig()
    targets: SimpleBaselinesTargetsConfig = SimpleBaselinesTargetsConfig()
    loss: SimpleBaselinesLossConfig = SimpleBaselinesLossConfig()
    train: SimpleBaselinesTrainConfig = SimpleBaselinesTrainConfig()
    inference: SimpleBaselinesInferenceConfig = SimpleBaselinesInferenceConfig()
