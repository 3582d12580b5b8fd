"""DEKR's rescoring network: loading its files, and the commands that make one from a training set."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from people import SKELETON, labeled_people
from runs import same
from tiny_system import ENTRY, TinyConfig, TinyDecoder, TinyInferenceConfig

from config import UserError
from config.load import load_skeleton
from config.skeleton import Skeleton
from config.systems import SYSTEMS
from models import build_model
from models.dekr_rescoring import RescoringNet, rescored
from utils.checkpoint import read_checkpoint, save_checkpoint
from utils.systems.dekr_rescoring import load_rescoring, save_rescoring
from utils.systems.dekr_rescoring.poses import PredictedPoses, read_poses, write_poses
from utils.systems.dekr_rescoring.train import train_rescoring, validation_split
from utils.systems.simplepose import SimplePoseDecoder

COMMAND = "utils/systems/dekr_rescoring/__main__.py"
COCO17, CROWDPOSE = load_skeleton("coco17"), load_skeleton("crowdpose")


# Loading


@pytest.mark.parametrize("form", ["ours", "published", "published, of several GPUs"])
def test_files_of_ours_and_published_ones_are_loaded(tmp_path, form):
    net, path = RescoringNet(COCO17), tmp_path / "rescore.pth"
    if form == "ours":
        save_rescoring(path, net, COCO17)
    else:
        prefix = "module." if "several" in form else ""
        torch.save({f"{prefix}{name}": tensor for name, tensor in net.state_dict().items()}, path)
    loaded = load_rescoring(path, COCO17, "cpu")
    assert same(loaded.state_dict(), net.state_dict())
    assert not loaded.training


REVERSED = Skeleton.model_validate(COCO17.model_dump() | {"name": "reversed", "keypoints": COCO17.keypoints[::-1]})


@pytest.mark.parametrize(
    ("published", "made_for", "configured", "message"),
    [
        (False, CROWDPOSE, COCO17, "59 features of the skeleton 'crowdpose', the configuration has 74 of 'coco17'; train one"),
        (True, CROWDPOSE, COCO17, "59 features, the configuration has 74 of 'coco17'; train one"),
        (False, COCO17, REVERSED, "74 features of the skeleton 'coco17', the configuration has 74 of 'reversed'"),
    ],
)
def test_a_network_for_another_skeleton_is_refused(tmp_path, published, made_for, configured, message):
    path, net = tmp_path / "rescore.pth", RescoringNet(made_for)
    save_rescoring(path, net, made_for)
    if published:
        torch.save(net.state_dict(), path)
    with pytest.raises(UserError, match=f"rescoring network {path}: was made for {message}"):
        load_rescoring(path, configured)
    if not published:
        load_rescoring(path, made_for.model_copy(update={"name": "mine"}))  # the same skeleton by another name


def test_files_that_are_no_rescoring_network_are_refused(tmp_path):
    for content in ({"weights": {"other": torch.zeros(2, 2)}}, {"weights": torch.zeros(2)}, {"l1.weight": torch.zeros(3)}):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(UserError, match=r"rescoring network .*other.pth: is none, it has no tensor l1.weight"):
            load_rescoring(tmp_path / "other.pth", COCO17)
    torch.save({"l1.weight": torch.zeros(256, 74)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="5 tensors missing"):
        load_rescoring(tmp_path / "other.pth", COCO17)


# From a training set to the poses found in it


@pytest.fixture
def make(run, trained, annotations, images, tmp_path):
    """Runs `make` on the synthetic people, with some of its arguments replaced."""
    usual = {"checkpoint": trained / "last.pth", "annotations": annotations, "images": images, "output": tmp_path / "poses.npz"}

    def start(*more: object, run=run, **replaced: object):
        named = [word for name, value in {**usual, **replaced}.items() for word in (f"--{name}", value)]
        return run(COMMAND, "make", *named, *more)

    return start


@pytest.fixture
def perfect(monkeypatch, annotations) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Has the pose network predict the annotated people, image by image, and returns them."""
    people = labeled_people(annotations)
    waiting = iter([people[i] for i in sorted(people)])
    monkeypatch.setattr(SimplePoseDecoder, "__call__", lambda self, images, boxes=None: [next(waiting) for _ in images])
    return people


def test_predictions_equal_to_the_annotations_have_an_oks_of_one(make, perfect, tmp_path):
    ended = make("--batch-size", 3)
    assert ended.status == 0, ended.err
    poses, count = read_poses(tmp_path / "poses.npz"), sum(len(scores) for _, scores in perfect.values())
    assert f"poses.npz: {count} predictions in 8 images, mean OKS 1.000" in ended.out
    assert poses.skeleton == SKELETON
    assert len(poses) == count and (poses.oks == 1).all()
    for image_id, (keypoints, scores) in perfect.items():
        np.testing.assert_array_equal(poses.keypoints[poses.images == image_id], keypoints)
        np.testing.assert_allclose(poses.scores[poses.images == image_id], scores)


