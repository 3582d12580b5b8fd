"""Networks by name for torch.hub, each as an estimator of poses (docs/model_zoo.md has the names).

    estimator = torch.hub.load(REPOSITORY, "dekr_small")  # or a folder of this project, with source="local"
    people = estimator("photo.jpg")

Arguments are those of `utils.inference.PoseEstimator` after the checkpoint: device, detector, min_score, color, tiles.
"""

from functools import partial

from utils.inference import PoseEstimator
from utils.zoo import networks

dependencies = ["av", "cv2", "h5py", "numpy", "PIL", "pycocotools", "pydantic", "safetensors", "torch", "torchvision", "yaml"]


def __dir__() -> list[str]:
    """List what torch.hub looks for: the names of the networks."""
    return ["dependencies", *networks()]


def __getattr__(name: str) -> partial[PoseEstimator]:
    """Return a function that builds the estimator of a network by its name. Its `__doc__` is what torch.hub.help shows."""
    if name not in networks():
        raise AttributeError(f"no network is named {name}")
    make = partial(PoseEstimator, name)
    make.__doc__ = f"Return a PoseEstimator of {name}: {networks()[name].reported} on {networks()[name].data}."
    return make
