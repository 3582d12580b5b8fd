"""An evaluation as one HTML file, which needs neither other files nor a connection."""

from base64 import b64encode
from collections.abc import Mapping
from html import escape
from mimetypes import guess_type
from pathlib import Path
from string import Template

from config.files import read_json, write_text

NAME = "report.html"
PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
dt { color: #666; }
dd { margin: 0; overflow-wrap: anywhere; }
.metrics { display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; list-style: none; }
.metrics li { min-width: 4.5rem; padding: .4rem .8rem; border: 1px solid #ddd; border-radius: .4rem; color: #666; }
.metrics b { display: block; font-size: 1.3rem; color: #222; }
img { display: block; max-width: 100%; margin-bottom: 1.5rem; }
</style>
<h1>$title</h1>
$facts
$sections
</html>
""")
ERRORS = """Each labeled keypoint of a matched person is good, or near its position (jitter), at the person's other side (inversion), at
another person (swap), or anywhere else (miss). The AP lost by an error type is the AP gained if it alone is fixed."""
WORST = """Annotated people on the left, predictions with their OKS on the right. A ring marks a wrong keypoint, with a line to its
annotated position; a cross marks a missing one."""
NO_WORST = "To see them, evaluate with --save-images 12."


def write_html(folder: Path, facts: Mapping[str, object]) -> Path:
    """Gather the files of an evaluation in report.html, below facts by name."""
    metrics = {
        name: f"{value:.3f}" if isinstance(value, float) else value for name, value in read_json(folder / "metrics.json", "").items()
    }
    cards = "".join(f"<li>{escape(name)} <b>{escape(str(value))}</b>" for name, value in metrics.items())
    sections = [f'<h2>Metrics</h2>\n<ul class="metrics">{cards}</ul>']
    if (folder / "analysis.json").exists():
        worst = sorted((folder / "worst").glob("[0-9]*_*.jpg"))
        sections += [
            f"<h2>Precision and recall, AP by keypoint and by person size</h2>\n{_image(folder / 'pr_curves.png')}",
            f"<h2>Errors</h2>\n<p>{ERRORS}</p>\n{_image(folder / 'errors.png')}",
            f"<h2>The images with the largest errors</h2>\n<p>{WORST if worst else NO_WORST}</p>",
            *map(_image, worst),
        ]
    listed = "".join(f"<dt>{escape(name)}<dd>{escape(str(value))}" for name, value in facts.items())
    write_text(folder / NAME, PAGE.substitute(title="Evaluation", facts=f"<dl>{listed}</dl>", sections="\n".join(sections)))
    return folder / NAME


def _image(path: Path) -> str:
    """Return an image file as an element of the page."""
    return f'<img alt="{escape(path.stem)}" src="data:{guess_type(path)[0]};base64,{b64encode(path.read_bytes()).decode()}">'