def test_predictions_on_people_without_keypoints_are_excluded(make, perfect, annotations, tmp_path):
    content = json.loads(annotations.read_text())
    for annotation in content["annotations"]:
        annotation["num_keypoints"] *= annotation["image_id"] != 1
    (tmp_path / "hidden.json").write_text(json.dumps(content))
    assert len(perfect[1][1])
    assert make(annotations=tmp_path / "hidden.json").status == 0
    assert set(read_poses(tmp_path / "poses.npz").images) == {i for i, (_, scores) in perfect.items() if len(scores)} - {1}


def test_images_that_cannot_be_read_are_skipped_and_named(make, perfect, images, copy_of, tmp_path):
    folder = copy_of(images)
    (folder / "000000000008.jpg").write_bytes((folder / "000000000008.jpg").read_bytes()[:2000])
    ended = make("--batch-size", 1, images=folder)
    assert (ended.status, "1 images were skipped" in ended.err, "000000000008.jpg" in ended.err) == (0, True, True)
    assert set(read_poses(tmp_path / "poses.npz").images) <= set(range(1, 8))


# Resuming

FAINT = ("assignment.keypoint_threshold=1e-4", "assignment.lone_threshold=0", "assignment.max_peaks=1")  # the network is hardly trained


@pytest.fixture
def make_counted(make, monkeypatch):
    """Runs `make` image by image with the real network, which Ctrl-C ends at `images_until`. Returns the number of images predicted."""

    def start(*more: object, images_until: int | None = None, **replaced: object) -> int:
        seen, predict = [], SimplePoseDecoder.__call__

        def count(self, images, boxes=None):
            if len(seen) == images_until:
                raise KeyboardInterrupt
            seen.append(images)
            return predict(self, images, boxes)

        with monkeypatch.context() as patch:
            patch.setattr(SimplePoseDecoder, "__call__", count)
            ended = make("--batch-size", 1, *FAINT, *more, **replaced)
        assert ended.status == (0 if images_until is None else 130), ended.err
        if images_until is not None:
            assert ended.err.splitlines()[-1] == "error: interrupted; the same command goes on where it was"
        return len(seen)

    return start


