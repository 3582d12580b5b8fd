"""evaluate.py: figures, the files it writes, going on after an interrupt, and annotation files of one's own."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from people import SKELETON, labelled_people, own_file

from utils.evaluation.coco import FIGURES, to_detections
from utils.inference import PoseEstimator


@pytest.fixture
def evaluate(run, tiny, trained, annotations, images, tmp_path):
    """Runs evaluate.py on the drawn people, with some of its arguments replaced."""
    usual = {"config": tiny, "checkpoint": trained / "last.pth", "annotations": annotations, "images": images, "output": tmp_path / "out"}

    def start(*more: object, **replaced: object):
        named = [word for name, value in {**usual, **replaced}.items() for word in (f"--{name}", value)]
        return run("evaluate.py", *named, *more)

    return start


@pytest.fixture
def knowing(monkeypatch, annotations, images):
    """Has the estimator find exactly the annotated people; a list of the images it was asked about."""
    people = labelled_people(annotations)
    by_pixels = {cv2.imread(str(images / f"{i:012d}.jpg")).tobytes(): (i, found) for i, found in people.items()}
    asked = []

    def estimate(self, images):
        found = [by_pixels[image.tobytes()] for image in images]
        asked.extend(number for number, _ in found)
        return [people for _, people in found]

    monkeypatch.setattr(PoseEstimator, "batch", estimate)
    return asked


RESULTS_NAME = "person_keypoints_test-dev2017_simplepose_results.json"
DETAILS = {"figures.json", "details.json", "curves.png", "errors.png"}


def read(path: Path):
    return json.loads(path.read_text())


def test_perfect_detections_give_an_ap_of_one(evaluate, knowing, tmp_path):
    status, out, err = evaluate()
    assert status == 0, err
    names, values, *_ = out.splitlines()
    assert names.split() == list(FIGURES)
    figures = dict(zip(names.split(), map(float, values.split())))
    assert {figures[name] for name in ("AP", "AP50", "AP75", "AR", "AR50", "AR75")} == {1.0}
    assert read(tmp_path / "out" / "figures.json")["AP"] == pytest.approx(1)


def test_detections_are_as_coco_wants_them(evaluate, knowing, annotations, tmp_path):
    evaluate("--limit", 3)
    detections = read(tmp_path / "out" / "detections.json")
    assert {d["image_id"] for d in detections} <= {1, 2, 3}
    labelled = [a for a in read(annotations)["annotations"] if a["image_id"] <= 3 and a["num_keypoints"]]
    assert len(detections) == len(labelled)
    for detection, annotation in zip(detections, labelled):
        assert set(detection) == {"image_id", "category_id", "keypoints", "score"}
        assert detection["category_id"] == 1
        truth = np.reshape(annotation["keypoints"], (17, 3))
        np.testing.assert_allclose(np.reshape(detection["keypoints"], (17, 3)), np.minimum(truth, [np.inf, np.inf, 1]), atol=0.01)


def test_a_network_that_finds_nobody_gets_zeros(evaluate, tmp_path):
    """The tiny network has hardly been trained. Nobody in the pictures is large: that is no figure at all."""
    status, out, err = evaluate("--limit", 2, "--device", "cpu", "assignment.keypoint_threshold=0.99")
    assert status == 0, err
    names, values, *_ = out.splitlines()
    assert dict(zip(names.split(), values.split())) == {name: "-1.000" if name.endswith("_L") else "0.000" for name in FIGURES}
    assert read(tmp_path / "out" / "detections.json") == []


@pytest.mark.parametrize("found", [False, True])
def test_with_nobody_to_find_there_are_no_figures(evaluate, knowing, annotations, monkeypatch, tmp_path, found):
    """Whether somebody was found or not."""
    content = read(annotations)
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 1]
    (tmp_path / "nobody.json").write_text(json.dumps(content))
    people = [(np.ones((1, 18, 3), np.float32) if found else np.zeros((0, 18, 3)), np.ones(int(found)))]
    monkeypatch.setattr(PoseEstimator, "batch", lambda self, images: people)
    status, out, err = evaluate("--limit", 1, annotations=tmp_path / "nobody.json")
    assert status == 0, err
    assert out.splitlines()[1].split() == ["-1.000"] * 10


def test_figures_are_over_the_images_that_were_looked_at(evaluate, knowing, tmp_path):
    """Everybody in them is found: those in the others must not count as missed."""
    evaluate("--limit", 2)
    assert read(tmp_path / "out" / "figures.json")["AP"] == pytest.approx(1)


def test_scores_are_kept_as_they_are(evaluate, knowing, annotations, tmp_path):
    """People of almost one score are ranked by what they differ in."""
    evaluate("--limit", 3)
    scores = [score for i, (_, scores) in labelled_people(annotations).items() if i <= 3 for score in scores.tolist()]
    assert [detection["score"] for detection in read(tmp_path / "out" / "detections.json")] == scores
    close = to_detections(1, np.ones((2, 18, 3)), np.array([0.5, 0.5 + 1e-9]), SKELETON, 1, np.arange(17), 17)
    assert close[0]["score"] < close[1]["score"]


def test_results_do_not_depend_on_the_size_of_batches(evaluate, tmp_path):
    """With a real network, on pictures of one size."""
    for size in (1, 3, 8):
        faint = ("assignment.keypoint_threshold=1e-4", "assignment.lone_threshold=0", "assignment.max_peaks=2")
        assert evaluate("--batch-size", size, *faint, output=tmp_path / str(size)).status == 0
    one, *others = (read(tmp_path / str(size) / "detections.json") for size in (1, 3, 8))
    assert one
    for other in others:
        assert [d["image_id"] for d in one] == [d["image_id"] for d in other]
        np.testing.assert_allclose([d["score"] for d in one], [d["score"] for d in other], atol=1e-4)
        np.testing.assert_allclose([d["keypoints"] for d in one], [d["keypoints"] for d in other], atol=0.05)


def test_pictures_are_run_together(evaluate, knowing, monkeypatch):
    sizes, plain = [], PoseEstimator.batch
    monkeypatch.setattr(PoseEstimator, "batch", lambda self, images: sizes.append(len(images)) or plain(self, images))
    evaluate("--batch-size", 3)
    assert sizes == [3, 3, 2]


def test_a_broken_image_costs_its_own_batch_only(evaluate, knowing, copy_of, images):
    folder = copy_of(images)
    sixth = folder / "000000000006.jpg"
    whole = sixth.read_bytes()
    sixth.write_bytes(whole[:2000])
    status, _, err = evaluate("--batch-size", 2, images=folder)
    assert (status, knowing) == (2, [1, 2, 3, 4])
    assert "000000000006.jpg: cannot be decoded" in err
    sixth.write_bytes(whole)
    knowing.clear()
    assert evaluate("--batch-size", 2, images=folder).status == 0
    assert knowing == [5, 6, 7, 8]


def test_an_image_of_another_size_than_annotated_is_told(evaluate, knowing, copy_of, images):
    """Made smaller, say: nobody in it would be where the annotations are."""
    folder = copy_of(images)
    file = folder / "000000000006.jpg"
    height, width = cv2.imread(str(file)).shape[:2]
    cv2.imwrite(str(file), np.zeros((height // 2, width // 2, 3), np.uint8))
    status, _, err = evaluate("--batch-size", 2, images=folder)
    expected = f"error: image {file}: is {width // 2} x {height // 2}, but the annotation file says {width} x {height}"
    assert (status, err.splitlines()[-1]) == (2, expected)
    assert knowing == [1, 2, 3, 4]


def test_a_batch_too_large_for_the_device_is_one_line(evaluate, monkeypatch):
    def estimate(self, images):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(PoseEstimator, "batch", estimate)
    status, _, err = evaluate()
    assert (status, "lower --batch-size" in err, "Traceback" in err) == (2, True, False)


def test_a_checkpoint_knows_its_own_configuration(run, trained, annotations, images, tmp_path, monkeypatch):
    configs = []
    plain = PoseEstimator.batch
    monkeypatch.setattr(PoseEstimator, "batch", lambda self, pictures: configs.append(self.config) or plain(self, pictures))
    options = ("--checkpoint", trained / "best.pth", "--annotations", annotations, "--images", images, "--output", tmp_path / "out")
    assert run("evaluate.py", *options, "--limit", 1, "--no-flip").status == 0
    assert (configs[0].model.channels, configs[0].inference.flip) == (16, False)


def test_a_configuration_that_is_named_goes_before_the_checkpoints_own(evaluate, tiny, tmp_path, monkeypatch):
    values = []
    monkeypatch.setattr(
        PoseEstimator, "batch", lambda self, _: values.append(self.config.inference.pad_value) or [(np.zeros((0, 18, 3)), [])]
    )
    (tmp_path / "mine.yaml").write_text(tiny.read_text().replace("pad_multiple: 16", "pad_multiple: 16, pad_value: 9"))
    assert evaluate("--limit", 1, config=tmp_path / "mine.yaml").status == 0
    assert values == [9]


def test_images_without_annotations_make_an_archive_for_the_server(evaluate, knowing, annotations, tmp_path):
    content = read(annotations)
    path = tmp_path / "image_info_test-dev2017.json"
    path.write_text(json.dumps({"images": content["images"], "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}]}))
    status, out, err = evaluate(annotations=path)
    assert status == 0, err
    assert "no annotations to compare with" in out
    with zipfile.ZipFile(tmp_path / "out" / RESULTS_NAME.replace(".json", ".zip")) as archive:
        assert archive.namelist() == [RESULTS_NAME]
        results = json.loads(archive.read(RESULTS_NAME))
    assert results == read(tmp_path / "out" / "detections.json")
    assert results
    assert all(set(r) == {"image_id", "category_id", "keypoints", "score"} and len(r["keypoints"]) == 51 for r in results)


def test_nothing_of_an_earlier_evaluation_is_left_beside_new_detections(evaluate, knowing, annotations, tmp_path):
    path = tmp_path / "image_info_test-dev2017.json"
    path.write_text(json.dumps({"images": read(annotations)["images"]}))
    archive = {RESULTS_NAME, RESULTS_NAME.replace(".json", ".zip")}
    for arguments, beside in (({}, DETAILS), ({"annotations": path}, archive), ({}, DETAILS)):
        assert evaluate("--limit", 1, **arguments).status == 0
        assert {file.name for file in (tmp_path / "out").iterdir()} == {"detections.json", *beside}


# Going on


@pytest.fixture
def interrupted(evaluate, knowing, monkeypatch):
    """An evaluation that Ctrl-C ended at the fourth image."""
    whole = PoseEstimator.batch

    def estimate(self, images):
        if len(knowing) == 3:
            raise KeyboardInterrupt
        return whole(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(PoseEstimator, "batch", estimate)
        ended = evaluate("--batch-size", 1)
    assert ended.status == 130
    assert ended.err.splitlines()[-1] == "error: interrupted; the same command goes on where it was"
    knowing.clear()


def test_an_interrupted_evaluation_goes_on(evaluate, knowing, interrupted, tmp_path):
    assert evaluate().status == 0
    assert knowing == [4, 5, 6, 7, 8]
    went_on = read(tmp_path / "out" / "detections.json")
    evaluate(output=tmp_path / "straight")
    assert read(tmp_path / "straight" / "detections.json") == went_on
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"detections.json", *DETAILS}


def test_a_line_cut_short_by_a_kill_is_done_again(evaluate, knowing, interrupted, tmp_path):
    journal = tmp_path / "out" / "detections.partial"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert evaluate().status == 0
    assert knowing == [3, 4, 5, 6, 7, 8]


def test_other_settings_start_anew(evaluate, knowing, interrupted):
    assert evaluate("--no-flip").status == 0
    assert knowing == [1, 2, 3, 4, 5, 6, 7, 8]


def test_another_checkpoint_starts_anew(evaluate, knowing, interrupted, trained):
    assert evaluate(checkpoint=trained / "best.pth").status == 0
    assert knowing == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_checkpoint_that_was_replaced_starts_anew(evaluate, knowing, copy_of, trained, monkeypatch):
    """By one of the same name and size."""
    checkpoint, whole = copy_of(trained) / "last.pth", PoseEstimator.batch

    def only_three(self, images):
        if len(knowing) == 3:
            raise KeyboardInterrupt
        return whole(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(PoseEstimator, "batch", only_three)
        assert evaluate("--batch-size", 1, checkpoint=checkpoint).status == 130
    os.utime(checkpoint, ns=(1, 1))
    knowing.clear()
    assert evaluate(checkpoint=checkpoint).status == 0
    assert knowing == [1, 2, 3, 4, 5, 6, 7, 8]


# Options


def test_scales_and_flip(evaluate, monkeypatch):
    """Overrides at the end of the command are none of --scales."""
    seen = []
    monkeypatch.setattr(PoseEstimator, "batch", lambda self, _: seen.append(self.config.inference) or [(np.zeros((0, 18, 3)), [])])
    assert evaluate("--limit", 1).status == 0
    assert evaluate("--limit", 1, "--no-flip", "--scales", 0.5, 1, "inference.pad_value=7").status == 0
    assert [(i.scales, i.flip, i.pad_value) for i in seen] == [((1.0,), True, 128), ((0.5, 1.0), False, 7)]


def test_options_that_make_no_sense(evaluate):
    for arguments, said in (
        (("--limit", 0), "--limit 0"),
        (("--batch-size", 0), "--batch-size 0"),
        (("--scales", "wide"), "inference.scales"),
        (("--scales", -1), "inference.scales"),
    ):
        status, _, err = evaluate(*arguments)
        assert (status, said in err) == (2, True), err


def test_output_is_beside_the_checkpoint_by_default(run, knowing, copy_of, trained, tiny, annotations, images):
    folder = copy_of(trained)
    arguments = ("--config", tiny, "--annotations", annotations, "--images", images, "--limit", 1)
    assert run("evaluate.py", "--checkpoint", folder / "best.pth", *arguments).status == 0
    assert (folder / "evaluation" / "detections.json").exists()


def test_photographs(run, shared, tiny, trained, tmp_path):
    mini = shared / "data" / "coco_mini"
    arguments = ("--annotations", mini / "annotations" / "person_keypoints_val2017.json", "--images", mini / "val2017", "--limit", 4)
    status, out, err = run("evaluate.py", "--config", tiny, "--checkpoint", trained / "best.pth", "--output", tmp_path, *arguments)
    assert status == 0, err
    assert out.split()[:10] == list(FIGURES)


def test_faulty_annotations_are_told_before_the_first_image(evaluate, knowing, annotations, tmp_path):
    content = read(annotations)
    content["annotations"][-1]["bbox"] = ["a", 2, 3, 4]
    (tmp_path / "faulty.json").write_text(json.dumps(content))
    status, _, err = evaluate(annotations=tmp_path / "faulty.json")
    assert (status, err.count("\n"), knowing) == (2, 1, [])
    assert f"faulty.json: annotation {content['annotations'][-1]['id']}: its 'bbox' is ['a', 2, 3, 4]" in err


# Annotation files of one's own


def test_own_annotation_files_can_be_trained_and_evaluated(run, evaluate, tiny, annotations, images, tmp_path):
    own = own_file(annotations, tmp_path / "own.json")
    content = read(own)
    folder = tmp_path / "all of them"
    for image in content["images"]:
        del image["width"], image["height"]
        image["file_name"] = f"{image['id'] % 2}/{image['file_name']}"
        target = folder / image["file_name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((images / target.name).read_bytes())
    own.write_text(json.dumps(content))
    built = run("data/coco_masks_hdf5.py", "--annotations", own, "--images", folder, "--output", tmp_path / "own.h5", "--workers", 1)
    assert built.status == 0, built.err
    data = (f"data.train={tmp_path / 'own.h5'}", f"data.val={tmp_path / 'own.h5'}", "train.epochs=1")
    assert run("train.py", "--config", tiny, "--output", tmp_path / "run", *data).status == 0
    status, out, err = evaluate(annotations=own, images=folder, checkpoint=tmp_path / "run" / "best.pth")
    assert status == 0, err
    assert out.split()[:10] == list(FIGURES)


def test_published_checkpoints_evaluate_too(evaluate, trained, tmp_path):
    """As far as their outer form goes: a dictionary of weights whose names begin with 'module.'."""
    weights = torch.load(trained / "last.pth", weights_only=True)["weights"]
    torch.save({"weights": {f"module.{name}": tensor for name, tensor in weights.items()}, "epoch": 3}, tmp_path / "published.pth")
    assert evaluate("--limit", 1, checkpoint=tmp_path / "published.pth").status == 0
