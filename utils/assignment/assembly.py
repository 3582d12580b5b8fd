"""Assembly: which candidates are one person. Pure functions on small lists and arrays, the same for maps in memory and on a device.

A person is a set of candidates with at most one of each kind. Its worth is that of the limbs between them, of which each is worth its
evidence and its weaker end's response, less a price for every limb that the skeleton has between them and that is not there: the
skeleton's redundant limbs vote, for and against. People are grown by joining the two parts whose union gains most, then mended by moving
and swapping single keypoints.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from config.skeleton import Skeleton
from config.systems.simplepose_assignment import AssignmentConfig
from utils.assignment.candidates import Candidates, Limbs

Cluster = list[int]  # candidate numbers
LARGE = 4  # from so many keypoints on, the longest limb tells a person's size
MAX_PARTS = 1000  # among more parts, which are noise, the nearest means nothing


@dataclass
class Graph:
    """Candidates and the limbs between them, as lists, which Python walks faster than arrays."""

    kind: list[int]  # keypoint number of each candidate
    links: list[dict[int, float]]  # of each candidate: the others it has limbs to -> worth plus the price that is not to be paid
    neighbours: list[int]  # of each kind: bit mask of the kinds it has limbs to
    absent: float  # the price of a limb that is not there

    def mask(self, cluster: Cluster) -> int:
        """Bit mask of the cluster's kinds."""
        mask = 0
        for candidate in cluster:
            mask |= 1 << self.kind[candidate]
        return mask

    def price(self, cluster: Cluster, mask: int) -> float:
        """Of all limbs that the skeleton has between a cluster and the kinds of a mask, were none there."""
        kind, neighbours = self.kind, self.neighbours
        return self.absent * sum([(neighbours[kind[candidate]] & mask).bit_count() for candidate in cluster])


def assemble(candidates: Candidates, limbs: Limbs, skeleton: Skeleton, parameters: AssignmentConfig) -> list[Cluster]:
    """Clusters of candidate numbers, one for each person; a candidate may be shared by people who cover each other."""
    if not len(candidates):
        return []
    graph = build_graph(candidates, limbs, skeleton, parameters)
    clusters = []
    for component in components(graph):
        mask = graph.mask(component)
        limbs_there = sum([len(graph.links[candidate]) for candidate in component])
        if mask.bit_count() == len(component) and graph.price(component, mask) <= graph.absent * limbs_there:
            clusters.append(component)  # every keypoint once, and no limb absent: nothing to decide
        else:
            parts = agglomerate(component, graph)
            refine(parts, graph, parameters.refine_passes)
            clusters += share(parts, graph, parameters)
    score = candidates.score
    clusters = [cluster for cluster in clusters if len(cluster) > 1 or score[cluster[0]] >= parameters.lone_threshold]
    if 1 < len(clusters) <= MAX_PARTS:
        clusters = join_parts(candidates, clusters, skeleton, parameters)
    return clusters


def build_graph(candidates: Candidates, limbs: Limbs, skeleton: Skeleton, parameters: AssignmentConfig) -> Graph:
    """Lists of the candidates' kinds and links."""
    absent = parameters.absent_limb
    links: list[dict[int, float]] = [{} for _ in range(len(candidates))]
    # Of two peaks in one faint, bumpy blob both have the same evidence: the higher one is the keypoint.
    weaker_end = np.minimum(candidates.score[limbs.start], candidates.score[limbs.end])
    worths = (1 - parameters.end_weight) * limbs.evidence + parameters.end_weight * weaker_end
    for start, end, worth in zip(limbs.start.tolist(), limbs.end.tolist(), worths.tolist()):
        # A pair of kinds has one limb, so a second one between the same candidates is the same limb listed twice.
        links[start][end] = links[end][start] = worth + absent
    neighbours = [0] * skeleton.num_keypoints
    for a, b in skeleton.limb_ends.tolist():
        neighbours[a] |= 1 << b
        neighbours[b] |= 1 << a
    return Graph(candidates.kind.tolist(), links, neighbours, absent)


def components(graph: Graph) -> list[Cluster]:
    """Candidates that limbs connect."""
    found, seen = [], [False] * len(graph.kind)
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
        found.append(component)
    return found