def test_an_interrupted_run_resumes_to_the_last_bit(make_counted, trained, tmp_path):
    """Also after a record was cut short by a kill. With another checkpoint it starts anew."""
    assert make_counted(images_until=3) == 3
    (log,) = tmp_path.iterdir()
    assert log.name.startswith("poses.npz.partial.")
    log.write_bytes(log.read_bytes()[:-20])
    assert make_counted("--limit", 4, output=tmp_path / "straight.npz") == 4
    assert make_counted("--limit", 4) == 2
    assert not log.exists()
    one, other = (read_poses(tmp_path / name) for name in ("poses.npz", "straight.npz"))
    assert len(one) and len(np.unique(one.scores)) > 1
    for name in ("keypoints", "scores", "oks", "images"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype == (np.int64 if name == "images" else np.float32)
        np.testing.assert_array_equal(a, b)
    make_counted(images_until=2)
    assert make_counted(images_until=2, checkpoint=trained / "best.pth") == 2


class RescoredInferenceConfig(TinyInferenceConfig):
    rescore: Path | None = None


class RescoredConfig(TinyConfig):
    inference: RescoredInferenceConfig = RescoredInferenceConfig()


def test_an_earlier_rescoring_is_not_applied(make, monkeypatch, tmp_path):
    """The network is trained on the scores before rescoring."""
    seen = []
    plain = TinyDecoder.preprocess
    monkeypatch.setattr(TinyDecoder, "preprocess", lambda self, *given: seen.append(self.config.inference.rescore) or plain(self, *given))
    monkeypatch.setitem(SYSTEMS, "tiny", dataclasses.replace(ENTRY, config=f"{__name__}:RescoredConfig"))
    config = RescoredConfig(skeleton=COCO17, inference={"rescore": tmp_path / "earlier.pth"})
    save_checkpoint(tmp_path / "tiny.pth", weights=build_model(config).state_dict(), config=config.model_dump(mode="json"))
    ended = make("--limit", 2, checkpoint=tmp_path / "tiny.pth")
    assert (ended.status, set(seen)) == (0, {None}), ended.err
    assert len(read_poses(tmp_path / "poses.npz")) == 2


def test_make_refuses_unusable_inputs(make, fails, monkeypatch, annotations, images, copy_of, tmp_path):
    broken = copy_of(images)
    for image in broken.iterdir():
        image.write_bytes(b"no image")
    content = json.loads(annotations.read_text())
    content["annotations"] = []
    (tmp_path / "unlabeled.json").write_text(json.dumps(content))
    for replaced, message in (
        ({"annotations": tmp_path / "unlabeled.json"}, "no person has a keypoint of the skeleton 'coco'"),
        ({"output": tmp_path}, "is a folder; name a file"),
        ({"images": broken}, "000000000001.jpg: cannot be decoded"),
    ):
        assert message in make(run=fails, **replaced)
    ended = make("assignment.keypoint_threshold=0.999")
    assert ended.status == 2
    assert ended.err.splitlines()[-1].startswith("error: no predictions in 8 images")
    assert not (tmp_path / "poses.npz").exists()
    monkeypatch.setattr(SimplePoseDecoder, "needs_boxes", True)
    assert "needs person boxes" in make(run=fails)


# From the poses to the network


def bent_figures(people: int = 1500, seed: int = 0) -> PredictedPoses:
    """Return poses of one shape, each deformed by a random amount, on which its OKS depends and its score does not."""
    rng = np.random.default_rng(seed)
    shape, bent = rng.uniform(-100, 100, (17, 2)), rng.uniform(0, 1, people)
    xy = (shape + bent[:, None, None] * rng.normal(0, 40, (people, 17, 2))) * rng.uniform(0.3, 2, (people, 1, 1)) + 300
    keypoints = np.concatenate([xy, rng.uniform(0.2, 1, (people, 17, 1))], 2).astype(np.float32)
    scores, oks = keypoints[..., 2].mean(1), np.exp(-3 * bent**2).astype(np.float32)
    return PredictedPoses(COCO17, keypoints, scores, oks, np.arange(people) // 5)


def logged_losses(out: str) -> list[tuple[float, float, float]]:
    """Return the training loss, the validation loss, and that of the original score, for each epoch."""
    number = r"([\d.]+)"
    lines = re.findall(rf"training loss {number}, validation loss {number} \(of the original score {number}\)", out)
    return [tuple(map(float, line)) for line in lines]


@pytest.fixture
def data(tmp_path) -> Path:
    path = tmp_path / "poses.npz"
    write_poses(path, bent_figures())
    return path


def train_again(run, data: Path, *more: object) -> tuple[dict[str, torch.Tensor], str]:
    path = data.with_name("rescore.pth")
    ended = run(COMMAND, "train", "--data", data, "--output", path, "--batch-size", 64, *more)
    assert ended.status == 0, ended.err
    return read_checkpoint(path)["weights"], ended.out


def test_it_predicts_the_oks_of_images_that_it_was_not_trained_on(run, data):
    """Far better than the score, and than the mean OKS."""
    losses, poses = logged_losses(train_again(run, data)[1]), read_poses(data)
    held = validation_split(poses.images, 0)
    assert len(losses) == 20 and losses[-1][1] < 0.5 * losses[0][1] and losses[-1][1] < 0.3 * poses.oks[held].var()
    assert losses[0][2] == losses[-1][2] == pytest.approx(np.square(poses.scores - poses.oks)[held].mean(), abs=1e-5)
    net, fresh = load_rescoring(data.with_name("rescore.pth"), COCO17), bent_figures(200, seed=0)
    scores = rescored(net, torch.from_numpy(fresh.keypoints), torch.from_numpy(fresh.scores)).numpy()
    assert np.corrcoef(scores, fresh.oks)[0, 1] > 0.8 > 0.2 > abs(np.corrcoef(fresh.scores, fresh.oks)[0, 1])


def test_the_same_seed_gives_the_same_network():
    poses, lines = bent_figures(300), []
    nets = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(global_seed)
        nets.append(train_rescoring(poses, 2, 32, 1e-3, seed, log=lines.append).state_dict())
    assert same(nets[0], nets[1]) and lines[:2] == lines[2:4]
    assert not same(nets[0], nets[2])


def test_the_validation_split_is_not_trained_on():
    poses = bent_figures(300)
    other = dataclasses.replace(poses, oks=np.where(validation_split(poses.images, 0), 0, poses.oks))
    one, same_one = (train_rescoring(data, 2, 32, 1e-3, 0, log=lambda line: None).state_dict() for data in (poses, other))
    assert same(one, same_one)


def test_the_validation_split_takes_whole_images():
    images = np.repeat(np.random.default_rng(0).permutation(50), 7)
    split = validation_split(images, 0)
    assert split.sum() == 5 * 7
    assert not set(images[split]) & set(images[~split])
    assert (validation_split(images, 1) != split).any()
    assert validation_split(np.array([4, 4, 9]), 0).sum() in (1, 2)


def test_train_refuses_unusable_options(fails, data, tmp_path):
    def train(*more: object, **replaced: object) -> str:
        named = {"data": data, "output": tmp_path / "rescore.pth", **replaced}
        return fails(COMMAND, "train", *(word for name, value in named.items() for word in (f"--{name}", value)), *more)

    assert "is a folder; name a file" in train(output=tmp_path)
    assert "--epochs 0: expected at least 1" in train("--epochs", 0)
    assert "--learning-rate" in train("--learning-rate", "nan")
    assert "no longer a finite number in epoch" in train("--learning-rate", "1e30")
