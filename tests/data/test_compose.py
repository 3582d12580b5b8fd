"""Composed pictures: people cut out by their keypoints, put before others' backgrounds, and annotated as they can be seen there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from places import ROOT, SHARED
from pycocotools.coco import COCO

from config.errors import UserError
from config.load import load_skeleton
from data import compose
from data.coco_masks_hdf5 import build_hdf5
from data.compose import write_composed
from data.composed.backdrop import covered, free_piece, largest_piece
from data.composed.cutout import ROOM, _region, cut_out
from data.composed.people import Photograph, free_part, read_sources
from data.composed.scene import Canvas, Shown, adapted, annotate, moved
from data.people_file import PeopleFile
from data.synthetic import write_synthetic

NAMES = list(load_skeleton("coco").dataset)
BODY = NAMES[5:]
COUNT = 14
PHOTOS = SHARED / "data" / "photos"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """Drawn people's annotation file."""
    return write_synthetic(tmp_path_factory.mktemp("drawn"), 40, seed=5)


@pytest.fixture(scope="module")
def sources(drawn) -> Path:
    """The same people as photographs have them that label no faces and no outlines."""
    content = json.loads(drawn.read_text())
    content["categories"][0]["keypoints"] = BODY
    for annotation in content["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][15:]
        if not annotation["iscrowd"]:
            del annotation["segmentation"]
    path = drawn.with_name("body.json")
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def walls(tmp_path_factory) -> Path:
    """A folder of backgrounds, grey walls."""
    folder = tmp_path_factory.mktemp("walls")
    for shade in (90, 160):
        cv2.imwrite(str(folder / f"{shade}.png"), np.full((90, 120, 3), shade, np.uint8))
    return folder


@pytest.fixture(scope="module")
def written(sources, walls, tmp_path_factory) -> Path:
    return composed(sources, tmp_path_factory.mktemp("composed"), COUNT, backgrounds=walls)


def composed(sources: Path, output: Path, count: int, seed: int = 3, **options) -> Path:
    return write_composed([sources], [sources.parent / "images"], output, count, seed, **{"longest": 200, **options})


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_people_are_cut_out_by_their_keypoints(drawn, sources):
    """Nearly as their outlines say, which were not given."""
    images = (drawn.parent / "images",)
    known = {p.keypoints[5:].tobytes(): p for p in read_sources((drawn,), images).people}
    shares, used = [], 0
    for person in read_sources((sources,), images).people:
        annotation = known[person.keypoints[5:].tobytes()].annotation
        found, true = cut_out(person), cut_out(replace(person, annotation=annotation))
        if found is not None:
            used += 1
            shares.append(np.minimum(found.mask, true.mask).sum() / np.maximum(found.mask, true.mask).sum())
    assert used >= 20 and used > 0.5 * len(known)
    assert np.median(shares) > 0.75 and np.percentile(shares, 10) > 0.55


def test_same_seed_same_bytes_with_any_number_of_workers(sources, walls, tmp_path):
    """And with fewer pictures the same ones, so that nothing depends on who was cut out before."""
    one = composed(sources, tmp_path / "one", 4, backgrounds=walls)
    two = composed(sources, tmp_path / "two", 4, backgrounds=walls, workers=2)
    fewer = composed(sources, tmp_path / "fewer", 2, backgrounds=walls)
    other = composed(sources, tmp_path / "other", 2, seed=4, backgrounds=walls)
    assert files(one.parent) == files(two.parent)
    one, fewer, other = (files(path.parent / "images") for path in (one, fewer, other))
    assert fewer.items() < one.items()
    assert all(fewer[name] != other[name] for name in fewer)


def test_annotations_are_of_what_is_to_be_seen(written):
    coco = COCO(str(written))
    assert sorted(coco.imgs) == list(range(1, COUNT + 1))
    assert coco.cats[1]["keypoints"] == BODY
    people = 0
    for image in coco.imgs.values():
        size = image["height"], image["width"]
        assert cv2.imread(str(written.parent / "images" / image["file_name"])).shape == (*size, 3)
        for person in coco.imgToAnns[image["id"]]:
            mask = coco.annToMask(person)
            assert mask.sum() == person["area"] > 0 and not person["iscrowd"]
            near = cv2.dilate(mask, np.ones((9, 9), np.uint8))
            points = np.reshape(person["keypoints"], (-1, 3))
            assert len(points) == len(BODY) and (points[:, 2] > 0).sum() == person["num_keypoints"]
            for x, y, v in points[points[:, 2] > 0]:
                assert 0 <= x < size[1] and 0 <= y < size[0]
                assert v == 1 or near[round(y), round(x)]
            people += person["num_keypoints"] > 0
    assert people > COUNT


def test_nobody_else_is_in_the_picture(written):
    """Away from the annotated people there are grey walls, and things that are as grey, or drawn ones."""
    coco, grey = COCO(str(written)), 0
    for image in coco.imgs.values():
        picture = cv2.imread(str(written.parent / "images" / image["file_name"])).astype(int)
        people = sum((coco.annToMask(person) for person in coco.imgToAnns[image["id"]]), np.zeros(picture.shape[:2], np.uint8))
        elsewhere = picture[cv2.dilate(people, np.ones((15, 15), np.uint8)) == 0]
        grey += np.percentile(np.ptp(elsewhere, axis=1), 99.5) < 20
    assert grey >= 0.7 * COUNT


def test_people_file_knows_what_is_not_labelled(written, tmp_path):
    """The keypoints of the face are not taught; that nobody is elsewhere, is."""
    skeleton = load_skeleton("coco")
    build_hdf5(written, written.parent / "images", tmp_path / "out.h5", skeleton, workers=1)
    people = PeopleFile(tmp_path / "out.h5", skeleton)
    assert people.outlines and not people.crowd.any()
    assert set(people.keypoints) == set(BODY)


def shown_from(mask: np.ndarray, number: int) -> Shown:
    """Somebody whose keypoint k lies in column 10 + 5 k of row 20."""
    keypoints = np.array([[10 + 5 * k, 20, 2] for k in range(17)], float)
    return Shown(number, keypoints, int(mask.sum()))


@pytest.mark.parametrize(("covered_from", "hidden"), [(70, 1), (36, 0)], ids=["partly", "mostly"])
def test_covered_keypoints_are_labelled_hidden_or_not_at_all(covered_from, hidden):
    owners = np.zeros((40, 100), np.int32)
    owners[10:30, 5:95] = 1
    before = owners == 1
    owners[:, covered_from:] = 2
    points = np.reshape(annotate(shown_from(before, 1), owners, np.arange(17))["keypoints"], (17, 3))
    away = points[:, 0] >= covered_from + 5
    assert set(points[[10 + 5 * k < covered_from for k in range(17)], 2]) == {2}
    assert set(points[[10 + 5 * k > covered_from + 5 for k in range(17)], 2]) == {hidden} and away.any() == bool(hidden)


def test_who_is_next_to_hidden_has_no_keypoints_and_who_is_hidden_no_annotation():
    owners = np.zeros((40, 100), np.int32)
    owners[10:30, 5:95] = 1
    person = shown_from(owners == 1, 1)
    owners[:, 11:] = 2
    assert annotate(person, owners, np.arange(17))["num_keypoints"] == 0
    owners[:] = 2
    assert annotate(person, owners, np.arange(17)) is None


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("mirror", [1, -1])
def test_keypoints_move_with_the_pixels(scale, mirror):
    """And trade places where the person is mirrored."""
    image, mask, keypoints = np.zeros((80, 60, 3), np.uint8), np.full((80, 60), 255, np.uint8), np.zeros((17, 3))
    image[46:55, 16:25] = 255
    keypoints[9] = 20, 50, 2
    matrix = np.array([[mirror * scale, 0, 70 + mirror * 5], [0, scale, 12]])
    canvas = Canvas(np.zeros((160, 200, 3), np.uint8))
    canvas.paste(image, mask, matrix, 1, 0)
    grey = canvas.image[..., 0] / canvas.image[..., 0].sum()
    middle = grey.sum(0) @ np.arange(200), grey.sum(1) @ np.arange(160)
    points = moved(keypoints, matrix)
    k = 9 if mirror > 0 else 10
    assert points[k, 2] == 2
    assert points[k, :2] == pytest.approx(middle, abs=0.1)


def test_pixels_belong_to_the_last_who_was_pasted():
    canvas, mask = Canvas(np.zeros((50, 60, 3), np.uint8)), np.full((20, 20), 255, np.uint8)
    for number, x in ((1, 10), (2, 20), (0, 35)):
        image = np.full((20, 20, 3), 50 * (number + 1), np.uint8)
        pixels = canvas.paste(image, mask, np.array([[1.0, 0, x], [0, 1, 10]]), number, 0)
        assert pixels == 400
    assert canvas.owners[20, [5, 12, 22, 32, 40, 58]].tolist() == [0, 1, 2, 2, 0, 0]
    assert canvas.image[20, [5, 12, 22, 40], 0].tolist() == [0, 100, 150, 50]
    assert canvas.paste(image, mask, np.array([[1.0, 0, 200], [0, 1, 10]]), 3, 0) == 0


def test_of_what_is_smaller_than_a_pixel_nothing_is_pasted():
    canvas = Canvas(np.zeros((50, 60, 3), np.uint8))
    matrix = np.array([[0.02, 0, 30.0], [0, 0.02, 20]])
    assert canvas.paste(np.full((400, 20, 3), 200, np.uint8), np.full((400, 20), 255, np.uint8), matrix, 1, 0) == 0
    assert not canvas.owners.any() and not canvas.image.any()


def test_free_part_is_the_largest_outside_of_all_boxes():
    assert free_part(240, 480, np.zeros((0, 4))) == (0, 0, 480, 240)
    x0, y0, x1, y1 = free_part(240, 480, np.array([[300, 100, 50, 100], [20, 150, 40, 90]]))
    assert x1 <= 300 - 12 and y0 == 0 and x0 <= 80 and (x1 - x0) * (y1 - y0) > 200 * 130
    assert free_part(240, 480, np.array([[0, 0, 480, 240]])) == (0, 0, 0, 0)


def photograph(path: Path, boxes: list[list[float]]) -> Photograph:
    """Of which nothing else is known."""
    return Photograph(path, np.array(boxes, float), np.zeros((0, 17, 3)), [], [])


def test_a_piece_of_a_photograph_shows_nothing_of_who_is_boxed(tmp_path):
    """Not even where rows and columns could be taken for each other."""
    image = np.full((150, 300, 3), 120, np.uint8)
    image[60:140, 20:110] = 0, 0, 255
    cv2.imwrite(str(tmp_path / "a.png"), image)
    piece = free_piece(np.random.default_rng(0), [photograph(tmp_path / "a.png", [[20, 60, 90, 80]])])
    assert piece.shape[0] == 150 and piece.shape[1] > 150 and (piece == 120).all()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_colours_come_nearer_to_those_behind(share):
    rng = np.random.default_rng(0)
    image, behind = (rng.normal(level, 10, (40, 40, 3)).clip(0, 255).astype(np.uint8) for level in (90, 170))
    mask = np.zeros((40, 40), bool)
    mask[5:35, 5:35] = True
    way = (adapted(image, mask, behind, share)[mask].mean() - image[mask].mean()) / (behind.mean() - image[mask].mean())
    assert way == pytest.approx(0.35 * share, abs=0.05)


@pytest.mark.parametrize("size", [(30, 40), (200, 90), (400, 500)])
def test_a_piece_fills_a_picture(size):
    piece = np.random.default_rng(0).integers(100, 200, (*size, 3), np.uint8)
    for seed in range(5):
        filled = covered(np.random.default_rng(seed), piece, 150, 220)
        assert filled.shape == (150, 220, 3) and filled.min() > 60


def test_parts_of_the_photographs_are_backgrounds(sources, tmp_path):
    """Not where a crowd is: there people may be whom nobody labelled."""
    photographs = read_sources((sources,), (sources.parent / "images",)).photographs
    assert sum(len(photograph.boxes) for photograph in photographs) == len(json.loads(sources.read_text())["annotations"])
    pieces = [free_piece(np.random.default_rng(seed), photographs) for seed in range(8)]
    assert sum(piece is not None and min(piece.shape[:2]) >= 40 for piece in pieces) >= 6
    assert composed(sources, tmp_path, 2, longest=128).is_file()


@pytest.mark.parametrize("away", [(-1, 0), (0, -1), (1, 0), (0, 1)])
def test_who_is_labelled_outside_of_the_photograph_cannot_be_cut_out(drawn, away):
    """With an outline inside or without one."""
    person = read_sources((drawn,), (drawn.parent / "images",)).people[0]
    size = np.array(cv2.imread(str(person.image)).shape[1::-1])
    labelled = person.keypoints[person.keypoints[:, 2] > 0, :2]
    beyond = np.where(np.array(away) < 0, labelled.max(0), size - labelled.min(0)) + person.unit + 20
    outside = replace(person, keypoints=person.keypoints + np.append(away * beyond, 0))
    assert cut_out(person) is not None
    assert cut_out(outside) is cut_out(replace(outside, annotation=None)) is None


@pytest.mark.parametrize("pixels", [1, 2, 15])
@pytest.mark.parametrize("axis", [0, 1])
def test_who_is_labelled_almost_outside_of_the_photograph_cannot_be_cut_out(drawn, axis, pixels):
    """Though an outline has these few pixels: enlarged or made smaller, nothing might remain of them."""
    person = read_sources((drawn,), (drawn.parent / "images",)).people[0]
    height, width = cv2.imread(str(person.image)).shape[:2]
    everything = {"id": 1, "segmentation": [[0, 0, width, 0, width, height, 0, height]]}
    reached = person.keypoints[person.keypoints[:, 2] > 0, axis].max() + ROOM * person.unit
    aside = np.eye(3)[axis] * (pixels - 0.5 - reached)
    outside = replace(person, keypoints=person.keypoints + aside, annotation=everything)
    assert _region(outside, height, width)[2 + axis] == pixels
    assert cut_out(outside) is cut_out(replace(outside, annotation=None)) is None


@pytest.mark.parametrize("known", [{"segmentation": [[0, 0, 200, 0, 200, 256, 0, 256]]}, {}], ids=["outline", "nothing"])
def test_a_crowd_without_a_box_is_no_background(drawn, tmp_path, known):
    """Where its outline is, or, as nobody knows where it is, in all of the photograph."""
    content = json.loads(drawn.read_text())
    crowd = {"image_id": 1, "category_id": 1, "iscrowd": 1, **known}
    kept = [annotation for annotation in content["annotations"] if annotation["image_id"] != 1]
    (tmp_path / "crowd.json").write_text(json.dumps({**content, "annotations": [*kept, {"id": 10_000, **crowd}]}))
    photograph = read_sources((tmp_path / "crowd.json",), (drawn.parent / "images",)).photographs[0]
    piece = largest_piece(photograph)
    if known:
        assert photograph.boxes[0] == pytest.approx([0, 0, 200, 256], abs=1)
        assert piece.shape[0] == 256 and 40 <= piece.shape[1] <= 120
    else:
        assert piece is None


def test_a_damaged_photograph_is_left_out(sources, tmp_path, capsys):
    """And named, once; a run goes on without it."""
    images = shutil.copytree(sources.parent / "images", tmp_path / "images")
    broken = sorted(images.iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:2000])
    known = read_sources((sources,), (images,))
    of_broken = [person for person in known.people if person.image == broken]
    assert of_broken and all(cut_out(person) is None for person in of_broken)
    alone = [photograph for photograph in known.photographs if photograph.image == broken]
    assert free_piece(np.random.default_rng(0), alone) is None
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("warning: ") and broken.name in said
    path = write_composed([sources], [images], tmp_path / "out", 6, seed=3, longest=128)
    assert len(json.loads(path.read_text())["images"]) == 6


