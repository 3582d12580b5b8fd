"""Going on from a checkpoint: what is taken over, and what is said about it."""

from __future__ import annotations

import json

import pytest
import torch
from people import CPU
from runs import losses, parameters_of, same, weights

from config import load_config
from config.load import load_skeleton
from data.coco_masks_hdf5 import build_hdf5
from data.datasets import collate
from data.datasets.simplepose import SimplePoseDataset
from data.people_file import PeopleFile
from losses import build_loss
from models import build_model
from utils.checkpoint import load_weights, read_checkpoint, save_checkpoint
from utils.training import trainer
from utils.training.step import batch_on


def test_the_scaler_goes_on_where_it_was(train):
    half = ("train.precision=float16",)
    folder = train("run", "train.epochs=1", *half)[0]
    content = read_checkpoint(folder / "last.pth")
    save_checkpoint(folder / "last.pth", **{**content, "scaler": {**content["scaler"], "scale": 64.0}})
    train("run", "--resume", "auto", *half)
    assert read_checkpoint(folder / "last.pth")["scaler"]["scale"] <= 64


def test_a_checkpoint_of_an_earlier_version(train, trained, tmp_path):
    """It holds keys that follow from others now, and lacks those that came since; neither is a change of the user's."""
    content = read_checkpoint(trained / "last.pth")
    stored = content["config"]
    for key in ("model.backbone", "data.train_weights", "train.milestones", "train.freeze", "loss.foreground"):
        section, _, name = key.partition(".")
        del stored[section][name]
    stored["assignment"] |= {"keypoint_sigma": 2.25, "trace_margin": 1.0}
    save_checkpoint(tmp_path / "old.pth", **content)
    said = train("run", "--resume", tmp_path / "old.pth", "train.epochs=3")[1]
    assert "was trained with another configuration: train.epochs 2 -> 3\n" in said
    assert "chosen anew" not in said


def test_the_best_is_chosen_by_the_validation_loss(train, monkeypatch):
    train_losses, val_losses = iter([3.0, 2.0, 1.0]), iter([5.0, 4.0, 6.0])
    monkeypatch.setattr(trainer, "train_one_epoch", lambda *_: next(train_losses))
    monkeypatch.setattr(trainer, "validate", lambda *_: next(val_losses))
    folder = train("run", "train.epochs=3")[0]
    best = read_checkpoint(folder / "best.pth")
    assert (best["epoch"], best["best"]) == (2, 4.0)


def test_validation_reads_the_validation_file(train, annotations, images, hdf5, tmp_path):
    """Of the first two pictures alone."""
    content = json.loads(annotations.read_text())
    content["images"] = content["images"][:2]
    content["annotations"] = [person for person in content["annotations"] if person["image_id"] <= 2]
    (tmp_path / "two.json").write_text(json.dumps(content))
    build_hdf5(tmp_path / "two.json", images, tmp_path / "two.h5", load_skeleton("coco"), workers=1)
    still = ("train.epochs=1", "train.learning_rate=1e-12", "train.weight_decay=0")
    losses = [read_checkpoint(train(path.stem, f"data.val={path}", *still)[0] / "last.pth")["best"] for path in (hdf5, tmp_path / "two.h5")]
    assert losses[0] != losses[1]
    both = read_checkpoint(train("both", f"data.val=[{hdf5}, {tmp_path / 'two.h5'}]", *still)[0] / "last.pth")["best"]
    assert min(losses) < both < max(losses)


def test_the_validation_loss_is_the_mean_over_plain_samples(train, tiny, hdf5, samples):
    """Each of them once, not augmented, with the network as it is used later; the last batch is smaller than the others."""
    folder = train("run", "train.epochs=1", f"train.batch_size={samples - 1}")[0]
    config = load_config(tiny)
    network, loss = build_model(config), build_loss(config)
    load_weights(network.eval(), folder / "last.pth")
    plain = SimplePoseDataset(PeopleFile(hdf5, config.skeleton), config)
    with torch.no_grad():
        batches = (batch_on(CPU, collate([plain.get(n, None)]), config) for n in range(samples))
        expected = sum(loss(network(images), *targets).item() for images, targets in batches) / samples
    assert read_checkpoint(folder / "last.pth")["best"] == pytest.approx(expected, rel=1e-4)


def test_frozen_weights_are_frozen_in_the_next_run_too(train):
    """And no part of the optimizer."""
    frozen = "train.freeze=[front.*]"
    folder = train("run", "train.epochs=1", frozen)[0]
    front = {name: tensor for name, tensor in weights(folder).items() if name.startswith("front.")}
    said = train("run", "--resume", "auto", frozen)[1]
    assert len(losses(said)) == 1
    (group,) = read_checkpoint(folder / "last.pth")["optimizer"]["param_groups"]
    assert len(group["params"]) == len([name for name in parameters_of(weights(folder)) if not name.startswith("front.")])
    assert same({name: tensor for name, tensor in weights(folder).items() if name.startswith("front.")}, front)


@pytest.mark.parametrize("other", ["[]", "[front.dilated.1.*]"])
def test_freezing_something_else_needs_a_new_start(run, train, tiny, other):
    """Also where the parameters are as many and as large."""
    folder = train("run", "train.epochs=1", "train.freeze=[front.dilated.0.*]")[0]
    status, _, err = run("train.py", "--config", tiny, "--output", folder, "--resume", "auto", f"train.freeze={other}")
    assert (status, err.count("\n")) == (2, 1)
    assert "was trained with train.freeze=['front.dilated.0.*'];" in err and "take only its weights with --init" in err


# Weights to start from


def test_a_trunk_from_a_file(train, trained):
    still = ("train.epochs=1", "train.learning_rate=1e-12", "train.weight_decay=0")
    folder, said = train("run", f"model.backbone={trained / 'best.pth'}", *still)
    given, taken = weights(trained, "best.pth"), weights(folder)
    outputs = {name for name in given if ".predictions." in name}
    assert f"{trained / 'best.pth'}: the trunk's {len(given) - len(outputs)} tensors taken, {len(outputs)} others newly initialised" in said
    learnt = [name for name in given if "running" not in name and "tracked" not in name]
    assert all(torch.allclose(given[name], taken[name], atol=1e-6) == (name not in outputs) for name in learnt if name.endswith("weight"))
    assert "going on after epoch 1" in train("run", "--resume", "auto", f"model.backbone={trained / 'nowhere.pth'}", *still[1:])[1]
    said = train("both", f"model.backbone={trained / 'best.pth'}", "--init", trained / "best.pth", *still)[1]
    assert f"{trained / 'best.pth'}: not used, --init has the trunk too" in said


@pytest.mark.parametrize(("change", "said"), [("missing", "1 tensors missing"), ("shape", "1 tensors of another shape")])
def test_a_trunk_that_does_not_fit(run, tiny, trained, tmp_path, change, said):
    given = weights(trained)
    if change == "missing":
        del given["front.stem.conv.weight"]
    else:
        given["front.stem.conv.weight"] = torch.zeros(1)
    torch.save({"weights": {**given, "classifier.weight": torch.zeros(3)}}, tmp_path / "trunk.pth")
    status, _, err = run("train.py", "--config", tiny, "--output", tmp_path / "run", f"model.backbone={tmp_path / 'trunk.pth'}")
    assert (status, err.count("\n")) == (2, 1)
    assert f"model.backbone {tmp_path / 'trunk.pth'}: does not fit the network's trunk: {said} (front.stem.conv.weight" in err
