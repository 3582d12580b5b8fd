"""A second network of SimplePose needs one file, one configuration class and one registry entry: this file has all three."""

from pathlib import Path
from typing import Literal

import pytest
import torch
import yaml
from runs import ALONE
from torch import Tensor, nn
from torch.nn import functional as F

from config import UserError, load_config
from config.schema import ModelConfig
from config.section import Count
from config.systems import SYSTEMS, NetworkEntry
from config.systems.simplepose import SimplePoseConfig
from data.images import read_image
from utils.checkpoint import config_for, read_checkpoint
from utils.inference import PoseEstimator
from utils.training.trainer import train


class FlatConfig(ModelConfig):
    name: Literal["flat"] = "flat"
    width: Count = 8

    @property
    def num_scales(self) -> int:
        return 2


class FlatNetwork(nn.Module):
    """Return maps at strides 4 and 8 from one stage."""

    def __init__(self, config: SimplePoseConfig):
        super().__init__()
        width = config.model.width
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, 4, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Conv2d(width, config.channels.count, 1)

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        maps = self.predict(images)
        return [[maps, F.avg_pool2d(maps, 2)]]

    def predict(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(SYSTEMS["simplepose"].networks, "flat", NetworkEntry(f"{__name__}:FlatConfig", f"{__name__}:FlatNetwork"))


@pytest.fixture
def recipe(hdf5, tmp_path) -> Path:
    values = {
        "model": {"name": "flat", "width": 4},
        "loss": {"scale_weights": [1, 2]},
        "inference": {"pad_multiple": 8},
        "data": {"train": str(hdf5), "val": str(hdf5), "input_size": [64, 72], "workers": 0},
        "train": {"epochs": 1, "batch_size": 2, "warmup_epochs": 0, "learning_rate": 1e-6},
    }
    (tmp_path / "flat.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "flat.yaml"


def test_it_trains_resumes_and_predicts(recipe, images, tmp_path):
    for epochs in (1, 2):
        train(load_config(recipe, [f"train.epochs={epochs}"]), tmp_path / "run", ALONE, "auto")
    checkpoint = tmp_path / "run" / "last.pth"
    stored = read_checkpoint(checkpoint)
    assert (stored["epoch"], stored["config"]["model"]) == (2, {"name": "flat", "width": 4, "backbone": None})
    estimator = PoseEstimator(checkpoint=checkpoint, device="cpu")
    assert isinstance(estimator.network, FlatNetwork) and torch.equal(estimator.network.head.bias, stored["weights"]["head.bias"])
    assert estimator(read_image(min(images.iterdir())))[0].shape[1:] == (18, 3)
    assert config_for(checkpoint, overrides=["inference.flip=false"]).model == FlatConfig(width=4)


def test_its_keys_are_checked(recipe):
    with pytest.raises(UserError, match="unknown key 'model.stages'"):
        load_config(recipe, ["model.stages=3"])