def agglomerate(component: Cluster, graph: Graph) -> list[Cluster]:
    """Join the two parts that gain most, until no two parts gain."""
    members = {candidate: [candidate] for candidate in component}
    masks = {candidate: 1 << graph.kind[candidate] for candidate in component}
    age = dict.fromkeys(component, 0)
    links = {candidate: dict(graph.links[candidate]) for candidate in component}
    heap = [(graph.absent - gain, i, j, 0, 0) for i in component for j, gain in links[i].items() if i < j]
    heapq.heapify(heap)
    while heap:
        _, i, j, age_i, age_j = heapq.heappop(heap)
        if age.get(i) != age_i or age.get(j) != age_j:
            continue  # one of them has changed since
        if len(links[i]) < len(links[j]):
            i, j = j, i
        mine = links[i]
        del mine[j], age[j]
        members[i] += members.pop(j)
        masks[i] |= masks.pop(j)
        age[i] += 1
        for other, gain in links.pop(j).items():
            if other != i:
                theirs = links[other]
                del theirs[j]
                mine[other] = theirs[i] = mine.get(other, 0.0) + gain
        for other, gain in list(mine.items()):
            if masks[i] & masks[other]:
                del mine[other], links[other][i]
                continue
            small, large = (i, other) if len(members[i]) < len(members[other]) else (other, i)
            gain -= graph.price(members[small], masks[large])
            if gain > 0:
                heapq.heappush(heap, (-gain, i, other, age[i], age[other]))
    return list(members.values())


def refine(clusters: list[Cluster], graph: Graph, passes: int) -> None:
    """Move or swap single keypoints between clusters, or set them free, while the people's worth grows. Changes `clusters`."""
    if len(clusters) < 2:
        return
    kind, links = graph.kind, graph.links
    places = [{kind[candidate]: candidate for candidate in cluster} for cluster in clusters]
    masks = [graph.mask(cluster) for cluster in clusters]
    owner = {candidate: number for number, cluster in enumerate(clusters) for candidate in cluster}

    def gains(candidate: int) -> dict[int, float]:
        """Of a candidate: clusters it has limbs to -> evidence."""
        found: dict[int, float] = {}
        for other, gain in links[candidate].items():
            number = owner[other]
            found[number] = found.get(number, 0.0) + gain
        return found

    def worth(candidate: int, number: int, found: dict[int, float]) -> float:
        """What a candidate adds to a cluster, given its gains."""
        return found.get(number, 0.0) - graph.absent * (graph.neighbours[kind[candidate]] & masks[number]).bit_count()

    def place(candidate: int, number: int) -> None:
        if number == len(places):
            places.append({})
            masks.append(0)
        places[number][kind[candidate]] = candidate
        masks[number] |= 1 << kind[candidate]
        owner[candidate] = number

    for _ in range(passes):
        changed = False
        for candidate in list(owner):
            here, k = owner[candidate], kind[candidate]
            mine = gains(candidate)
            now = worth(candidate, here, mine)
            if now >= 0 and len(mine) <= (here in mine):
                continue
            best, target = (-now, len(places)) if now < -1e-6 else (1e-6, here)  # alone it is worth 0
            for number in mine:
                gain = worth(candidate, number, mine) - now
                if number == here or gain <= 0:
                    continue  # of a swap that pays, one of the two gains: it is found when that one's turn comes
                rival = places[number].get(k)
                if rival is not None:
                    theirs = gains(rival)
                    gain += max(worth(rival, here, theirs), 0.0) - worth(rival, number, theirs)
                if gain > best:
                    best, target = gain, number
            if target == here:
                continue
            changed = True
            rival = places[target].pop(k, None) if target < len(places) else None
            del places[here][k]
            masks[here] &= ~(1 << k)
            if rival is not None:
                place(rival, here if worth(rival, here, gains(rival)) > 0 else len(places))
            place(candidate, target)
        if not changed:
            break
    clusters[:] = [list(members.values()) for members in places if members]


def share(clusters: list[Cluster], graph: Graph, parameters: AssignmentConfig) -> list[Cluster]:
    """Let people who cover each other have keypoints in common: where two lie within a pixel there is one peak for both."""
    if len(clusters) < 2:
        return clusters
    kind, links = graph.kind, graph.links
    complete = []
    for cluster in clusters:
        if len(cluster) >= parameters.share_members:
            cluster = list(cluster)
            mask = graph.mask(cluster)
            gains: dict[int, float] = {}
            added = cluster
            while True:
                for candidate in added:
                    for other, gain in links[candidate].items():
                        if not mask >> kind[other] & 1:
                            gains[other] = gains.get(other, 0.0) + gain
                worths = [(gain - graph.price([other], mask), other) for other, gain in gains.items() if not mask >> kind[other] & 1]
                worth, other = max(worths, default=(0.0, -1))
                if other < 0 or worth < parameters.share_evidence:
                    break
                cluster.append(other)
                mask |= 1 << kind[other]
                added = [other]
        complete.append(cluster)
    complete.sort(key=len, reverse=True)
    sets = [frozenset(cluster) for cluster in complete]
    return [cluster for n, cluster in enumerate(complete) if not any(sets[n] <= larger for larger in sets[:n])]


