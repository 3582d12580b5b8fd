"""Measure the bundled networks, and write the tables of docs/model_zoo.md, README.md and models/weights/zoo.yaml. Nothing is downloaded.

python benchmarks/zoo.py [--annotations A.json [B.json ...] --images DIR [DIR ...]]
python benchmarks/zoo.py NAME ...                                                    # print these networks' rows only

Without annotations the metrics of the bundled networks stay as they are. The columns:

    GFLOP     multiplications and additions of `predict` for one image of `data.input_size`, without flip test
    images/s  decoded files through `PoseEstimator.stream` one by one, with the network's own scales and flip test
    AP, AP50  by COCO's rules, over the images with annotated keypoints
    found     share of the people over 96 x 96 pixels of area with a prediction of OKS 0.5, among the 20 best of the image
    drawn     share of these people with such a prediction among those that the demo draws
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import re
import time
from collections.abc import Iterator, Sequence
from datetime import date
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import Row, machine, table, versions
from config import Config, UserError, load_config
from config.errors import run_cli
from config.files import read_json, write_json, write_text
from data.image_source import ImageEntry
from data.images import read_images
from models import build_model
from utils.boxes import MIN_SCORE
from utils.bundled_model import DEFAULT, bundled_checkpoint
from utils.checkpoint import RECIPES, config_for
from utils.evaluation.coco import CocoMetric, GroundTruth
from utils.evaluation.matching import precision_curves
from utils.inference import PoseDetector, PoseEstimator
from utils.zoo import networks

ROOT = Path(__file__).resolve().parents[1]
README_COLUMNS = "name", "system", "parameters, M", "GFLOP", "file", "result", "on"
SYSTEMS = {"simplepose": "SimplePose", "dekr": "DEKR", "simple_baselines": "Simple Baselines"}
LARGE = 96**2, 1e10  # pixels squared, as of COCO's large people
DETECTOR_SCORE = 0.0  # of the boxes for a top-down network: all people count
WARM_UP = 4  # images, before time is measured


def parameters_and_flop(config: Config) -> tuple[int, int]:
    """Return a network's number of parameters and its operations; tensors have no values here."""
    with FakeTensorMode(), FlopCounterMode(display=False) as counter, torch.no_grad():
        network = build_model(config).eval()
        network.predict(torch.empty(1, 3, *config.data.input_size))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops()


def described(name: str) -> Row:
    """Return what is known of a network without running it. Of a published one its recipe suffices; its file is not needed."""
    network = networks()[name]
    config = load_config(RECIPES / f"{name}.yaml") if network.url else config_for(name)
    parameters, flop = parameters_and_flop(config)
    row = {"name": f"`{name}`", "system": SYSTEMS[config.system], "parameters, M": f"{parameters / 1e6:.1f}", "GFLOP": f"{flop / 1e9:.1f}"}
    return row | {"input": "{} x {}".format(*config.data.input_size), "file": f"{network.megabytes} MB"}


def images_with_keypoints(annotations: Sequence[Path]) -> dict:
    """Return the images with annotated keypoints of several COCO files, and all their people, as the content of one file."""
    files = [read_json(path, "annotation file") for path in annotations]
    people = [person for file in files for person in file["annotations"]]
    ids = {person["image_id"] for person in people if person.get("num_keypoints")}
    images = [image for file in files for image in file["images"] if image["id"] in ids]
    people = [person for person in people if person["image_id"] in ids]
    return {"images": images, "annotations": people, "categories": files[0]["categories"]}


def measured(name: str, truth: GroundTruth) -> Iterator[Row]:
    """Yield a network's speed and metrics on the images; of a top-down one in annotated boxes and in those of the default network."""
    estimator = PoseEstimator(name, detector=PoseDetector(bundled_checkpoint(), DETECTOR_SCORE), min_score=0)
    metric, files = CocoMetric(), list(truth.files.values())
    inputs: dict[str, list[np.ndarray] | None] = {"-": None}
    if estimator.needs_boxes:
        boxes = truth.annotated_boxes()
        inputs = {"annotated": [boxes[image_id] for image_id in truth.files], f"of `{DEFAULT.stem}`": None}
    for origin, given in inputs.items():
        list(estimator.stream(read_images(files[:WARM_UP], ImageEntry.read_image), 1, given and given[:WARM_UP]))
        start = time.perf_counter()
        predictions = list(estimator.stream(read_images(files, ImageEntry.read_image), 1, given))
        speed = len(files) / (time.perf_counter() - start)
        results = [result for image_id, people in zip(truth.files, predictions) for result in metric.to_results(truth, image_id, people)]
        metrics = metric.compute(results, truth)
        row = {"boxes": origin, "images/s": f"{speed:.1f}", "AP": f"{metrics['AP']:.3f}", "AP50": f"{metrics['AP50']:.3f}"}
        yield row | {"found": found(results, truth, 0), "drawn": found(results, truth, MIN_SCORE)}


