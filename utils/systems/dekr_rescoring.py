"""Train DEKR's rescoring network on a pose network's predictions for its own training set (paper section 3.4).

    python -m utils.systems.dekr_rescoring make --checkpoint F --annotations A.json --images DIR --output poses.npz
    python -m utils.systems.dekr_rescoring train --data poses.npz --output rescore.pth

Then set `inference.rescore=rescore.pth`. poses.npz holds N poses of K keypoints:

    keypoints (N, K, 3) x, y, score in image pixels     scores (N,) of each pose, predicted
    oks (N,) the best with an annotated person           images (N,) the id of each pose's image
    skeleton  the skeleton as JSON
"""

import argparse
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from config import Skeleton, UserError
from config.errors import check_minimum, run_cli
from config.files import atomic_write, check_outputs, existing_file, output_folder
from config.load import with_overrides
from data.formats import load_annotations
from data.formats.cleanup import AnnotationFixes
from data.formats.coco import listed_size
from data.image_source import ImageEntry, present_images
from data.images import image_or_error
from models.dekr_rescoring import RescoringNet
from utils.checkpoint import Checkpoint, config_for, load_network
from utils.oks import object_keypoint_similarity
from utils.predictions import PosePredictions
from utils.results_log import InputImage, ResultsLog, fingerprint, predict_images
from utils.systems import Decoder, build_decoder
from utils.systems.dekr import save_rescoring

BATCH_SIZE = 4
MATCH = 0.5  # the least OKS at which COCO's evaluation matches a pose with a person
VALIDATION = 0.1  # fraction of the images


class PoseData(NamedTuple):
    """The content of poses.npz."""

    skeleton: Skeleton
    keypoints: np.ndarray
    scores: np.ndarray
    oks: np.ndarray
    images: np.ndarray


def write_poses(path: Path, poses: PoseData) -> None:
    """Write the file atomically."""
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(file, **{**poses._asdict(), "skeleton": poses.skeleton.model_dump_json()})


def read_poses(path: Path) -> PoseData:
    """Read a file, without pickles. Raises UserError where it is missing, cut short, of another kind, or of less than two images."""
    remake = "make it again: python -m utils.systems.dekr_rescoring make"
    path = existing_file(path, "training data")
    try:
        with np.load(path, allow_pickle=False) as file:
            poses = PoseData(Skeleton.model_validate_json(str(file["skeleton"])), *(file[name] for name in PoseData._fields[1:]))
    except Exception as error:  # a damaged archive can raise anything
        raise UserError(f"training data {path}: cut short, or not a file of poses; {remake}") from error
    if len(np.unique(poses.images)) < 2:
        raise UserError(f"training data {path}: all its poses are of one image, none is left for validation; {remake} with more images")
    return poses


# make


