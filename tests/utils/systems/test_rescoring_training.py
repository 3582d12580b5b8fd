"""DEKR's rescoring network: loading its files, and from a training set by way of the poses found in it to the network."""

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
from utils.systems.dekr_rescoring.train import held_out, train_rescoring
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


def test_a_file_of_ours_says_which_skeleton_it_is_for(tmp_path):
    save_rescoring(tmp_path / "rescore.pth", RescoringNet(COCO17), COCO17)
    assert read_checkpoint(tmp_path / "rescore.pth")["skeleton"]["name"] == "coco17"
    load_rescoring(tmp_path / "rescore.pth", COCO17.model_copy(update={"name": "mine"}))  # the same by another name


@pytest.mark.parametrize("published", [False, True])
def test_a_network_for_another_skeleton(tmp_path, published):
    path = tmp_path / "rescore.pth"
    save_rescoring(path, RescoringNet(CROWDPOSE), CROWDPOSE)
    if published:
        torch.save(RescoringNet(CROWDPOSE).state_dict(), path)
    with pytest.raises(UserError) as error:
        load_rescoring(path, COCO17)
    of_file = "59 features" + " of the skeleton 'crowdpose'" * (not published)
    assert f"rescoring network {path}: was made for {of_file}, the configuration has 74 of 'coco17'; train one" in str(error.value)


def test_a_skeleton_of_as_many_features_in_another_order(tmp_path):
    turned = COCO17.model_copy(update={"name": "turned", "keypoints": COCO17.keypoints[::-1]})
    other = Skeleton.model_validate(turned.model_dump())
    save_rescoring(tmp_path / "rescore.pth", RescoringNet(COCO17), COCO17)
    with pytest.raises(UserError, match=r"74 features of the skeleton 'coco17', the configuration has 74 of 'turned'"):
        load_rescoring(tmp_path / "rescore.pth", other)


