"""Compare networks with checkpoints of MMPose, their preprocessing, flip test and decoding with MMPose's."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from places import ROOT, SHARED
from reference import FIXTURES, assert_near, case_arrays, empty_weights, needs_fixtures, reference_weights

from config import Config, load_config
from models import build_model
from models.dekr_mmpose import convert_mmpose
from models.dekr_rescoring import RescoringNet
from utils.checkpoint import config_for, load_weights
from utils.preprocess import dekr as preprocess
from utils.systems import build_decoder, dekr, simple_baselines

pytestmark = needs_fixtures

DEKR = ("dekr_w32_coco", "dekr_w32_crowdpose")
RESNETS = {"res50_coco_256x192": "r50_256x192", "res50_mpii_256x256": "r50_mpii_256x256"}  # reference -> recipe
PHOTOGRAPHS = {"res50_coco_256x192": "coco_mini/train2017", "res50_mpii_256x256": "mpii"}
OTHERS = {  # networks without a reference answer
    "dekr_w48_coco": "dekr_w48_coco",
    "dekr_w48_crowdpose": "dekr_w48_crowdpose",
    "res101_coco_256x192": "simple_baselines_r101_256x192",
    "res152_coco_384x288": "simple_baselines_r152_384x288",
}


def config_of(recipe: str, *overrides: str) -> Config:
    """The configuration of a recipe such as dekr_w32_coco."""
    return load_config(ROOT / "config" / f"{recipe}_mmpose.yaml", overrides)


def reference_file(name: str, path: Path) -> Path:
    """A checkpoint in MMPose's form, filled as the reference network was."""
    weights = reference_weights(f"mmpose_{name}")
    weights |= {key: tensor * 0.001 for key, tensor in weights.items() if "transform_matrix_conv" in key}
    torch.save({"meta": {"epoch": 1}, "state_dict": weights}, path)
    return path


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / f"mmpose_{name}.npz") as record:
        return dict(record)


def reversed_offset(displacement: np.ndarray) -> np.ndarray:
    return -displacement.astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DEKR, *RESNETS])
@torch.inference_mode()
def test_network(name, tmp_path):
    """The normalized input, and the outputs with and without the flip test."""
    config, record = config_of(name if name in DEKR else f"simple_baselines_{RESNETS[name]}"), arrays(f"{name}_forward")
    path, network = reference_file(name, tmp_path / "mmpose.pth"), build_model(config).eval()
    load_weights(network, path)
    if name in DEKR:
        assert config_for(path) == config
        assert build_decoder(network, config).rescoring is not None
        assert build_decoder(network, config_of(name, "inference.own_rescoring=false")).rescoring is None
    images = torch.from_numpy(record["image"]).permute(2, 0, 1)[None] / 255
    assert_near(f"{name}: input", network.normalize(images)[0], record["tensor"], 1e-5, relative=True)
    if name in DEKR:
        predict, outputs = network.predict, []
        network.predict = lambda both: outputs.extend(predict(both)) or tuple(outputs)
        averages = dekr.predict_with_flip(network, images, config)
    else:
        outputs = [network(torch.cat([images, images.flip(3)]))]
        averages = [simple_baselines.average_flip(outputs[0], config)]
    for (kind, sign), output, averaged in zip((("heatmap", 1), ("displacement", -1)), outputs, averages):
        assert_near(f"{name}: {kind}", sign * output[0], record[kind], 1e-4, relative=True)
        assert_near(f"{name}: {kind} with flip", sign * averaged[0], record[f"flip_{kind}"], 1e-4, relative=True)


@pytest.mark.parametrize("name", OTHERS)
def test_every_tensor_has_its_place(name):
    with torch.device("meta"):
        network = build_model(config_of(OTHERS[name]))
        weights = network.convert_weights(empty_weights(f"mmpose_{name}"))
        network.add_optional(weights)
    converted = {network.convert_key(key): tensor.shape for key, tensor in weights.items()}
    assert converted == {key: tensor.shape for key, tensor in network.state_dict().items()}


@pytest.mark.parametrize("name", RESNETS)
def test_crop(name):
    record, config = arrays(f"{name}_forward"), config_of(f"simple_baselines_{RESNETS[name]}")
    photograph = SHARED / "data" / PHOTOGRAPHS[name] / str(record["photograph"])
    with torch.device("meta"):
        decoder = build_decoder(build_model(config), config)
    crops = decoder.preprocess([cv2.imread(str(photograph))], [record["box"][None].astype(float)])
    assert_near(f"{name}: crop", crops.pixels[0], record["image"], 1)
    assert_near(f"{name}: crop's center, px", crops.centers[0], record["input_center"], 1e-3)
    assert_near(f"{name}: crop's size, px", crops.sizes[0], record["input_scale"], 1e-3)


