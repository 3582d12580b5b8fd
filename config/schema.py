"""The keys of every run; the keys of each pose system are in `config/systems`.

Every key is declared once, with its type, unit, default and source. Frozen after loading.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from config.section import ConfigSection, Count, NonNegative, Positive, Probability, Side, Switch
from config.skeleton import Skeleton

Precision = Literal["float32", "bfloat16", "float16"]


def _one_or_more_paths(value: Any) -> Path | tuple[Path, ...] | None:
    # pydantic's error for a union of types would name the types beside the key
    if value is None or isinstance(value, (str, Path)):
        return None if value is None else Path(value)
    if not isinstance(value, Sequence) or not value or not all(isinstance(path, (str, Path)) for path in value):
        raise ValueError("expected a path, or a list of paths")
    return tuple(map(Path, value))


TrainingFiles = Annotated[Path | tuple[Path, ...] | None, BeforeValidator(_one_or_more_paths)]


class ModelConfig(ConfigSection):
    """Keys of every network. A system takes any network whose configuration is a subclass."""

    name: str  # of the network, in the `networks` of the system's entry in config.systems
    # initial weights of the backbone; the head is randomly initialized. timm: ImageNet weights of HRNet, downloaded
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
    def pixel_center(self) -> float:
        """Return where a map pixel stands in its square of stride x stride input pixels: 0 at the first of them, 0.5 in the middle."""
        return 0.0

    @property
    def num_scales(self) -> int:
        """Return at how many scales `forward` predicts maps; the loss weighs each."""
        return 1


class DataConfig(ConfigSection):
    """Where the samples come from and how large a training crop is."""

    train: TrainingFiles = None  # HDF5 written by data/coco_masks_hdf5.py; several are mixed
    train_weights: tuple[Positive, ...] | None = None  # sampling weight of each file in an epoch; null: every sample once
    val: TrainingFiles = None
    input_size: tuple[Side, Side] = (512, 512)  # height, width of the network's input in training, pixels; the height counts in inference
    workers: Annotated[int, Field(ge=0)] = 4  # DataLoader workers per training process
    negatives: bool = False  # images without people are samples, too; of a top-down system there are none
    shuffle_block: Count | None = None  # samples a block, 64 blocks shuffled at a time, for files larger than memory; null: shuffle all
    max_broken: Annotated[int, Field(ge=0)] = 100  # corrupt images in all training files; one more stops the training

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
    """Stochastic weight averaging as a last phase (Izmailov et al. 2018): a saw-tooth learning rate, one average a cycle."""

    start_epoch: Annotated[int, Field(ge=0)] | None = None  # first epoch of the phase; null: no such phase
    cycle: Count = 5  # epochs
    high: Positive = 4e-5  # learning rate at the start of a cycle
    low: Positive = 2e-5  # and at its end


class TrainConfig(ConfigSection):
    """Optimization; the defaults are SimplePose's (its paper, section 4.1)."""

    init: Path | None = None  # initial weights, as of --init, which replaces them
    epochs: Count = 100
    batch_size: Count = 4  # train.py, train_parallel.py: the whole batch; train_distributed.py: per process
    accumulate: Count = 1  # batches whose gradients are summed for an optimizer step
    optimizer: Literal["sgd", "adam", "adamw", "apex_sgd", "apex_adam"] = "sgd"  # apex_*: NVIDIA Apex's fused ones, if installed
    learning_rate: Positive = 2.5e-5  # small since SimplePose's loss is a sum over pixels
    scale_rate_by_processes: bool = True  # multiply the learning rate by the number of processes
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # sgd's, and the first moment's decay of adam
    weight_decay: NonNegative = 5e-4
    warmup_epochs: NonNegative = 3  # linear from 0
    decay: Annotated[float, Field(gt=0, le=1)] = 0.2  # factor of the learning rate at each milestone
    milestones: tuple[Count, ...] | None = None  # epochs of LR decays; null: by the three keys below
    decay_every: Count = 15  # epochs
    late_epoch: Annotated[int, Field(ge=0)] = 78  # from here on ...
    late_decay_every: Count = 5  # ... the learning rate decays every N epochs
    precision: Precision | Literal["float64"] = "float32"  # torch.amp; float16 with gradient scaling; float64 for checks
    tf32: bool = True  # float32 products of NVIDIA's tensor cores, with 10 bits of mantissa
    compile: Switch = False  # torch.compile of network and loss; auto: on an NVIDIA GPU that it supports
    deterministic: bool = False  # bit-equal runs on a GPU too, but slower; a CPU is always deterministic
    clip_norm: Positive | None = None  # largest gradient norm; null: no clipping
    max_loss: Positive | None = 2e5  # skip a batch with a larger loss; null: only with a loss that is not finite
    max_dropped: Count = 10  # consecutive skipped steps; one more stops the training
    freeze: tuple[str, ...] = ()  # frozen parameters, by patterns of names such as front.*
    sync_batchnorm: bool = True  # one set of batch-norm statistics over all GPUs of train_distributed.py
    channels_last: Switch = "auto"  # memory format of the network; auto: on CPUs, and on NVIDIA GPUs where tensor cores compute
    seed: Annotated[int, Field(ge=0)] = 0
    log_every: Count = 20  # steps between logged metrics
    checkpoint_every: Count | None = 1000  # steps of an epoch between checkpoints; null: at its end only
    evaluate_every: Count | None = None  # epochs between validation APs (OKS) on data.val; null: validation loss only
    best: Literal["loss", "AP"] = "loss"  # validation metric that chooses best.pth; AP needs evaluate_every
    patience: Count | None = None  # epochs without a better validation metric after which the run ends; null: all epochs
    val_images: Annotated[int, Field(ge=0)] = 4  # validation images with their maps in TensorBoard, per epoch
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None  # per step, of the weights' exponential moving average; null: none
    swa: SwaConfig = SwaConfig()


