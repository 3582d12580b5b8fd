"""Train DEKR's rescoring network on a pose network's predictions for its own training set (paper section 3.4).

    python -m utils.systems.dekr_rescoring make --checkpoint F --annotations A.json --images DIR --output poses.npz
    python -m utils.systems.dekr_rescoring train --data poses.npz --output rescore.pth

Then set `inference.rescore=rescore.pth`. utils/systems/dekr_rescoring/poses.py describes poses.npz.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from config import UserError
from config.errors import check_minimum, run_cli
from config.files import output_folder
from config.load import with_overrides
from utils.checkpoint import config_for, load_network
from utils.results_log import ResultsLog, fingerprint
from utils.systems import build_decoder
from utils.systems.dekr_rescoring import save_rescoring
from utils.systems.dekr_rescoring.make import predict_poses
from utils.systems.dekr_rescoring.poses import AnnotatedSet, read_poses, write_poses
from utils.systems.dekr_rescoring.train import train_rescoring

BATCH_SIZE = 4
SHOWN = 10  # names of unreadable images


def _make(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="dekr_rescoring make", description="Write the predictions of a pose network for a training set.")
    parser.add_argument("--checkpoint", type=Path, required=True, help="of the pose network; ours, or the published format")
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
    _check_output(options.output)
    config = config_for(options.checkpoint, options.config, options.overrides)
    if getattr(config.inference, "rescore", None) is not None:  # the network is trained on the scores before rescoring
        config = with_overrides(config, ["inference.rescore=null"])
    annotated = AnnotatedSet(options.annotations, options.images, config.skeleton, options.limit)
    decoder = build_decoder(load_network(config, options.checkpoint, options.device), config)
    if decoder.needs_boxes:
        raise UserError(f"system {config.system!r} needs person boxes; rescoring is for bottom-up systems")
    partial = output_folder(options.output.parent) / f"{options.output.name}.partial"
    try:
        with ResultsLog(partial, fingerprint(config, options.images, options.checkpoint, options.annotations)) as log:
            poses, failures = predict_poses(decoder, annotated, log, options.batch_size)
            write_poses(options.output, poses)
            log.remove()
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on where it was") from None
    if failures:
        more = [f"... and {len(failures) - SHOWN} more"] * (len(failures) > SHOWN)
        print(f"{len(failures)} images were skipped:", *failures[:SHOWN], *more, sep="\n  ", file=sys.stderr)
    mean = poses.oks.mean()
    print(f"{options.output}: {len(poses)} predictions in {len(annotated.files) - len(failures)} images, mean OKS {mean:.3f}")


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
    check_minimum(0, seed=options.seed)
    if not options.learning_rate > 0:
        raise UserError(f"--learning-rate {options.learning_rate}: expected a number above 0")
    _check_output(options.output)
    poses = read_poses(options.data)
    output_folder(options.output.parent)
    net = train_rescoring(poses, options.epochs, options.batch_size, options.learning_rate, options.seed)
    save_rescoring(options.output, net, poses.skeleton)
    print(f"{options.output}: use it with inference.rescore={options.output}")


def _check_output(path: Path) -> None:
    """Fail early."""
    if path.is_dir():
        raise UserError(f"--output {path}: is a folder; name a file")


COMMANDS = {"make": _make, "train": _train}


def main() -> None:
    parser = argparse.ArgumentParser("dekr_rescoring", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS, help="each has its own --help")
    COMMANDS[parser.parse_args(sys.argv[1:2]).command](sys.argv[2:])


if __name__ == "__main__":
    run_cli(main)
