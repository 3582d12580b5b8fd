"""Compare the exported bundled networks, by `deploy`, with `PoseEstimator`: the people, the time, and the packages that are installed.

python benchmarks/deploy.py [--checkpoints F|NAME ...] [--images DIR] [--count N] [--rounds N] [--save]

Needs onnx and onnxruntime; without --images, data/synthetic.py renders them. In the table, left of each / `deploy`, right PoseEstimator:

    distance, px    largest distance of a keypoint, of each of PoseEstimator's people from deploy's most similar one; and that exceeded by
                    1 % of the keypoints
    first image, s  from the start of Python to the people of an image, the fastest round
    images/s        decoded images one by one, the fastest round
    installed, MB   onnxruntime, numpy and opencv-python, or torch and the others of requirements.txt, with what they require
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import re
import subprocess
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.report import fastest, report
from config import UserError
from config.errors import check_minimum, run_cli
from config.files import existing_folder
from data.images import IMAGE_SUFFIXES, read_image
from data.synthetic import write_synthetic
from deploy.runner import PoseRunner
from utils.bundled_model import DEFAULT
from utils.checkpoint import Checkpoint, config_for
from utils.export import export
from utils.inference import PoseDetector, PoseEstimator
from utils.systems import Decoder, decoder_class

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[1]
NETWORKS = "dekr_small", "simplepose_small", "simple_baselines_small"
PACKAGES = "onnxruntime", "numpy", "opencv-python"
ESTIMATE = "import sys; from utils.inference import PoseEstimator; PoseEstimator(sys.argv[1], device='cpu')(sys.argv[2])"


def export_for_deploy(name: str, folder: Path) -> Path:
    """Return the file of a network, with decoding in the graph where it can be."""
    checkpoint = Checkpoint(name)
    config = config_for(checkpoint)
    path = folder / f"{Path(name).stem}.onnx"
    export(config, checkpoint, path, decode=decoder_class(config).decode_in_graph is not Decoder.decode_in_graph)
    return path


def distances(
    runner: PoseRunner, estimator: PoseEstimator, images: list[np.ndarray], boxes: list[np.ndarray] | None
) -> tuple[int, np.ndarray]:
    """Return the number of people of `deploy`, and the distances (P, K) of the estimator's keypoints from its most similar people's."""
    count, of_images = 0, []
    for number, image in enumerate(images):
        of_image = () if boxes is None else (boxes[number],)
        expected, people = estimator(image, *of_image), runner(image, *of_image)
        count += len(people.scores)
        if len(expected) and len(people.scores):
            pairs = np.linalg.norm(expected.keypoints[:, None, :, :2] - people.keypoints[None, ..., :2], axis=3)
            of_images.append(pairs[np.arange(len(pairs)), pairs.mean(2).argmin(1)])
    return count, np.concatenate(of_images or [np.zeros((0, 1))])


def seconds_of_python(rounds: int, *arguments: str | Path) -> float:
    """Return the seconds that a new Python takes."""
    return fastest(lambda: subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True), CPU, rounds)


def installed_megabytes(*packages: str) -> float:
    """Return the size of packages and what they require, without optional ones."""
    sizes, waiting = {}, list(packages)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        try:
            found = distribution(name) if name not in sizes else None
        except PackageNotFoundError:  # for another system
            continue
        if found is not None:
            files = [Path(str(file.locate())) for file in found.files or ()]
            sizes[name] = sum(file.stat().st_size for file in files if file.is_file())
            waiting += [re.split(r"[^\w.-]", line)[0] for line in found.requires or () if "extra ==" not in line]
    return sum(sizes.values()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", nargs="+", default=NETWORKS, metavar="F|NAME", help="default: the bundled networks")
    parser.add_argument("--images", type=Path, help="folder; default: synthetic images")
    parser.add_argument("--count", type=int, default=20, help="images, at most")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--save", action="store_true", help="keep the rows in benchmarks/results/")
    options = parser.parse_args()
    check_minimum(1, count=options.count, rounds=options.rounds)
    requirements = re.findall(r"^[\w.-]+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    megabytes = [round(installed_megabytes(*packages)) for packages in (PACKAGES, requirements)]
    rows: list[dict[str, object]] = []
    with TemporaryDirectory() as folder:
        given = options.images or write_synthetic(Path(folder), options.count, seed=2).parent / "images"
        files = sorted(path for path in existing_folder(given, "--images").iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        images, detector = [read_image(file) for file in files[: options.count]], None
        if not images:
            raise UserError(f"--images {given}: no images in it")
        for name in options.checkpoints:
            path, estimator = export_for_deploy(name, Path(folder)), PoseEstimator(name, device="cpu", min_score=0)
            runner, boxes, more = PoseRunner(path), None, []
            if runner.needs_boxes:
                detector = detector or export_for_deploy(DEFAULT.stem, Path(folder))
                boxes, more = PoseDetector(DEFAULT.stem, device="cpu")(images), ["--detector", detector]
            count, far = distances(runner, estimator, images, boxes)

            def run(predict: PoseRunner | PoseEstimator, boxes: list[np.ndarray] | None = boxes) -> None:
                for number, image in enumerate(images):
                    predict(image, *([] if boxes is None else [boxes[number]]))

            rates = [len(images) / fastest(partial(run, predict), CPU, options.rounds) for predict in (runner, estimator)]
            calls = ("-m", "deploy.runner", path, files[0], *more), ("-c", ESTIMATE, name, files[0])
            starts = [seconds_of_python(options.rounds, *call) for call in calls]
            rows.append(
                {
                    "network": Path(name).stem,
                    "people": count,
                    "distance, px": f"{far.max(initial=0):.2g}, {np.quantile(far, 0.99) if far.size else 0:.2g}",
                    "first image, s": " / ".join(f"{seconds:.2f}" for seconds in starts),
                    "images/s": " / ".join(f"{rate:.1f}" for rate in rates),
                    "installed, MB": " / ".join(map(str, megabytes)),
                }
            )
    report("deploy", f"Exported networks by deploy, beside PoseEstimator, {len(images)} images", rows, CPU, options.save)


if __name__ == "__main__":
    run_cli(main)
