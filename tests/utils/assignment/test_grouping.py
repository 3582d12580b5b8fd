"""Assembly on made-up candidates and limbs: who belongs together."""

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
            group_candidates(candidates, limbs, SKELETON, CONFIG.assignment.model_copy(update=apart | {"refine_passes": passes}))
            for passes in (0, 4)
        )
        assert sorted(sum(refined, [])) == list(range(len(candidates)))  # each candidate once
        assert all(len(np.unique(candidates.keypoint_type[cluster])) == len(cluster) for cluster in refined)
        gains.append(objective(refined, graph) - objective(before, graph))
    assert min(gains) > -1e-9
    assert sum(gain > 0.5 for gain in gains) >= 3


WRIST, ANKLE = SKELETON.index("Rwri"), SKELETON.index("Rank")


def two_people(*isolated: int) -> tuple[Cluster, Cluster, Graph]:
    """Two people, candidates 0 to 17 and 18 to 35, with limbs of score 0.5, except at some candidates."""
    limbs = [(n, a + first, b + first, 0.5) for first in (0, 18) for n, (a, b) in enumerate(SKELETON.limb_ends.tolist())]
    limbs = [limb for limb in limbs if not {limb[1], limb[2]} & set(isolated)]
    candidates = Candidates(np.zeros(36, int), np.tile(np.arange(18), 2), np.zeros(36), np.zeros(36), np.full(36, 0.5, np.float32))
    graph = build_graph(candidates, Limbs(*map(np.array, zip(*limbs))), SKELETON, CONFIG.assignment)
    return list(range(18)), list(range(18, 36)), graph


def without(cluster: Cluster, *excluded: int) -> Cluster:
    return [candidate for candidate in cluster if candidate not in excluded]


def refined(clusters: list[Cluster], graph: Graph, passes: int = 4) -> list[Cluster]:
    refine(clusters, graph, passes)
    return sorted(map(sorted, clusters))


def test_refine_swaps_two_keypoints_and_moves_one_to_the_cluster_that_lacks_it():
    one, other, graph = two_people()
    swapped = [[*without(one, WRIST), 18 + WRIST], [*without(other, 18 + WRIST), WRIST]]
    assert refined(swapped, graph) == [one, other]
    assert refined([without(one, WRIST), [WRIST]], graph) == [one]


def test_refine_isolates_a_keypoint_without_limbs_to_its_cluster():
    one, other, graph = two_people(WRIST, 18 + WRIST)
    clusters = refined([[*without(one, WRIST), 18 + WRIST], without(other, 18 + WRIST)], graph, 1)
    assert sorted(map(len, clusters)) == [1, 17, 17] and [18 + WRIST] in clusters


def test_refine_isolates_a_keypoint_that_gives_its_place_up_and_has_no_limbs_elsewhere():
    """The cluster of the other one would neither gain nor lose by it."""
    one, _, graph = two_people(18 + WRIST, 18 + ANKLE)
    clusters = [[WRIST, 18 + ANKLE], [*without(one, WRIST), 18 + WRIST]]
    assert refined(clusters, graph, 1) == [one, [18 + WRIST], [18 + ANKLE]]


def test_keypoints_that_no_path_connects_count_as_two_limbs_apart():
    hops = hop_counts(5, (0, 1, 2, 1, 2, 3)).tolist()
    assert hops == [[0, 1, 2, 3, 2], [1, 0, 1, 2, 2], [2, 1, 0, 1, 2], [3, 2, 1, 0, 2], [2, 2, 2, 2, 0]]
