"""YOLO's pose data sets: the same people as in COCO's format, where images and labels are, what is refused, and skeletons made of them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from people import NAMES, SKELETON
from PIL import Image
from runs import ALONE

from config import UserError, load_config
from config.load import load_skeleton
from data.coco_masks_hdf5 import build_hdf5
from data.formats import load_annotations
from data.formats.cleanup import AnnotationFixes
from data.formats.yolo_pose import MEDIAN_SIGMA, label_path, nearest_limbs
from data.hdf5 import SMALL_ARRAYS
from utils.evaluation import analysis
from utils.evaluation.coco import GroundTruth
from utils.training.command_line import dry_run

BUILD = "data/coco_masks_hdf5.py"
FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
COCO = {"path": ".", "train": "images/train", "val": "images/val", "kpt_shape": [17, 3], "flip_idx": FLIP, "names": {0: "person"}}
COCO |= {"kpt_names": {0: NAMES}}
HAND = ["wrist", "thumb", "left_side", "right_side", "tip"]
TAILED = {"train": "images", "kpt_shape": [5, 3], "flip_idx": [0, 1, 3, 2, 4], "names": ["hand"], "kpt_names": {0: HAND}}
ONE = "0 0.5 0.5 0.5 0.5 "


def labels_of(people: list[dict], width: int, height: int) -> str:
    """Return the label file of some COCO people, with six digits as other programs write it."""
    lines = []
    for person in people:
        x, y, w, h = person["bbox"]
        keypoints = np.reshape(person["keypoints"], (-1, 3)) / (width, height, 1)
        fractions = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
        numbers = [*fractions, *keypoints.ravel()]
        lines.append("0 " + " ".join(f"{number:.6f}" for number in numbers))
    return "\n".join(lines)


def both_formats(annotations: Path, images: Path, folder: Path) -> tuple[Path, Path]:
    """Write people as a file in COCO's format, without areas and segmentations, and as a YOLO data set: its data.yaml."""
    content = json.loads(annotations.read_text())
    people = [person for person in content["annotations"] if not person["iscrowd"]]
    for person in people:
        person.pop("segmentation", None), person.pop("area", None)
    (folder / "coco.json").write_text(json.dumps({**content, "annotations": people}))
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for image in content["images"]:
            shutil.copy(images / image["file_name"], folder / "images" / split)
            own = [person for person in people if person["image_id"] == image["id"]]
            text = labels_of(own, image["width"], image["height"])
            (folder / "labels" / split / image["file_name"]).with_suffix(".txt").write_text(text)
    (folder / "data.yaml").write_text(yaml.safe_dump(COCO))
    return folder / "coco.json", folder / "data.yaml"


@pytest.fixture(scope="module")
def both(annotations, images, tmp_path_factory) -> tuple[Path, Path]:
    """The synthetic people in both formats."""
    return both_formats(annotations, images, tmp_path_factory.mktemp("yolo"))


@pytest.fixture(scope="module", params=["synthetic", "coco_mini"])
def each(request, both, tmp_path_factory) -> tuple[Path, Path]:
    """The synthetic people, then those of COCO's photographs, in both formats."""
    if request.param == "synthetic":
        return both
    mini = request.getfixturevalue("shared") / "data" / "coco_mini"
    return both_formats(mini / "annotations" / "person_keypoints_val2017.json", mini / "val2017", tmp_path_factory.mktemp("photographs"))


@pytest.fixture
def write(tmp_path) -> Callable:
    """Write a data set with an image of 80 x 60 for each text of labels, None for an image without a file; return its data.yaml."""

    def start(*labels: str | None, **changes: object) -> Path:
        values = {key: value for key, value in ({**TAILED, **changes}).items() if value is not None}
        for name in ("images", "labels"):
            (tmp_path / name).mkdir(exist_ok=True)
        for number, text in enumerate(labels):
            Image.new("RGB", (80, 60)).save(tmp_path / "images" / f"hand_{number}.png")
            if text is not None:
                (tmp_path / "labels" / f"hand_{number}.txt").write_text(text)
        (tmp_path / "data.yaml").write_text(yaml.safe_dump(values))
        return tmp_path / "data.yaml"

    return start


