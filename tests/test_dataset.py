"""From a COCO folder to HDF5 to samples."""

import copy
import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from torch.utils.data import DataLoader

from config import UserError, load_config
from config.load import load_skeleton
from config.skeleton import Skeleton
from data.coco_masks_hdf5 import build_hdf5, loss_masks, main_people, pack_mask, unpack_mask
from data.dataset import CocoMasksDataset
from data.transforms import Augmentation

CONFIG = load_config("config/simplepose_coco_512.yaml")
SKELETON = load_skeleton("coco")
COCO_MINI = Path(__file__).parents[2] / "shared" / "data" / "coco_mini"
needs_coco = pytest.mark.skipif(not COCO_MINI.exists(), reason=f"real photographs are not at {COCO_MINI}")
NAMES = list(SKELETON.dataset)


def person(x: float, y: float, side: float = 60, visible: int = 17, **more) -> dict:
    keypoints = [v for k in range(17) for v in ((x + k, y + k, 2) if k < visible else (0, 0, 0))]
    polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
    return {
        "category_id": 1, "iscrowd": 0, "keypoints": keypoints, "num_keypoints": visible, "bbox": [x, y, side, side],
        "area": side * side, "segmentation": [polygon], **more,
    }  # fmt: skip


def write_coco(folder: Path, *people: list[dict], names: list[str] = NAMES) -> tuple[Path, Path]:
    """An annotation file and an image folder with one 200 x 160 picture for each list of people."""
    images, annotations = [], []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for i, persons in enumerate(people):
        picture = np.random.default_rng(i).integers(0, 255, (160, 200, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{i}.jpg"), picture)
        images.append({"id": i, "file_name": f"{i}.jpg", "height": 160, "width": 200})
        annotations += [{**p, "image_id": i, "id": len(annotations) + n + 1} for n, p in enumerate(persons)]
    file = folder / "annotations.json"
    category = {"id": 1, "name": "person", "keypoints": names}
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return file, folder / "images"


def build(folder: Path, *people: list[dict], **options) -> tuple[int, list[str]]:
    return build_hdf5(*write_coco(folder, *people), folder / "out.h5", SKELETON, workers=1, **options)


@needs_coco
@pytest.mark.parametrize(("split", "samples"), [("train2017", 65), ("val2017", 53)])
def test_coco_mini(tmp_path, split, samples):
    out = tmp_path / "out.h5"
    count, failures = build_hdf5(COCO_MINI / "annotations" / f"person_keypoints_{split}.json", COCO_MINI / split, out, SKELETON, workers=2)
    assert (count, failures) == (samples, [])
    raw = sum(640 * 480 * 5 for _ in h5py.File(out)["images/id"])
    assert out.stat().st_size < raw / 5
    dataset = CocoMasksDataset(out, CONFIG, augment=True)
    for image, heatmaps, miss in (dataset[i] for i in (0, len(dataset) - 1)):
        assert image.shape == (3, 512, 512)
        assert heatmaps.shape == (50, 128, 128)
        assert miss.shape == (1, 128, 128)
        for tensor in (image, heatmaps, miss):
            assert tensor.min() >= 0
            assert 0 < tensor.max() <= 1


def test_main_people_are_labelled_large_and_apart():
    joints = np.zeros((5, 17, 3), np.float32)
    joints[1, 4:, 2] = 2  # four labelled keypoints are too few
    boxes = np.array([[0, 0, 100, 50], [200, 0, 100, 100], [0, 0, 20, 20], [25, 0, 100, 50], [31, 0, 100, 50]], np.float32)
    areas = np.array([5000, 10000, 400, 5000, 5000])
    assert main_people(joints, boxes, areas) == [0, 4]


def test_people_without_a_box_are_no_main_people(tmp_path):
    """There would be nothing to cut out: a crop has the box's height."""
    for box in ([0, 0, 0, 0], [20, 20, 30, 0], [50, 50, -30, 60]):
        with pytest.raises(UserError, match="nobody has 5 keypoints, an area of 1024 pixels and a box"):
            build(tmp_path, [person(20, 20, bbox=box)])
    assert build(tmp_path, [person(20, 20, bbox=[0, 0, 0, 0]), person(100, 60)])[0] == 1


def test_all_keypoints_of_a_small_skeleton_are_enough(tmp_path):
    names = ["left_eye", "right_eye", "nose"]
    dataset = {name: SKELETON.dataset[name] for name in names}
    ours = tuple(dataset.values())
    small = Skeleton(name="face", keypoints=ours, limbs=(), flip_pairs=(), sigmas=dict.fromkeys(ours, 0.1), dataset=dataset)
    files = write_coco(tmp_path, [person(20, 20), person(100, 60, visible=2)])
    assert build_hdf5(*files, tmp_path / "out.h5", small, workers=1)[0] == 1
    files = write_coco(tmp_path, [person(100, 60, visible=2)])
    with pytest.raises(UserError, match="nobody has 3 keypoints"):
        build_hdf5(*files, tmp_path / "out.h5", small, workers=1)


def test_masks_take_every_crowd_and_spare_known_people():
    def box(x, y):
        return [[x, y, x + 20, y, x + 20, y + 20, x, y + 20]]

    rle = {"size": [100, 100], "counts": [50 * 100, 1000, 4000]}  # columns 50 to 59
    annotations = [
        {"segmentation": box(0, 0), "iscrowd": 0},
        {"segmentation": box(40, 0), "iscrowd": 0},
        {"segmentation": rle, "iscrowd": 1},
        {"segmentation": {"size": [100, 100], "counts": [80 * 100, 2000]}, "iscrowd": 1},
    ]
    miss, everyone = loss_masks(annotations, np.array([False, True, False, False]), 100, 100)
    assert not miss[10, 10], "a person without keypoints"
    assert miss[10, 55], "a known person in a crowd"
    assert not miss[50, 55]
    assert not miss[50, 90], "the second crowd"
    assert everyone[[10, 10, 50, 50], [10, 45, 55, 90]].all()
    assert not everyone[50, 20]


def test_masks_are_packed_losslessly():
    mask = np.random.default_rng(0).random((37, 53)) > 0.5
    assert np.array_equal(unpack_mask(pack_mask(mask), 37, 53), mask * 255)


def test_main_person_comes_first_then_the_others(tmp_path):
    build(tmp_path, [person(10, 10), person(120, 60, visible=3), person(100, 20), person(5, 5, visible=0)])
    dataset = CocoMasksDataset(tmp_path / "out.h5", CONFIG, augment=False)
    assert len(dataset) == 2
    _, joints, box = dataset.image_and_people(1)
    assert box.tolist() == [100, 20, 60, 60]
    assert joints[:, SKELETON.index("nose"), 0].tolist() == [100, 10, 120]


def test_keypoints_are_found_by_name_in_another_order(tmp_path):
    turned = copy.deepcopy(person(10, 10))
    turned["keypoints"] = np.array(turned["keypoints"]).reshape(17, 3)[::-1].ravel().tolist()
    files = write_coco(tmp_path, [turned], names=NAMES[::-1])
    build_hdf5(*files, tmp_path / "out.h5", SKELETON, workers=1)
    _, joints, _ = CocoMasksDataset(tmp_path / "out.h5", CONFIG, augment=False).image_and_people(0)
    assert SKELETON.to_dataset(joints)[0, :, 0].tolist() == [10 + k for k in range(17)]


def test_broken_images_are_named_and_left_out(tmp_path):
    annotations, images = write_coco(tmp_path, [person(10, 10)], [person(20, 20)], [person(30, 30)])
    (images / "1.jpg").write_bytes((images / "1.jpg").read_bytes()[:-2000])
    (images / "2.jpg").unlink()
    count, failures = build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1)
    assert count == 1
    assert len(failures) == 2
    assert "1.jpg" in failures[0]
    assert "truncated" in failures[0]
    assert "2.jpg" in failures[1]
    (tmp_path / "out.h5").unlink()
    with pytest.raises(UserError, match=r"1\.jpg"):
        build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1, strict=True)
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".h5"] == []