def test_resize():
    config, record = config_of("dekr_w32_coco"), arrays("dekr_decode")
    sizes = [tuple(size) for size in record["resize_image_size"].tolist()]
    inputs = [preprocess.input_size(size, 1.0, config) for size in sizes]
    assert_near("input sizes", inputs, record["resize_input_size"], 0)
    assert_near("matrices", [preprocess.input_matrix(*pair, exact=True) for pair in zip(sizes, inputs)], record["resize_matrix"], 1e-4)


def rescoring_net(case: int) -> RescoringNet:
    name = "mmpose_dekr_w32_crowdpose" if case == 3 else "mmpose_dekr_w32_coco"
    weights = reference_weights(name, "head.rescore_net.")
    net = RescoringNet(config_of(name.removeprefix("mmpose_")).skeleton, of_heatmaps=True)
    net.load_state_dict({key.removeprefix("rescoring."): tensor for key, tensor in convert_mmpose(weights).items()})
    return net


@pytest.mark.parametrize("case", range(4))
def test_decoding_of_dekr(case):
    record = case_arrays(arrays("dekr_decode"), case)
    side = record["input_side"]
    config = config_of("dekr_w32_crowdpose" if case == 3 else "dekr_w32_coco", f"data.input_size=[{side}, {side}]")
    size = tuple(record["image_size"].tolist())
    if case < 2:
        with np.load(FIXTURES / "dekr_decode_people.npz") as people:
            maps = [people[f"case{case}_{kind}_x1"].astype(np.float32) for kind in ("heatmap", "offset")]
    else:
        maps = [record["heatmap"].astype(np.float32), reversed_offset(record["displacement"])]
    compare_people(f"case {case}", maps, size, config, record, "", rescoring_net(case))
    if case >= 2:
        mirrored = [record["mirrored_heatmap"].astype(np.float32), reversed_offset(record["mirrored_displacement"])]
        pairs = (torch.from_numpy(np.stack(pair)) for pair in zip(maps, mirrored))
        averaged = [maps[0].numpy() for maps in dekr.average_flip(*pairs, config)]
        compare_people(f"case {case} with flip", averaged, size, config, record, "flip_", rescoring_net(case))


def compare_people(
    what: str, maps: list, size: tuple[int, int], config: Config, record: Mapping[str, np.ndarray], prefix: str, net: RescoringNet
) -> None:
    keypoints, scores = dekr.decode([(1.0, *maps)], size, config)
    rescored, new_scores = dekr.decode([(1.0, *maps)], size, config, net)
    assert_near(f"{what}: keypoints, px", keypoints[..., :2], record[f"{prefix}keypoints"], 0.02)
    assert_near(f"{what}: keypoint scores", keypoints[..., 2], record[f"{prefix}scores"], 1e-4)
    assert_near(f"{what}: scores", scores, record[f"{prefix}scores"].mean(1), 1e-4)
    assert_near(f"{what}: rescored keypoints, px", rescored[..., :2], record[f"{prefix}keypoints"], 0.02)
    assert_near(f"{what}: rescored keypoint scores", rescored[..., 2], record[f"{prefix}rescored_scores"], 1e-4)
    assert_near(f"{what}: rescored scores", new_scores, record[f"{prefix}rescored_scores"].mean(1), 1e-4)


def test_decoding_of_resnets():
    config, record = config_of("simple_baselines_r50_256x192"), arrays("res_decode")
    straight, mirrored = (torch.from_numpy(record[name].astype(np.float32)) for name in ("heatmap", "mirrored_heatmap"))
    averaged = simple_baselines.average_flip(torch.cat([straight, mirrored]), config)
    for prefix, maps in (("", straight), ("flip_", averaged)):
        keypoints = simple_baselines.decode(maps, record["input_center"], record["input_scale"], config.inference.subpixel)
        expected, present = record[f"{prefix}keypoints"], record[f"{prefix}scores"] > 0
        assert_near(f"{prefix}keypoints, px", keypoints[present][:, :2], expected[present], 0.02)
        assert_near(f"{prefix}scores", np.maximum(keypoints[..., 2], 0), np.maximum(record[f"{prefix}scores"], 0), 1e-4)
