"""Compare DEKR's networks, loss, training samples and decoding with the published ones."""

import json

import numpy as np
import pytest
import torch
from places import ROOT
from reference import FIXTURES, assert_near, case_arrays, needs_fixtures, reference_weights

from config import Config, load_config
from data.augment import Augmentation
from data.datasets.dekr import DekrDataset
from data.hdf5 import TrainingHDF5
from data.targets.dekr import render_targets
from data.transforms import crop_matrix
from losses import build_loss
from models import build_model
from utils.checkpoint import config_for, load_weights
from utils.preprocess.dekr import input_matrix, input_size
from utils.systems.dekr import decode, predict_with_flip
from utils.systems.dekr_matching import FIT_REACH


def config_of(name: str, *overrides: str) -> Config:
    """The configuration of a recipe such as w32_coco."""
    return load_config(ROOT / "config" / f"dekr_{name}.yaml", overrides)


@pytest.mark.parametrize(("name", "parameters"), [("w32_coco", 29_561_182), ("w48_coco", 65_684_590), ("w32_crowdpose", 29_522_071)])
def test_network_has_the_published_size(name, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in build_model(config_of(name)).parameters()) == parameters


@needs_fixtures
@pytest.mark.slow
@pytest.mark.parametrize("name", ["w32_coco", "w48_coco", "w32_crowdpose"])
@torch.inference_mode()
def test_network_with_a_published_checkpoint(name, tmp_path):
    """In float64, so that the only rounding is the reference's own."""
    network = build_model(config_of(name)).double().eval()
    weights = {f"module.{key}": tensor for key, tensor in reference_weights(f"dekr_{name}").items()}
    torch.save({"state_dict": weights}, tmp_path / "published.pth")
    assert config_for(tmp_path / "published.pth") == config_of(name)
    load_weights(network, tmp_path / "published.pth")  # fills every tensor

    def as_input(image: np.ndarray) -> torch.Tensor:  # from normalized RGB to BGR in [0, 1]
        return (torch.from_numpy(image).double() * network.normalize.std + network.normalize.mean).flip(1)

    with np.load(FIXTURES / f"dekr_{name}_forward.npz") as record:
        for what, output in zip(("heatmap", "offset"), network(as_input(record["image"]))):
            assert_near(f"network {name}, {what}", output, record[what], 1e-4, relative=True)
    if name != "w32_coco":
        return
    with np.load(FIXTURES / f"dekr_{name}_flip.npz") as record:
        heat, offset = predict_with_flip(network, as_input(record["image"]), config_of(name))
        height, width = heat.shape[2:]
        pixel = np.stack(np.meshgrid(np.arange(width), np.arange(height)))
        poses = (pixel - offset.numpy().reshape(-1, 2, height, width)).reshape(record["posemap"].shape)
        assert_near("network with flip, heatmap", heat, record["heatmap"], 1e-4, relative=True)
        # The reference weights place a deformable convolution's kernel points hundreds of pixels apart, where the reference's float32
        # rounds to more than the tolerance in one position of 10,000. So one of 1,000 is not compared.
        gaps = np.abs(poses - record["posemap"])
        assert_near("network with flip, poses", np.quantile(gaps, 0.999) / np.abs(record["posemap"]).max(), 0, 1e-4)


@needs_fixtures
def test_targets_and_loss():
    config, names = config_of("w32_coco"), ("heatmap", "weight", "offset", "offset_weight")
    with np.load(FIXTURES / "dekr_targets_losses.npz") as file:
        record = dict(file)
    targets = render_targets(record["joints"], record["area"], record["heatmap"].shape[1:], config)
    for name, target in zip(names, targets, strict=True):
        assert_near(f"targets: {name}", target, record[name], 1e-4)
    predictions = tuple(torch.from_numpy(record[f"pred_{name}"]) for name in ("heatmap", "offset"))
    heatmap, offset = build_loss(config).terms(predictions, *(torch.from_numpy(record[name])[None] for name in names))
    assert_near("loss: heatmap", heatmap / config.loss.heatmap_weight, record["heatmap_loss"], 1e-5, relative=True)
    assert_near("loss: offset", offset / config.loss.offset_weight, record["offset_loss"], 1e-5, relative=True)