def people_of(path: Path, **options) -> list[dict]:
    return load_annotations(path, fixes=AnnotationFixes(), **options).coco.dataset["annotations"]


# The same as COCO's


def test_the_training_hdf5_is_the_same_as_of_cocos_file_and_trains(each, tiny, tmp_path, capsys):
    coco, data = each
    out_coco, out_yolo = tmp_path / "coco.h5", tmp_path / "yolo.h5"
    build_hdf5(coco, data.parent / "images" / "val", out_coco, SKELETON, workers=1)
    build_hdf5(data, [], out_yolo, SKELETON, workers=1)
    first, second = ({name: values[name][:] for name in (*SMALL_ARRAYS, "images/bytes")} for values in map(h5py.File, (out_coco, out_yolo)))
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], name)
    assert all(entry.path.is_file() for entry in GroundTruth(data).files.values()), "where data.yaml says"
    dry_run(load_config(tiny, [f"data.{key}={out_yolo}" for key in ("train", "val")]), ALONE)
    assert "for training" in capsys.readouterr().out


def test_the_scripts_need_no_images_and_choose_the_split(both, run, fails, monkeypatch, tmp_path):
    """Building takes train by default, evaluation val."""
    monkeypatch.setattr(analysis, "draw_charts", lambda _: np.zeros((9, 9, 3), np.uint8))  # matplotlib takes seconds
    coco, data = both
    folder = Path(shutil.copytree(data.parent, tmp_path / "set"))
    for path in [*(folder / "images" / "val").iterdir()][2:]:
        path.unlink()
    given = ("--annotations", folder / "data.yaml", "--output", tmp_path / "out.h5", "--workers", 1)
    for split, count in (((), 8), (("--split", "val"), 2)):
        ended = run(BUILD, *given, *split)
        assert ended.status == 0 and f"in {count} images" in ended.out and ".skeleton.yaml" not in ended.out, ended.err
    (tmp_path / "found.json").write_text(json.dumps([{"image_id": 1, "category_id": 1, "keypoints": [1] * 51, "score": 0.5}]))
    detections = ("--detections", tmp_path / "found.json", "--output", tmp_path / "evaluation")
    ended = run("evaluate.py", *detections, "--annotations", folder / "data.yaml", "--split", "train", "--limit", 1)
    assert ended.status == 0 and "AP" in ended.out, ended.err
    assert "has no split 'test'; choose --split train or val" in fails(BUILD, *given, "--split", "test")
    assert f"--split val: annotation file {coco} has only one" in fails(BUILD, "--annotations", coco, *given[2:], "--split", "val")
    assert "--images: missing; add the folder of the images" in fails(BUILD, "--annotations", coco, *given[2:])


# Where images and labels are


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({"path": None}, "."),
        ({"path": "/content/elsewhere"}, "."),  # of another machine
        ({"path": None, "train": "../images"}, "."),  # Roboflow's exports
        ({"path": "inner"}, "inner"),
        ({"train": ["images", "images"]}, "."),
        ({"train": "list.txt"}, "."),
    ],
)
def test_the_images_are_found(write, tmp_path, changes, moved):
    path = write(ONE + "0.25 0.5 2 " * 5, **changes)
    (tmp_path / "list.txt").write_text("./images/hand_0.png\n")
    (tmp_path / moved).mkdir(exist_ok=True)
    for name in ("images", "labels") if moved != "." else ():
        (tmp_path / name).rename(tmp_path / moved / name)
    (person,) = people_of(path)
    assert person["bbox"] == [20, 15, 40, 30] and person["keypoints"].tolist() == [20, 30, 2] * 5


def test_images_take_the_place_of_the_named_ones(write, tmp_path):
    path = write(ONE + "0.25 0.5 2 " * 5, train="nowhere")
    with pytest.raises(UserError, match=r"images .*nowhere: not found; correct its 'path', or give the folder with --images"):
        load_annotations(path)
    assert len(people_of(path, images=[tmp_path / "images"])) == 1


