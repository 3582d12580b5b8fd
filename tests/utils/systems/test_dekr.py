"""DEKR's decoder: its network inputs, and the people in exact maps of known poses."""

import numpy as np
import pytest
import torch
from scenes import MOVENET_RECIPE, SceneNetwork, poses_in_boxes, rendered_maps, scene_image, settings, two_people
from torch import Tensor, nn

from config.systems.dekr import DekrConfig
from utils.preprocess.dekr import as_input, input_matrix, input_size
from utils.systems.dekr import DekrDecoder, decode, pose_nms, pose_overlaps, predict_with_flip, sample_bilinear, select_poses

MMPOSE = [  # as in config/dekr_w32_coco_mmpose.yaml
    *("inference.exact_resize=true", "inference.pad_multiple=32", "inference.flip_shift=maps", "inference.center_window=5"),
    *("inference.keypoint_heat=bilinear", "inference.nms_order=heat"),
]
SIDE = 256  # pixels of the square input of `square_maps`


def assert_same_poses(predicted: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Each expected pose (P, K, 2) is predicted once, in any order; predicted (P, K, 3)."""
    assert predicted.shape == (*expected.shape[:2], 3)
    distances = np.linalg.norm(predicted[:, None, :, :2] - expected, axis=3).max(2)
    assert sorted(distances.argmin(1)) == list(range(len(expected)))
    assert distances.min(1).max() < tolerance, distances


def square_maps(config: DekrConfig, poses: np.ndarray, scale: int = 1, **options) -> tuple[float, Tensor, Tensor]:
    """The output at a scale for poses (P, K, 2) in pixels of an image of SIDE x SIDE."""
    side = SIDE // 4 * scale
    return (float(scale), *rendered_maps(poses / 4 * scale, (side, side), config, **options))


def decode_square(config: DekrConfig, *outputs: tuple[float, Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    return decode(outputs, (SIDE, SIDE), config)


@pytest.mark.parametrize(
    ("size", "overrides"),
    [
        ((251, 160), ["inference.scales=[0.75, 1]"]),
        ((9, 13), ["inference.scales=[0.5, 1, 2]", "skeleton=mpii"]),
        ((600, 811), ["inference.flip=false"]),
        ((333, 500), MMPOSE),
    ],
)
def test_keypoints_are_decoded_at_any_image_size_for_any_skeleton(size, overrides):
    config = settings(*overrides)
    poses = two_people(config, size)
    ((keypoints, scores),) = DekrDecoder(SceneNetwork(config, [poses], [size]), config)([scene_image(*size)], [np.zeros((0, 4))])
    assert_same_poses(keypoints, poses, tolerance=0.2)
    assert (keypoints[..., 2] > 0.75).all() and (keypoints[..., 2] <= 1).all()
    assert scores == pytest.approx(keypoints[..., 2].mean(1))


@pytest.mark.parametrize(("size", "sides"), [((160, 251), [(164, 256), (328, 512)]), ((512, 256), [(256, 128), (512, 256)])])
def test_map_pixels_in_the_middle_of_theirs_and_scales_merged_by_oks(size, sides):
    """MoveNet's configuration: the long side sets the scale, no shift in the flip test, no person twice."""
    config = settings(recipe=MOVENET_RECIPE)
    poses = two_people(config, size)
    network = SceneNetwork(config, [poses], [size])
    ((keypoints, _),) = DekrDecoder(network, config)([scene_image(*size)])
    assert_same_poses(keypoints, poses + 0.5, tolerance=0.2)  # positions from the image's corner
    assert network.input_shapes == [(2, 3, -(-height // 32) * 32, -(-width // 32) * 32) for height, width in sides]
    for least, people in ((0, 4), (1000, 2)):  # smaller people count only at the largest scale
        merging = "inference.nms_oks=1", f"inference.min_person_size={least}"
        ((keypoints, _),) = DekrDecoder(network, settings(*merging, recipe=MOVENET_RECIPE))([scene_image(*size)])
        assert len(keypoints) == people


def test_a_batch_of_mixed_sizes_equals_single_images():
    config = settings("inference.scales=[0.5, 1]")
    sizes = [(160, 240), (240, 160), (320, 480)]
    poses = [two_people(config, size) for size in sizes]
    network = SceneNetwork(config, poses, sizes)
    decoder, images = DekrDecoder(network, config), [scene_image(*size, number) for number, size in enumerate(sizes)]
    together = decoder(images)
    assert sorted(shape for shape in network.input_shapes if min(shape[2:]) == 256) == [(2, 3, 384, 256), (4, 3, 256, 384)]
    for image, (keypoints, scores), expected in zip(images, together, poses):
        ((single, single_scores),) = decoder([image])
        np.testing.assert_allclose(keypoints, single, atol=1e-4)
        np.testing.assert_allclose(scores, single_scores, atol=1e-5)
        assert_same_poses(keypoints, expected, tolerance=0.3)
    assert decoder([]) == []


def test_an_image_without_people_gives_empty_arrays():
    config, size = settings("inference.scales=[0.5, 1]", "inference.match=true"), (160, 240)
    poses = two_people(config, size)
    decoder = DekrDecoder(SceneNetwork(config, [poses[:0], poses], [size, size]), config)
    (keypoints, scores), two = decoder([scene_image(*size, 0), scene_image(*size, 1)])
    assert (keypoints.shape, scores.shape) == ((0, 17, 3), (0,))
    assert (keypoints.dtype, scores.dtype) == (two[0].dtype, two[1].dtype)
    assert len(two[0]) == 2


# Pose NMS and center candidates


def test_several_center_maxima_of_a_person_give_one_pose():
    """A second maximum beside the center, and a center between two pixels, which has four."""
    config = settings()
    (pose,) = poses_in_boxes(config, (40, 30, 120, 200))
    output = square_maps(config, pose[None])
    center = output[1][-1]
    y, x = np.unravel_index(center.argmax(), (64, 64))
    center[y + 3, x - 3] = 2
    assert len(decode_square(config, output)[0]) == 1
    shifted = pose - pose.mean(0) + (130, 130)  # 32.5 map pixels
    output = square_maps(config, shifted[None])
    assert (output[1][-1] == output[1][-1].max()).sum() == 4
    assert_same_poses(decode_square(config, output)[0], shifted[None], tolerance=0.01)


@pytest.mark.parametrize(
    ("overrides", "count"),
    [([], 2), (["inference.nms_distance=0.2"], 1), (["inference.nms_keypoints=17"], 2), (["inference.scales=[1, 2]"], 1)],
)
def test_nms_distance_is_a_fraction_of_the_pose_diagonal(overrides, count):
    """The two poses are 0.14 of their diagonal apart; the default is 0.05, with several scales 0.15."""
    config = settings(*overrides)
    poses = poses_in_boxes(config, (40, 30, 90, 120), (60, 36, 90, 120))
    outputs = [square_maps(config, poses, int(scale)) for scale in config.inference.scales]
    assert len(decode_square(config, *outputs)[0]) == count


@pytest.mark.parametrize("keypoints", [1, 2, 17])
def test_no_person_is_found_twice_where_poses_have_no_extent(keypoints):
    poses = torch.tensor([50, 51, 60.0])[None, :, None, None].expand(1, 3, keypoints, 2)
    assert pose_overlaps(poses, settings().inference)[0].tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_poses_overlap_by_more_than_half_of_the_keypoints():
    """Of 17. The distance depends on each pose's own diagonal."""
    large = torch.linspace(0, 200, 17)[:, None].repeat(1, 2)  # diagonal 283 pixels, 0.05 of it are 14
    for near, overlap in ((8, False), (9, True)):
        other = large.clone()
        other[:near, 0] += 13
        other[near:, 0] += 15.5
        assert pose_overlaps(torch.stack([large, other])[None], settings().inference)[0].tolist() == [[True, overlap], [overlap, True]]
    small = large / 8 + 5  # diagonal 35 pixels, 0.05 of it are 1.8
    mixed = large.clone()
    mixed[:12] = small[:12] + 3
    assert pose_overlaps(torch.stack([mixed, small])[None], settings().inference)[0].tolist() == [[True, True], [False, True]]


def test_pose_nms_keeps_the_highest_value_of_each_group_once():
    overlaps = np.eye(5, dtype=bool)
    overlaps[0, 1] = overlaps[1, 0] = overlaps[2, 1] = overlaps[3, 4] = True
    overlaps[3, 3] = False  # a pose without extent does not overlap itself
    values, present = np.array([0.5, 0.9, 0.8, 0.3, 0.7]), np.array([True, True, True, True, False])
    assert pose_nms(overlaps, values, present, 30).tolist() == [1, 3]
    assert pose_nms(overlaps, values, present, 1).tolist() == [1]
    assert pose_nms(overlaps, values, ~present, 30).tolist() == [4]
    assert pose_nms(overlaps, values, present & False, 30).tolist() == []
    assert sorted(pose_nms(np.eye(5, dtype=bool), values, present, 2).tolist()) == [1, 2]


def test_overlapping_poses_are_gathered_from_the_best_center_or_from_the_best_heat():
    """Of three people in a row, each overlaps the next. The best center is of one end, the best heat at the other."""
    heatmap, offset = torch.zeros(18, 64, 64), torch.zeros(34, 64, 64)
    heatmap[:-1] = torch.linspace(0, 1, 64)
    pose = poses_in_boxes(settings(), (2, 5, 48, 50))[0]
    for number, x in enumerate((20, 23, 26)):
        heatmap[-1, 30, x] = 0.9 - 0.1 * number
        offset[:, 30, x] = torch.from_numpy(np.array([x, 30]) - pose - (3 * number, 0)).flatten()
    for order, numbers in (("center", [1, 2]), ("heat", [2])):
        keypoints, _ = decode([(1.0, heatmap, offset)], (SIDE, SIDE), settings(f"inference.nms_order={order}"))
        assert ((keypoints[:, 0, 0] / 4 - pose[0, 0]) / 3).round().tolist() == numbers


def test_bilinear_heat_is_read_in_the_map_itself():
    """As in MMPose, x of a map of w pixels is read at x w / (w - 1) - 0.5, and outside the map at its border."""
    ramp = torch.linspace(0, 70, 8).repeat(1, 2, 5, 1)
    x = torch.tensor([-3.0, 0.5, 2.1, 3.5, 6.5, 6.9, 90.0])
    poses = torch.stack([x, torch.full_like(x, 2)], 1)[None, :, None].expand(-1, -1, 2, -1) * 4
    expected = (10 * (x * 8 / 7 - 0.5)).clamp(0, 70)
    torch.testing.assert_close(sample_bilinear(poses, 4, ramp), expected[None, :, None].expand(-1, -1, 2))
    torch.testing.assert_close(sample_bilinear(poses.flip(3), 4, ramp.transpose(2, 3)), expected[None, :, None].expand(-1, -1, 2))


def test_max_people_keeps_the_highest_scores():
    config, poses = (
        settings("inference.max_people=2"),
        poses_in_boxes(settings(), *[(x, y, 60, 90) for x, y in ((10, 20), (100, 20), (180, 20), (60, 140))]),
    )
    output = square_maps(config, poses, strengths=[0.3, 0.9, 0.6, 0.5])
    assert_same_poses(decode_square(config, output)[0], poses[[1, 2]], tolerance=0.01)
    assert len(decode_square(settings(), output)[0]) == 4
    several = settings("inference.max_people=2", "inference.scales=[1, 2]")
    assert len(decode_square(several, square_maps(several, poses[[3, 0]], 2), output)[0]) == 2  # in any order of the scales
    more = settings(
        "data.input_size=[32, 32]", "inference.pad_multiple=32", "inference.max_people=100", "inference.match=true"
    )  # than pixels
    pose = poses_in_boxes(more, (4, 2, 20, 28))
    assert_same_poses(decode([(1.0, *rendered_maps(pose / 4, (8, 8), more))], (32, 32), more)[0], pose, tolerance=6)
    for threshold, count in ((0.4, 3), (0.55, 2), (0.9, 0)):  # centers must exceed it
        config = settings(f"inference.centre_threshold={threshold}")
        assert len(decode_square(config, output)[0]) == count


@pytest.mark.parametrize(
    ("size", "apart", "count"),
    [((200, 200), 1, 1), ((200, 200), 2, 2), ((220, 190), 2, 1), ((300, 300), 3, 2), ((310, 300), 3, 1), ((310, 300), 4, 2)],
)
def test_centers_are_maxima_of_a_larger_square_in_larger_maps(size, apart, count):
    heatmap, offset = torch.zeros(18, *size), torch.randn(34, *size, generator=torch.Generator().manual_seed(0)) * 20
    heatmap[-1, 30, 30], heatmap[-1, 30, 30 + apart] = 0.9, 0.8
    for window, expected in ((None, count), (5, 1 + (apart > 2))):
        config = settings("inference.nms_keypoints=17", f"inference.center_window={window or 'null'}")
        assert len(decode([(1.0, heatmap, offset)], (4 * size[0], 4 * size[1]), config)[0]) == expected


# Scores


def test_keypoint_scores_are_center_times_keypoint_value_and_people_are_sorted():
    config, size = settings("inference.flip=false"), (SIDE, SIDE)
    poses, strengths = np.round(poses_in_boxes(config, (8, 16, 88, 96), (140, 16, 88, 96), (60, 140, 88, 96)) / 4) * 4, [0.5, 0.9, 0.7]
    ((keypoints, scores),) = DekrDecoder(SceneNetwork(config, [poses], [size], strengths), config)([scene_image(*size)])
    assert list(scores) == sorted(scores, reverse=True)
    assert_same_poses(keypoints[:1], poses[1:2], 0.2)
    whole, _ = decode_square(config, square_maps(config, poses, strengths=strengths))
    order = np.linalg.norm(whole[:, None, 0, :2] - poses[:, 0], axis=2).argmin(1)
    assert whole[..., 2].max(1) == pytest.approx(np.square(strengths)[order], rel=0.06)


def test_other_scales_are_rescaled_to_the_best_score_of_scale_1():
    """A pose that only scale 2 shows, with much lower values, scores `scale_decay` times the best of scale 1."""
    poses = poses_in_boxes(settings(), (10, 20, 60, 90), (130, 100, 100, 120))
    for decay in (0.9, 0.5):
        config = settings("inference.scales=[1, 2]", f"inference.scale_decay={decay}")
        one, two = square_maps(config, poses[:1]), square_maps(config, poses[1:], 2)
        two[1][-1] *= 0.05
        keypoints, scores = decode_square(config, one, two)
        assert_same_poses(keypoints, poses, tolerance=0.01)
        first = int(np.linalg.norm(keypoints[:, 0, :2] - poses[0, 0], axis=1).argmin())
        # Each pose's keypoint values are the mean of two scales, of which one is empty
        assert (scores[first], scores[1 - first]) == pytest.approx((0.5, 0.5 * decay), abs=0.04)


# The network's input and outputs


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((640, 480), 2, (1408, 1024)),  # 682.7, up to a multiple of 64
        ((480, 640), 0.55, (281, 387)),  # 281.6 x 387.2, rounded down
        ((512, 576), 1, (512, 576)),  # already multiples
        ((512, 577), 1, (512, 640)),
    ],
)
def test_short_side_is_configured_and_long_side_is_rounded_up(size, scale, expected):
    assert input_size(size, scale, settings("data.input_size=[512, 512]")) == expected


def test_exact_resizing_rounds_no_fraction_away():
    config = settings("data.input_size=[512, 512]", "inference.pad_multiple=32")
    exact = settings("data.input_size=[512, 512]", "inference.pad_multiple=32", "inference.exact_resize=true")
    for size in ((333, 500), (500, 333)):  # 768.8 pixels
        assert sorted(input_size(size, 1, config)) == [512, 768] and sorted(input_size(size, 1, exact)) == [512, 800]
    assert input_size((480, 600), 1, exact) == (512, 640)  # already a multiple
    assert input_matrix((333, 500), (512, 800), exact=True)[:, 2] == pytest.approx([400 - 250 * 512 / 333, 0])
    white = np.full((65, 65, 3), 255, np.uint8)
    (plain,), (middle,) = (as_input([white], 1, config) for config in (config, exact))
    shown = [int((input_ > 127).all(2).any(0).sum()) for input_ in (plain, middle)]  # columns
    assert shown == [505, 509], "half a pixel of the image more"


def test_the_image_is_centered_in_the_input():
    assert input_matrix((480, 640), (512, 704)) == pytest.approx(np.array([[512 / 480, 0, 352 - 320 * 512 / 480], [0, 512 / 480, 0]]))
    assert input_matrix((641, 481), (704, 512))[:, 2] == pytest.approx([256 - 241 * 512 / 481, 352 - 321 * 512 / 481])
    config = settings("inference.pad_multiple=32")
    image = np.full((100, 130, 3), 200, np.uint8)
    (padded,) = as_input([image], 0.75, config)  # 192 x 264, padded to 288 on the right
    assert padded.shape == (192, 288, 3)
    assert not padded[:, 264:].any() and (padded[5:-5, 10:-34] == 200).all()
    image[:, 65:] = 100
    assert len(np.unique(as_input([image], 2, config)[0, 100])) > 3  # interpolated


class LinearNetwork(nn.Module):
    """Another random linear function of the 4 x 4 cell for each channel."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.cells = nn.Conv2d(3, 18 + 34, 4, 4)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.cells(images).split((18, 34), 1)


@torch.inference_mode()
def test_flip_test_averages_absolute_positions_as_published():
    """With x = w - x - 1 and keypoints swapped, for a flipped image that is shifted left by three columns."""
    config = settings()
    network, image = LinearNetwork(), torch.rand(1, 3, 32, 48)
    flipped = image.numpy()[..., ::-1].copy()
    flipped[..., :-3] = flipped[..., 3:].copy()
    pixel = np.stack(np.meshgrid(np.arange(12), np.arange(8)))
    (heat, offset), (flipped_heat, flipped_offset) = ([t[0].numpy() for t in network.predict(torch.as_tensor(x))] for x in (image, flipped))
    partner = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    straight, back = (pixel - maps.reshape(17, 2, 8, 12) for maps in (offset, flipped_offset))
    back = back[partner][..., ::-1].copy()
    back[:, 0] = 12 - back[:, 0] - 1
    expected_heat = (heat + flipped_heat[[*partner, 17]][..., ::-1]) / 2
    averaged_heat, averaged_offset = predict_with_flip(network, image.clone(), config)
    np.testing.assert_allclose(averaged_heat[0], expected_heat, atol=1e-5)
    np.testing.assert_allclose(pixel - averaged_offset[0].numpy().reshape(17, 2, 8, 12), (straight + back) / 2, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_maps_are_the_network_outputs_without_padding(precision):
    """At scale 0.75 the input is 264 wide and padded to 288; half precision only if configured."""
    config = settings("inference.scales=[0.75, 1]", "inference.flip=false", "inference.pad_multiple=32", f"inference.precision={precision}")
    network, image = LinearNetwork(), scene_image(100, 130)
    decoder = DekrDecoder(network, config)
    _, maps = decoder.forward(decoder.preprocess([image]))
    shapes = [(scale, heat.shape[1:], offset.shape[1:]) for scale, heat, offset in maps]
    assert shapes == [(0.75, (18, 48, 66), (34, 48, 66)), (1, (18, 64, 88), (34, 64, 88))]
    padded = torch.from_numpy(as_input([image], 0.75, config)).permute(0, 3, 1, 2) / 255
    exact = all(torch.equal(output, expected[..., :66]) for output, expected in zip(maps[0][1:], network.predict(padded)))
    assert exact == (precision == "float32")
    assert all(output.dtype == torch.float32 for output in maps[0][1:])


def test_a_graph_selects_as_the_decoder_does():
    """A trace has no loops over what it computes."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        overlaps = rng.random((12, 12)) < 0.15
        overlaps, values, present = overlaps | overlaps.T, rng.random(12), rng.random(12) < 0.8
        selected = select_poses(*(torch.from_numpy(array)[None] for array in (overlaps, values, present)))
        assert set(np.flatnonzero(selected[0])) == set(pose_nms(overlaps, values, present, 12))