def summary(row: Row) -> str:
    """Return the result of a measured network in one phrase."""
    boxes = "" if row["boxes"] == "-" else f" in {row['boxes']} boxes"
    return f"AP {row['AP'].lstrip('0')}, AP50 {row['AP50'].lstrip('0')}{boxes} (measured here)"


def found(results: list[dict], truth: GroundTruth, least_score: float) -> str:
    """Return the share of the large people that results of at least this score find."""
    images = truth.image_results([result for result in results if result["score"] >= least_score])
    sigmas = truth.skeleton.oks_sigmas[truth.file_index >= 0]
    return f"{precision_curves([image.best_first() for image in images], sigmas, LARGE).recall[0]:.2f}"


def write_block(page: Path, name: str, text: str) -> None:
    """Replace what is between the comments <!-- name --> and <!-- /name --> of a page."""
    between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    write_text(page, between.sub(lambda ends: f"{ends[1]}{text}\n{ends[2]}", page.read_text(encoding="utf-8")))


def write_pages(root: Path, rows: dict[str, Row], measured_rows: list[Row], measurement: str) -> None:
    """Write the tables of the project at `root`. measured_rows: of the bundled networks, if any, on what `measurement` says."""
    zoo, page, readme = root / "models" / "weights" / "zoo.yaml", root / "docs" / "model_zoo.md", root / "README.md"
    if measured_rows:
        write_block(page, "measured", f"{measurement}\n\n{table(measured_rows)}")
    text = zoo.read_text(encoding="utf-8")
    for name, row in rows.items():
        entry = rf"^({name}:\n(?:  .*\n)*?  reported: ).*$"
        text = re.sub(entry, rf'\1"{row["result"]}"', text, flags=re.MULTILINE)
    write_text(zoo, text)
    published = {name: network.url for name, network in networks().items() if network.url}
    for name in published:
        rows[name] |= {"result": f"{rows[name]['result']} (reported)"}
    write_block(page, "published", table([{**rows[name], "address": f"[file]({url})"} for name, url in published.items()]))
    selected = re.findall(r"^\| `(\w+)`", readme.read_text(encoding="utf-8"), re.MULTILINE)  # the rows that README.md has
    write_block(readme, "zoo", table([{key: rows[name][key] for key in README_COLUMNS} for name in selected]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="print these networks only; default: write the pages with all")
    parser.add_argument("--annotations", type=Path, nargs="+", default=[], help="COCO's files; their images with keypoints count")
    parser.add_argument("--images", type=Path, nargs="+", default=[], help="folders or zip files of the images")
    options = parser.parse_args()
    if bool(options.annotations) != bool(options.images):
        raise UserError("--annotations and --images: one needs the other; give both, or none for the published results")
    rows = {name: described(name) for name in options.names or networks()}
    measured_rows, measurement = [], ""
    if options.annotations:
        content = images_with_keypoints(options.annotations)
        measurement = f"Measured on {len(content['images'])} images, on {date.today()}, on {machine()}, with {versions()}."
        with TemporaryDirectory() as folder:
            write_json(Path(folder, "annotations.json"), content)
            for name, row in rows.items():
                if networks()[name].url is None:
                    truth = GroundTruth(Path(folder, "annotations.json"), options.images, config_for(name).skeleton)
                    measured_rows += [row | result for result in measured(name, truth)]
        print(f"{measurement}\n\n{table(measured_rows)}\n", flush=True)
    results = {row["name"]: row for row in measured_rows[::-1]}  # of several rows of a network the first one remains
    for name, row in rows.items():
        result = results.get(row["name"])
        row |= {"result": networks()[name].reported if result is None else summary(result), "on": networks()[name].data}
    print(table([*rows.values()]))
    if not options.names:
        write_pages(ROOT, rows, measured_rows, measurement)


if __name__ == "__main__":
    run_cli(main)
