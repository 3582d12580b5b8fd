"""SimplePose on MoveNet's features: which map comes from where, and training with frozen published layers."""

import pytest
import torch
from places import ROOT
from runs import ALONE

from config import load_config
from models import build_model
from models.movenet import MoveNet
from models.simplepose_mobile import SimplePoseMobile
from utils.checkpoint import init_weights, load_weights, save_checkpoint
from utils.training.trainer import train

RECIPE, NARROW = ROOT / "config" / "simplepose_small.yaml", ["model.width=0.25", "model.limb_channels=16"]


@pytest.fixture
def published(tmp_path):
    """A small network in MoveNet's published format, with heads that this one does not need."""
    torch.manual_seed(0)
    heads = {"center": 1, "keypoint_heatmap": 17, "keypoint_regression": 34, "box_size": 2}
    save_checkpoint(tmp_path / "movenet.pth", weights=MoveNet(0.25, heads).state_dict())
    return tmp_path / "movenet.pth"


def test_keypoint_maps_are_those_of_the_heatmap_head(published):
    """By COCO's names; the neck, like the limbs, is the new head's."""
    config = load_config(RECIPE, NARROW)
    network, movenet = build_model(config).eval(), MoveNet(0.25, {"keypoint_heatmap": 17})
    loaded, fresh = init_weights(network, published)
    assert loaded and all(name.startswith("limbs.") for name in fresh)
    movenet.load_state_dict({name: tensor for name, tensor in network.state_dict().items() if name in movenet.state_dict()})
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        maps, heatmaps = network.predict(images), movenet.features_and_maps(images)[1]["keypoint_heatmap"].sigmoid()
        ((finest, *coarser),) = network(images)
        network.limbs.predictions[0].bias += 5
        others = network.predict(images)
    assert torch.equal(maps, finest)
    assert [tuple(t.shape) for t in coarser] == [(2, 50, 8, 12), (2, 50, 4, 6), (2, 50, 2, 3)]
    skeleton, first = config.skeleton, config.channels.keypoints.start
    for channel, name in enumerate(skeleton.dataset.values()):
        assert torch.equal(maps[:, first + skeleton.index(name)], heatmaps[:, channel]), name
    changed = (others != maps).flatten(2).all(2).all(0).nonzero().flatten().tolist()
    assert changed == [*range(30), first + skeleton.index("neck"), config.channels.person, config.channels.keypoint_maximum]


def test_only_the_limb_head_is_trained(published, hdf5, tmp_path):
    data = [f"data.train={hdf5}", f"data.val={hdf5}", "data.input_size=[64, 64]", "data.workers=0"]
    config = load_config(RECIPE, [*NARROW, *data, "train.epochs=1", "train.batch_size=8", "train.val_images=0"])
    train(config, tmp_path / "run", ALONE, init=published)
    trained, initial = (build_model(config) for _ in range(2))
    load_weights(trained, tmp_path / "run" / "last.pth")
    init_weights(initial, published)
    pairs = zip(trained.named_parameters(), initial.parameters())
    assert all(torch.equal(ours, before) != name.startswith("limbs.") for (name, ours), before in pairs)
    assert isinstance(trained, SimplePoseMobile)
