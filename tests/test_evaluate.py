"""evaluate.py: what it writes for each data set, how it continues after an interrupt, and what it refuses."""

import json
import os
import re
import runpy
import shutil
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from disk import read
from mpii_files import mpii_files, official_person, write_list, write_official, write_truth
from people import SKELETON, labeled_people
from places import ROOT
from runs import free_port, in_a_child
from scipy.io import loadmat
from top_down_system import registered, write_checkpoint

from utils.evaluation import analysis
from utils.evaluation.coco import METRICS, CocoMetric, GroundTruth
from utils.evaluation.mpii import PARTS
from utils.systems.simplepose import SimplePoseDecoder

FAINT = ("assignment.keypoint_threshold=1e-4", "assignment.lone_threshold=0", "assignment.max_peaks=2")  # for a hardly trained network
RESULTS = {"detections.json", "detections.images.json"}
DERIVED = {"metrics.json", "report.html", "analysis.json", "pr_curves.png", "errors.png"}
ARCHIVE = "person_keypoints_test-dev2017_simplepose_results"
NO_NETWORK = {"config": None, "checkpoint": None}


@pytest.fixture
def evaluate(run, tiny, trained, annotations, images, monkeypatch, tmp_path) -> Callable:
    """Run evaluate.py on the synthetic people with a hardly trained network, some arguments replaced; charts are empty."""
    monkeypatch.setattr(analysis, "draw_charts", lambda _: np.zeros((9, 9, 3), np.uint8))  # matplotlib takes a second for each evaluation
    usual = {"config": tiny, "checkpoint": trained / "last.pth", "annotations": annotations, "images": images, "output": tmp_path / "out"}

    def start(*more: object, run=run, **replaced: object):
        named = [word for name, value in {**usual, **replaced}.items() if value is not None for word in (f"--{name}", value)]
        return run("evaluate.py", *named, *more)

    return start


@pytest.fixture
def perfect_network(monkeypatch, annotations, images) -> list[int]:
    """Have the network predict exactly the annotated people. Return the list of the images that it gets."""
    people = labeled_people(annotations)
    by_pixels = {cv2.imread(str(images / f"{i:012d}.jpg")).tobytes(): (i, predictions) for i, predictions in people.items()}
    seen = []

    def predict(self, images, boxes=None):
        predictions = [by_pixels[image.tobytes()] for image in images]
        seen.extend(number for number, _ in predictions)
        return [people for _, people in predictions]

    monkeypatch.setattr(SimplePoseDecoder, "__call__", predict)
    return seen


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def same_results(folder: Path, other: Path) -> None:
    for name in ("detections.json", "metrics.json", "analysis.json"):
        assert (folder / name).read_bytes() == (other / name).read_bytes()


def image_list(annotations: Path, path: Path) -> Path:
    """Write the same images as COCO's file of a test set lists them."""
    path.write_text(json.dumps({"images": read(annotations)["images"], "categories": [{"id": 1, "name": "person"}]}))
    return path


# COCO's metrics


def test_perfect_predictions_of_the_evaluated_images_have_an_ap_of_one(evaluate, perfect_network, annotations, tmp_path):
    """Their results are in COCO's format, by id."""
    ended = evaluate("--limit", 3)
    assert ended.status == 0, ended.err
    names, values, *_ = ended.out.splitlines()
    assert names.split() == list(METRICS)
    assert [value for name, value in zip(METRICS, values.split()) if name[-2:] not in ("_M", "_L")] == ["1.000"] * 6
    assert read(tmp_path / "out" / "metrics.json")["AP"] == pytest.approx(1)
    assert files(tmp_path / "out") == {*RESULTS, *DERIVED}
    results = read(tmp_path / "out" / "detections.json")
    labeled = [a for a in read(annotations)["annotations"] if a["image_id"] <= 3 and a["num_keypoints"]]
    for result, annotation in zip(results, labeled, strict=True):
        assert (result["image_id"], result["category_id"], len(result)) == (annotation["image_id"], 1, 4)
        truth = np.reshape(annotation["keypoints"], (17, 3))
        np.testing.assert_allclose(np.reshape(result["keypoints"], (17, 3)), np.minimum(truth, [np.inf, np.inf, 1]), atol=0.01)


