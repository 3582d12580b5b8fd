"""Compare the exported bundled networks, by `deploy`, with `PoseEstimator`: the people, the time, and the packages that are installed.

python benchmarks/deploy.py [--checkpoints F|NAME ...] [--images DIR] [--count N] [--rounds N] [--save] [key=value ...]

Needs onnx and onnxruntime; without --images, data/synthetic.py renders them. In the table, left of each / `deploy`, right PoseEstimator:

    distance, px    largest distance of a keypoint, of each of PoseEstimator's people from deploy's most similar one; and that exceeded by
                    1 % of the keypoints
    first image, s  from the start of Python to the people of an image, the fastest round
    images/s        decoded images one by one, the fastest round
    installed, MB   onnxruntime, numpy and opencv-python, or torch and the others of requirements.txt, with what they require
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import re
import subprocess
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.inference import image_files
from benchmarks.report import benchmark_parser, fastest, report
from config import Config
from config.errors import run_cli
from data.images import read_image
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
ESTIMATE = """import sys
from utils.inference import PoseEstimator, config_for
checkpoint, image, *overrides = sys.argv[1:]
PoseEstimator(config_for(checkpoint, None, overrides), checkpoint, 'cpu')(image)"""


def export_for_deploy(config: Config, checkpoint: Checkpoint, folder: Path) -> Path:
    """Return the file of a network, with decoding in the graph where it can be."""
    path = folder / f"{checkpoint.path.stem}.onnx"
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
    parser = benchmark_parser(__doc__, "of PoseEstimator; default: cpu", 20)
    parser.set_defaults(device="cpu")
    parser.add_argument("--checkpoints", nargs="+", default=NETWORKS, metavar="F|NAME", help="default: the bundled networks")
    options = parser.parse_intermixed_args()
    requirements = re.findall(r"^[\w.-]+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    megabytes = [round(installed_megabytes(*packages)) for packages in (PACKAGES, requirements)]
    rows: list[dict[str, object]] = []
    with TemporaryDirectory() as folder:
        files, detector = image_files(options, Path(folder)), None
        images = list(map(read_image, files))
        for name in options.checkpoints:
            checkpoint = Checkpoint(name)
            config = config_for(checkpoint, overrides=options.overrides)
            path = export_for_deploy(config, checkpoint, Path(folder))
            estimator = PoseEstimator(config, checkpoint, options.device, min_score=0)
            runner, boxes, more = PoseRunner(path), None, []
            if runner.needs_boxes:
                detector = detector or export_for_deploy(config_for(DEFAULT), Checkpoint(DEFAULT), Path(folder))
                boxes, more = PoseDetector(DEFAULT.stem, device="cpu")(images), ["--detector", detector]
            count, far = distances(runner, estimator, images, boxes)

            def run(predict: PoseRunner | PoseEstimator, boxes: list[np.ndarray] | None = boxes) -> None:
                for number, image in enumerate(images):
                    predict(image, *([] if boxes is None else [boxes[number]]))

            rates = [len(images) / fastest(partial(run, predict), CPU, options.rounds) for predict in (runner, estimator)]
            calls = ("-m", "deploy.runner", path, files[0], *more), ("-c", ESTIMATE, name, files[0], *options.overrides)
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
