"""Group candidates into people, by the limbs between them. Pure functions on small lists and arrays.

A person is a cluster of candidates with at most one of each keypoint type. Its objective is the sum over its limbs, less a penalty for
every limb of the skeleton that is missing though both its ends are present. A limb counts its score and its weaker end's. So the
skeleton's redundant limbs vote for and against. People are grown by merging the two clusters that gain most, then refined by moving and
swapping single keypoints.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from config.skeleton import Skeleton
from config.systems.simplepose import AssignmentConfig
from utils.assignment.candidates import Candidates, Limbs
from utils.assignment.fragments import MAX_FRAGMENTS, Cluster, merge_fragments


@dataclass
class Graph:
    """Candidates and the limbs between them, as lists, which Python iterates faster than arrays."""

    keypoint_type: list[int]  # of each candidate
    links: list[dict[int, float]]  # per candidate: the candidates that limbs connect it to -> the limb's gain plus the saved penalty
    neighbors: list[int]  # per keypoint type: bit mask of the types that limbs connect it to
    penalty: float  # of a missing limb

    def mask(self, cluster: Cluster) -> int:
        """Return a bit mask of the cluster's keypoint types."""
        mask = 0
        for candidate in cluster:
            mask |= 1 << self.keypoint_type[candidate]
        return mask

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
    clusters, seen = [], [False] * len(graph.keypoint_type)
    for first in range(len(seen)):
        if seen[first]:
            continue
        seen[first] = True
        component = [first]
        for candidate in component:  # grows while it is walked
            for other in graph.links[candidate]:
                if not seen[other]:
                    seen[other] = True
                    component.append(other)
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
