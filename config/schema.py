"""Every configuration key, declared once, with its type, unit, default and source. Frozen after loading.

The defaults are the published recipe (Li, Su, Wang: Simple Pose, AAAI 2020, and the paper's code where the two differ).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from config.assignment import AssignmentConfig
from config.section import Count, NonNegative, Positive, Probability, Section
from config.skeleton import Skeleton


class ImhnConfig(Section):
    """The identity mapping hourglass network (paper section 3.3). Published: 4 stages, 256 channels, 129.0 M parameters."""

    name: Literal["imhn"] = "imhn"
    stages: Count = 4
    channels: Annotated[int, Field(ge=16, multiple_of=16)] = 256  # width at stride 4, and of every scale's features
    channels_increase: Annotated[int, Field(ge=0, multiple_of=2)] = 128  # more channels at each halving of the resolution
    depth: Count = 4  # halvings inside an hourglass; depth + 1 scales are supervised


class DataConfig(Section):
    """Where the samples come from and how large a training crop is."""

    train: Path | None = None  # HDF5 written by data/coco_masks_hdf5.py
    val: Path | None = None
    input_size: tuple[Count, Count] = (512, 512)  # height, width of the network's input in training, pixels; the height counts in inference
    workers: Annotated[int, Field(ge=0)] = 4  # loader processes per training process


class AugmentationConfig(Section):
    """One affine and a colour jitter per sample (paper section 4.1). Validation uses none of it but the person crop."""

    person_size: Positive = 0.6  # height of the main person's box as a part of the input height, before `scale`
    rotation: NonNegative = 40.0  # uniform in +-, degrees
    scale: tuple[Positive, Positive] = (0.7, 1.3)  # uniform
    scale_probability: Probability = 0.8
    shift: Annotated[int, Field(ge=0)] = 50  # uniform in +-, whole input pixels, each axis
    flip_probability: Probability = 0.5
    hsv_probability: Probability = 0.2
    hue: tuple[int, int] = (-10, 10)  # OpenCV's 8-bit units: hue 0..179, the others 0..255
    saturation: tuple[int, int] = (-20, 60)
    value: tuple[int, int] = (-20, 40)

    @model_validator(mode="after")
    def _ordered(self) -> AugmentationConfig:
        for key in ("scale", "hue", "saturation", "value"):
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key}: {low} is above {high}")
        return self


class TargetsConfig(Section):
    """What is drawn for the network to learn (paper section 3.2)."""

    stride: Literal[4] = 4  # input pixels per map pixel: the network's front halves the resolution twice
    keypoint_sigma: Positive = 9.0  # input pixels
    limb_sigma: Positive = 7.0  # input pixels
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.015  # below this response a keypoint's window ends
    limb_floor: Probability = 0.01  # what a limb's box holds where the response is at most `threshold`
    limb_margin: NonNegative = 4.0  # a limb's box is the box of its ends grown by this, input pixels


class FocalL2Config(Section):
    """Focal L2 loss (paper section 3.4). gamma, alpha, beta: 1, 0, 0 in the published code; 2, 0.1, 0.02 in the paper."""

    name: Literal["focal_l2"] = "focal_l2"
    focal: bool = True  # false: plain L2, the focal factor left out
    gamma: NonNegative = 1.0  # focusing exponent
    alpha: float = 0.0  # shift of the response at foreground pixels
    beta: float = 0.0  # shift of the response at background pixels
    foreground: Probability = 0.01  # a target of at least this is foreground
    keypoint_weight: NonNegative = 3.0
    person_weight: NonNegative = 0.1  # weight of the person mask channel
    scale_weights: tuple[NonNegative, ...] = (0.1, 0.2, 0.4, 1.6, 6.4)  # finest scale first; divided by their sum


class SwaConfig(Section):
    """Stochastic weight averaging as a last phase (Izmailov et al. 2018): a saw-tooth rate, one average a cycle."""

    start_epoch: Annotated[int, Field(ge=0)] | None = None  # first epoch of the phase; null: no such phase
    cycle: Count = 5  # epochs
    high: Positive = 4e-5  # rate at the start of a cycle
    low: Positive = 2e-5  # and at its end


class TrainConfig(Section):
    """Optimisation (paper section 4.1)."""

    epochs: Count = 100
    batch_size: Count = 4  # train.py, train_parallel.py: the whole batch; train_distributed.py: per process
    optimizer: Literal["sgd", "adamw", "apex_sgd", "apex_adam"] = "sgd"  # apex_*: NVIDIA Apex's fused ones, if installed
    learning_rate: Positive = 2.5e-5  # times the number of processes; small since the loss is a sum over pixels
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # sgd's, and the first moment's decay of adam
    weight_decay: NonNegative = 5e-4
    warmup_epochs: NonNegative = 3  # linear from 0
    decay: Annotated[float, Field(gt=0, le=1)] = 0.2  # the rate's factor at each step of the schedule
    decay_every: Count = 15  # epochs
    late_epoch: Annotated[int, Field(ge=0)] = 78  # from here on ...
    late_decay_every: Count = 5  # ... the rate falls every so many epochs
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # torch.amp; float16 with gradient scaling
    clip_norm: Positive | None = None  # largest gradient norm; null: no clipping
    max_loss: Positive = 2e5  # a batch above this, or not finite, is dropped
    sync_batchnorm: bool = True  # one set of batch-norm statistics over all GPUs of train_distributed.py
    channels_last: bool = False  # memory format of the network
    seed: Annotated[int, Field(ge=0)] = 0
    log_every: Count = 20  # steps between TensorBoard points
    val_images: Annotated[int, Field(ge=0)] = 4  # validation pictures with their maps in TensorBoard, per epoch
    swa: SwaConfig = SwaConfig()


class InferenceConfig(Section):
    """From a photograph to maps (paper section 4.1, testing)."""

    scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0,)  # of data.input_size's height; published: 0.5 1 1.5 2 3
    rotations: Annotated[tuple[float, ...], Field(min_length=1)] = (0.0,)  # degrees about the image's centre
    flip: bool = True  # average with the mirror image's answer
    max_size: tuple[Count, Count] = (2600, 3800)  # height, width of the largest resized image, pixels
    pad_multiple: Count = 64  # the padded sides are multiples of this
    pad_value: Annotated[int, Field(ge=0, le=255)] = 128
    precision: Literal["float32", "bfloat16", "float16"] = "float32"


class Config(Section):
    """The whole of a run. `system` names what belongs together: sample, targets, network, loss and decoder."""

    system: Literal["simplepose"] = "simplepose"
    skeleton: Skeleton  # in YAML the name of a file in config/skeletons, or a path to one
    model: ImhnConfig = ImhnConfig()
    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    targets: TargetsConfig = TargetsConfig()
    loss: FocalL2Config = FocalL2Config()
    train: TrainConfig = TrainConfig()
    inference: InferenceConfig = InferenceConfig()
    assignment: AssignmentConfig = AssignmentConfig()

    @model_validator(mode="after")
    def _fits(self) -> Config:
        model, multiple = self.model, self.targets.stride * 2**self.model.depth
        for key, sides in (("data.input_size", self.data.input_size), ("inference.pad_multiple", (self.inference.pad_multiple,))):
            if any(side % multiple for side in sides):
                shown = " x ".join(map(str, sides))
                raise ValueError(f"{key}: {shown} must be multiples of {multiple} for model.depth {model.depth}")
        if len(self.loss.scale_weights) != model.depth + 1:
            raise ValueError(f"loss.scale_weights: {len(self.loss.scale_weights)} weights for {model.depth + 1} scales (model.depth + 1)")
        return self