class AnnotatedSet:
    """The images of a COCO or CrowdPose annotation file, or the first `limit` of them, and the OKS of poses in them.

    Images that are missing are omitted. Fails early: raises UserError where an annotation is invalid, all images are missing or no person
    has keypoints.
    """

    def __init__(self, path: Path, folder: Path, skeleton: Skeleton, limit: int | None = None):
        fixes = AnnotationFixes()
        annotated = load_annotations(path, skeleton, [folder], fixes=fixes)
        self.skeleton, self.present, self.people = skeleton, annotated.file_index >= 0, annotated.coco.imgToAnns
        files = present_images(annotated.coco.imgs, path, annotated.containers, fixes, limit)
        fixes.report()
        self.images = {image_id: InputImage(file, listed_size(annotated.coco.imgs[image_id])) for image_id, file in files.items()}
        if not any(_counts(person) for image_id in self.images for person in self.people[image_id]):
            raise UserError(f"annotation file {path}: no person has a keypoint of the skeleton {skeleton.name!r}")

    def best_oks(self, image_id: int, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """keypoints (P, K, 3) in image pixels -> (P,) best OKS with a person who has keypoints, else 0; (P,) bool: this OKS is known.

        As in COCO's evaluation, crowd regions and people without keypoints are ignored: a pose that matches one of them, and no person
        with keypoints, may be right for a person who was not annotated.
        """
        people, sigmas = self.people[image_id], self.skeleton.oks_sigmas[self.present]
        joints = np.array([person["keypoints"] for person in people], float).reshape(-1, len(sigmas), 3)
        areas, boxes = (np.array([person[key] for person in people], float) for key in ("area", "bbox"))
        poses = self.skeleton.to_dataset(keypoints)[:, self.present].astype(float)
        oks = object_keypoint_similarity(poses, joints, areas, boxes.reshape(-1, 4), sigmas)
        counted = np.array([_counts(person) for person in people], bool)
        best, best_ignored = (oks[:, which].max(1, initial=0) for which in (counted, ~counted))
        return best, (best >= MATCH) | (best_ignored < MATCH)


def _counts(person: dict) -> bool:
    return bool(person["num_keypoints"]) and not person["iscrowd"]


def predict_poses(decoder: Decoder, annotated: AnnotatedSet, log: ResultsLog, batch_size: int) -> tuple[PoseData, list[UserError]]:
    """Return the pose network's predictions whose OKS is known, and errors. Images in the log are not run again."""
    width = 3 * annotated.skeleton.num_keypoints + 2

    def to_result(image_id: int, people: PosePredictions) -> str:
        keypoints, scores = people
        oks, known = annotated.best_oks(image_id, keypoints)
        rows = np.concatenate([keypoints.reshape(-1, width - 2), np.c_[scores, oks]], 1)[known]
        return b64encode(rows.astype("<f4").tobytes()).decode()  # half the size of digits: a training set has hundreds of megabytes

    device = next(decoder.network.parameters()).device
    read = partial(image_or_error, read=ImageEntry.read_image)
    failures = predict_images(log, decoder, annotated.images, to_result, batch_size, device, "poses", read=read)
    results = log.results()
    rows = {image_id: np.frombuffer(b64decode(results.get(image_id, "")), "<f4").reshape(-1, width) for image_id in annotated.images}
    values, images = np.concatenate(list(rows.values())), np.repeat(list(rows), [len(of_image) for of_image in rows.values()])
    if not len(values):
        log.remove()
        raise UserError(f"no predictions in {len(rows)} images; check that --checkpoint is a trained network")
    return PoseData(annotated.skeleton, values[:, :-2].reshape(len(values), -1, 3), values[:, -2], values[:, -1], images), failures


def _make(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="dekr_rescoring make", description="Write the predictions of a pose network for a training set.")
    parser.add_argument("--checkpoint", required=True, help="of the pose network; ours, published, or a network's name")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO or CrowdPose file, as the skeleton has it")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--output", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--config", help="YAML file; default: the one stored in the checkpoint, or the published recipe")
    parser.add_argument("--limit", type=int, help="only the first N images")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help=f"images that are run together; default: {BATCH_SIZE}")
    parser.add_argument("--device", help="such as cpu or cuda:0")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a configuration key, as in inference.flip=false")
    options = parser.parse_intermixed_args(arguments)
    check_minimum(1, limit=options.limit, batch_size=options.batch_size)
    checkpoint = Checkpoint(options.checkpoint)
    _check_output(options.output, checkpoint.path, options.annotations, options.images, options.config)
    config = config_for(checkpoint, options.config, options.overrides)
    if hasattr(config.inference, "rescore"):  # the network is trained on the scores before rescoring
        config = with_overrides(config, ["inference.rescore=null", "inference.own_rescoring=false"])
    annotated = AnnotatedSet(options.annotations, options.images, config.skeleton, options.limit)
    check_outputs([options.output], (image.file.path for image in annotated.images.values()))
    decoder = build_decoder(load_network(config, checkpoint, options.device), config)
    if decoder.needs_boxes:
        raise UserError(f"system {config.system!r} needs person boxes; rescoring is for bottom-up systems")
    partial = options.output.with_name(f"{options.output.name}.partial")
    try:
        with ResultsLog(partial, fingerprint(config, options.images, checkpoint.path, options.annotations)) as log:
            poses, failures = predict_poses(decoder, annotated, log, options.batch_size)
            write_poses(options.output, poses)
            log.remove()
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on where it was") from None
    if failures:
        print(f"{len(failures)} images were skipped, such as {failures[0]}", file=sys.stderr)
    count, mean = len(annotated.images) - len(failures), poses.oks.mean()
    print(f"{options.output}: {len(poses.oks)} predictions in {count} images, mean OKS {mean:.3f}")