def test_images_are_found_as_the_builder_finds_them_and_missing_ones_omitted(
    evaluate, fails, perfect_network, annotations, images, tmp_path
):
    """Two sources, one a zip file, names of Windows and one missing image: the other people have an AP of 1."""
    content = read(annotations)
    for image in content["images"]:
        image["file_name"] = "D:\\export\\" + image["file_name"].replace(".jpg", ".png")
    (tmp_path / "own.json").write_text(json.dumps(content))
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for path in sorted(images.iterdir())[:3]:
            archive.write(path, f"export/{path.name}")
    (tmp_path / "others").mkdir()
    for path in sorted(images.iterdir())[4:]:
        shutil.copy(path, tmp_path / "others")
    given = {"annotations": tmp_path / "own.json", "images": None}
    sources = ("--images", tmp_path / "some.zip", tmp_path / "others", "inference.flip=false")
    ended = evaluate(*sources, **given)
    assert ended.status == 0, ended.err
    assert (read(tmp_path / "out" / "metrics.json")["AP"], sorted(perfect_network)) == (pytest.approx(1), [1, 2, 3, 5, 6, 7, 8])
    assert "7 x found under another path or name (first: annotation file" in ended.err
    assert "1 x omitted: the image is missing (first: annotation file" in ended.err and "000000000004.png)" in ended.err
    assert re.search(r"found under another path or name \(--strict", evaluate(*sources, "--strict", run=fails, **given))
    (tmp_path / "none").mkdir()
    assert "none: none of the 8 images listed is there" in evaluate("--images", tmp_path / "none", run=fails, **given)


def test_options_reach_the_configuration(evaluate, monkeypatch, tiny, trained, tmp_path):
    """The checkpoint's own is the default; overrides after --scales are overrides. Results are beside the checkpoint by default."""
    configs, no_people = [], (np.zeros((0, 18, 3)), np.zeros(0))
    monkeypatch.setattr(SimplePoseDecoder, "__call__", lambda self, images, _: configs.append(self.config) or [no_people] * len(images))
    (tmp_path / "mine.yaml").write_text(tiny.read_text().replace("pad_multiple: 16", "pad_multiple: 16, pad_value: 9"))
    checkpoint = shutil.copy(trained / "last.pth", tmp_path)
    assert evaluate("--limit", 1, config=None, checkpoint=checkpoint, output=None).status == 0
    assert read(tmp_path / "evaluation" / "metrics.json")["AP"] == 0
    assert evaluate("--limit", 1, config=tmp_path / "mine.yaml").status == 0
    assert evaluate("--limit", 1, "--no-flip", "--scales", 0.5, 1, "inference.pad_value=7", config=None).status == 0
    options = [(c.inference.scales, c.inference.flip, c.inference.pad_value) for c in configs]
    assert options == [((1.0,), True, 128), ((1.0,), True, 9), ((0.5, 1.0), False, 7)]
    assert {config.model.channels for config in configs} == {16}


def test_images_without_annotations_make_an_archive_for_the_server(evaluate, perfect_network, annotations, tmp_path):
    """It replaces the files of an earlier evaluation. --detections makes the same one."""
    (tmp_path / "out" / "worst").mkdir(parents=True)
    for name in (*DERIVED, "worst/01_a.jpg", "worst/mine.jpg"):
        (tmp_path / "out" / name).touch()
    info = image_list(annotations, tmp_path / "image_info_test-dev2017.json")
    ended = evaluate(annotations=info)
    assert "no annotations to compare with" in ended.out
    assert files(tmp_path / "out") == {*RESULTS, f"{ARCHIVE}.json", f"{ARCHIVE}.zip", "worst"}
    assert files(tmp_path / "out" / "worst") == {"mine.jpg"}
    detections = tmp_path / "out" / "detections.json"
    with zipfile.ZipFile(tmp_path / "out" / f"{ARCHIVE}.zip") as archive:
        assert archive.namelist() == [f"{ARCHIVE}.json"]
        assert json.loads(archive.read(f"{ARCHIVE}.json")) == read(detections)
    assert evaluate(annotations=info, detections=detections, output=tmp_path / "again", **NO_NETWORK).status == 0
    assert read(tmp_path / "again" / f"{ARCHIVE}.json") == read(detections)


# Interrupts