def test_a_damaged_background_is_left_out(sources, walls, tmp_path, capsys):
    """And named, once; others stand in for it, the same with any number of workers."""
    folder = shutil.copytree(walls, tmp_path / "walls")
    (folder / "a.jpg").write_bytes(b"no picture")
    one, two = (composed(sources, tmp_path / str(n), 4, longest=128, backgrounds=folder, workers=n) for n in (1, 2))
    assert len(files(one.parent / "images")) == 4 and files(one.parent) == files(two.parent)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(said) == 1 and "a.jpg" in said[0]
    for wall in folder.iterdir():
        wall.write_bytes(b"no picture")
    with pytest.raises(UserError, match="of 3 pictures none can be used"):
        composed(sources, tmp_path / "none", 1, longest=128, backgrounds=folder)


def test_a_photograph_in_several_files_is_one(sources, tmp_path):
    """Who is annotated in one of them is no background of the other, and not taken for a part of somebody else."""
    content, images = json.loads(sources.read_text()), sources.parent / "images"
    (tmp_path / "link").symlink_to(images)
    parts = [tmp_path / "a.json", tmp_path / "b.json"]
    for number, part in enumerate(parts):
        part.write_text(json.dumps({**content, "annotations": content["annotations"][number::2]}))
    whole, merged = read_sources((sources,), (images,)), read_sources(tuple(parts), (images, tmp_path / "link"))
    assert [photograph.image for photograph in merged.photographs] == [photograph.image for photograph in whole.photographs]
    for one, other in zip(whole.photographs, merged.photographs):
        assert sorted(one.boxes.tolist()) == sorted(other.boxes.tolist())
    one, other = ({p.keypoints.tobytes(): sorted(p.others.tolist()) for p in known.people} for known in (whole, merged))
    assert one == other


