"""Configuration of the documentation's site: `make docs` builds it with Sphinx from these pages and the docstrings."""

import re
import runpy
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # autodoc imports the packages

project = "SimplePose"
copyright = "the authors of SimplePose; MIT license"
version = release = runpy.run_path(str(ROOT / "config" / "version.py"))["VERSION"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the tutorial shows its stored outputs; tests/docs/test_tutorial.py runs it
nb_output_stderr = "remove"  # progress bars
html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = html_css_files = ["site.css"]  # wide tables, long commands
autodoc_member_order = "bysource"
autodoc_typehints = "none"
highlight_language = "python"


def _as_rst(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Turn a docstring of this project into reStructuredText: its parameters ("name: text"), indented code, and `names`."""
    out: list[str] = []
    for line in lines:
        line = re.sub(r"^(\w+): (?=\S)", r":param \1: ", re.sub(r"`([^`]+)`", r"``\1``", line))
        last = out[-1] if out else ""
        if line and last and not line.startswith(" ") and line.startswith(":param") != last.startswith((":param", " ")):
            out.append("")  # where a list of parameters begins or ends
        elif not last and line.startswith("    ") and ".. code-block::" not in out:
            out += [".. code-block::", ""]
        out.append(line)
    lines[:] = out


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", _as_rst)
