"""What every run has, whichever pose system it trains; a system's own keys are in `config/systems`.

Every key is declared once, with its type, unit, default and source. Frozen after loading.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from config.section import ConfigSection, Count, NonNegative, Positive, Probability
from config.skeleton import Skeleton

Precision = Literal["float32", "bfloat16", "float16"]


def _one_or_more_paths(value: Any) -> Path | tuple[Path, ...] | None:
    # Told here, in words: the errors of a union of types would name its branches beside the key
    if value is None or isinstance(value, (str, Path)):
        return None if value is None else Path(value)
    if not isinstance(value, Sequence) or not value or not all(isinstance(path, (str, Path)) for path in value):
        raise ValueError("expected a path, or a list of paths")
    return tuple(map(Path, value))


PeopleFiles = Annotated[Path | tuple[Path, ...] | None, BeforeValidator(_one_or_more_paths)]


class ModelConfig(ConfigSection):
    """What every network has. A system takes any network whose configuration is a subclass of this one."""

    name: str  # of the network, in the `networks` of the system's entry in config.systems
    # weights that the network's trunk starts from, its output layers are drawn anew; timm: ImageNet weights, downloaded, of HRNet
    backbone: Path | None = None

    @property
    def stride(self) -> int:
        """Return how many input pixels a map pixel stands for, along each axis."""
        return 4

    @property
    def input_multiple(self) -> int:
        """Return what the sides of the network's input must be multiples of, pixels."""
        return self.stride

    @property
    def num_scales(self) -> int:
        """Return at how many scales `forward` predicts maps; the loss weighs each."""
        return 1


class DataConfig(ConfigSection):
    """Where the samples come from and how large a training crop is."""

    train: PeopleFiles = None  # HDF5 written by data/coco_masks_hdf5.py; several are mixed
    train_weights: tuple[Positive, ...] | None = None  # of each file: its share of an epoch's samples; null: every sample once
    val: PeopleFiles = None
    input_size: tuple[Count, Count] = (512, 512)  # height, width of the network's input in training, pixels; the height counts in inference
    workers: Annotated[int, Field(ge=0)] = 4  # loader processes per training process
    shuffle_block: Count | None = None  # of neighbors, 64 of them mixed at a time, for files larger than memory; null: all
    max_broken: Annotated[int, Field(ge=0)] = 100  # images of all training files that turn out to be damaged before training stops

    @model_validator(mode="after")
    def _a_weight_each(self) -> DataConfig:
        files = len(self.train_files)
        if self.train_weights is not None and len(self.train_weights) != files:
            raise ValueError(f"train_weights: {len(self.train_weights)} weights for {files} training files")
        return self

    @property
    def train_files(self) -> tuple[Path, ...]:
        """`train` as a tuple."""
        return _as_tuple(self.train)

    @property
    def val_files(self) -> tuple[Path, ...]:
        """`val` as a tuple."""
        return _as_tuple(self.val)


def _as_tuple(paths: Path | tuple[Path, ...] | None) -> tuple[Path, ...]:
    return paths if isinstance(paths, tuple) else () if paths is None else (paths,)


class SwaConfig(ConfigSection):
    """Stochastic weight averaging as a last phase (Izmailov et al. 2018): a saw-tooth rate, one average a cycle."""

    start_epoch: Annotated[int, Field(ge=0)] | None = None  # first epoch of the phase; null: no such phase
    cycle: Count = 5  # epochs
    high: Positive = 4e-5  # rate at the start of a cycle
    low: Positive = 2e-5  # and at its end