def test_files_that_say_different_sizes_of_a_photograph_are_not_both_believed(sources, tmp_path, capsys):
    content, images = json.loads(sources.read_text()), sources.parent / "images"
    content["images"][0]["width"] += 10
    (tmp_path / "wide.json").write_text(json.dumps(content))
    photograph = read_sources((sources, tmp_path / "wide.json"), (images,)).photographs[0]
    assert largest_piece(photograph) is None and "says 330 x 256; left out" in capsys.readouterr().err


def test_a_photograph_of_another_size_than_listed_is_left_out(sources, tmp_path, capsys):
    """Resized, or turned by its EXIF: its people are not where their annotations say. Without a size it is taken as it is."""
    content = json.loads(sources.read_text())
    images = shutil.copytree(sources.parent / "images", tmp_path / "images")
    resized, turned, free = (images / image["file_name"] for image in content["images"][:3])
    cv2.imwrite(str(resized), cv2.resize(cv2.imread(str(resized)), (160, 128)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.open(turned).copy().save(turned, exif=exif)
    del content["images"][2]["width"], content["images"][2]["height"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    known = read_sources((tmp_path / "a.json",), (images,))
    for path, size in ((resized, "160 x 128"), (turned, "256 x 320")):
        assert [cut_out(person) for person in known.people if person.image == path]
        assert not any(cut_out(person) for person in known.people if person.image == path)
        assert all(largest_piece(photograph) is None for photograph in known.photographs if photograph.image == path)
        said = capsys.readouterr().err
        assert said == f"warning: image {path}: is {size}, but the annotation file says 320 x 256; left out\n"
    assert any(cut_out(person) for person in known.people if person.image == free)


def test_where_crowds_are_everywhere_backgrounds_are_drawn(sources, tmp_path, capsys):
    """Which is said, as --backgrounds would be better."""
    content = json.loads(sources.read_text())
    for image in content["images"]:
        crowd = {"id": 1000 + image["id"], "image_id": image["id"], "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 320, 256]}
        content["annotations"].append(crowd)
    crowded = sources.with_name("crowded.json")
    crowded.write_text(json.dumps(content))
    assert free_piece(np.random.default_rng(0), read_sources((crowded,), (sources.parent / "images",)).photographs) is None
    assert composed(crowded, tmp_path, 2, longest=128).is_file()
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(said) == 1 and "in 24 photographs" in said[0] and "--backgrounds" in said[0]


def test_files_that_change_between_two_runs_are_read_again(sources, walls, tmp_path):
    """In one process, too."""
    folder, labels = shutil.copytree(walls, tmp_path / "walls"), shutil.copy(sources, tmp_path / "body.json")
    given = [labels], [sources.parent / "images"], tmp_path / "out", 2, 3, folder, 128
    first = files(write_composed(*given).parent)
    for wall in folder.iterdir():
        wall.rename(wall.with_name(f"other_{wall.name}"))
    assert files(write_composed(*given).parent) == first
    content = json.loads(labels.read_text())
    labels.write_text(json.dumps({**content, "annotations": content["annotations"][::2]}))
    assert files(write_composed(*given).parent) != first


def test_an_interrupted_run_leaves_nothing_that_looks_finished(sources, walls, tmp_path, monkeypatch):
    composed(sources, tmp_path, 1, backgrounds=walls)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(compose, "_compose_one", interrupted)
    with pytest.raises(KeyboardInterrupt):
        composed(sources, tmp_path, 1, backgrounds=walls)
    assert not (tmp_path / "annotations.json").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"count": 0}, "--count 0"), ({"backgrounds": ROOT / "config"}, "no pictures"), ({"longest": 20}, "--longest")],
)
def test_bad_arguments_are_named(sources, tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        composed(sources, tmp_path / "out", **{"count": 1, **options})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("annotations", "images", "backgrounds", "output"),
    [
        ("d/body.json", "d/images", None, "d"),
        ("d/annotations.json", "elsewhere", None, "d"),
        ("d/body.json", "elsewhere", "d/images", "d"),
        ("d/body.json", "elsewhere", "d", "link"),
        ("d/body.json", "elsewhere", "d/images/walls", "d"),
    ],
    ids=["images", "annotations", "backgrounds", "around the output", "within the output's images"],
)
def test_the_sources_are_not_replaced(sources, walls, tmp_path, annotations, images, backgrounds, output):
    """Nor taken for new pictures, or new ones for sources."""
    shutil.copytree(sources.parent, tmp_path / "d")
    shutil.copytree(walls, tmp_path / "d" / "images" / "walls")
    shutil.copytree(sources.parent / "images", tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(tmp_path / "d")
    before = files(tmp_path)
    given = [tmp_path / annotations], [tmp_path / images], tmp_path / output, 1, 3, tmp_path / backgrounds if backgrounds else None, 128
    with pytest.raises(UserError, match=f"output folder .*{output}: .*choose another --output"):
        write_composed(*given)
    assert files(tmp_path) == before


def test_people_without_legs_cannot_be_cut_out(sources, tmp_path):
    content = json.loads(sources.read_text())
    content["categories"][0]["keypoints"] = BODY[:-2]
    for annotation in content["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][:-6]
    (tmp_path / "knees.json").write_text(json.dumps(content))
    command = [sys.executable, "data/compose.py", "--annotations", str(tmp_path / "knees.json"), "--images", str(sources.parent / "images")]
    command += ["--output", str(tmp_path / "out"), "--count", "1", "--seed", "1"]
    failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1 and "from shoulders to ankles" in failed.stderr


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs of people are not there")
def test_most_people_of_real_photographs_can_be_cut_out():
    sources = read_sources((PHOTOS / "mpii_photos" / "annotations.json",), (PHOTOS / "mpii_photos" / "images",))
    people = [sources.people[i] for i in range(0, len(sources.people), len(sources.people) // 24)]
    found = [cutout for cutout in map(cut_out, people) if cutout is not None]
    assert len(found) > 0.6 * len(people)
    for cutout in found:
        assert all(cutout.mask[round(y), round(x)] > 60 for x, y, _ in cutout.keypoints[5:]), "everybody's joints are in what is cut out"
        assert 0.05 < (cutout.mask > 127).mean() < 0.7