@needs_fixtures
@pytest.mark.parametrize("number", range(4))
def test_training_sample(number, coco_mini_hdf5, coco_mini_annotations):
    config = config_of("w32_coco", "targets.published_faults=true")
    with np.load(FIXTURES / "dekr_samples.npz") as record:
        case, reference = json.loads(str(record["cases"]))[number], case_arrays(record, number)
    dataset, side = DekrDataset(TrainingHDF5(coco_mini_hdf5, config.skeleton), config), config.data.input_size[0]
    image_id = next(image["id"] for image in coco_mini_annotations["images"] if image["file_name"] == case["file"])
    (index,) = np.flatnonzero(dataset.people.image_ids == image_id).tolist()
    augmentation = Augmentation(case["rotation"], case["scale"], (case["dx"], case["dy"]), case["flip"])
    height, width = dataset.people.sizes[index].tolist()
    crop = np.array([width / 2 + case["dx"], height / 2 + case["dy"]]), min(height, width) * case["scale"]
    sample = dataset.crop(index, augmentation)
    mask, areas = sample.mask_miss.numpy(), sample.person_area.numpy()
    annotated = (reference["joints"][:, :-1, 2] > 0).any(1)  # the reference also lists people without keypoints
    expected = reference["joints"][annotated]
    labeled = expected[..., 2] > 0
    assert_near("sample: affine of the input", crop_matrix(*crop, (side, side), case["rotation"]), reference["affine_input"], 1e-9)
    assert_near(
        "sample: affine of the maps", crop_matrix(*crop, (side // 4, side // 4), case["rotation"]), reference["affine_output"], 1e-9
    )
    assert_near("sample: mask", mask, reference["mask"].reshape(mask.shape) > 0, 0)
    assert_near("sample: keypoints, px", sample.keypoints.numpy(), expected[..., :2] * labeled[..., None], 1e-3)
    assert_near("sample: labeled", sample.labeled.numpy(), labeled, 0)
    assert_near("sample: areas, relative", areas / reference["size"][annotated], np.ones_like(areas), 1e-6)


@needs_fixtures
def test_decoding_of_noise():
    with np.load(FIXTURES / "dekr_decode.npz") as record:
        poses, scores = decode([(1.0, record["heatmap"], record["offset"])], (512, 512), config_of("w32_coco"))
        assert_near("decoding of noise: keypoints, px", poses[..., :2], record["poses"][..., :2], 0.02)
        assert_near("decoding of noise: keypoint scores", poses[..., 2], record["poses"][..., 2], 1e-4)
        assert_near("decoding of noise: scores", scores, record["scores"], 1e-4)


@needs_fixtures
@pytest.mark.parametrize("case", [0, 1])
@pytest.mark.parametrize(
    ("name", "scales", "overrides"),
    [
        ("single", [1.0], []),
        ("multi", [2.0, 1.0, 0.5], ["inference.scales=[0.5, 1, 2]"]),
        ("single_matched", [1.0], ["inference.match=true"]),
    ],
)
def test_decoding_of_photos(case, name, scales, overrides):
    config = config_of("w32_coco", "data.input_size=[256, 256]", *overrides)
    with np.load(FIXTURES / "dekr_decode_people.npz") as record:
        reference = case_arrays(record, case)
    size = tuple(reference["size"].tolist())
    maps = [(s, *(reference[f"{kind}_x{s:g}"].astype(np.float32) for kind in ("heatmap", "offset"))) for s in scales]
    poses, scores = decode(maps, size, config)
    expected, what = reference[f"{name}_poses"], f"decoding, case {case}, {name}"
    compared = np.ones(expected.shape[:2], bool)
    if name == "single_matched":
        # Where the input's border cuts a peak's window off, the published fit confuses its rows and columns.
        sides = input_size(size, 1.0, config)
        matrix = input_matrix(size, sides)
        points = expected[..., :2] * matrix[0, 0] + matrix[:, 2]
        compared = ((points > FIT_REACH) & (points < np.array(sides[::-1]) - 1 - FIT_REACH)).all(-1)
    assert poses.shape == expected.shape and compared.any()
    tolerance = 0.1 if name == "single_matched" else 0.02
    assert_near(f"{what}: keypoints, px", poses[compared][:, :2], expected[compared][:, :2], tolerance)
    assert_near(f"{what}: keypoint scores", poses[..., 2], expected[..., 2], 1e-4)
    assert_near(f"{what}: scores", scores, reference[f"{name}_scores"], 1e-4)
