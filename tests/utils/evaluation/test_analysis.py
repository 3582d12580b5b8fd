"""Error types, and the AP that each of them costs, by hand-computed examples."""

from dataclasses import replace

import numpy as np
import pytest
from people import SKELETON

from utils.evaluation.analysis import KINDS, AnnotatedKeypoints, analyze, ap_gain_if_fixed, image_errors, match_image, write_analysis
from utils.evaluation.matching import ImageResult, precision_curves

KEYPOINTS = AnnotatedKeypoints(SKELETON, np.arange(17))
SIGMAS = SKELETON.oks_sigmas
NOSE, WRIST, OTHER_WRIST, ANKLE = (KEYPOINTS.names.index(n) for n in ("nose", "left_wrist", "right_wrist", "left_ankle"))
FAR = np.full((17, 3), 900.0)


def two_people(image_id: int = 1, **replaced: object) -> ImageResult:
    """Two people with exact predictions, areas 5,000 px2 and keypoints 30 px apart; the first one's left ankle is unlabeled."""
    cells = np.random.default_rng(image_id).permutation(20)[:17]
    one = np.stack([1 + 30 * (cells % 5), 1 + 30 * (cells // 5), 1 + np.arange(17) % 2], 1).astype(float)  # occluded and visible
    joints = np.stack([one, one + [200, 0, 0]])
    joints[0, ANKLE] = 0
    boxes = np.array([[0, 0, 100, 100], [200, 0, 100, 100]])
    no, poses = np.zeros(2, bool), np.stack([one, one + [200, 0, 0]])
    return replace(ImageResult(image_id, joints, np.full(2, 5000.0), boxes, no, no, poses, np.array([0.9, 0.8])), **replaced)


def second_alone(image: ImageResult) -> ImageResult:
    return replace(image, poses=image.poses[1:], scores=image.scores[1:])


def add_prediction(image: ImageResult, pose: np.ndarray, score: float) -> ImageResult:
    return replace(image, poses=np.concatenate([image.poses, pose[None]]), scores=np.append(image.scores, score)).best_first()


def shift_for(oks: float) -> np.ndarray:
    """(17,) pixels by which each keypoint is off at this part of the OKS."""
    return np.sqrt(-2 * np.log(oks) * 5000) * 2 * SIGMAS


def kind_at(image: ImageResult, keypoint: int, position: np.ndarray) -> str:
    """Move one predicted keypoint of the first person and return its kind; the others stay good."""
    poses = image.poses.copy()
    poses[0, keypoint, :2] = position[:2]
    kinds = match_image(replace(image, poses=poses), KEYPOINTS).kinds
    assert set(np.delete(kinds[0], [keypoint, ANKLE, OTHER_WRIST])) == {0} and (kinds[0, ANKLE] == -1)
    return KINDS[kinds[0, keypoint]]


@pytest.mark.parametrize(("oks", "kind"), [(0.851, "good"), (0.849, "jitter"), (0.501, "jitter"), (0.499, "miss")])
def test_a_keypoints_own_oks_tells_good_jitter_and_miss(oks, kind):
    image = two_people()
    assert kind_at(image, NOSE, image.joints[0, NOSE, :2] - [0, shift_for(oks)[NOSE]]) == kind
    assert kind_at(two_people(areas=np.zeros(2)), NOSE, image.joints[0, NOSE, :2] + 1) == "miss"


def test_inversion_and_swap_are_at_the_keypoint_of_the_other_side_or_person():
    image = two_people()
    own, other = image.joints
    beside = shift_for(0.501)[WRIST] * np.array([0, 1]), shift_for(0.499)[WRIST] * np.array([0, 1])
    for position, kind in (
        (own[OTHER_WRIST, :2] - beside[0], "inversion"),
        (own[OTHER_WRIST, :2] - beside[1], "miss"),
        (other[WRIST], "swap"),
        (other[OTHER_WRIST], "swap"),
        (own[NOSE], "miss"),
    ):
        assert kind_at(image, WRIST, position) == kind
    image.joints[1, WRIST, :2] = own[OTHER_WRIST, :2] + [4, 0]
    for offset, kind in ((1, "inversion"), (2, "inversion"), (3, "swap")):  # the nearest one; of equals the own side
        assert kind_at(image, WRIST, own[OTHER_WRIST, :2] + [offset, 0]) == kind
    position = own[OTHER_WRIST, :2].copy()
    own[OTHER_WRIST], image.joints[1, WRIST, 2] = 0, 0
    assert kind_at(image, WRIST, position) == "miss", "neither is labeled"
    own[WRIST, :2] = 0
    image.poses[0, WRIST] = 0
    assert KINDS[match_image(image, KEYPOINTS).kinds[0, WRIST]] == "miss", "not predicted, though it is at the image's corner"


def test_a_poor_pose_with_a_high_score_does_not_take_the_person_of_a_good_one():
    """Predictions match at OKS 0.5 first. The rest match the remaining people, and crowds, at 0.1."""
    image = two_people()
    poor = image.poses[0] + np.pad(shift_for(0.3)[:, None], ((0, 0), (0, 2)))
    matched = match_image(add_prediction(image, poor, 0.95), KEYPOINTS)
    assert (matched.gt_index.tolist(), matched.oks.tolist()) == ([-1, 0, 1], [0, 1, 1])
    assert (matched.missed.tolist(), matched.is_false_positive.tolist()) == ([False, False], [True, False, False])
    alone = match_image(add_prediction(second_alone(image), poor, 0.95), KEYPOINTS)
    assert (alone.gt_index.tolist(), alone.oks[0]) == ([0, 1], pytest.approx(0.3))
    crowd = np.array([True, False])
    matched = match_image(add_prediction(two_people(crowd=crowd, ignored=crowd), poor, 0.95), KEYPOINTS)
    assert matched.gt_index.tolist() == [0, 0, 1]
    assert (matched.kinds[:2] == -1).all() and not matched.missed.any(), "an ignored person's keypoints are not compared"


def test_an_image_error_counts_missing_oks_and_harmful_false_positives():
    image, ignored = two_people(), np.array([True, False])
    for score, error in ((0.95, 1), (0.85, 0.5), (0.8, 0), (0.1, 0)):  # the fraction of 0.9 and 0.8 below
        assert image_errors([match_image(add_prediction(image, FAR, score), KEYPOINTS)]).tolist() == [error]
    results = image, second_alone(image), second_alone(two_people(ignored=ignored))
    assert image_errors([match_image(result, KEYPOINTS) for result in results]).tolist() == [0, 1, 0]


def images_with(kind: str) -> list[ImageResult]:
    """Eight images, each with one error type in the first person's arms and legs, or one wrong person."""

    def change(image: ImageResult) -> ImageResult:
        own, other = image.joints
        changed = range(5, 11 if kind == "swap" else 15)  # with more keypoints swapped the pose matches the other person
        if kind == "jitter":
            image.poses[0, :, 0] += shift_for(0.6)
        elif kind == "false_positives":
            return add_prediction(image, FAR, 0.95)
        elif kind == "false_negatives":
            return second_alone(image)
        else:
            image.poses[0, changed] = {"inversion": own[KEYPOINTS.mirror[changed]], "swap": other[changed], "miss": 0}[kind]
        return image

    return [change(two_people(number)) for number in range(1, 9)]


@pytest.mark.parametrize("kind", [*KINDS[1:], "false_positives", "false_negatives"])
def test_fixing_the_only_error_type_gains_all_ap_that_is_lost(kind):
    images = images_with(kind)
    gains = ap_gain_if_fixed([match_image(image, KEYPOINTS) for image in images], SIGMAS)
    ap = precision_curves(images, SIGMAS).precision.mean()
    assert ap < 0.9
    assert gains[kind] == max(gains.values()) == pytest.approx(1 - ap)
    if kind == "false_positives":
        assert gains["scores"] == pytest.approx(1 - ap), "with OKS as scores, false positives rank last"


def test_ap_gains_without_errors_predictions_or_people(tmp_path):
    no_people = {"joints": np.zeros((0, 17, 3)), "areas": np.zeros(0), "boxes": np.zeros((0, 4))}
    no_predictions, no_people = (
        {"poses": np.zeros((0, 17, 3)), "scores": np.zeros(0)},
        {**no_people, **dict.fromkeys(("ignored", "crowd"), np.zeros(0, bool))},
    )
    for replaced, expected, false_negatives in (({}, 0, 0), (no_predictions, 0, 1), (no_people, -1, -1)):
        gains = ap_gain_if_fixed([match_image(two_people(**replaced), KEYPOINTS)], SIGMAS)
        assert gains == {**dict.fromkeys(gains, expected), "false_negatives": false_negatives}
    assert write_analysis([two_people(**no_people)], KEYPOINTS, tmp_path) == "no person is annotated: no analysis"


def test_the_analysis_counts_every_error():
    images = images_with("inversion")
    images[0], images[1] = add_prediction(images[0], FAR, 0.1), replace(images[1], poses=images[1].poses[:1], scores=images[1].scores[:1])
    images[2].poses[1, :, 0] += shift_for(0.52)  # matches at the first threshold only
    analysis = analyze(images, KEYPOINTS)
    people = {"false_positives": 1, "false_negatives": 1}
    assert analysis["errors"] == {"good": 8 * 23 - 34, "jitter": 17, "inversion": 80, "swap": 0, "miss": 0, **people}
    for k, (name, metrics) in enumerate(analysis["keypoints"].items()):
        assert (metrics["errors"]["inversion"], metrics["people"]) == (8 * (5 <= k < 15), 16 - 8 * (k == ANKLE))
        assert metrics["recall50"] == pytest.approx((7 if 5 <= k < 15 or k == ANKLE else 15) / metrics["people"]), name
    sizes = analysis["sizes"]
    assert {name: size["people"] for name, size in sizes.items() if size["people"]} == {"64-96 px": 16}
    assert list(sizes) == ["0-32 px", "32-64 px", "64-96 px", "96-192 px", "over 192 px"]
    assert [sizes["64-96 px"][name] for name in ("recall50", "AP50", "AP75")] == pytest.approx([7 / 16, 44 / 101, 38 / 101])
    assert [sizes["0-32 px"][name] for name in ("recall50", "AP50", "AP75")] == [0, -1, -1]
