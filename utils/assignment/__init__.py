"""Keypoint assignment turns heatmaps into people: candidates, limb scores, limb extrapolation to missed keypoints, then grouping.

Everything up to the grouping works on a whole batch at once and reads the heatmaps only through a `HeatmapReader`: in NumPy in
`numpy_heatmaps.py`, on a device in `torch_heatmaps.py`. Positions are in map pixels, so no map is ever resized.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from config.errors import UserError
from config.systems.simplepose_channels import Channels
from utils.assignment.candidates import Candidates, HeatmapReader, Limbs, by_image, find_peaks
from utils.assignment.extrapolate import extrapolate_limbs
from utils.assignment.grouping import group_candidates
from utils.assignment.limbs import score_limbs, suppress_competing_limbs
from utils.assignment.numpy_heatmaps import NumpyHeatmaps

if TYPE_CHECKING:
    from config.skeleton import Skeleton
    from config.systems.simplepose import AssignmentConfig

KEYPOINT_SIGMA, LIMB_MARGIN = 2.25, 1.0  # map pixels, of the published targets


def assign_people(
    maps: np.ndarray,
    skeleton: Skeleton,
    parameters: AssignmentConfig,
    image_size: tuple[int, int],
    map_to_image: tuple[float, float],
    keypoint_sigma: float = KEYPOINT_SIGMA,
    limb_margin: float = LIMB_MARGIN,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the people in one image, best first.

    maps: (C, h, w) float32, limb channels, then keypoint channels; the last two (person mask, keypoint maximum) may be omitted.
    image_size: (height, width) in pixels; does not change the result. map_to_image: (sx, sy), image x = (map x + 0.5) * sx - 0.5.
    keypoint_sigma, limb_margin: of the network's target maps, in map pixels; see `TargetsConfig.on_maps`.
    Returns keypoints (P, K, 3) x, y, score in image pixels (0, 0, 0 where missing) and scores (P,), 0 to 1 as far as heatmap values are.
    Raises UserError where the maps have another skeleton's shape, or where NaN or infinity would reach the result.
    """
    maps = np.asarray(maps)
    check_shape(maps.shape, skeleton)
    return assign_batch(NumpyHeatmaps(maps), skeleton, parameters, [map_to_image], keypoint_sigma, limb_margin)[0]


def check_shape(shape: tuple[int, ...], skeleton: Skeleton) -> None:
    """Raise UserError unless (C, h, w) has the skeleton's channels, with or without the last two."""
    channels = Channels(skeleton)
    expected = channels.keypoints.stop, channels.count
    if len(shape) != 3 or shape[0] not in expected or 0 in shape:
        needed = f"{expected[1]} channels ({expected[0]} will do)"
        raise UserError(f"maps of shape {tuple(shape)}: skeleton {skeleton.name!r} needs {needed}, height and width")


def assign_batch(
    maps: HeatmapReader,
    skeleton: Skeleton,
    parameters: AssignmentConfig,
    map_to_images: list[tuple[float, float]],
    keypoint_sigma: float,
    limb_margin: float,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return keypoints and scores of each image of a batch, as `assign_people` does."""
    candidates = find_peaks(maps, skeleton, parameters, keypoint_sigma)
    limbs = score_limbs(maps, candidates, skeleton, parameters)
    if parameters.trace:
        extrapolated = extrapolate_limbs(maps, candidates, limbs, skeleton, parameters, limb_margin)
        if len(extrapolated):
            first = len(candidates)
            candidates = candidates.append(extrapolated)
            limbs = limbs.append(score_limbs(maps, candidates, skeleton, parameters, first))
    limbs = suppress_competing_limbs(limbs, candidates, skeleton, parameters)
    people = []
    for (own, own_limbs), scale in zip(_split(candidates, limbs, len(map_to_images)), map_to_images):
        clusters = group_candidates(own, own_limbs, skeleton, parameters)
        people.append(read_people(own, clusters, skeleton, scale))
    return people


def _split(candidates: Candidates, limbs: Limbs, images: int) -> list[tuple[Candidates, Limbs]]:
    """Return each image's candidates, and its limbs between them."""
    index = np.empty(len(candidates), np.intp)  # each candidate's index within its image
    parts = []
    for own, of_limbs in zip(by_image(candidates.image, images), by_image(candidates.image[limbs.start], images)):
        index[own] = np.arange(len(own))
        between = limbs.take(of_limbs)
        parts.append((candidates.take(own), Limbs(between.limb, index[between.start], index[between.end], between.score)))
    return parts


def read_people(
    candidates: Candidates, clusters: list[list[int]], skeleton: Skeleton, map_to_image: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Turn clusters of candidates into keypoints (P, K, 3) in image pixels and scores (P,), best first.

    A person's score is the sum of its keypoints' scores over the skeleton's number of keypoints: many sure keypoints rank above few.
    """
    sizes = [len(cluster) for cluster in clusters]
    row = np.repeat(np.arange(len(clusters)), sizes)
    member = np.array([candidate for cluster in clusters for candidate in cluster], np.intp)
    keypoints = np.zeros((len(clusters), skeleton.num_keypoints, 3), np.float32)
    keypoint_type = candidates.keypoint_type[member]
    keypoints[row, keypoint_type, 0] = (candidates.x[member] + 0.5) * map_to_image[0] - 0.5
    keypoints[row, keypoint_type, 1] = (candidates.y[member] + 0.5) * map_to_image[1] - 0.5
    keypoints[row, keypoint_type, 2] = candidates.score[member]
    scores = keypoints[..., 2].sum(1) / skeleton.num_keypoints
    order = np.argsort(-scores, kind="stable")
    return keypoints[order], scores[order]
