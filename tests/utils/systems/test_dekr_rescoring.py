"""DEKR's rescoring network: the OKS of predicted poses, the commands that make one, and its files."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from people import SKELETON, labeled_people, person, write_coco
from places import ROOT
from runs import same

from config import UserError, load_config
from config.load import load_skeleton
from config.skeleton import Skeleton
from models import build_model
from models.dekr_rescoring import RescoringNet, rescore
from utils.checkpoint import save_checkpoint
from utils.systems.dekr import load_rescoring, save_rescoring
from utils.systems.dekr_rescoring import AnnotatedSet, PoseData, read_poses, train_rescoring, validation_split, write_poses
from utils.systems.simplepose import SimplePoseDecoder

COMMAND = "utils/systems/dekr_rescoring.py"
COCO17 = load_skeleton("coco17")


# The OKS of predicted poses


def annotation(x: float, y: float, visible: int = 17, **more) -> dict:
    """An annotation whose keypoints are spread over a square of 60 pixels."""
    spread = np.random.default_rng(1).integers(0, 60, (17, 2)) + (x, y)
    keypoints = [v for k in range(17) for v in ([*spread[k].tolist(), 2] if k < visible else [0, 0, 0])]
    return person(x, y, **{"keypoints": keypoints, "num_keypoints": visible, **more})


def pose_of(person: dict) -> np.ndarray:
    return np.reshape(person["keypoints"], (17, 3)).astype(np.float32)


def oks_of(annotated: AnnotatedSet, image: int, *poses: np.ndarray) -> tuple[list[float], list[bool]]:
    oks, known = annotated.best_oks(image, np.array(poses or np.zeros((0, 17, 3))))
    return oks.tolist(), known.tolist()


@pytest.mark.parametrize("kind", [{"iscrowd": 1}, {}])
def test_a_pose_has_its_best_oks_of_the_image(tmp_path, kind):
    """Unknown is that of a pose on a crowd region or a person without keypoints, unless it also matches a person with keypoints."""
    left, right, other, some = annotation(0, 90), annotation(120, 50), annotation(60, 20), annotation(50, 50, visible=5)
    hidden = annotation(125, 0, visible=0, **kind), annotation(0, 90, visible=0, **kind)
    annotated = AnnotatedSet(*write_coco(tmp_path, [left, right], [other], [], [some], [left, *hidden]), COCO17)
    oks, known = oks_of(annotated, 0, pose_of(right), pose_of(right) + (6, 0, 0), pose_of(other))
    assert all(known) and oks[0] == 1 and 0.3 < oks[1] < 0.95 and oks[2] < 0.1
    assert oks_of(annotated, 1, pose_of(other)) == ([1], [True])
    assert oks_of(annotated, 2, pose_of(other)) == ([0], [True]), "no person: a false positive"
    assert oks_of(annotated, 0) == ([], [])
    pose = pose_of(annotation(50, 50))
    pose[5:, :2] += 70  # unlabeled
    assert oks_of(annotated, 3, pose) == ([1], [True])
    oks, known = oks_of(
        annotated, 4, pose_of(hidden[0] | {"keypoints": annotation(125, 0)["keypoints"]}), pose_of(left), np.ones((17, 3)) * (190, 158, 1)
    )
    assert known == [False, True, True] and oks[1] == 1 and oks[2] < 0.1


def test_other_skeletons_and_files_of_fewer_keypoints(tmp_path):
    """SimplePose's skeleton has a neck and an order of its own; the file labels six keypoints in yet another."""
    keep = [16, 5, 6, 11, 12, 0]
    whole = pose_of(annotation(50, 50))
    person = annotation(50, 50, keypoints=whole[keep].ravel().tolist(), num_keypoints=6)
    annotated = AnnotatedSet(*write_coco(tmp_path, [person], names=[list(COCO17.dataset)[k] for k in keep]), SKELETON)
    pose = SKELETON.from_dataset(whole[None])
    away = pose.copy()
    away[:, SKELETON.index(SKELETON.dataset["left_knee"]), :2] += 50  # which the file does not label
    assert oks_of(annotated, 0, *pose, *away)[0] == [1, 1]


# make


@pytest.fixture
def make(run, trained, annotations, images, tmp_path):
    """Runs `make` on the synthetic people, with some of its arguments replaced."""
    usual = {"checkpoint": trained / "last.pth", "annotations": annotations, "images": images, "output": tmp_path / "poses.npz"}

    def start(*more: object, run=run, **replaced: object):
        named = [word for name, value in {**usual, **replaced}.items() for word in (f"--{name}", value)]
        return run(COMMAND, "make", *named, *more)

    return start


