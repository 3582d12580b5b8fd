"""Assembly on made-up candidates and limbs: who belongs together."""

from __future__ import annotations

import numpy as np
from places import ROOT

from config import load_config
from utils.assignment.candidates import Candidates, Limbs
from utils.assignment.grouping import Cluster, Graph, build_graph, group_candidates, hop_counts, refine

CONFIG = load_config(ROOT / "config" / "simplepose_coco_512.yaml")
SKELETON = CONFIG.skeleton


def tangle(seed: int, people: int = 3) -> tuple[Candidates, Limbs]:
    """Return people in a crowd: 80 % of their own limbs, and 32 % of the limbs that connect two people."""
    rng = np.random.default_rng(seed)
    types, owner = np.tile(np.arange(18), people), np.repeat(np.arange(people), 18)
    limbs = []
    for limb, (a, b) in enumerate(SKELETON.limb_ends.tolist()):
        for start in np.flatnonzero(types == a):
            for end in np.flatnonzero(types == b):
                true = owner[start] == owner[end]
                if rng.random() < (0.8 if true else 0.4 * 0.8):
                    limbs.append((limb, start, end, rng.uniform(0.3 if true else 0.25, 1)))
    score = rng.uniform(0.3, 1, len(types)).astype(np.float32)
    candidates = Candidates(np.zeros_like(types), types, rng.uniform(0, 90, len(types)), rng.uniform(0, 60, len(types)), score)
    return candidates, Limbs(*(np.array(column) for column in zip(*limbs)))


def objective(clusters: list[Cluster], graph: Graph) -> float:
    """Return the sum of all people's limb scores less their missing-limb penalties."""
    total = 0.0
    for cluster in clusters:
        present = sum(gain for one in cluster for other, gain in graph.links[one].items() if other in cluster)
        total += (present - graph.missing_penalty(cluster, graph.mask(cluster))) / 2  # each limb counts from both its ends
    return total


def test_moves_and_swaps_increase_the_objective():
    apart = {"share_members": 99, "join_distance": 0, "join_distance_small": 0, "lone_threshold": 0}  # only limbs decide
    gains = []
    for seed in range(12):
        candidates, limbs = tangle(seed)
        graph = build_graph(candidates, limbs, SKELETON, CONFIG.assignment)
        before, refined = (
            group_candidates(candidates, limbs, SKELETON, CONFIG.assignment.model_copy(update={**apart, "refine_passes": passes}))
            for passes in (0, 4)
        )
        assert sorted(sum(refined, [])) == list(range(len(candidates)))  # each candidate once
        gains.append(objective(refined, graph) - objective(before, graph))
    assert min(gains) > -1e-9
    assert sum(gain > 0.5 for gain in gains) >= 3


def test_no_person_has_two_keypoints_of_a_type():
    for seed in range(4):
        candidates, limbs = tangle(seed)
        for cluster in group_candidates(candidates, limbs, SKELETON, CONFIG.assignment):
            types = candidates.keypoint_type[cluster].tolist()
            assert len(set(types)) == len(types)


WRIST, ANKLE = SKELETON.index("Rwri"), SKELETON.index("Rank")


def pair_of_clusters(*cross: tuple[int, int, int, float]) -> tuple[list[Cluster], Graph]:
    """Two people, candidates 0 to 17 and 18 to 35, with all their limbs at 0.5, and further limbs (limb, start, end, score)."""
    limbs = [(n, a + first, b + first, 0.5) for first in (0, 18) for n, (a, b) in enumerate(SKELETON.limb_ends.tolist())]
    types = np.tile(np.arange(18), 2)
    candidates = Candidates(np.zeros(36, int), types, np.zeros(36), np.zeros(36), np.full(36, 0.5, np.float32))
    graph = build_graph(candidates, Limbs(*map(np.array, zip(*limbs, *cross))), SKELETON, CONFIG.assignment)
    return [list(range(18)), list(range(18, 36))], graph


def without(cluster: Cluster, *excluded: int) -> Cluster:
    return [candidate for candidate in cluster if candidate not in excluded]


def test_refine_swaps_two_keypoints_between_exactly_two_clusters():
    (one, other), graph = pair_of_clusters()
    clusters = [[*without(one, one[WRIST]), other[WRIST]], [*without(other, other[WRIST]), one[WRIST]]]
    refine(clusters, graph, 4)
    assert sorted(map(sorted, clusters)) == [one, other]


def test_refine_moves_a_keypoint_to_the_cluster_that_lacks_it():
    (one, _), graph = pair_of_clusters()
    clusters = [without(one, one[WRIST]), [one[WRIST]]]
    refine(clusters, graph, 4)
    assert sorted(map(sorted, clusters)) == [one]


def isolate(graph: Graph, *candidates: int) -> None:
    """Remove the links of some candidates."""
    for candidate in candidates:
        for neighbor in graph.links[candidate]:
            del graph.links[neighbor][candidate]
        graph.links[candidate].clear()


def test_refine_isolates_a_keypoint_without_limbs_to_its_cluster():
    (one, other), graph = pair_of_clusters()
    isolate(graph, one[WRIST], other[WRIST])
    clusters = [[*without(one, one[WRIST]), other[WRIST]], without(other, other[WRIST])]
    refine(clusters, graph, 1)
    assert sorted(map(len, clusters)) == [1, 17, 17]
    assert [other[WRIST]] in clusters


def test_refine_isolates_a_keypoint_that_gives_its_place_up_and_has_no_limbs_elsewhere():
    """The cluster of the other one would neither gain nor lose by it."""
    (one, other), graph = pair_of_clusters()
    isolate(graph, other[WRIST], other[ANKLE])
    clusters = [[one[WRIST], other[ANKLE]], [*without(one, one[WRIST]), other[WRIST]]]
    refine(clusters, graph, 1)
    assert sorted(map(sorted, clusters)) == [one, [other[WRIST]], [other[ANKLE]]]


def test_keypoints_that_no_path_connects_count_as_two_limbs_apart():
    assert hop_counts(5, (0, 1, 2, 1, 2, 3)).tolist() == [
        [0, 1, 2, 3, 2],
        [1, 0, 1, 2, 2],
        [2, 1, 0, 1, 2],
        [3, 2, 1, 0, 2],
        [2, 2, 2, 2, 0],
    ]