def test_samples_do_not_depend_on_the_number_of_workers(tmp_path):
    build(tmp_path, [person(10, 10), person(100, 60)], [person(20, 20)])
    dataset = CocoMasksDataset(tmp_path / "out.h5", CONFIG, augment=True)
    dataset.epoch = 3
    alone = [dataset[i][0].numpy() for i in range(3)]
    together = [images[0].numpy() for images, *_ in DataLoader(dataset, num_workers=2)]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together))
    dataset.epoch = 4
    assert not np.array_equal(dataset[0][0].numpy(), alone[0])


def test_validation_samples_are_not_augmented(tmp_path):
    build(tmp_path, [person(10, 10)])
    dataset = CocoMasksDataset(tmp_path / "out.h5", CONFIG, augment=False)
    image, maps, miss, _ = dataset.sample(0, Augmentation())
    assert np.array_equal(np.rint(dataset[0][0].numpy() * 255).transpose(1, 2, 0), image)
    assert np.array_equal(dataset[0][1].numpy(), maps)
    assert np.array_equal(dataset[0][2].numpy()[0], miss)


def test_files_that_cannot_be_read(tmp_path):
    build(tmp_path, [person(10, 10)])
    whole = (tmp_path / "out.h5").read_bytes()
    cut = tmp_path / "cut.h5"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.h5: not a whole HDF5 file"):
        CocoMasksDataset(cut, CONFIG, augment=False)
    with h5py.File(tmp_path / "out.h5", "r+") as file:
        file.attrs["version"] = 99
    with pytest.raises(UserError, match="format version 99"):
        CocoMasksDataset(tmp_path / "out.h5", CONFIG, augment=False)
    h5py.File(tmp_path / "empty.h5", "w").close()
    with pytest.raises(UserError, match="build it again"):
        CocoMasksDataset(tmp_path / "empty.h5", CONFIG, augment=False)