def test_the_poses_of_an_image_are_stored_with_their_oks(make, monkeypatch, annotations, images, copy_of, tmp_path):
    """Predictions equal to the annotations have an OKS of 1. Skipped are those on people without keypoints, and an unreadable image."""
    content, people = json.loads(annotations.read_text()), labeled_people(annotations)
    for entry in content["annotations"]:
        if entry["image_id"] == 1:
            entry.update(keypoints=[0] * 51, num_keypoints=0)
    (tmp_path / "hidden.json").write_text(json.dumps(content))
    waiting = iter([people[i] for i in sorted(people)])
    monkeypatch.setattr(SimplePoseDecoder, "__call__", lambda self, images, boxes: [next(waiting) for _ in images])
    folder = copy_of(images)
    (folder / "000000000008.jpg").write_bytes(b"no image")
    ended = make("--batch-size", 3, annotations=tmp_path / "hidden.json", images=folder)
    assert (ended.status, "1 images were skipped, such as" in ended.err, "000000000008.jpg" in ended.err) == (0, True, True)
    poses, expected = read_poses(tmp_path / "poses.npz"), {i: people[i] for i in range(2, 8)}
    count = sum(len(scores) for _, scores in expected.values())
    assert f"poses.npz: {count} predictions in 7 images, mean OKS 1.000" in ended.out
    assert poses.skeleton == SKELETON
    assert len(poses.oks) == count and (poses.oks == 1).all()
    for image_id, (keypoints, scores) in expected.items():
        np.testing.assert_array_equal(poses.keypoints[poses.images == image_id], keypoints)
        np.testing.assert_allclose(poses.scores[poses.images == image_id], scores)


def test_an_interrupted_run_resumes_to_the_last_bit(make, monkeypatch, trained, tmp_path):
    """With another checkpoint it starts anew."""
    faint = ("assignment.keypoint_threshold=1e-4", "assignment.lone_threshold=0", "assignment.max_peaks=1")  # the network is hardly trained
    predict = SimplePoseDecoder.__call__

    def images_of(*more: object, until: int | None = None, **replaced: object) -> int:
        """Run `make` image by image until Ctrl-C after `until` images; return the number of images predicted."""
        seen = []

        def count(self, images, boxes):
            if len(seen) == until:
                raise KeyboardInterrupt
            seen.append(images)
            return predict(self, images, boxes)

        monkeypatch.setattr(SimplePoseDecoder, "__call__", count)
        assert make("--batch-size", 1, *faint, *more, **replaced).status == (0 if until is None else 130)
        return len(seen)

    assert images_of(until=3) == 3
    assert images_of("--limit", 4, output=tmp_path / "straight.npz") == 4
    assert images_of("--limit", 4) == 1
    one, other = (read_poses(tmp_path / name) for name in ("poses.npz", "straight.npz"))
    assert len(np.unique(one.scores)) > 1
    assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(one[1:], other[1:]))
    images_of(until=2)
    assert images_of(until=2, checkpoint=trained / "best.pth") == 2


def test_an_earlier_rescoring_is_not_applied(make, tmp_path):
    """The network is trained on the scores before rescoring, so its file is not even opened."""
    torch.manual_seed(0)
    config = load_config(ROOT / "config" / "dekr_quickstart.yaml", ["data.input_size=[64, 64]", "inference.rescore=earlier.pth"])
    save_checkpoint(tmp_path / "dekr.pth", weights=build_model(config).state_dict(), config=config.model_dump(mode="json"))
    ended = make("--limit", 2, "inference.centre_threshold=0", checkpoint=tmp_path / "dekr.pth")
    assert ended.status == 0, ended.err


def test_make_refuses_unusable_inputs(make, fails, monkeypatch, annotations, images, copy_of, tmp_path):
    broken = copy_of(images)
    for image in broken.iterdir():
        image.write_bytes(b"no image")
    (tmp_path / "unlabeled.json").write_text(json.dumps({**json.loads(annotations.read_text()), "annotations": []}))
    assert "no person has a keypoint of the skeleton 'coco'" in make(run=fails, annotations=tmp_path / "unlabeled.json")
    assert "is a folder; name a file" in make(run=fails, output=tmp_path)
    assert "000000000001.jpg: cannot be decoded" in make(run=fails, images=broken)
    ended = make("assignment.keypoint_threshold=0.999")
    assert (ended.status, "no predictions in 8 images" in ended.err, (tmp_path / "poses.npz").exists()) == (2, True, False)
    monkeypatch.setattr(SimplePoseDecoder, "needs_boxes", True)
    assert "needs person boxes" in make(run=fails)


# poses.npz


