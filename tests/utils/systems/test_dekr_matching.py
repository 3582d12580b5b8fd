"""DEKR's keypoints moved to heatmap peaks, and its rescoring in the decoder."""

import numpy as np
import pytest
import torch
from scenes import SceneNetwork, poses_in_boxes, scene_image, settings
from torch import Tensor
from torch.nn import functional as F

from config.load import load_skeleton
from models.dekr_rescoring import RescoringNet
from utils.systems.dekr import DekrDecoder, sample_heatmaps, save_rescoring
from utils.systems.dekr_matching import fit_gaussian, match_in_window, snap_to_peaks, upsample_heatmaps

COCO17 = load_skeleton("coco17")
SIZE = (60, 80)  # height, width of maps


def gaussians(points: np.ndarray, sigma: float = 8, height: float = 1.0) -> Tensor:
    """Return (1, K, h, w): an isotropic Gaussian at each keypoint (K, 2)."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    squared = (x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2
    return torch.from_numpy(height * np.exp(-squared / (2 * sigma**2)))[None].float()


@pytest.mark.parametrize("factor", [4.0, 4 / 0.75])
def test_sampled_values_are_those_of_the_upsampled_maps(factor):
    """Beyond the borders, those of the nearest pixel."""
    g = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 3, 6, 9, generator=g)
    poses = torch.rand(2, 5, 3, 2, generator=g) * torch.tensor([9 * factor + 20, 6 * factor + 20]) - 10
    large = upsample_heatmaps(maps, factor)
    assert large.shape[2:] == (int(6 * factor), int(9 * factor))
    refined = sample_heatmaps(poses, factor, maps)
    for n, p, k in np.ndindex(2, 5, 3):
        x, y = np.floor(poses[n, p, k].numpy()).astype(int).clip(0, (large.shape[3] - 1, large.shape[2] - 1))
        assert refined[n, p, k].item() == pytest.approx(large[n, k, y, x].item(), abs=1e-4)


def test_keypoints_move_to_the_maximum_of_heatmap_times_window():
    """Between pixels, as far as the window reaches, not to another person's higher peak, and nowhere where the heatmap is empty."""
    points = np.array([[20.3, 30.6], [60.0, 20.2], [40.0, 40.0]])
    maps = gaussians(points, sigma=2, height=0.5)
    maps[0, 0] += gaussians(np.array([[50.0, 30.0]]), sigma=2)[0, 0]
    maps[0, 2] = 0
    poses = torch.from_numpy(points + [(2, -1), (-1.5, 2), (0, 0)])[None, None].float()
    moved, values = match_in_window(poses * 4 + 2, maps, factor=4, shift=0.5, window=0.03)
    np.testing.assert_allclose(moved[0, 0, :2], points[:2] * 4 + 2, atol=2)
    np.testing.assert_allclose(moved[0, 0, 2], poses[0, 0, 2] * 4 + 2)
    variance = 0.03 * float((poses.amax(2) - poses.amin(2)).square().sum())
    y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    window = torch.exp(-((x - poses[0, 0, 0, 0]) ** 2 + (y - poses[0, 0, 0, 1]) ** 2) / variance)
    assert values[0, 0, 0].item() == pytest.approx((maps[0, 0] * window).max().item())
    assert values[0, 0, 2] == 0
    outside, empty = match_in_window(torch.full((1, 1, 3, 2), -500.0), maps, factor=4, shift=0.5, window=0.03)
    assert (outside == -500).all()
    assert (empty == 0).all()


def test_upsampling_aligns_corners_and_repeats_the_last_pixel():
    ramp = torch.arange(6.0).expand(1, 1, 4, 6)
    (row,) = upsample_heatmaps(ramp, 4)[0, 0, :1].tolist()
    assert row == pytest.approx([5 * i / 20 for i in range(21)] + [5, 5, 5])
    assert upsample_heatmaps(ramp.transpose(2, 3), 4)[0, 0, :, 0].tolist() == pytest.approx(row)


@pytest.mark.parametrize(("sigma", "height"), [(5, 1), (8, 0.02), (12, 30)])
def test_the_center_of_a_gaussian_is_fitted(sigma, height):
    """Of any width and height, near borders and in corners too."""
    rng = np.random.default_rng(0)
    inner, border = rng.uniform((8, 8), (70, 50), (20, 2)), rng.uniform((0, 0), (79, 59), (20, 2))
    border[:5, 0], border[5:10, 0], border[10:15, 1], border[15:, 1] = 0.3, 78.6, 0.4, 58.7
    points = np.concatenate([inner, border, [[0.2, 0.3], [78.8, 58.9]]])
    peaks = torch.from_numpy(points.round().astype(np.int64))[None, None]
    refined = fit_gaussian(gaussians(points, sigma, height), peaks)
    assert refined.shape == (1, 1, len(points), 2)
    np.testing.assert_allclose(refined[0, 0], points, atol=0.1)