def test_files_that_are_no_rescoring_network(tmp_path, trained):
    for content in ({"weights": {"other": torch.zeros(2, 2)}}, {"weights": torch.zeros(2)}, {"l1.weight": torch.zeros(3)}):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(UserError, match=r"rescoring network .*other.pth: is none, it has no tensor l1.weight"):
            load_rescoring(tmp_path / "other.pth", COCO17)
    with pytest.raises(UserError, match="best.pth: is none"):
        load_rescoring(trained / "best.pth", COCO17)
    torch.save({"l1.weight": torch.zeros(256, 74)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="5 tensors missing"):
        load_rescoring(tmp_path / "other.pth", COCO17)
    with pytest.raises(UserError, match="nowhere.pth: not found"):
        load_rescoring(tmp_path / "nowhere.pth", COCO17)


# From a training set to the poses found in it


@pytest.fixture
def make(run, trained, annotations, images, tmp_path):
    """Runs `make` on the drawn people, with some of its arguments replaced."""
    usual = {"checkpoint": trained / "last.pth", "annotations": annotations, "images": images, "output": tmp_path / "poses.npz"}

    def start(*more: object, run=run, **replaced: object):
        named = [word for name, value in {**usual, **replaced}.items() for word in (f"--{name}", value)]
        return run(COMMAND, "make", *named, *more)

    return start


@pytest.fixture
def knowing(monkeypatch, annotations) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Has the pose network find the annotated people, in the images one after the other; what it finds."""
    people = labeled_people(annotations)
    waiting = iter([people[i] for i in sorted(people)])
    monkeypatch.setattr(SimplePoseDecoder, "__call__", lambda self, images, boxes=None: [next(waiting) for _ in images])
    return people


def test_who_is_found_as_annotated_has_an_oks_of_one(make, knowing, tmp_path):
    ended = make("--batch-size", 3)
    assert ended.status == 0, ended.err
    poses, count = read_poses(tmp_path / "poses.npz"), sum(len(scores) for _, scores in knowing.values())
    assert f"poses.npz: {count} people found in 8 images, mean OKS 1.000" in ended.out
    assert poses.skeleton == SKELETON
    assert len(poses) == count and (poses.oks == 1).all()
    for image_id, (keypoints, scores) in knowing.items():
        np.testing.assert_array_equal(poses.keypoints[poses.images == image_id], keypoints)
        np.testing.assert_allclose(poses.scores[poses.images == image_id], scores)


def test_of_whom_it_cannot_be_told_is_left_out(make, knowing, annotations, tmp_path):
    """Found where somebody is annotated without keypoints."""
    content = json.loads(annotations.read_text())
    for annotation in content["annotations"]:
        annotation["num_keypoints"] *= annotation["image_id"] != 1
    (tmp_path / "hidden.json").write_text(json.dumps(content))
    assert len(knowing[1][1])
    assert make(annotations=tmp_path / "hidden.json").status == 0
    assert set(read_poses(tmp_path / "poses.npz").images) == {i for i, (_, scores) in knowing.items() if len(scores)} - {1}


def test_images_that_cannot_be_read_are_left_out_and_named(make, knowing, images, copy_of, tmp_path):
    folder = copy_of(images)
    (folder / "000000000008.jpg").write_bytes((folder / "000000000008.jpg").read_bytes()[:2000])
    ended = make("--batch-size", 1, images=folder)
    assert (ended.status, "1 images were left out" in ended.err, "000000000008.jpg" in ended.err) == (0, True, True)
    assert set(read_poses(tmp_path / "poses.npz").images) <= set(range(1, 8))


# Going on

FAINT = ("assignment.keypoint_threshold=1e-4", "assignment.lone_threshold=0", "assignment.max_peaks=2")  # it has hardly been trained


@pytest.fixture
def make_counted(make, monkeypatch, tmp_path):
    """Runs `make` with the real network, image by image, which Ctrl-C ends after so many of them; how many were looked at."""

    def start(*more: object, images_until: int | None = None, **replaced: object) -> int:
        seen, whole = [], SimplePoseDecoder.__call__

        def count(self, images, boxes=None):
            if len(seen) == images_until:
                raise KeyboardInterrupt
            seen.append(images)
            return whole(self, images, boxes)

        with monkeypatch.context() as patch:
            patch.setattr(SimplePoseDecoder, "__call__", count)
            ended = make("--batch-size", 1, *FAINT, *more, **replaced)
        assert ended.status == (0 if images_until is None else 130), ended.err
        if images_until is not None:
            assert ended.err.splitlines()[-1] == "error: interrupted; the same command goes on where it was"
        return len(seen)

    return start


def test_an_interrupted_run_goes_on(make_counted, tmp_path):
    """And finds what it would have found, to the last bit, whether another interrupt comes or not."""
    assert make_counted(images_until=3) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["poses.npz.partial.0.jsonl"]
    assert make_counted(images_until=2) == 2
    assert make_counted() == 3
    assert [path.name for path in tmp_path.iterdir()] == ["poses.npz"]
    assert make_counted(output=tmp_path / "straight.npz") == 8
    one, other = (read_poses(tmp_path / name) for name in ("poses.npz", "straight.npz"))
    assert len(one) and len(np.unique(one.scores)) > 1
    for name in ("keypoints", "scores", "oks", "images"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype == (np.int64 if name == "images" else np.float32)
        np.testing.assert_array_equal(a, b)


def test_an_image_cut_short_by_a_kill_is_looked_at_again(make_counted, tmp_path):
    make_counted(images_until=3)
    log = tmp_path / "poses.npz.partial.0.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    assert make_counted() == 6


def test_anything_else_starts_anew(make_counted, trained, annotations, tmp_path):
    again = tmp_path / "again.json"
    again.write_bytes(annotations.read_bytes())
    changes = [
        (("inference.flip=false",), {}),
        ((), {"checkpoint": trained / "best.pth"}),
        ((), {"annotations": again}),
        ((), {"output": tmp_path / "other.npz"}),
    ]
    for more, replaced in changes:
        make_counted(images_until=3)
        assert make_counted(*more, images_until=3, **replaced) == 3


def test_fewer_images_of_the_same_are_no_other_run(make_counted, tmp_path):
    make_counted(images_until=3)
    assert make_counted("--limit", 2) == 0
    assert set(read_poses(tmp_path / "poses.npz").images) == {1, 2}


def test_an_image_that_was_mended_is_looked_at_then(make_counted, images, copy_of, tmp_path):
    """One that cannot be read is tried again, and told again."""
    folder = copy_of(images)
    broken = folder / "000000000002.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:2000])
    assert make_counted(images=folder, images_until=3) == 3
    broken.write_bytes(whole)
    assert make_counted(images=folder) == 5


def test_an_interrupt_at_the_first_image_leaves_nothing(make_counted, tmp_path):
    make_counted(images_until=0)
    assert list(tmp_path.iterdir()) == []


def test_used_up_memory_is_told(make, fails, monkeypatch):
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(SimplePoseDecoder, "__call__", full)
    assert "lower --batch-size" in make(run=fails)


class RescoredInferenceConfig(TinyInferenceConfig):
    rescore: Path | None = None


class RescoredConfig(TinyConfig):
    inference: RescoredInferenceConfig = RescoredInferenceConfig()


def test_an_earlier_rescoring_is_left_out(make, monkeypatch, tmp_path):
    """The network learns from the scores as they are before it."""
    seen = []
    plain = TinyDecoder.preprocess
    monkeypatch.setattr(TinyDecoder, "preprocess", lambda self, *given: seen.append(self.config.inference.rescore) or plain(self, *given))
    monkeypatch.setitem(SYSTEMS, "tiny", dataclasses.replace(ENTRY, config=f"{__name__}:RescoredConfig"))
    config = RescoredConfig(skeleton=COCO17, inference={"rescore": tmp_path / "earlier.pth"})
    save_checkpoint(tmp_path / "tiny.pth", weights=build_model(config).state_dict(), config=config.model_dump(mode="json"))
    ended = make("--limit", 2, checkpoint=tmp_path / "tiny.pth")
    assert (ended.status, set(seen)) == (0, {None}), ended.err
    assert len(read_poses(tmp_path / "poses.npz")) == 2


def test_inputs_of_make_that_make_no_sense(make, fails, monkeypatch, annotations, images, copy_of, tmp_path):
    broken = copy_of(images)
    for image in broken.iterdir():
        image.write_bytes(b"no image")
    content = json.loads(annotations.read_text())
    content["annotations"] = []
    (tmp_path / "nobody.json").write_text(json.dumps(content))
    cases = [
        (("--limit", 0), {}, "--limit 0: expected at least 1"),
        (("--batch-size", 0), {}, "--batch-size 0: expected at least 1"),
        (("--device", "tpu?"), {}, "device 'tpu?': not available"),
        (("inference.flop=true",), {}, "unknown key 'inference.flop'; did you mean 'inference.flip'?"),
        ((), {"checkpoint": tmp_path / "nowhere.pth"}, "nowhere.pth: not found"),
        ((), {"annotations": tmp_path / "nowhere.json"}, "nowhere.json: not found"),
        ((), {"annotations": tmp_path / "nobody.json"}, "nobody has a keypoint of the skeleton 'coco'"),
        ((), {"images": tmp_path}, "lacks 8 of the 8 images"),
        ((), {"output": tmp_path}, "is a folder; name a file"),
        ((), {"images": broken}, "000000000001.jpg: cannot be decoded"),
    ]
    for more, replaced, said in cases:
        assert said in make(*more, run=fails, **replaced)
    nobody = make("assignment.keypoint_threshold=0.999")
    assert nobody.status == 2
    assert nobody.err.splitlines()[-1].startswith("error: nobody was found in 8 images")
    assert not (tmp_path / "poses.npz").exists()
    monkeypatch.setattr(SimplePoseDecoder, "needs_boxes", True)
    assert "looks at one person at a time" in make(run=fails)


# From the poses to the network


def bent_figures(people: int = 1500, seed: int = 0) -> PredictedPoses:
    """People of one shape, each of them bent by so much, of which the OKS follows; their scores know nothing of it."""
    rng = np.random.default_rng(seed)
    shape, bent = rng.uniform(-100, 100, (17, 2)), rng.uniform(0, 1, people)
    xy = (shape + bent[:, None, None] * rng.normal(0, 40, (people, 17, 2))) * rng.uniform(0.3, 2, (people, 1, 1)) + 300
    keypoints = np.concatenate([xy, rng.uniform(0.2, 1, (people, 17, 1))], 2).astype(np.float32)
    scores, oks = keypoints[..., 2].mean(1), np.exp(-3 * bent**2).astype(np.float32)
    return PredictedPoses(COCO17, keypoints, scores, oks, np.arange(people) // 5)


def told_losses(said: str) -> list[tuple[float, float, float]]:
    """Training, held out, of the untouched score: for each epoch."""
    number = r"([\d.]+)"
    lines = re.findall(rf"training loss {number}, held-out loss {number} \(of the untouched score {number}\)", said)
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


def test_it_learns_on_people_whom_it_has_not_seen(run, data):
    """Where the OKS depends on the pose, the prediction is far nearer to it than the score was, and than its mean is."""
    _, said = train_again(run, data)
    losses, poses = told_losses(said), read_poses(data)
    assert len(losses) == 20
    held = held_out(poses.images, 0)
    assert losses[-1][1] < 0.5 * losses[0][1]
    assert losses[-1][1] < 0.3 * poses.oks[held].var()
    assert losses[0][2] == losses[-1][2] == pytest.approx(np.square(poses.scores - poses.oks)[held].mean(), abs=1e-5)
    net = load_rescoring(data.with_name("rescore.pth"), COCO17)
    fresh = bent_figures(200, seed=0)
    ranked = rescored(net, torch.from_numpy(fresh.keypoints), torch.from_numpy(fresh.scores)).numpy()
    assert np.corrcoef(ranked, fresh.oks)[0, 1] > 0.8 > 0.2 > abs(np.corrcoef(fresh.scores, fresh.oks)[0, 1])


def test_the_same_seed_gives_the_same_network(run, data):
    torch.manual_seed(1)
    first, said = train_again(run, data, "--epochs", 2)
    torch.manual_seed(2)
    again, said_again = train_again(run, data, "--epochs", 2)
    assert same(first, again)
    assert said == said_again
    assert not same(first, train_again(run, data, "--epochs", 2, "--seed", 1)[0])


def test_who_is_held_out_is_not_trained_on():
    poses = bent_figures(300)
    other = dataclasses.replace(poses, oks=np.where(held_out(poses.images, 0), 0, poses.oks))
    one, same_one = (train_rescoring(data, 2, 32, 1e-3, 0, tell=lambda line: None).state_dict() for data in (poses, other))
    assert same(one, same_one)


def test_whole_images_are_held_out():
    images = np.repeat(np.random.default_rng(0).permutation(50), 7)
    held = held_out(images, 0)
    assert held.sum() == 5 * 7
    assert not set(images[held]) & set(images[~held])
    assert (held_out(images, 1) != held).any()
    assert held_out(np.array([4, 4, 9]), 0).sum() in (1, 2)


def test_data_and_options_that_cannot_be_trained_on(fails, data, tmp_path):
    def train(*more: object, **replaced: object) -> str:
        named = {"data": data, "output": tmp_path / "rescore.pth", **replaced}
        return fails(COMMAND, "train", *(word for name, value in named.items() for word in (f"--{name}", value)), *more)

    assert "nowhere.npz: not found" in train(data=tmp_path / "nowhere.npz")
    (tmp_path / "cut.npz").write_bytes(data.read_bytes()[:-100])
    assert "cut.npz: cut short" in train(data=tmp_path / "cut.npz")
    assert "is a folder; name a file" in train(output=tmp_path)
    for option, value in (("--epochs", 0), ("--batch-size", 0), ("--seed", -1)):
        assert f"{option} {value}: expected at least" in train(option, value)
    for rate in (0, "nan"):
        assert "--learning-rate" in train("--learning-rate", rate)
    assert "no longer a finite number in epoch" in train("--learning-rate", "1e30")
    below = data / "folder" / "rescore.pth"
    assert "cannot be written" in train(output=below)


def test_from_photographs_to_a_network_that_is_used(make, run, tmp_path):
    """With a real network."""
    ended = make("--limit", 3, *FAINT)
    assert ended.status == 0, ended.err
    poses = read_poses(tmp_path / "poses.npz")
    assert set(poses.images) <= {1, 2, 3}
    ended = run(COMMAND, "train", "--data", tmp_path / "poses.npz", "--output", tmp_path / "rescore.pth", "--epochs", 1)
    assert ended.status == 0, ended.err
    assert f"inference.rescore={tmp_path / 'rescore.pth'}" in ended.out
    net = load_rescoring(tmp_path / "rescore.pth", SKELETON)
    again = rescored(net, torch.from_numpy(poses.keypoints), torch.from_numpy(poses.scores))
    assert again.shape == (len(poses),) and again.isfinite().all()
    assert train_rescoring(poses, 1, 8, 1e-3, 0, tell=lambda line: None).limb_ends.shape == (30, 2)
