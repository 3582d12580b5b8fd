"""Maps to people: peaks, the evidence of limbs between them, missed keypoints at the ends of limbs, then assembly.

Everything up to the assembly works on a whole batch at once, and looks at the maps only through a `MapReader`: in NumPy in
`array_maps.py`, on a device in `device_maps.py`. Positions are in map pixels, so that no map is ever resized.
"""

from __future__ import annotations

import numpy as np

from config.errors import UserError
from config.skeleton import Skeleton
from config.systems.simplepose import Channels
from config.systems.simplepose_assignment import AssignmentConfig
from utils.assignment.array_maps import ArrayMaps
from utils.assignment.assembly import assemble
from utils.assignment.candidates import Candidates, Limbs, MapReader, by_image
from utils.assignment.limbs import drop_rivals, score_limbs
from utils.assignment.peaks import find_peaks
from utils.assignment.trace import trace_limbs

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
    """The people in one image, best first.

    maps: (C, h, w) float32, limb channels, then keypoint channels; the last two (person mask, keypoint maximum) may be left out.
    image_size: (height, width) in pixels; does not change the result. map_to_image: (sx, sy), image x = (map x + 0.5) * sx - 0.5.
    keypoint_sigma, limb_margin: of the maps that the network learned, in map pixels: targets.* of the configuration over targets.stride.
    Returns keypoints (P, K, 3) x, y, score in image pixels (0, 0, 0 where missing) and scores (P,), 0 to 1 as far as responses are.
    UserError where the maps have another skeleton's shape, or hold NaN or an infinity that matters.
    """
    maps = np.asarray(maps)
    check_shape(maps.shape[-3:] if maps.ndim == 3 else maps.shape, skeleton)
    return assign_batch(ArrayMaps(maps), skeleton, parameters, [map_to_image], keypoint_sigma, limb_margin)[0]


def check_shape(shape: tuple[int, ...], skeleton: Skeleton) -> None:
    """UserError unless (C, h, w) has the skeleton's channels, with or without the last two."""
    channels = Channels(skeleton)
    expected = channels.keypoints.stop, channels.count
    if len(shape) != 3 or shape[0] not in expected or 0 in shape:
        needed = f"{expected[1]} channels ({expected[0]} will do)"
        raise UserError(f"maps of shape {tuple(shape)}: skeleton {skeleton.name!r} needs {needed}, height and width")


def assign_batch(
    maps: MapReader,
    skeleton: Skeleton,
    parameters: AssignmentConfig,
    map_to_images: list[tuple[float, float]],
    keypoint_sigma: float,
    limb_margin: float,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Keypoints and scores of each image of a batch, as `assign_people` returns them."""
    candidates = find_peaks(maps, skeleton, parameters, keypoint_sigma)
    limbs = score_limbs(maps, candidates, skeleton, parameters)
    if parameters.trace:
        traced = trace_limbs(maps, candidates, limbs, skeleton, parameters, limb_margin)
        if len(traced):
            first = len(candidates)
            candidates = candidates.joined(traced)
            limbs = limbs.joined(score_limbs(maps, candidates, skeleton, parameters, first))
    limbs = drop_rivals(limbs, candidates, skeleton, parameters)
    people = []
    for (mine, my_limbs), scale in zip(_split(candidates, limbs, len(map_to_images)), map_to_images):
        clusters = assemble(mine, my_limbs, skeleton, parameters)
        people.append(read_people(mine, clusters, skeleton, scale))
    return people


def _split(candidates: Candidates, limbs: Limbs, images: int) -> list[tuple[Candidates, Limbs]]:
    """Each image's candidates, and its limbs between them."""
    if images == 1:
        return [(candidates, limbs)]
    number = np.empty(len(candidates), np.intp)  # of each candidate, among its image's own
    parts = []
    for which, of_image in zip(by_image(candidates.image, images), by_image(candidates.image[limbs.start], images)):
        number[which] = np.arange(len(which))
        mine = limbs.take(of_image)
        parts.append((candidates.take(which), Limbs(mine.limb, number[mine.start], number[mine.end], mine.evidence)))
    return parts


def read_people(
    candidates: Candidates, clusters: list[list[int]], skeleton: Skeleton, map_to_image: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of candidates -> keypoints (P, K, 3) in image pixels and scores (P,), best first.

    A person's score is the sum of its responses over the skeleton's number of keypoints: many sure keypoints rank above few.
    """
    sizes = [len(cluster) for cluster in clusters]
    row = np.repeat(np.arange(len(clusters)), sizes)
    member = np.array([candidate for cluster in clusters for candidate in cluster], np.intp)
    keypoints = np.zeros((len(clusters), skeleton.num_keypoints, 3), np.float32)
    kind, score = candidates.kind[member], candidates.score[member]
    keypoints[row, kind, 0] = (candidates.x[member] + 0.5) * map_to_image[0] - 0.5
    keypoints[row, kind, 1] = (candidates.y[member] + 0.5) * map_to_image[1] - 0.5
    keypoints[row, kind, 2] = score
    scores = keypoints[..., 2].sum(1) / skeleton.num_keypoints
    order = np.argsort(-scores, kind="stable")
    return keypoints[order], scores[order]