# train


def validation_split(images: np.ndarray, seed: int) -> np.ndarray:
    """images (N,) ids -> (N,) bool: the poses of randomly chosen images, at least one, that are not trained on."""
    ids = np.unique(images)
    chosen = np.random.default_rng(seed).permutation(ids)[: max(round(VALIDATION * len(ids)), 1)]
    return np.isin(images, chosen)


def train_rescoring(
    poses: PoseData, epochs: int, batch_size: int, learning_rate: float, seed: int, log: Callable[[str], None] = print
) -> RescoringNet:
    """Minimize the mean squared error between predicted and true OKS with Adam; the same seed gives the same network.

    log: called with a line for each epoch: training loss, validation loss, and the validation loss of the original scores.
    """
    validation = torch.from_numpy(validation_split(poses.images, seed))
    keypoints, oks = torch.from_numpy(poses.keypoints).float(), torch.from_numpy(poses.oks).float()
    original = F.mse_loss(torch.from_numpy(poses.scores).float()[validation], oks[validation]).item()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = RescoringNet(poses.skeleton)
    optimizer = torch.optim.Adam(net.parameters(), learning_rate)
    generator, rows = torch.Generator().manual_seed(seed), torch.nonzero(~validation)[:, 0]
    for epoch in range(1, epochs + 1):
        total = 0.0
        for batch in rows[torch.randperm(len(rows), generator=generator)].split(batch_size):
            loss = F.mse_loss(net(keypoints[batch]), oks[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        with torch.no_grad():
            trained, other = total / len(rows), F.mse_loss(net(keypoints[validation]), oks[validation]).item()
        if not np.isfinite([trained, other]).all():
            raise UserError(f"the loss is no longer a finite number in epoch {epoch}; lower --learning-rate")
        log(f"epoch {epoch}/{epochs}: training loss {trained:.5f}, validation loss {other:.5f} (of the original score {original:.5f})")
    return net.eval()


def _train(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="dekr_rescoring train", description="Train a rescoring network on what `make` has written.")
    parser.add_argument("--data", type=Path, required=True, help="the .npz of `make`")
    parser.add_argument("--output", type=Path, required=True, help="the rescoring network to write, for inference.rescore")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=1024, help="poses")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights, the validation split and the batches")
    options = parser.parse_args(arguments)
    check_minimum(1, epochs=options.epochs, batch_size=options.batch_size)
    check_minimum(0, seed=options.seed, learning_rate=options.learning_rate)
    _check_output(options.output, options.data)
    poses = read_poses(options.data)
    net = train_rescoring(poses, options.epochs, options.batch_size, options.learning_rate, options.seed)
    save_rescoring(options.output, net, poses.skeleton)
    print(f"{options.output}: use it with inference.rescore={options.output}")


def _check_output(path: Path, *inputs: Path | None) -> None:
    """Fail early where the file cannot be written, or is one of the inputs."""
    check_outputs([path], inputs)
    output_folder(path.parent)


COMMANDS = {"make": _make, "train": _train}


def main() -> None:
    parser = argparse.ArgumentParser("dekr_rescoring", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS, help="each has its own --help")
    COMMANDS[parser.parse_args(sys.argv[1:2]).command](sys.argv[2:])


if __name__ == "__main__":
    run_cli(main)
