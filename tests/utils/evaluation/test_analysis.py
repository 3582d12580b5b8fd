"""Errors of keypoints and people: each one made on purpose is called by its name, and costs what it costs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from people import SKELETON, labeled_people
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from utils.evaluation.analysis import (
    KINDS,
    AnnotatedKeypoints,
    ImageResult,
    analyze,
    ap_gain_if_fixed,
    average_precision,
    image_errors,
    match,
    match_image,
    match_predictions,
)
from utils.evaluation.coco import CocoMetric, GroundTruth

KEYPOINTS = AnnotatedKeypoints.of(SKELETON, np.arange(17))
SIGMAS = SKELETON.oks_sigmas
WRIST, OTHER_WRIST = (KEYPOINTS.names.index(f"{side}_wrist") for side in ("left", "right"))
NOSE = KEYPOINTS.names.index("nose")


def people(image_id: int = 1) -> ImageResult:
    """Two people, both found exactly, the first one's left ankle not labeled. No keypoint is near another one."""
    places = np.random.default_rng(image_id).permutation(20)[:17]
    one = np.stack([1 + 30 * (places % 5), 1 + 30 * (places // 5), np.full(17, 2)], 1).astype(float)
    joints = np.stack([one, one + [200, 0, 0]])
    joints[0, 15] = 0
    boxes = np.array([[0, 0, 100, 100], [200, 0, 100, 100]])
    nobody = np.zeros(2, bool)
    found = np.stack([one, one + [200, 0, 0]])
    return ImageResult(image_id, joints, np.full(2, 5000.0), boxes, nobody, nobody, found, np.array([0.9, 0.8]))


def moved(image: ImageResult, row: int, keypoint: int, place: np.ndarray) -> ImageResult:
    poses = image.poses.copy()
    poses[row, keypoint, :2] = place
    return replace(image, poses=poses)


def kinds_of(image: ImageResult) -> list[str]:
    found = match_image(image, KEYPOINTS)
    return ["" if kind < 0 else KINDS[kind] for kind in found.kinds.ravel()]


def at(image: ImageResult, keypoint: int, likeness: float) -> np.ndarray:
    """A place beside the first person's keypoint where its own part of the OKS is as it is said."""
    reach = np.sqrt(-2 * np.log(likeness) * image.areas[0]) * 2 * KEYPOINTS.sigmas[keypoint]
    return image.joints[0, keypoint, :2] + [reach, 0]


def test_people_found_exactly_have_no_errors():
    kinds = kinds_of(people())
    assert kinds == ["good"] * 15 + [""] + ["good"] * 18
    found = [match_image(people(), KEYPOINTS)]
    assert set(ap_gain_if_fixed(found, KEYPOINTS.sigmas).values()) == {0.0}
    assert image_errors(found).tolist() == [0.0]


@pytest.mark.parametrize(("likeness", "kind"), [(0.86, "good"), (0.84, "jitter"), (0.51, "jitter")])
def test_how_near_is_near(likeness, kind):
    image = people()
    assert kinds_of(moved(image, 0, NOSE, at(image, NOSE, likeness)))[NOSE] == kind


def test_each_error_by_its_name():
    image = people()
    own, other = image.joints
    for place, kind in (
        (own[OTHER_WRIST], "inversion"),
        (other[WRIST], "swap"),
        (other[OTHER_WRIST], "swap"),
        (own[NOSE], "miss"),  # another keypoint that is not the other side's
        (np.array([-900, -900, 0]), "miss"),
    ):
        kinds = kinds_of(moved(image, 0, WRIST, place[:2]))
        assert kinds[WRIST] == kind
        assert set(kinds[:WRIST] + kinds[WRIST + 1 :]) == {"good", ""}


def test_a_keypoint_that_was_not_found_is_missed():
    """Also where the person stands in the image's corner, whose coordinates are 0, 0 too."""
    image = people()
    image.joints[0, WRIST, :2] = 0
    image.poses[0, WRIST] = 0
    assert kinds_of(image)[WRIST] == "miss"


def test_what_nobody_labeled_at_the_other_side_is_no_inversion():
    image = people()
    there = image.joints[0, OTHER_WRIST, :2].copy()
    image.joints[0, OTHER_WRIST] = 0
    assert kinds_of(moved(image, 0, WRIST, there))[WRIST] == "miss"


def test_of_several_the_nearest():
    image = people()
    image.joints[1, WRIST, :2] = image.joints[0, OTHER_WRIST, :2] + [3, 0]
    assert kinds_of(moved(image, 0, WRIST, image.joints[0, OTHER_WRIST, :2] + [1, 0]))[WRIST] == "inversion"
    assert kinds_of(moved(image, 0, WRIST, image.joints[0, OTHER_WRIST, :2] + [2, 0]))[WRIST] == "swap"


def many(change) -> list[ImageResult]:
    return [change(people(number)) for number in range(1, 9)]


def spoiled(kind: str) -> list[ImageResult]:
    """Eight images with one kind of error each in the first person's arms and legs, or of people."""

    def change(image: ImageResult) -> ImageResult:
        own, other = image.joints
        poses = image.poses.copy()
        parts = range(5, 11 if kind == "swap" else 15)  # with more of them somebody else's it would be somebody else
        if kind == "inversion":
            poses[0, parts] = own[KEYPOINTS.mirror[parts]]
        elif kind == "swap":
            poses[0, parts] = other[parts]
        elif kind == "miss":
            poses[0, parts] = 0
        elif kind == "jitter":
            poses[0, :, 0] += np.sqrt(-2 * np.log(0.6) * image.areas[0]) * 2 * KEYPOINTS.sigmas
        elif kind == "false_positives":
            nobody = np.random.default_rng(5).uniform(400, 500, (1, 17, 3))
            return replace(image, poses=np.concatenate([poses, nobody]), scores=np.append(image.scores, 0.95)).best_first()
        elif kind == "false_negatives":
            return replace(image, poses=poses[1:], scores=image.scores[1:])
        return replace(image, poses=poses)

    return many(change)


@pytest.mark.parametrize("kind", [*KINDS[1:], "false_positives", "false_negatives"])
def test_each_error_costs_the_ap_that_is_lost(kind):
    images = spoiled(kind)
    found = [match_image(image, KEYPOINTS) for image in images]
    lost = ap_gain_if_fixed(found, KEYPOINTS.sigmas)
    ap = match_predictions(images, KEYPOINTS.sigmas).precision().mean()
    assert ap < 0.9
    assert lost[kind] == max(lost.values())
    assert lost[kind] == pytest.approx(1 - ap)
    assert all(short >= 0.35 for short in image_errors(found))


def test_scores_in_the_wrong_order():
    """Who is like nobody is ranked above who is somebody: with scores that are the OKS nothing is lost."""
    images = spoiled("false_positives")
    lost = ap_gain_if_fixed([match_image(image, KEYPOINTS) for image in images], KEYPOINTS.sigmas)
    assert lost["scores"] == pytest.approx(lost["false_positives"]) and lost["scores"] > 0.2


def test_who_is_found_twice_is_nobody_the_second_time_and_the_better_pose_is_somebody():
    image = people()
    worse = image.poses[:1] + [30, 0, 0]
    twice = replace(image, poses=np.concatenate([worse, image.poses]), scores=np.array([0.95, 0.9, 0.8]))
    found = match_image(twice, KEYPOINTS)
    assert found.gt_index.tolist() == [-1, 0, 1]
    assert not found.missed.any()


def test_nobody_found_and_nobody_to_find():
    nobody = replace(people(), poses=np.zeros((0, 17, 3)), scores=np.zeros(0))
    lost = ap_gain_if_fixed([match_image(nobody, KEYPOINTS)], KEYPOINTS.sigmas)
    assert lost == {**dict.fromkeys(lost, 0.0), "false_negatives": 1.0}
    empty = replace(
        people(), joints=np.zeros((0, 17, 3)), areas=np.zeros(0), boxes=np.zeros((0, 4)), ignored=np.zeros(0, bool), crowd=np.zeros(0, bool)
    )
    found = match_image(empty, KEYPOINTS)
    assert found.is_false_positive.all() and (found.kinds < 0).all()
    assert set(ap_gain_if_fixed([found], KEYPOINTS.sigmas).values()) == {-1.0}


def test_details_count_every_error():
    images = spoiled("inversion")
    details = analyze(images, KEYPOINTS, match_predictions(images, KEYPOINTS.sigmas).precision())
    assert details["errors"]["inversion"] == 8 * 10
    assert details["errors"]["good"] == 8 * 23
    for name, figures in details["keypoints"].items():
        spoilt = 5 <= KEYPOINTS.names.index(name) < 15
        assert figures["errors"]["inversion"] == 8 * spoilt
        assert (figures["AP"] < 1) == spoilt, name
    assert details["keypoints"]["left_ankle"]["people"] == 8
    assert details["sizes"]["64-96 px"]["people"] == 16
    assert details["sizes"]["64-96 px"]["recall50"] == 0.5  # at an OKS of 0.5
    assert sum(size["people"] for size in details["sizes"].values()) == 16
    assert details["precision"]["OKS 0.5"] == pytest.approx([0.5] * 51 + [0] * 50)


# Matching and AP, against pycocotools

METRIC = CocoMetric()


@pytest.fixture(scope="module", params=[1, 3, 6])
def compared(request, annotations, tmp_path_factory):
    """A ground_truth, and results with noise of so many pixels: people twice, people who are nobody, equal scores, more than count."""
    content = json.loads(annotations.read_text())
    for number, annotation in enumerate(content["annotations"]):
        annotation["area"] *= (0.2, 1, 15)[number % 3]  # of all sizes
        annotation["iscrowd"] = int(number % 7 == 0)
        annotation["num_keypoints"] *= number % 5 != 1  # not to be found
    path = tmp_path_factory.mktemp("sizes") / "people.json"
    path.write_text(json.dumps(content))
    ground_truth, rng, found = GroundTruth(path, None, SKELETON), np.random.default_rng(3), []
    for noise in (request.param, 2 * request.param):
        for image_id, (keypoints, scores) in labeled_people(annotations, noise).items():
            found += METRIC.to_results(ground_truth, image_id, keypoints, scores)
    for image_id in (1, 1, 2, 3) + 30 * (4,):
        found += METRIC.to_results(ground_truth, image_id, rng.uniform(0, 160, (1, 18, 3)), np.array([0.7]))
    return path, ground_truth, found


def test_every_figure_is_pycocotools(compared):
    path, ground_truth, found = compared
    truth = COCO(str(path))
    plain = COCOeval(truth, truth.loadRes(found), "keypoints")
    plain.evaluate(), plain.accumulate(), plain.summarize()
    images = [image.best_first() for image in ground_truth.image_results(found)]
    precision = match_predictions(images, SIGMAS).precision()
    np.testing.assert_allclose(precision, plain.eval["precision"][:, :, 0, 0, 0], atol=1e-12)
    sizes = [(32**2, 96**2), (96**2, 1e10)]
    by_size = [average_precision(match_predictions(images, SIGMAS, size=size).precision()) for size in sizes]
    ours = [precision.mean(), precision[0].mean(), precision[5].mean(), *by_size]
    assert ours == pytest.approx(plain.stats[:5].tolist())
    assert 0 < ours[0] < 1 and len({round(value, 6) for value in ours}) == 5


def test_one_keypoint_alone_is_pycocotools_on_files_of_that_keypoint(compared):
    path, ground_truth, found = compared
    content = json.loads(path.read_text())
    for k in (0, 9, 15):
        one = {**content, "annotations": [{**a, "keypoints": a["keypoints"][3 * k : 3 * k + 3]} for a in content["annotations"]]}
        for annotation in one["annotations"]:
            annotation["num_keypoints"] = int(annotation["keypoints"][2] > 0 and annotation["num_keypoints"] > 0)
        truth = COCO()
        truth.dataset = one
        truth.createIndex()
        having = [{**d, "keypoints": d["keypoints"][3 * k : 3 * k + 3]} for d in found if any(d["keypoints"][3 * k : 3 * k + 3])]
        plain = COCOeval(truth, truth.loadRes(having), "keypoints")
        plain.params.kpt_oks_sigmas = SIGMAS[[k]]
        plain.evaluate(), plain.accumulate(), plain.summarize()
        # pycocotools takes the 20 best of an image after, here it is before: no image here has so many of them right
        alone = match_predictions([image.best_first().of_keypoint(k) for image in ground_truth.image_results(found)], SIGMAS[[k]])
        assert average_precision(alone.precision()) == pytest.approx(plain.stats[0], abs=0.01)


def test_who_is_right_is_who_is_to_be_found():
    """The better of two takes a person; a person ignored is taken only by whom nobody else is like, a crowd by many."""
    similarity = np.array([[0.9, 0.95, 0.1], [0.8, 0.2, 0.7], [0.85, 0.1, 0.6], [0.3, 0.1, 0.1]])
    ignored, crowd = np.array([False, True, True]), np.array([False, False, True])
    matches = match(similarity, np.array([0.5, 0.75, 0.87]), ignored, crowd)
    assert matches.tolist() == [[0, 2, 2, -1], [0, -1, -1, -1], [0, -1, -1, -1]]
    assert match(np.zeros((2, 0)), np.array([0.5]), ignored[:0], crowd[:0]).tolist() == [[-1, -1]]
    batch_key = np.array([[0.8, 0.8, 0.6]])  # of two who are as like the last, as pycocotools has it
    assert match(batch_key, np.array([0.5]), np.zeros(3, bool), crowd).tolist() == [[1]]


def test_nobody_to_find_and_nobody_found(annotations):
    ground_truth = GroundTruth(annotations, None, SKELETON)
    nobody = match_predictions(ground_truth.image_results([]), SIGMAS)
    assert (nobody.people > 0, average_precision(nobody.precision())) == (True, 0)
    assert average_precision(match_predictions([], SIGMAS).precision()) == -1
