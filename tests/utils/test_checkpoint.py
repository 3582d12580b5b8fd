"""Checkpoints: loaded whole, or an error that names the differences. tests/fidelity loads files with all published names."""

import argparse
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from places import ROOT
from random_weights import equal, randomize_weights
from safetensors.torch import save_file
from torch import Tensor, nn

from config import Config, UserError, load_config
from models import PoseNetwork, build_model
from utils.checkpoint import config_for, init_weights, load_backbone, load_network, load_weights, read_checkpoint, save_checkpoint
from utils.inference import PoseEstimator
from utils.training.build import find_checkpoint

PUBLISHED = ROOT / "config" / "simplepose_coco_512.yaml"
SMALL = ("model.stages=2", "model.channels=16", "model.channels_increase=16", "model.depth=2", "loss.scale_weights=[1, 1, 1]")
FORMATS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
RECIPES = sorted((ROOT / "config").glob("dekr_w*.yaml"))


def small_config(*overrides: str) -> Config:
    return load_config(PUBLISHED, [*SMALL, *overrides])


def random_network(*overrides: str, seed: int = 1) -> nn.Module:
    network = build_model(small_config(*overrides)).eval()
    randomize_weights(network.state_dict(), seed)
    return network


def copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def saved(path: Path, content: object, legacy: bool = False) -> Path:
    """Write a file; legacy: in the format of PyTorch before 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


class Classifier(PoseNetwork):
    def __init__(self, head: str):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.add_module(head, nn.Conv2d(4, 5, 1))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return random_network(seed=0)


# Loading


@FORMATS
@pytest.mark.parametrize("published", [True, False])
def test_every_format_loads_whole_and_into_memory(network, tmp_path, published, legacy):
    weights, other = network.state_dict(), random_network()
    if published:
        weights = {"weights": {f"module.posenet.{name}": tensor for name, tensor in weights.items()}, "optimizer_weight": {}, "epoch": 52}
    path = saved(tmp_path / "weights.pth", weights, legacy)
    assert config_for(path) == load_config(PUBLISHED)  # whatever the network's size
    load_weights(other, path)
    path.write_bytes(b"")  # a network that still used the mapped file would change
    assert equal(other, network)


def test_a_checkpoint_is_opened_once_and_mapped_and_its_network_not_initialized(network, tmp_path, monkeypatch):
    path, opened, load = tmp_path / "ours.pth", [], torch.load
    save_checkpoint(path, weights=network.state_dict(), config=small_config("train.seed=7").model_dump(mode="json"))
    monkeypatch.setattr(torch, "load", lambda *given, **options: opened.append(options["mmap"]) or load(*given, **options))
    generator = torch.get_rng_state()
    assert PoseEstimator(checkpoint=path, device="cpu").config == small_config("train.seed=7")
    assert opened == [True] and torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("name", ["quickstart", "dekr_quickstart", "simple_baselines_quickstart"])
def test_a_loaded_network_equals_the_saved_one(name, tmp_path):
    config = load_config(ROOT / "config" / f"{name}.yaml")
    network = build_model(config)
    save_checkpoint(tmp_path / "network.pth", weights=network.state_dict())
    loaded = load_network(config, tmp_path / "network.pth", "cpu")
    assert equal(loaded, network)
    buffers = dict(loaded.named_buffers())  # also those that no checkpoint holds
    assert all(torch.equal(buffers[key], buffer) for key, buffer in network.named_buffers())


def test_keypoints_stored_in_another_order_are_read_in_the_skeletons(tmp_path):
    """Exported files have held all keys alphabetically. COCO results take their order from the skeleton."""
    values = small_config().model_dump(mode="json")
    skeleton, coco = values["skeleton"], list(values["skeleton"]["dataset"])

    def order(names: list[str], **more: object) -> list[str]:
        stored = {**skeleton, **more, "dataset": {name: skeleton["dataset"][name] for name in names if name != more.get("without")}}
        stored.pop("without", None)
        path = saved(tmp_path / "reordered.pth", {"weights": {}, "config": {**values, "skeleton": stored}})
        return list(config_for(path).skeleton.dataset)

    assert order(sorted(coco)) == order(coco[::-1], name="mine") == coco
    mine = {"midpoints": {"neck": ["Rsho", "Lsho"], "nose": ["Reye", "Leye"]}, "without": "nose"}  # a skeleton that is not known
    left_first = [name for name in coco if name != "nose"]
    assert order(left_first, **mine) == left_first
    alphabetical = {**mine, "sigmas": dict(sorted(skeleton["sigmas"].items()))}
    assert order(sorted(coco), **alphabetical)[:3] == ["right_shoulder", "right_elbow", "right_wrist"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_published_checkpoint_of_dekr_or_mmpose_has_its_recipe(tmp_path, recipe):
    config = load_config(recipe)
    last = torch.zeros(config.skeleton.num_keypoints + 1, config.model.heat_channels, 1, 1)
    key = "head.heatmap_conv_layers.2.weight" if recipe.stem.endswith("_mmpose") else "module.head_heatmap.1.weight"
    path = saved(tmp_path / "pose_dekr.pth", {key: last})
    assert config_for(path) == config
    assert config_for(path, overrides=["inference.flip=false"]).inference.flip is False


@pytest.mark.parametrize(
    "weights",
    [
        {"head_heatmap.1.weight": torch.zeros(22, 32, 1, 1)},  # DEKR of another skeleton
        {"head_heatmap.1.weight": torch.zeros(())},
        {"conv1.weight": torch.zeros(64, 3, 3, 3), "classifier.weight": torch.zeros(1000, 2048)},  # HRNet
    ],
)
def test_a_checkpoint_of_no_recipe_needs_a_configuration(tmp_path, weights):
    path = saved(tmp_path / "odd.pth", weights)
    with pytest.raises(UserError, match=r"odd\.pth: holds no configuration and is no known published checkpoint; .*--config"):
        config_for(path)
    assert config_for(path, PUBLISHED) == load_config(PUBLISHED)


# Of other trainers


def prefixed(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}


OTHER_TRAINERS = {
    "torch.compile in DataParallel": lambda weights: prefixed(weights, "module._orig_mod."),
    "Lightning": lambda weights: {"state_dict": prefixed(weights, "model."), "hyper_parameters": {"lr": 0.1}, "loops": {}},
    "averaged": lambda weights: {"state_dict": {"n_averaged": torch.tensor(12), **prefixed(weights, "module.")}},
    "objects": lambda weights: {"model": weights, "args": argparse.Namespace(lr=np.float64(0.1)), "config": Path("a.yaml")},
    "its configuration": lambda weights: {"net": weights, "config": {"lr": 0.1}},
    "counted": lambda weights: {"model_state_dict": {**weights, "total_ops": torch.zeros(1), "front.total_params": torch.zeros(1)}},
    "no batch counters": lambda weights: {name: tensor for name, tensor in weights.items() if "num_batches" not in name},
    "part of another network": lambda weights: prefixed(weights, "encoder.backbone."),
}


@pytest.mark.parametrize("trainer", OTHER_TRAINERS)
def test_checkpoints_of_other_trainers_load_whole(network, tmp_path, trainer):
    path, other = saved(tmp_path / "other.pth", OTHER_TRAINERS[trainer](network.state_dict())), random_network()
    assert config_for(path) == load_config(PUBLISHED)
    load_weights(other, path)
    loaded, expected = other.state_dict(), network.state_dict()
    skipped = [name for name in expected if "num_batches" in name and trainer == "no batch counters"]
    assert all(torch.equal(loaded[name], expected[name]) for name in expected if name not in skipped)


def test_averaged_weights_are_preferred_in_a_line(network, tmp_path, capsys):
    path = saved(tmp_path / "ema.pth", {"model": random_network().state_dict(), "ema": {"module": network.state_dict()}})
    loaded = load_network(small_config(), path, "cpu")
    assert equal(loaded, network)
    assert capsys.readouterr().err == f"checkpoint {path}: the averaged weights are used, 'ema.module'\n"


def test_a_backbone_of_a_larger_network_loads(tmp_path):
    given, network = Classifier("fc"), Classifier("keypoints")
    path = saved(tmp_path / "wrapped.pth", prefixed(given.state_dict(), "model.image_encoder.") | {"model.text.weight": torch.ones(1)})
    assert len(load_backbone(network, path)[0]) == 7 and equal(network.trunk, given.trunk)


def test_a_network_with_an_attribute_named_as_a_prefix_loads(tmp_path):
    given, network = (nn.Sequential(OrderedDict(model=nn.Conv2d(3, 4, 1))) for _ in range(2))
    load_weights(network, saved(tmp_path / "own.pth", given.state_dict()))
    assert equal(network, given)


# Errors


def test_missing_unknown_and_reshaped_tensors_are_counted_and_named(network, tmp_path):
    before = copied(network)
    weights = {name: tensor for name, tensor in before.items() if not name.startswith("front.stem.")}
    weights |= {"pre.spare.weight": torch.zeros(1), "stages.0.predictions.0.bias": torch.zeros(7)}
    path = saved(tmp_path / "odd.pth", weights)
    with pytest.raises(UserError) as error:
        load_weights(network, path)
    assert str(error.value) == (
        f"checkpoint {path}: does not fit the configured network: "
        "5 tensors missing (front.stem.conv.weight, front.stem.bn.weight, front.stem.bn.bias, ...); "
        "1 tensors unknown (pre.spare.weight); 1 tensors of another shape (stages.0.predictions.0.bias (7,) for (50,))"
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())  # nothing was half loaded


@pytest.mark.parametrize("load", [load_weights, init_weights, load_backbone])
def test_prefixes_that_do_not_fit_are_named(network, tmp_path, load):
    weights = prefixed(network.state_dict(), "student.") | prefixed(network.state_dict(), "teacher.")
    message = r"none of its \d+ tensors has a name of the network's; its names begin with student\., teacher\., the network's with front"
    with pytest.raises(UserError, match=rf"two\.pth: does not fit the configured network: {message}"):
        load(random_network(), saved(tmp_path / "two.pth", weights))


TWICE = {f"{prefix}front.stem.conv.weight": torch.zeros(1) for prefix in ("", "module.")}


@pytest.mark.parametrize(
    "content, message",
    [
        ({"epoch": 3, "loss": 1}, "has no 'weights', a dictionary of tensors, under any usual key; it holds only epoch, loss"),
        *((content, "has no 'weights'.* only weights") for content in ({"weights": {}}, {"weights": {"a": 1}}, {"weights": [1]})),
        ({}, "has no 'weights'.* only nothing"),
        ([1, 2], "holds a list"),
        (torch.ones(3), "holds a Tensor"),
        (Path("a"), "has no 'weights'"),
        (TWICE, "holds some tensors twice"),
        ({"model": {"a": torch.ones(1)}, "net": {"a": torch.ones(1)}}, r"holds the weights of several networks \(model, net\); save one"),
        ({"ema": None, "model": Classifier("fc"), "epoch": 3}, r"has no 'weights'.* pickled network, [\w.]+\.Classifier: .*state_dict"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_without_weights_or_with_two_is_refused(network, tmp_path, content, message):
    with pytest.raises(UserError, match=rf"other\.pth: {message}"):
        load_weights(network, saved(tmp_path / "other.pth", content))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_torchscript_archive_is_named(tmp_path):
    torch.jit.trace(nn.Conv2d(3, 4, 1), torch.ones(1, 3, 2, 2)).save(tmp_path / "traced.pt")
    with pytest.raises(UserError, match=r"traced\.pt: cannot be read, it is a TorchScript archive; .*state dict"):
        read_checkpoint(tmp_path / "traced.pt")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "damaged.safetensors"])
def test_damaged_files_are_an_error_of_one_line(tmp_path, name):
    weights, path = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).state_dict(), tmp_path / name
    with pytest.raises(UserError, match=f"{name}: not found"):
        read_checkpoint(path)
    if path.suffix == ".pth":
        saved(path, {"weights": weights, "epoch": 1}, name == "legacy.pth")
    else:
        save_file(weights, path)
    whole = path.read_bytes()
    for content in (*(whole[:length] for length in range(0, len(whole) - 1, 149)), b"no tensors " * 9, b"\xff" * 99):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: cannot be read, cut short, damaged"):
            read_checkpoint(path)
    for index in range(0, min(len(whole), 1500), 15):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 0x55]) + whole[index + 1 :])
        try:
            read_checkpoint(path)  # a changed number is no error
        except UserError as error:
            assert "\n" not in str(error)


def test_only_a_resume_compares_checksums(network, tmp_path):
    """Checksums need the whole file, which holds three times the weights."""
    path = tmp_path / "last.pth"
    save_checkpoint(path, weights=network.state_dict())
    whole = bytearray(path.read_bytes())
    value = network.state_dict()["front.stem.conv.weight"].numpy().tobytes()
    whole[whole.index(value)] ^= 1
    path.write_bytes(whole)
    load_weights(random_network(), path)
    with pytest.raises(UserError, match=r"last\.pth: cannot be read, cut short, damaged"):
        find_checkpoint(tmp_path, "auto")


@pytest.mark.parametrize("metadata", ["[1", "[1]"])
def test_safetensors_of_other_tools_hold_weights_alone(tmp_path, metadata):
    path = tmp_path / "foreign.safetensors"
    save_file({"some.weight": torch.zeros(3)}, path, {"format": "pt"})
    assert read_checkpoint(path).keys() == {"weights"}
    with pytest.raises(UserError, match=r"foreign\.safetensors: holds no configuration"):
        config_for(path)
    save_file({"some.weight": torch.zeros(3)}, path, {"simplepose": metadata})
    with pytest.raises(UserError, match=r"foreign\.safetensors: (cannot be read|metadata: not valid JSON)"):
        read_checkpoint(path)


# Fine-tuning


def test_the_same_skeleton_takes_everything_and_another_network_is_an_error(network, tmp_path):
    path, tuned = saved(tmp_path / "coco.pth", network.state_dict()), random_network()
    assert init_weights(tuned, path) == (list(network.state_dict()), [])
    assert equal(tuned, network)
    with pytest.raises(UserError, match=r"does not fit the configured network: \d+ tensors missing \(stages\.1\.merge_features"):
        init_weights(build_model(small_config("model.stages=3")), path)


def test_a_backbone_without_batch_counters_loads_and_half_a_backbone_does_not(tmp_path):
    """Files of PyTorch before 0.4.1 have no `num_batches_tracked`."""
    given, network = Classifier("fc"), Classifier("keypoints")
    weights = {name: tensor for name, tensor in given.state_dict().items() if "tracked" not in name}
    taken, fresh = load_backbone(network, saved(tmp_path / "classifier.pth", weights))
    assert (len(taken), len(fresh), equal(network.trunk, given.trunk)) == (6, 3, True)
    del weights["trunk.1.running_var"]
    with pytest.raises(UserError, match=r"does not fit the network's backbone: 1 tensors missing \(trunk\.1\.running_var\)"):
        load_backbone(network, saved(tmp_path / "classifier.pth", weights))
    with pytest.raises(UserError, match="no weights to be downloaded for this network; name a file"):
        load_backbone(network, "timm")