@pytest.mark.parametrize("kind", ["one pixel", "bowl", "negative"])
def test_a_peak_without_a_gaussian_stays(kind):
    heat = 1 / gaussians(np.array([[33.0, 22.0]])) if kind == "bowl" else torch.full((1, 1, *SIZE), -1.0 if kind == "negative" else 0)
    heat[0, 0, 20, 30] += kind == "one pixel"
    assert fit_gaussian(heat, torch.tensor([[[[30, 20]]]])).flatten().tolist() == [30, 20]


def test_keypoints_move_to_the_nearest_peak_of_their_own_map():
    """Without a peak within the distance a keypoint stays; a low score takes the peak's whole pixel."""
    settings_ = settings("inference.match_distance=10", "inference.match_threshold=0.3").inference
    centers = np.array([[20.3, 30.4], [60.25, 20.6], [40.1, 45.2], [12.4, 12.4]])
    maps = torch.maximum(gaussians(centers, 3), gaussians(centers + (14, 0), 3, 0.9))  # a second peak beside each
    displaced = torch.tensor(centers + [(-5, 4), (8, 1), (-9, -9), (2, 2)])
    poses = torch.cat([displaced, torch.tensor([[0.9], [0.9], [0.9], [0.3]])], 1)[None, None].float()
    refined = snap_to_peaks(poses, [maps], settings_)[0, 0]
    assert refined[0].tolist() == pytest.approx(centers[0], abs=0.3)
    assert refined[1].tolist() == pytest.approx(centers[1] + (14, 0), abs=0.3)
    assert refined[2].tolist() == poses[0, 0, 2, :2].tolist()
    assert refined[3].tolist() == [12, 12]


def test_a_peak_is_the_maximum_of_5_x_5_pixels():
    maps = torch.zeros(1, 1, *SIZE)
    maps[0, 0, 20, 30], maps[0, 0, 20, 32], maps[0, 0, 20, 35] = 0.9, 0.8, 0.7
    poses = torch.tensor([[[[31.8, 20.0, 0.9]], [[34.0, 20.0, 0.9]]]])
    refined = snap_to_peaks(poses, [maps], settings("inference.match_threshold=1").inference)
    assert refined.flatten().tolist() == [30, 20, 35, 20]
    corner = torch.tensor([[[[3.5, 2.5, 0.9]]]])  # whose pixels fill up the list of peaks, where there are none
    assert snap_to_peaks(corner, [maps - 1], settings("inference.match_distance=40").inference).flatten().tolist() == [3.5, 2.5]


def test_scales_of_different_sizes_are_averaged():
    points = np.array([[30.3, 20.6]])
    one, other = gaussians(points), F.pad(gaussians(points), (0, 3, 0, 2))
    pose = torch.tensor([[[[33.0, 23.0, 0.9]]]])
    refined = snap_to_peaks(pose, [one, other], settings().inference)
    assert refined.flatten().tolist() == pytest.approx(points[0], abs=0.1)


def test_people_are_ranked_by_the_rescoring_network(tmp_path):
    """The network predicts the OKS 1 - 0.9 times the nose's score, which changes the order."""
    net = RescoringNet(COCO17)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.l1.weight[0, -17] = net.l2.weight[0, 0] = net.l3.bias[0] = 1
        net.l3.weight[0, 0] = -0.9
    save_rescoring(tmp_path / "rescore.pth", net, COCO17)
    size, plain = (256, 256), settings()
    people = poses_in_boxes(plain, (8, 16, 88, 96), (140, 16, 88, 96), (60, 140, 88, 96))
    network = SceneNetwork(plain, [people], [size], strengths=[0.5, 0.9, 0.7])
    (before, scores), (after, rescored) = (
        DekrDecoder(network, config)([scene_image(*size)])[0]
        for config in (plain, settings(f"inference.rescore={tmp_path / 'rescore.pth'}"))
    )
    expected = (1 - 0.9 * before[:, 0, 2]) * scores
    order = np.argsort(-expected)
    assert order.tolist() != [0, 1, 2]
    np.testing.assert_allclose(rescored, expected[order], rtol=1e-4)
    np.testing.assert_allclose(after, before[order], atol=1e-4)