def interrupt_after(calls: int, monkeypatch) -> None:
    """Have Ctrl-C end the decoder's next call after so many."""
    predict, done = SimplePoseDecoder.__call__, []

    def interrupted(self, images, boxes=None):
        if len(done) == calls:
            raise KeyboardInterrupt
        done.append(images)
        return predict(self, images, boxes)

    monkeypatch.setattr(SimplePoseDecoder, "__call__", interrupted)


def test_an_interrupted_evaluation_continues(evaluate, perfect_network, monkeypatch, trained, annotations, tmp_path):
    """The results are those of an uninterrupted one. With another checkpoint or annotation file it starts anew."""
    with monkeypatch.context() as patch:
        interrupt_after(3, patch)
        ended = evaluate("--batch-size", 1)
    assert (ended.status, ended.err.splitlines()[-1]) == (130, "error: interrupted; the same command continues")
    (log,) = files(tmp_path / "out")
    assert log.startswith("detections.partial.")
    for name, other in {"checkpoint": trained / "best.pth", "annotations": shutil.copy(annotations, tmp_path / "again.json")}.items():
        shutil.copytree(tmp_path / "out", tmp_path / name)
        perfect_network.clear()
        assert evaluate("--limit", 4, output=tmp_path / name, **{name: other}).status == 0
        assert perfect_network == [1, 2, 3, 4]
    perfect_network.clear()
    assert evaluate("--batch-size", 1).status == 0
    assert perfect_network == [4, 5, 6, 7, 8]
    assert files(tmp_path / "out") == {*RESULTS, *DERIVED}
    assert evaluate(output=tmp_path / "straight").status == 0
    same_results(tmp_path / "straight", tmp_path / "out")


@pytest.mark.slow
def test_two_ranks_continue_what_one_process_began(evaluate, monkeypatch, tmp_path):
    """The results are those of one process, to the last bit."""
    usual = ("--batch-size", 1, "--device", "cpu", *FAINT)
    assert evaluate(*usual, output=tmp_path / "alone").status == 0
    with monkeypatch.context() as patch:
        interrupt_after(3, patch)
        assert evaluate(*usual).status == 130
    port = free_port()

    def start(script: str, *arguments: object) -> None:
        sys.argv = [script, *map(str, arguments)]
        runpy.run_path(str(ROOT / script), run_name="__main__")

    def as_rank(rank: int) -> None:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in names.items()})
        evaluate(*usual, run=start)

    ranks = [in_a_child(partial(as_rank, rank), tmp_path / f"{rank}.txt") for rank in range(2)]
    printed = [(os.waitpid(process, 0)[1], (tmp_path / f"{rank}.txt").read_text()) for rank, process in enumerate(ranks)]
    assert [status for status, _ in printed] == [0, 0], printed
    assert ["AP lost by error type" in text for _, text in printed] == [True, False], "only rank 0 prints"
    assert "evaluate: 100% 4/4 " in printed[0][1]
    assert files(tmp_path / "out") == {*RESULTS, *DERIVED}
    assert len(read(tmp_path / "alone" / "detections.json")) > 1
    same_results(tmp_path / "alone", tmp_path / "out")


# A system that needs boxes


@pytest.fixture(scope="module")
def top_down(tmp_path_factory):
    """Return the checkpoint of a system that gets one box at a time; the system is registered meanwhile."""
    with registered():
        yield write_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.pth")


@pytest.fixture
def boxes(annotations, tmp_path) -> Path:
    """Write a detector's boxes in half of the images, one of an unknown image."""
    box = {"category_id": 1, "bbox": [10, 20, 60, 80]}
    of_images = [{**box, "image_id": n, "score": score} for n in (1, 2, 3, 4) for score in (0.9, 0.4, 0.0)]
    (tmp_path / "boxes.json").write_text(json.dumps([*of_images, {**box, "image_id": 999, "score": 1}]))
    return tmp_path / "boxes.json"


def test_boxes_are_annotated_ones_of_countable_people_or_a_detectors(evaluate, top_down, boxes, annotations, tmp_path):
    content = read(annotations)
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1].update(keypoints=[0] * 51, num_keypoints=0)
    (tmp_path / "people.json").write_text(json.dumps(content))
    assert evaluate(config=None, checkpoint=top_down, annotations=tmp_path / "people.json").status == 0
    results = read(tmp_path / "out" / "detections.json")
    assert [result["image_id"] for result in results] == [a["image_id"] for a in content["annotations"][2:]]
    ended = evaluate(config=None, checkpoint=top_down, annotations=image_list(annotations, tmp_path / "info.json"), boxes=boxes)
    assert "boxes.json: 1 of 13 boxes were skipped: of images that the annotation file does not list" in ended.err
    results = read(tmp_path / "out" / "detections.json")
    assert [result["image_id"] for result in results] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert results[0]["score"] * 0.4 == pytest.approx(results[1]["score"] * 0.9)


