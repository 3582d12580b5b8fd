"""Group candidates into people, by the limbs between them. Pure functions on small lists and arrays.

A person is a cluster of candidates with at most one of each keypoint type. Its objective is the sum over its limbs, less a penalty for
every limb of the skeleton that is missing though both its ends are present. A limb counts its score and its weaker end's. So the
skeleton's redundant limbs vote for and against. People are grown by merging the two clusters that gain most, then refined by moving and
swapping single keypoints. Fragments that no limb connects, since the keypoint between them is occluded, are merged by distance.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from typing import TYPE_CHECKING

import numpy as np

from utils.assignment.candidates import Candidates, Limbs

if TYPE_CHECKING:
    from config.skeleton import Skeleton
    from config.systems.simplepose import AssignmentConfig

Cluster = list[int]  # candidate indices
LARGE = 4  # keypoints from which on a person's longest limb gives its size
MAX_FRAGMENTS = 1000  # more are noise


@dataclass
class Graph:
    """Candidates and the limbs between them, as lists, which Python iterates faster than arrays."""

    keypoint_type: list[int]  # of each candidate
    links: list[dict[int, float]]  # per candidate: the candidates that limbs connect it to -> the limb's gain plus the saved penalty
    neighbors: list[int]  # per keypoint type: bit mask of the types that limbs connect it to
    penalty: float  # of a missing limb

    def mask(self, cluster: Cluster) -> int:
        """Return a bit mask of the cluster's keypoint types."""
        return reduce(or_, [1 << self.keypoint_type[candidate] for candidate in cluster], 0)

    def missing_penalty(self, cluster: Cluster, mask: int) -> float:
        """Return the penalty of all limbs that the skeleton has between a cluster and the types of a mask, if all were missing."""
        types, neighbors = self.keypoint_type, self.neighbors
        return self.penalty * sum([(neighbors[types[candidate]] & mask).bit_count() for candidate in cluster])


def group_candidates(candidates: Candidates, limbs: Limbs, skeleton: Skeleton, parameters: AssignmentConfig) -> list[Cluster]:
    """Return clusters of candidate indices, one for each person; people that overlap may share a candidate."""
    if not len(candidates):
        return []
    graph = build_graph(candidates, limbs, skeleton, parameters)
    clusters = []
    for component in components(graph):
        mask = graph.mask(component)
        limb_ends = sum([len(graph.links[candidate]) for candidate in component])
        if mask.bit_count() == len(component) and graph.missing_penalty(component, mask) <= graph.penalty * limb_ends:
            clusters.append(component)  # one keypoint of each type and no missing limb: nothing to decide
        else:
            grown = agglomerate(component, graph)
            refine(grown, graph, parameters.refine_passes)
            clusters += share_keypoints(grown, graph, parameters)
    score = candidates.score
    clusters = [cluster for cluster in clusters if len(cluster) > 1 or score[cluster[0]] >= parameters.lone_threshold]
    if 1 < len(clusters) <= MAX_FRAGMENTS:
        clusters = merge_fragments(candidates, clusters, skeleton, parameters)
    return clusters


def build_graph(candidates: Candidates, limbs: Limbs, skeleton: Skeleton, parameters: AssignmentConfig) -> Graph:
    """List the candidates' keypoint types and links."""
    penalty = parameters.absent_limb
    links: list[dict[int, float]] = [{} for _ in range(len(candidates))]
    # Of two peaks in one faint, bumpy blob both have the same limb scores: the higher one is the keypoint.
    weaker_end = np.minimum(candidates.score[limbs.start], candidates.score[limbs.end])
    gains = (1 - parameters.end_weight) * limbs.score + parameters.end_weight * weaker_end
    for start, end, gain in zip(limbs.start.tolist(), limbs.end.tolist(), gains.tolist()):
        # A pair of types has one limb, so a second one between the same candidates is the same limb listed twice.
        links[start][end] = links[end][start] = gain + penalty
    neighbors = [0] * skeleton.num_keypoints
    for a, b in skeleton.limb_ends.tolist():
        neighbors[a] |= 1 << b
        neighbors[b] |= 1 << a
    return Graph(candidates.keypoint_type.tolist(), links, neighbors, penalty)


def components(graph: Graph) -> list[Cluster]:
    """Return the connected components."""
    clusters, seen = [], set()
    for first in range(len(graph.keypoint_type)):
        component = [] if first in seen else [first]
        seen.add(first)
        for candidate in component:  # grows while it is walked
            new = [other for other in graph.links[candidate] if other not in seen]
            seen.update(new)
            component += new
        if component:
            clusters.append(component)
    return clusters