class TrainConfig(ConfigSection):
    """Optimization; the defaults are SimplePose's (its paper, section 4.1)."""

    epochs: Count = 100
    batch_size: Count = 4  # train.py, train_parallel.py: the whole batch; train_distributed.py: per process
    accumulate: Count = 1  # batches of an optimizer step, whose gradients are added up
    optimizer: Literal["sgd", "adam", "adamw", "apex_sgd", "apex_adam"] = "sgd"  # apex_*: NVIDIA Apex's fused ones, if installed
    learning_rate: Positive = 2.5e-5  # small since SimplePose's loss is a sum over pixels
    scale_rate_by_processes: bool = True  # the rate times the number of processes
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # sgd's, and the first moment's decay of adam
    weight_decay: NonNegative = 5e-4
    warmup_epochs: NonNegative = 3  # linear from 0
    decay: Annotated[float, Field(gt=0, le=1)] = 0.2  # the rate's factor at each step of the schedule
    milestones: tuple[Count, ...] | None = None  # epochs at which the rate falls; null: by the three keys below
    decay_every: Count = 15  # epochs
    late_epoch: Annotated[int, Field(ge=0)] = 78  # from here on ...
    late_decay_every: Count = 5  # ... the rate falls every so many epochs
    precision: Precision | Literal["float64"] = "float32"  # torch.amp; float16 with gradient scaling; float64 for checks
    tf32: bool = True  # float32 products of NVIDIA's tensor cores, with 10 bits of mantissa
    compile: bool = False  # torch.compile of network and loss
    deterministic: bool = False  # the same bits in every run on a GPU too, where that is slower; a CPU always gives them
    clip_norm: Positive | None = None  # largest gradient norm; null: no clipping
    max_loss: Positive | None = 2e5  # a batch above this is dropped; null: only one whose loss is not finite
    max_dropped: Count = 10  # dropped steps in a row after which training stops
    freeze: tuple[str, ...] = ()  # parameters that stay as they are, by patterns of their names, such as front.*
    sync_batchnorm: bool = True  # one set of batch-norm statistics over all GPUs of train_distributed.py
    channels_last: bool = False  # memory format of the network
    seed: Annotated[int, Field(ge=0)] = 0
    log_every: Count = 20  # steps between points of the curves
    checkpoint_every: Count | None = 1000  # steps of an epoch between checkpoints; null: at its end only
    evaluate_every: Count | None = None  # epochs between figures of the people found in data.val (AP by OKS); null: validation loss only
    val_images: Annotated[int, Field(ge=0)] = 4  # validation images with their maps in TensorBoard, per epoch
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None  # a step, of the weights' exponential average; null: none is kept
    swa: SwaConfig = SwaConfig()


class StepwiseAdamConfig(TrainConfig):
    """The published recipe of DEKR and of Simple Baselines on COCO, but for the batch: Adam, whose rate falls to a tenth twice."""

    epochs: Count = 140
    optimizer: Literal["sgd", "adam", "adamw", "apex_sgd", "apex_adam"] = "adam"
    learning_rate: Positive = 1e-3
    scale_rate_by_processes: bool = False
    weight_decay: NonNegative = 0.0
    warmup_epochs: NonNegative = 0.0
    decay: Annotated[float, Field(gt=0, le=1)] = 0.1
    milestones: tuple[Count, ...] | None = (90, 120)
    max_loss: Positive | None = None


class InferenceConfig(ConfigSection):
    """From a photograph to people."""

    flip: bool = True  # average with the mirror image's answer
    precision: Precision = "float32"


class TrackingConfig(ConfigSection):
    """Who is who from frame to frame of a video."""

    similarity: Literal["oks", "box"] = "oks"  # of a person found with where a track should be: of keypoints, or boxes' overlap (IoU)
    matching: Literal["hungarian", "greedy"] = "hungarian"  # the best sum of similarities, or the most similar first
    flow: bool = True  # tracks move on by optical flow and by their speed, whichever agrees better; false: by their speed alone
    min_similarity: Probability = 0.05  # of the place; less is not the same person
    appearance: Probability = 0.3  # the colors' share in the similarity
    keep: Annotated[int, Field(ge=0)] = 30  # frames after which a track ends that nobody was found for
    min_score: NonNegative = 0.1  # people of less are left out: a bottom-up system finds many who are nobody
    start_score: NonNegative = 0.3  # people of less continue a track, and begin none


class Config(ConfigSection):
    """The whole of a run. Each pose system has a subclass with keys of its own."""

    deprecated_keys: ClassVar[tuple[str, ...]] = ()  # keys that stored configurations may hold and that now follow from others

    # what a validation loss depends on besides the weights: after a change the losses before it are not comparable
    loss_comparability_keys: ClassVar[tuple[str, ...]] = ("data.val", "data.input_size", "targets", "loss", "skeleton")

    system: str  # a name in config.systems
    skeleton: Skeleton  # in YAML the name of a file in config/skeletons, or a path to one
    model: SerializeAsAny[ModelConfig]  # of the class that `model.name` names
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    inference: InferenceConfig = InferenceConfig()
    tracking: TrackingConfig = TrackingConfig()
