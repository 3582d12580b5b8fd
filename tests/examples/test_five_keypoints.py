"""The example of own annotations, small: from a COCO file to a network fine-tuned on five keypoints, and its AP."""

import json

import numpy as np
import pytest
import yaml
from places import ROOT

from config import load_config
from config.load import load_skeleton
from data.formats import load_annotations
from data.hdf5 import TrainingHDF5
from data.synthetic import KEYPOINTS

EXAMPLE = "examples/five_keypoints"
SKELETON = load_skeleton(str(ROOT / EXAMPLE / "skeleton.yaml"))


@pytest.fixture
def own(run, annotations, tmp_path):
    """Write the annotation files of two annotators."""
    files = [tmp_path / f"{number}.json" for number in (1, 2)]
    for number, path in enumerate(files, start=1):
        ended = run(f"{EXAMPLE}/annotate.py", "--annotations", annotations, "--output", path, "--annotator", number)
        assert ended.status == 0, ended.err
    return files


def test_annotators_label_coco_keypoints_with_different_noise(own, annotations):
    first, second = (json.loads(path.read_text()) for path in own)
    (category,) = first["categories"]
    assert sorted(category["keypoints"]) == sorted(SKELETON.dataset)
    feet = [category["keypoints"].index(name) for name in ("left foot", "right foot")]
    ankles = [KEYPOINTS.index(name) for name in ("left_ankle", "right_ankle")]
    coco = load_annotations(annotations).coco
    for mine, other in zip(first["annotations"], second["annotations"], strict=True):
        a, b, true = (np.reshape(p["keypoints"], (-1, 3)) for p in (mine, other, coco.anns[mine["id"]]))
        labeled = a[:, 2] > 0
        assert a[feet, 2].tolist() == true[ankles, 2].tolist() and not a[~labeled].any()
        assert (a[labeled, :2] != b[labeled, :2]).any(1).all()
        near = 0.2 * np.sqrt(np.prod(mine["bbox"][2:]))
        assert (np.hypot(*(a[feet, :2] - true[ankles, :2]).T)[labeled[feet]] < near).all()
        assert {"area", "segmentation"}.isdisjoint(mine)


def five(x: float, y: float, number: int, **more) -> dict:
    """Return an annotation of a person in a box of 50 x 80 with all keypoints at one position."""
    person = {"id": number, "image_id": 1, "category_id": 1, "bbox": [x, y, 50, 80], "keypoints": [x + 9, y + 9, 2] * 5}
    return person | more


def test_sigmas_are_the_spread_of_one_annotator_over_the_root_of_the_area(run, fails, tmp_path):
    """Two annotators are 4 pixels apart, their people in another order."""
    first = [five(10, 10, 1), five(200, 10, 2), five(400, 10, 3)]
    second = [five(201, 10, 7), five(10, 10, 8), five(600, 10, 9, keypoints=[0] * 15)]
    for person, shift in zip(second, (3, 4)):
        person["keypoints"] = [v + shift * (k % 3 == 0) for k, v in enumerate(person["keypoints"])]
    second[1]["keypoints"][2::3] = [0, 2, 2, 2, 2]
    files = [tmp_path / "first.json", tmp_path / "second.json"]
    for path, people in zip(files, (first, second)):
        categories = [{"id": 1, "name": "figure", "keypoints": list(SKELETON.dataset)}]
        path.write_text(json.dumps({"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": people, "categories": categories}))
    command = (f"{EXAMPLE}/sigmas.py", "--annotations", *files, "--skeleton", ROOT / EXAMPLE / "skeleton.yaml")
    ended = run(*command)
    assert ended.status == 0, ended.err
    assert yaml.safe_load(ended.out) == dict.fromkeys(SKELETON.keypoints, round(np.sqrt(16 / 2 / 4000), 3))
    assert "head: 0.045  # 1 people" in ended.out
    files[1].write_text(json.dumps(json.loads(files[1].read_text()) | {"annotations": []}))
    assert "keypoint 'head': no person has it in both" in fails(*command)


def test_other_weights_are_fine_tuned_and_evaluated(run, own, images, trained, tmp_path, monkeypatch):
    """As in docs/own_data.md, from the tiny network of COCO's keypoints; the checkpoint holds the skeleton."""
    monkeypatch.chdir(ROOT)
    people, output = tmp_path / "own.h5", tmp_path / "run"
    skeleton = f"{EXAMPLE}/skeleton.yaml"
    build = ("--annotations", own[0], "--images", images, "--output", people, "--skeleton", skeleton, "--workers", 1)
    assert run("data/coco_masks_hdf5.py", *build).status == 0
    assert TrainingHDF5(people, SKELETON).keypoints == list(SKELETON.dataset)
    model = ("model={stages: 1, channels: 16, channels_increase: 0, depth: 2}", "loss.scale_weights=[1, 1, 1]", "inference.pad_multiple=16")
    overrides = (f"data.train={people}", f"data.val={people}", "data.input_size=[64, 64]", "train.epochs=1", "train.milestones=null")
    command = ("--config", f"{EXAMPLE}/train.yaml", "--output", output, "--init", trained / "best.pth", *overrides)
    ended = run("train.py", *command, *model)
    assert ended.status == 0, ended.err
    assert "tensors loaded" in ended.out and "predictions" in ended.out.split("newly initialized")[1]
    monkeypatch.chdir(tmp_path)  # nothing but the checkpoint is needed from here on
    named = ("--annotations", own[1], "--images", images, "--checkpoint", output / "best.pth")
    ended = run("evaluate.py", *named)
    assert ended.status == 0, ended.err
    assert 0 <= json.loads((output / "evaluation" / "metrics.json").read_text())["AP"] <= 1


def test_the_pages_annotation_file_builds(run, images, tmp_path):
    page = (ROOT / "docs" / "own_data.md").read_text()
    (tmp_path / "page.json").write_text(page.split("```json\n")[1].split("```")[0])
    named = ("--annotations", tmp_path / "page.json", "--images", images, "--output", tmp_path / "page.h5", "--workers", 1)
    ended = run("data/coco_masks_hdf5.py", *named, "--skeleton", ROOT / EXAMPLE / "skeleton.yaml")
    assert ended.status == 0, ended.err
    assert "1 people in 1 images" in ended.out


def test_the_example_has_the_quickstarts_network(monkeypatch):
    """`--init runs/quickstart/best.pth` needs the same network."""
    monkeypatch.chdir(ROOT)  # the path of the skeleton is from there
    own, quickstart = (load_config(ROOT / path) for path in (f"{EXAMPLE}/train.yaml", "config/quickstart.yaml"))
    assert own.model == quickstart.model