def test_the_labels_replace_the_last_images_of_the_path():
    assert label_path(Path("/images/a/images/train/b.images.jpg")) == Path("/images/a/labels/train/b.images.txt")
    assert label_path(Path("frames/b.jpg")) == Path("frames/b.txt")


# Labels


def test_sizes_are_upright_and_images_without_labels_have_no_people(write, tmp_path):
    path = write(ONE + "0.25 0.5 2 " * 5, None, "\n")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (80, 60)).save(tmp_path / "images" / "hand_0.jpg", exif=turned)
    (tmp_path / "images" / "hand_0.png").unlink()
    annotated = load_annotations(path)
    assert [(image["width"], image["height"], image["file_id"]) for image in annotated.coco.dataset["images"]] == [
        (60, 80, "hand_0"), (80, 60, "hand_1"), (80, 60, "hand_2")
    ]  # fmt: skip
    assert [person["keypoints"][:3].tolist() for person in annotated.coco.dataset["annotations"]] == [[15, 40, 2]]


def test_without_visibility_0_0_and_what_is_below_is_unlabeled(write):
    (person,) = people_of(write(ONE + "0.25 0.5  0 0  -1 -1  0 0.5  1 1", kpt_shape=[5, 2]))
    assert np.reshape(person["keypoints"], (5, 3)).tolist() == [[20, 30, 2], [0, 0, 0], [0, 0, 0], [0, 30, 2], [80, 60, 2]]


def test_a_line_twice_is_counted_and_classes_without_these_keypoints_are_omitted(write):
    line, fixes = ONE + "0.25 0.5 2 " * 5, AnnotationFixes()
    path = write(f"{line}\n{line}\n1{line[1:]}", names={0: "hand", 1: "foot"})
    assert len(load_annotations(path, fixes=fixes).coco.anns) == 1
    assert fixes.found == {
        "omitted: listed a second time": [f"annotation file {path}: ../labels/hand_0.txt, line 2"],
        "omitted: its category 'foot' has not the skeleton's keypoints": [
            f"annotation file {path}: annotation ../labels/hand_0.txt, line 3"
        ],
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (ONE + "0.5 0.5 2 " * 4, "line 2: has 17 numbers, expected 20: class, box"),
        (ONE + "0.5 x 2 " + "0.5 0.5 2 " * 4, "line 2: 'x' is not a number"),
        (ONE + "0.5 nan 2 " + "0.5 0.5 2 " * 4, "line 2: has the position nan, expected fractions"),
        (ONE + "320 200 2 " * 5, "line 2: has the position 320, expected fractions of the image's sides"),
        ("3" + ONE[1:] + "0.5 0.5 2 " * 5, "line 2: its class is 3, expected one of 'names', such as 0"),
        ("0 0.5 0.5 -0.5 0.5 " + "0.5 0.5 2 " * 5, "line 2: its box has a side below 0"),
        (ONE + "0.5 0.5 0.9 " * 5, "line 2: a keypoint's v is 0.9, expected 0 unlabeled"),
    ],
)
def test_a_malformed_line_is_named_with_its_file(write, line, message):
    path = write(f"{ONE}{'0.5 0.5 2 ' * 5}\n{line}")
    with pytest.raises(UserError, match=rf"^[^\n]*hand_0\.txt[:,] {message}[^\n]*$"):
        load_annotations(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kpt_shape": None}, "has no 'kpt_shape'; expected the data.yaml of a YOLO pose data set"),
        ({"kpt_shape": [5, 4]}, r"its 'kpt_shape' is \[5, 4\]"),
        ({"names": None}, "its 'names' are not the classes by number"),
        ({"kpt_names": {0: HAND[1:]}}, "its 'kpt_names' of class 0 are not 5 different names"),
        ({"kpt_names": {0: [*HAND[1:], "tip"]}}, "its 'kpt_names' of class 0 are not 5 different names"),
        ({"kpt_names": None}, "has no 'kpt_names'; add them, or give their --skeleton and --names-from-skeleton"),
        ({"flip_idx": None}, "its 'flip_idx' is None; expected for each of the 5 keypoints"),
        ({"flip_idx": [0, 1, 3, 4, 2]}, "its 'flip_idx' is"),
        ({"train": "empty"}, "split 'train' has no image"),
    ],
)
def test_an_incomplete_data_yaml_is_refused(write, tmp_path, changes, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        load_annotations(write(ONE + "0.5 0.5 2 " * 5, **changes))


def test_images_without_any_label_file_are_refused(write):
    with pytest.raises(UserError, match=r"none of its 2 images has a label file, such as .*labels/hand_0\.txt"):
        load_annotations(write(None, None))


def test_a_corrupt_image_is_left_to_whoever_needs_it(write, tmp_path):
    path = write(ONE + "0.25 0.5 2 " * 5, ONE + "0.25 0.5 2 " * 5)
    (tmp_path / "images" / "hand_1.png").write_bytes(b"no image")
    report = build_hdf5(path, [], tmp_path / "out.h5", None, workers=1)
    assert (report.images, len(report.skipped)) == (1, 1) and "hand_1.png: cannot be decoded" in report.skipped[0]


# Skeletons


def test_names_of_a_known_skeleton_choose_it(both):
    assert load_annotations(both[1]).skeleton.name == "coco"


def test_names_can_be_the_skeletons(both, tmp_path):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**COCO, "kpt_names": None, "path": str(both[1].parent)}))
    with pytest.raises(UserError, match="if they are those of skeleton 'coco' .* add --names-from-skeleton"):
        load_annotations(tmp_path / "own.yaml", SKELETON)
    assert load_annotations(tmp_path / "own.yaml", SKELETON, names_from_skeleton=True).names == NAMES


