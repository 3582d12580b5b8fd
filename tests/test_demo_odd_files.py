"""demo_image.py over a folder of two hundred odd and damaged files: each is done or named, nothing stops the rest."""

from __future__ import annotations

import json
import re
import resource

import cv2
import pytest
from odd_files import write_odd_files

MEMORY = 2**20  # KiB more than before


@pytest.mark.filterwarnings("ignore")
def test_two_hundred_odd_files(run, trained, tmp_path):
    folder, output = tmp_path / "odd", tmp_path / "demo"
    whole, broken = write_odd_files(folder)
    names = {path.name for path in folder.iterdir()}
    assert len(names) >= 200
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    formats = [word for name in ("json", "coco", "csv", "openpose") for word in ("--format", name)]
    command = (
        "demo_image.py",
        "--checkpoint",
        trained / "best.pth",
        "--input",
        folder,
        "--output",
        output,
        "--sheet",
        tmp_path / "sheet.png",
    )
    status, out, err = run(*command, *formats, "--batch-size", 7, "inference.flip=false")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY
    assert status == 2, err

    done = {path.name.removesuffix(".json") for path in output.glob("*.*.json")} & names
    assert whole <= done, sorted(whole - done)
    assert not broken & done
    failed = names - done
    said = [line for line in err.splitlines() if line.startswith("image ")]
    assert len(said) == len(failed), "a line for each"
    for name in failed:
        assert sum(f"/{name}: " in line for line in said) == 1, name
    others = [line for line in err.splitlines() if line not in said]
    assert all(re.match("demo: |error: ", line) for line in others), others
    last = f"error: {len(failed)} of {len(names)} pictures cannot be read: "
    assert others[-1].startswith(last)
    assert others[-1].endswith(f", and {len(failed) - 5} more")
    assert f"{len(done)} pictures and their keypoints" in out
    assert len((output / "people.csv").read_text().splitlines()) >= 1
    results = json.loads((output / "people.coco.json").read_text())
    assert {result["file_name"] for result in results} <= done
    assert cv2.imread(str(output / "several.gif.png")).shape == (40, 48, 3)
    assert not list(output.glob(".*")), "half-written files"
