"""report.html: all of an evaluation in one file."""

import re
from base64 import b64decode
from pathlib import Path

from config.files import write_json
from utils.evaluation.html_report import NO_WORST, write_html


def embedded(path: Path) -> list[tuple[str, bytes]]:
    """Return the page's images, each with its type."""
    images = re.findall(r'src="data:([a-z/]+);base64,([^"]*)"', path.read_text(encoding="utf-8"))
    return [(kind, b64decode(data)) for kind, data in images]


def test_the_report_embeds_charts_and_worst_images_in_order(tmp_path):
    write_json(tmp_path / "metrics.json", {"AP": 0.51234, "FP": 7, "<PCKh@0.1>": 88.0})
    write_json(tmp_path / "analysis.json", {})
    (tmp_path / "worst").mkdir()
    files = ["pr_curves.png", "errors.png", "worst/01_b.jpg", "worst/02_a.jpg", "worst/10_c&d.jpg"]
    for name in files[::-1]:
        (tmp_path / name).write_bytes(name.encode())
    path = write_html(tmp_path, {"Annotations": 'my "own" <file>.json'})
    assert embedded(path) == [(f"image/{'png' if 'png' in name else 'jpeg'}", name.encode()) for name in files]
    page = path.read_text(encoding="utf-8")
    for text in ("<li>AP <b>0.512</b>", "<li>FP <b>7</b>", "&lt;PCKh@0.1&gt; <b>88.000</b>", "&lt;file&gt;.json", "10_c&amp;d"):
        assert text in page
    assert "http" not in page and NO_WORST not in page


def test_the_report_of_metrics_alone_has_no_images(tmp_path):
    write_json(tmp_path / "metrics.json", {"AP": 0.5})
    path = write_html(tmp_path, {})
    assert not embedded(path) and "errors" not in path.read_text(encoding="utf-8")
    for name in ("pr_curves.png", "errors.png"):
        (tmp_path / name).write_bytes(b"")
    write_json(tmp_path / "analysis.json", {})
    path = write_html(tmp_path, {})
    assert len(embedded(path)) == 2 and NO_WORST in path.read_text(encoding="utf-8")