# MPII


@pytest.fixture(scope="module")
def mpii(images, top_down, tmp_path_factory) -> dict[str, object]:
    """Write MPII's people on the synthetic images, valid.json and gt_valid.mat, and a hardly trained network of MPII's skeleton."""
    folder = tmp_path_factory.mktemp("mpii")
    people = mpii_files(sorted(path.name for path in images.iterdir()))
    write_truth(folder / "gt_valid.mat", people)
    checkpoint = write_checkpoint(folder / "tiny.pth", skeleton="mpii")
    return {"annotations": write_list(folder / "valid.json", people), "checkpoint": checkpoint, "config": None}


@pytest.mark.parametrize("boxes", [True, False])
def test_mpii_has_pckh_and_predictions_for_its_server(evaluate, mpii, tmp_path, boxes):
    """For a top-down and a bottom-up system. Evaluating the results again gives the same."""
    ended = evaluate(f"inference.boxes={boxes}", **mpii)
    assert ended.status == 0, ended.err
    _, half, _, tenth, _ = tables = ended.out.splitlines()[:5]
    assert half.split() == [*PARTS, "Mean", "Mean@0.1"]
    assert tenth.split() == ["Mean@0.1_exact", *(f"{part}@0.1_exact" for part in PARTS)]
    assert "predictions for 16 annotated people, in the file's order" in ended.out
    assert files(tmp_path / "out") == {*RESULTS, "metrics.json", "report.html", "pred.mat"}
    predictions = loadmat(tmp_path / "out" / "pred.mat")["preds"] - 1
    for person, points in zip(read(mpii["annotations"]), predictions, strict=True):
        inside = np.abs(points - (np.array(person["center"]) - 1 + (0, 15 * person["scale"]))) <= 100 * person["scale"] + 1
        assert inside.all() or not boxes
    again = {"annotations": mpii["annotations"], "detections": tmp_path / "out" / "detections.json", **NO_NETWORK}
    assert evaluate(output=tmp_path / "again", **again).out.splitlines()[:5] == tables
    assert (tmp_path / "again" / "pred.mat").read_bytes()[128:] == (tmp_path / "out" / "pred.mat").read_bytes()[128:]  # after the date


def test_mpii_without_head_boxes_has_predictions_only(evaluate, mpii, tmp_path):
    people = read(mpii["annotations"])
    bare = write_list(tmp_path / "test.json", [{key: p[key] for key in ("image", "center", "scale")} for p in people])
    ended = evaluate("--limit", 2, **{**mpii, "annotations": bare})
    assert (ended.status, "no metrics: PCKh needs annotations and head boxes" in ended.out) == (0, True)
    assert loadmat(tmp_path / "out" / "pred.mat")["preds"].shape == (4, 16, 2)
    entries = [(people[0]["image"], [official_person(person) for person in people[:2]], 1, [1])]
    official = write_official(tmp_path / "official.mat", entries)
    assert "Mean@0.1_exact" in evaluate(**{**mpii, "annotations": official}).out, "the official file has head boxes"


# Predictions of any origin


@pytest.fixture
def detections(annotations, tmp_path) -> Path:
    """Write results of all people, 3 px of noise beside the annotations; none in the fifth image."""
    truth, people = GroundTruth(annotations, None, SKELETON), labeled_people(annotations, noise=3)
    results = [result for number, of_image in people.items() if number != 5 for result in CocoMetric().to_results(truth, number, of_image)]
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path / "results.json"