class StepwiseAdamConfig(TrainConfig):
    """The published recipe of DEKR and of Simple Baselines on COCO without its batch size: Adam with two LR decays to a tenth."""

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

    flip: bool = True  # flip test: average with the output on the horizontally flipped image
    precision: Precision = "float32"
    compile: Switch = False  # torch.compile of the network, anew for the first sizes of images; auto: on an NVIDIA GPU that it supports
    tiles: bool = False  # of a bottom-up system: also look at overlapping tiles of large images, for small people


class TrackingConfig(ConfigSection):
    """Identities from frame to frame of a video."""

    similarity: Literal["oks", "box"] = "oks"  # of a prediction and a track's predicted position: OKS, or IoU of boxes
    matching: Literal["hungarian", "greedy"] = "hungarian"  # largest sum of similarities, or most similar pair first
    flow: bool = True  # predict tracks by optical flow and constant velocity, whichever fits better; false: velocity only
    min_similarity: Probability = 0.05  # of the position, for the same person
    appearance: Probability = 0.3  # weight of the colors in the similarity
    keep: Annotated[int, Field(ge=0)] = 30  # frames without a match after which a track ends
    min_score: NonNegative = 0.1  # predictions below it are dropped: a bottom-up system has many false positives
    start_score: NonNegative = 0.3  # predictions below it continue a track, but start none
    smooth_cutoff: Positive = 0.5  # Hz: one-euro filter of a keypoint that stands still; lower smooths more
    smooth_speed: NonNegative = 15.0  # Hz per person's size in a second: how fast the cutoff increases with the speed; higher lags less


class Config(ConfigSection):
    """The whole of a run. Each pose system has a subclass with keys of its own."""

    deprecated_keys: ClassVar[dict[str, tuple[str, ...]]] = {}  # of stored configurations, by section: other keys now imply them

    # a validation loss depends on these besides the weights: after a change, earlier losses are not comparable
    loss_comparability_keys: ClassVar[tuple[str, ...]] = ("data.val", "data.input_size", "targets", "loss", "skeleton")

    system: str  # a name in config.systems
    skeleton: Skeleton  # in YAML the name of a file in config/skeletons, or a path to one
    model: SerializeAsAny[ModelConfig]  # of the class that `model.name` names
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    inference: InferenceConfig = InferenceConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _fits_the_network(self) -> Config:
        multiple, pad_multiple = self.model.input_multiple, getattr(self.inference, "pad_multiple", 0)
        for key, sides in (("data.input_size", self.data.input_size), ("inference.pad_multiple", (pad_multiple,))):
            if any(side % multiple for side in sides):
                shown = " x ".join(map(str, sides))
                raise ValueError(f"{key}: {shown} must be a multiple of {multiple} for model.name {self.model.name}")
        return self