def test_unusable_pose_files_are_refused_and_run_no_code(tmp_path):
    path, poses = tmp_path / "poses.npz", bent_figures(6)
    write_poses(path, poses._replace(images=np.ones(6)))
    whole = path.read_bytes()
    with pytest.raises(UserError, match="all its poses are of one image"):
        read_poses(path)
    write_poses(path, poses._replace(scores=poses.scores.astype(object)))  # pickled
    for content in (path.read_bytes(), whole[: len(whole) // 2], b"no archive"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"poses.npz: cut short, or not a file of poses"):
            read_poses(path)


# train


def bent_figures(people: int = 1500) -> PoseData:
    """Return poses of one shape, each deformed by a random amount, on which its OKS depends and its score does not."""
    rng = np.random.default_rng(0)
    shape, bent = rng.uniform(-100, 100, (17, 2)), rng.uniform(0, 1, people)
    xy = (shape + bent[:, None, None] * rng.normal(0, 40, (people, 17, 2))) * rng.uniform(0.3, 2, (people, 1, 1)) + 300
    keypoints = np.concatenate([xy, rng.uniform(0.2, 1, (people, 17, 1))], 2).astype(np.float32)
    return PoseData(COCO17, keypoints, keypoints[..., 2].mean(1), np.exp(-3 * bent**2).astype(np.float32), np.arange(people) // 5)


def test_it_predicts_the_oks_of_images_that_it_was_not_trained_on(run, tmp_path):
    """Far better than the score, and than the mean OKS."""
    path, poses, fresh = tmp_path / "poses.npz", bent_figures(), bent_figures(200)
    write_poses(path, poses)
    ended = run(COMMAND, "train", "--data", path, "--output", tmp_path / "rescore.pth", "--batch-size", 64)
    assert ended.status == 0, ended.err
    losses = [tuple(map(float, re.findall(r"\d\.\d+", line))) for line in ended.out.splitlines() if line.startswith("epoch")]
    held = validation_split(poses.images, 0)
    assert len(losses) == 20 and losses[-1][1] < 0.5 * losses[0][1] and losses[-1][1] < 0.3 * poses.oks[held].var()
    assert losses[0][2] == losses[-1][2] == pytest.approx(np.square(poses.scores - poses.oks)[held].mean(), abs=1e-5)
    net = load_rescoring(tmp_path / "rescore.pth", COCO17)
    scores = rescore(net, torch.from_numpy(fresh.keypoints), torch.from_numpy(fresh.scores)).numpy()
    assert np.corrcoef(scores, fresh.oks)[0, 1] > 0.8 > 0.2 > abs(np.corrcoef(fresh.scores, fresh.oks)[0, 1])


def test_the_seed_determines_the_network_and_the_validation_split_is_not_trained_on():
    poses, lines = bent_figures(300), []
    other = poses._replace(oks=np.where(validation_split(poses.images, 0), 0, poses.oks))
    nets = []
    for data, seed, global_seed in ((poses, 0, 1), (poses, 0, 2), (other, 0, 1), (poses, 1, 1)):
        torch.manual_seed(global_seed)
        nets.append(train_rescoring(data, 2, 32, 1e-3, seed, log=lines.append).state_dict())
    assert same(nets[0], nets[1]) and same(nets[0], nets[2]) and not same(nets[0], nets[3])
    assert lines[:2] == lines[2:4]
    images = np.repeat(np.random.default_rng(0).permutation(50), 7)
    split = validation_split(images, 0)
    assert split.sum() == 5 * 7 and not set(images[split]) & set(images[~split]), "whole images"
    assert (validation_split(images, 1) != split).any()
    assert validation_split(np.array([4, 4, 9]), 0).sum() in (1, 2)


def test_train_refuses_unusable_options(fails, tmp_path):
    write_poses(tmp_path / "poses.npz", bent_figures(100))

    def train(*more: object, output: Path = tmp_path / "rescore.pth") -> str:
        return fails(COMMAND, "train", "--data", tmp_path / "poses.npz", "--output", output, *more)

    assert "is a folder; name a file" in train(output=tmp_path)
    assert "--epochs 0: expected at least 1" in train("--epochs", 0)
    assert "--learning-rate" in train("--learning-rate", "nan")
    assert "no longer a finite number in epoch" in train("--learning-rate", "1e30")


# The network's file


def test_files_of_ours_and_published_ones_are_loaded_for_their_skeleton(tmp_path):
    net, path = RescoringNet(COCO17), tmp_path / "rescore.pth"
    parallel = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    for save in (lambda: save_rescoring(path, net, COCO17), lambda: torch.save(net.state_dict(), path), lambda: torch.save(parallel, path)):
        save()
        loaded = load_rescoring(path, COCO17.model_copy(update={"name": "the same by another name"}))
        assert same(loaded.state_dict(), net.state_dict()) and not loaded.training
    turned = Skeleton.model_validate(COCO17.model_dump() | {"name": "turned", "keypoints": COCO17.keypoints[::-1]})
    save_rescoring(path, net, turned)
    with pytest.raises(UserError, match="rescore.pth: was made for the skeleton 'turned', the configuration has 'coco17'"):
        load_rescoring(path, COCO17)
    torch.save(RescoringNet(load_skeleton("crowdpose")).state_dict(), path)
    with pytest.raises(UserError, match="l1.weight"):
        load_rescoring(path, COCO17)