def join_parts(candidates: Candidates, clusters: list[Cluster], skeleton: Skeleton, parameters: AssignmentConfig) -> list[Cluster]:
    """Join parts that no limb can connect since the keypoint between them is hidden, by distance, nearest first.

    Two parts fit if they have no kind in common and the skeleton has no limb between their kinds (it would have been seen). Their
    distance is the least between two keypoints, per limb on the skeleton's shortest way from one to the other, in units of the longest
    limb of both.
    """
    hops, near, room = hop_counts(skeleton.num_keypoints, tuple(skeleton.limb_ends.ravel().tolist()))
    sizes = np.array([len(cluster) for cluster in clusters])
    member = np.array([candidate for cluster in clusters for candidate in cluster], np.intp)
    number = np.arange(len(clusters))
    owner = np.repeat(number, sizes)
    kind = candidates.kind[member]
    has = np.zeros((len(clusters), skeleton.num_keypoints), np.float32)
    has[owner, kind] = 1
    fit = (has @ near) @ has.T == 0
    fit &= (sizes[:, None] < sizes) | ((sizes[:, None] == sizes) & (number[:, None] > number))  # each pair once, the smaller one first
    if not fit.any():
        return clusters
    rows = np.flatnonzero(fit.any(1)[owner])
    x, y = candidates.x[member], candidates.y[member]
    distance = np.hypot(x[rows, None] - x, y[rows, None] - y) / np.maximum(hops[kind[rows, None], kind], 1)
    starts = np.cumsum(sizes) - sizes
    distance = np.minimum.reduceat(distance, starts, axis=1)
    parts = np.flatnonzero(np.diff(owner[rows], prepend=-1))
    part = owner[rows[parts]]
    distance = np.minimum.reduceat(distance, parts, axis=0)

    place = np.zeros((2, len(clusters), skeleton.num_keypoints))
    place[:, owner, kind] = x, y
    a, b = skeleton.limb_ends.T
    lengths = np.hypot(*(place[:, :, a] - place[:, :, b])) * (has[:, a] * has[:, b])
    longest = lengths.max(1, initial=0)
    scale = np.maximum(longest[part, None], longest)
    distance /= np.where(scale > 0, scale, parameters.join_scale)
    limit = np.where(sizes >= LARGE, parameters.join_distance, parameters.join_distance_small)
    i, j = np.nonzero(fit[part] & (distance < limit))
    if not len(i):
        return clusters

    # Bit masks of each cluster's kinds, and of those that it leaves no room for
    taken, blocked = [0] * len(clusters), [0] * len(clusters)
    for cluster, k in zip(owner.tolist(), kind.tolist()):
        taken[cluster] |= 1 << k
        blocked[cluster] |= room[k]
    clusters = list(clusters)
    into = list(range(len(clusters)))
    for n in np.argsort(distance[i, j], kind="stable").tolist():
        small, large = int(part[i[n]]), int(j[n])
        while into[small] != small:
            small = into[small]
        while into[large] != large:
            large = into[large]
        if small == large or blocked[small] & taken[large]:
            continue  # joined already, or no longer fitting
        into[small] = large
        clusters[large] = clusters[large] + clusters[small]
        taken[large] |= taken[small]
        blocked[large] |= blocked[small]
    return [cluster for n, cluster in enumerate(clusters) if into[n] == n]


@lru_cache(maxsize=8)
def hop_counts(kinds: int, limb_ends: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """How far apart keypoints are on a skeleton. limb_ends: from, to, from, to, ...

    Returns (K, K) the number of limbs on the shortest way between two; (K, K) 1 where it is 0 or 1, else 0; the latter's rows as bit
    masks. Two that no way connects are taken to be two limbs apart, as near as two can be that have no limb.
    """
    hops = np.full((kinds, kinds), kinds)
    hops[list(limb_ends[::2]), list(limb_ends[1::2])] = 1
    hops = np.minimum(hops, hops.T)
    np.fill_diagonal(hops, 0)
    for middle in range(kinds):
        hops = np.minimum(hops, hops[:, [middle]] + hops[[middle]])
    hops[hops >= kinds] = 2
    near = (hops < 2).astype(np.float32)
    return hops, near, [sum(1 << int(other) for other in np.flatnonzero(row)) for row in near]
