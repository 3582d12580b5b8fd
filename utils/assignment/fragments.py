"""Merge fragments of people that no limb connects, since the keypoint between them is occluded."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from config.skeleton import Skeleton
from config.systems.simplepose import AssignmentConfig
from utils.assignment.candidates import Candidates

Cluster = list[int]  # candidate indices
LARGE = 4  # keypoints from which on a person's longest limb gives its size
MAX_FRAGMENTS = 1000  # more are noise


def merge_fragments(candidates: Candidates, clusters: list[Cluster], skeleton: Skeleton, parameters: AssignmentConfig) -> list[Cluster]:
    """Merge clusters by distance, nearest first.

    Two clusters fit if they have no keypoint type in common and the skeleton has no limb between their types (its map would show it). Their
    distance is the smallest between two keypoints, per limb on the skeleton's shortest path between these, in units of the longest limb of
    both.
    """
    hops = hop_counts(skeleton.num_keypoints, tuple(skeleton.limb_ends.ravel().tolist()))
    sizes = np.array([len(cluster) for cluster in clusters])
    member = np.array([candidate for cluster in clusters for candidate in cluster], np.intp)
    index = np.arange(len(clusters))
    owner = np.repeat(index, sizes)
    types = candidates.keypoint_type[member]
    present = np.zeros((len(clusters), skeleton.num_keypoints), np.float32)
    present[owner, types] = 1
    blocked = present @ (hops < 2)  # the types that a cluster cannot be merged with
    fit = blocked @ present.T == 0
    fit &= (sizes[:, None] < sizes) | ((sizes[:, None] == sizes) & (index[:, None] > index))  # each pair once, the smaller cluster first
    if not fit.any():
        return clusters
    rows = np.flatnonzero(fit.any(1)[owner])
    x, y = candidates.x[member], candidates.y[member]
    distance = np.hypot(x[rows, None] - x, y[rows, None] - y) / np.maximum(hops[types[rows, None], types], 1)
    distance = np.minimum.reduceat(distance, np.cumsum(sizes) - sizes, axis=1)
    first_rows = np.flatnonzero(np.diff(owner[rows], prepend=-1))
    fragment = owner[rows[first_rows]]
    distance = np.minimum.reduceat(distance, first_rows, axis=0)

    position = np.zeros((2, len(clusters), skeleton.num_keypoints))
    position[:, owner, types] = x, y
    a, b = skeleton.limb_ends.T
    lengths = np.hypot(*(position[:, :, a] - position[:, :, b])) * (present[:, a] * present[:, b])
    longest = lengths.max(1, initial=0)
    scale = np.maximum(longest[fragment, None], longest)
    distance /= np.where(scale > 0, scale, parameters.join_scale)
    limit = np.where(sizes >= LARGE, parameters.join_distance, parameters.join_distance_small)
    i, j = np.nonzero(fit[fragment] & (distance < limit))
    if not len(i):
        return clusters

    clusters = list(clusters)
    into = list(range(len(clusters)))
    for n in np.argsort(distance[i, j], kind="stable").tolist():
        small, large = int(fragment[i[n]]), int(j[n])
        while into[small] != small:
            small = into[small]
        while into[large] != large:
            large = into[large]
        if small == large or blocked[small] @ present[large]:
            continue  # merged already, or no longer fitting
        into[small] = large
        clusters[large] = clusters[large] + clusters[small]
        present[large] += present[small]
        blocked[large] += blocked[small]
    return [cluster for n, cluster in enumerate(clusters) if into[n] == n]


@lru_cache(maxsize=8)
def hop_counts(keypoints: int, limb_ends: tuple[int, ...]) -> np.ndarray:
    """Return (K, K) the number of limbs on the shortest path between two keypoints. limb_ends: from, to, from, to, ...

    Two that no path connects count as two limbs apart, as near as two can be that have no limb.
    """
    hops = np.full((keypoints, keypoints), keypoints)
    hops[list(limb_ends[::2]), list(limb_ends[1::2])] = 1
    hops = np.minimum(hops, hops.T)
    np.fill_diagonal(hops, 0)
    for middle in range(keypoints):
        hops = np.minimum(hops, hops[:, [middle]] + hops[[middle]])
    return np.where(hops < keypoints, hops, 2)