def agglomerate(component: Cluster, graph: Graph) -> list[Cluster]:
    """Merge the two clusters that gain most, until no two gain."""
    members = {candidate: [candidate] for candidate in component}
    masks = {candidate: 1 << graph.keypoint_type[candidate] for candidate in component}
    age = dict.fromkeys(component, 0)
    links = {candidate: dict(graph.links[candidate]) for candidate in component}
    heap = [(graph.penalty - gain, i, j, 0, 0) for i in component for j, gain in links[i].items() if i < j]
    heapq.heapify(heap)
    while heap:
        _, i, j, age_i, age_j = heapq.heappop(heap)
        if age.get(i) != age_i or age.get(j) != age_j:
            continue  # one of them has changed since
        if len(links[i]) < len(links[j]):
            i, j = j, i
        links_i = links[i]
        del links_i[j], age[j]
        members[i] += members.pop(j)
        masks[i] |= masks.pop(j)
        age[i] += 1
        for other, gain in links.pop(j).items():
            if other != i:
                del links[other][j]
                links_i[other] = links[other][i] = links_i.get(other, 0.0) + gain
        for other, gain in list(links_i.items()):
            if masks[i] & masks[other]:
                del links_i[other], links[other][i]
                continue
            small, large = (i, other) if len(members[i]) < len(members[other]) else (other, i)
            gain -= graph.missing_penalty(members[small], masks[large])
            if gain > 0:
                heapq.heappush(heap, (-gain, i, other, age[i], age[other]))
    return list(members.values())


def refine(clusters: list[Cluster], graph: Graph, passes: int) -> None:
    """Move or swap single keypoints between clusters, or isolate them, while the sum of the objectives grows. Changes `clusters`."""
    if len(clusters) < 2:
        return
    types, links = graph.keypoint_type, graph.links
    members = [{types[candidate]: candidate for candidate in cluster} for cluster in clusters]
    masks = [graph.mask(cluster) for cluster in clusters]
    owner = {candidate: n for n, cluster in enumerate(clusters) for candidate in cluster}

    def gains(candidate: int) -> dict[int, float]:
        """Sum the links of a candidate to each cluster."""
        totals: dict[int, float] = {}
        for other, gain in links[candidate].items():
            n = owner[other]
            totals[n] = totals.get(n, 0.0) + gain
        return totals

    def contribution(candidate: int, n: int, totals: dict[int, float]) -> float:
        """Return what a candidate adds to the objective of cluster `n`, from its gains."""
        return totals.get(n, 0.0) - graph.penalty * (graph.neighbors[types[candidate]] & masks[n]).bit_count()

    def put(candidate: int, n: int) -> None:
        if n == len(members):
            members.append({})
            masks.append(0)
        members[n][types[candidate]] = candidate
        masks[n] |= 1 << types[candidate]
        owner[candidate] = n

    for _ in range(passes):
        changed = False
        for candidate in list(owner):
            own, k = owner[candidate], types[candidate]
            own_gains = gains(candidate)
            current = contribution(candidate, own, own_gains)
            if current >= 0 and len(own_gains) <= (own in own_gains):
                continue
            best, target = (-current, len(members)) if current < -1e-6 else (1e-6, own)  # an isolated keypoint contributes 0
            for n in own_gains:
                gain = contribution(candidate, n, own_gains) - current
                if n == own or gain <= 0:
                    continue  # in a swap that gains, one of the two candidates gains; its own turn tries the swap
                rival = members[n].get(k)
                if rival is not None:
                    rival_gains = gains(rival)
                    gain += max(contribution(rival, own, rival_gains), 0.0) - contribution(rival, n, rival_gains)
                if gain > best:
                    best, target = gain, n
            if target == own:
                continue
            changed = True
            rival = members[target].pop(k, None) if target < len(members) else None
            del members[own][k]
            masks[own] &= ~(1 << k)
            if rival is not None:
                put(rival, own if contribution(rival, own, gains(rival)) > 0 else len(members))
            put(candidate, target)
        if not changed:
            break
    clusters[:] = [list(cluster.values()) for cluster in members if cluster]


def share_keypoints(clusters: list[Cluster], graph: Graph, parameters: AssignmentConfig) -> list[Cluster]:
    """Let people that overlap share keypoints: two keypoints within a pixel have one peak."""
    if len(clusters) < 2:
        return clusters
    types, links = graph.keypoint_type, graph.links
    complete = []
    for cluster in clusters:
        if len(cluster) >= parameters.share_members:
            cluster, mask = list(cluster), graph.mask(cluster)
            while True:
                gains: dict[int, float] = {}
                for candidate in cluster:
                    for other, gain in links[candidate].items():
                        if not mask >> types[other] & 1:
                            gains[other] = gains.get(other, 0.0) + gain
                nets = [(gain - graph.missing_penalty([other], mask), other) for other, gain in gains.items()]
                net, other = max(nets, default=(-np.inf, -1))
                if net < parameters.share_evidence:
                    break
                cluster.append(other)
                mask |= 1 << types[other]
        complete.append(cluster)
    complete.sort(key=len, reverse=True)
    sets = [frozenset(cluster) for cluster in complete]
    return [cluster for n, cluster in enumerate(complete) if not any(sets[n] <= larger for larger in sets[:n])]


def merge_fragments(candidates: Candidates, clusters: list[Cluster], skeleton: Skeleton, parameters: AssignmentConfig) -> list[Cluster]:
    """Merge clusters that no limb connects by distance, nearest first.

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