def test_a_networks_results_have_its_metrics(evaluate, tmp_path):
    """With --limit, results of other images neither count nor are refused; a run's folder says which images it was limited to."""
    for more, name in (((), "all"), (("--limit", 2), "two")):
        assert evaluate(*FAINT, *more, output=tmp_path / name).status == 0
        again = {**NO_NETWORK, "images": None, "detections": tmp_path / "all" / "detections.json"}
        assert evaluate(*more, output=tmp_path / f"{name} again", **again).status == 0
        assert files(tmp_path / f"{name} again") == DERIVED
        for file in DERIVED - {"report.html"}:  # it names where the predictions are from
            assert (tmp_path / f"{name} again" / file).read_bytes() == (tmp_path / name / file).read_bytes()
    again["detections"] = tmp_path / "two" / "detections.json"
    ended = evaluate(output=tmp_path / "limited", **again)
    assert "evaluated on the 2 of 8 images that its run looked at" in ended.err
    assert read(tmp_path / "limited" / "metrics.json") == read(tmp_path / "two" / "metrics.json")
    again["detections"].write_text(json.dumps(read(again["detections"])[:1]))  # no longer what the run has written
    assert re.search(r"7 of 8 images have no result at all; .*add --limit N", evaluate(output=tmp_path / "changed", **again).err)


def test_the_analysis_agrees_with_the_metrics_and_the_worst_images_are_written(run, detections, annotations, images, tmp_path):
    """Images replace those of an earlier evaluation. Predictions far outside the image do no harm."""
    entries = read(detections)
    for entry, far in zip(entries, (9e14, -1e12, 1e6)):
        entry["keypoints"][::3] = [far] * 17
    detections.write_text(json.dumps(entries))
    folder = tmp_path / "evaluation"  # beside the detections by default
    (folder / "worst").mkdir(parents=True)
    (folder / "worst" / "8_old.jpg").touch()
    ended = run("evaluate.py", "--detections", detections, "--annotations", annotations, "--images", images, "--save-images", 8)
    assert (ended.status, ended.err.count("\n")) == (0, 1)
    assert "1 of 8 images have no result at all; people in them count as missed; " in ended.err and "add --limit N" in ended.err
    names = sorted(files(folder / "worst"))
    assert {name[2:] for name in names[:2]} == {"000000000001.jpg", "000000000005.jpg"}, "far predictions, and no predictions"
    assert "8_old.jpg" not in names and f"the {len(names)} worst images: {folder / 'worst'}" in ended.out
    metrics, content = (read(folder / f"{name}.json") for name in ("metrics", "analysis"))
    for name, curve in {"AP": "OKS 0.5:0.95", "AP50": "OKS 0.5", "AP75": "OKS 0.75"}.items():
        assert np.mean(content["precision"][curve]) == pytest.approx(metrics[name])
    gains = content["ap_gain_if_fixed"]
    assert f"AP lost by error type: {max(gains, key=gains.get).replace('_', ' ')} " in ended.out
    for name in ("pr_curves.png", "errors.png"):
        height, width, _ = cv2.imread(str(folder / name)).shape
        assert height > 300 and width > 600


def test_invalid_options_are_refused_in_one_line(evaluate, fails, detections, boxes, annotations, top_down, mpii, tmp_path):
    info = image_list(annotations, tmp_path / "info.json")
    results, network = {**NO_NETWORK, "detections": detections}, {"config": None, "checkpoint": top_down}
    few = write_truth(tmp_path / "few.mat", read(mpii["annotations"])[:3])
    for more, replaced, message in (
        (("--limit", 0), {}, "--limit 0: expected at least 1"),
        (("--save-images", -1), {}, "--save-images -1: expected at least 0"),
        ((), {"images": None}, "--images: missing; add the folder of the images"),
        ((), {**network, "annotations": info}, f"{info}: has no annotations, and the system needs person boxes; pass detections"),
        ((), {"boxes": boxes}, f"--boxes {boxes}: system 'simplepose' is bottom-up and needs no boxes; omit it"),
        (("--head-boxes", few), {}, "is for MPII's evaluation, but annotation file"),
        (("--head-boxes", few), mpii, f"head boxes {few}: not of the 16 people in annotation file {mpii['annotations']}"),
        (("--boxes", few), mpii, "MPII's evaluation uses the annotated boxes; omit it"),
        (("--save-images", 2), mpii, "--save-images: needs annotations of another format than MPII's"),
        (("--save-images", 2), {"annotations": info}, "--save-images: needs annotations"),
        (("--save-images", 2), {**results, "images": None}, "--save-images: needs annotations"),
        (("--scales", 1), results, "--detections: needs no network; omit --scales"),
        (("inference.flip=false",), results, "omit inference.flip=false"),
    ):
        assert message in evaluate(*more, run=fails, **replaced), message