def test_a_skeleton_of_other_keypoints_is_written_and_loads(write, run, tmp_path):
    labels = ONE + "0.2 0.5 2 0.3 0.5 2 0.4 0.4 2 0.4 0.6 2 0.6 0.5 1"
    given = ("--annotations", write(labels, None, labels), "--output", tmp_path / "out.h5", "--workers", 1)
    ended = run(BUILD, *given)
    path = tmp_path / "out.skeleton.yaml"
    assert ended.status == 0 and f"{path}: the skeleton of these keypoints; check its limbs and sigmas" in ended.out, ended.err
    skeleton = load_skeleton(str(path))
    assert (skeleton.name, skeleton.keypoints, skeleton.flip_pairs) == (tmp_path.name, tuple(HAND), (("left_side", "right_side"),))
    assert set(skeleton.sigmas.values()) == {MEDIAN_SIGMA}
    assert {frozenset(limb) for limb in skeleton.drawn} < {frozenset(limb) for limb in skeleton.limbs}
    before = path.read_bytes()
    path.write_bytes(b"# edited\n" + before)
    assert f"{path}: was there, and is kept" in run(BUILD, *given).out
    assert path.read_bytes() != before
    ended = run(BUILD, *given, "--skeleton", path)
    assert ended.status == 0 and ".skeleton.yaml" not in ended.out.replace(os.fspath(path.with_suffix(".h5")), "")


def test_limbs_are_of_fixed_length_and_symmetric():
    """Of two keypoints at the same mean distance, the one that keeps it is nearer."""
    rng = np.random.default_rng(0)
    points = np.tile(np.array([[0, 0], [10, 0], [20, 0], [10, 9]], float), (50, 1, 1))
    points[:, 3] += rng.normal(0, 12, (50, 2))
    people = np.concatenate([points, np.full((50, 4, 1), 2)], 2)
    limbs, tree = nearest_limbs(people, np.full(50, 20.0), np.array([0, 1, 2, 3]))
    assert {(0, 1), (1, 2)} <= set(tree) and len(tree) == 3 and set(tree) <= set(limbs)
    limbs, _ = nearest_limbs(people, np.full(50, 20.0), np.array([2, 1, 0, 3]))
    mirror = np.array([2, 1, 0, 3])
    assert {frozenset(map(int, mirror[[*limb]])) for limb in limbs} == {frozenset(map(int, limb)) for limb in limbs}
    people[:, 3, 2] = 0  # never labeled: it is joined all the same
    assert any(3 in limb for limb in nearest_limbs(people, np.full(50, 20.0), np.arange(4))[1])
