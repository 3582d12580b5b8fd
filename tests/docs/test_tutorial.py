"""The tutorial notebook runs from a fresh checkout, and its stored outputs are of one whole run."""

import nbformat
import pytest
from nbclient import NotebookClient
from places import ROOT
from traitlets.config import Config

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
SMALL = "TRAINING_IMAGES, VALIDATION_IMAGES = 4, 9\nTRAINING_STEPS, FINE_TUNING_STEPS = 2, 1"
MAX_BYTES = 600_000


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.mark.slow  # a kernel imports torch, then runs everything once
def test_tutorial_runs(notebook, tmp_path, monkeypatch):
    """Its cells also compare what they compute by hand with the project's functions. Fewer images and steps than for a reader."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    position = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    evaluation = next(cell for cell in notebook.cells if cell.source.count("ground_truth = GroundTruth("))
    evaluation.source += "\nground_truth.files = {9: ground_truth.files[9]}"
    notebook.cells.insert(position + 1, nbformat.v4.new_code_cell(f"OUTPUT = Path({str(tmp_path / 'tutorial')!r})\n{SMALL}"))
    config = Config({"KernelManager": {"transport": "ipc", "ip": str(tmp_path / "kernel")}})  # sockets in a folder, no network
    NotebookClient(notebook, timeout=120, config=config, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    assert "AP on 1 validation images" in notebook.cells[-2].outputs[0].text


def test_stored_outputs_are_small_and_of_one_run(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    remedy = "run it anew: jupyter execute --inplace docs/tutorial.ipynb"
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), remedy
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    assert NOTEBOOK.stat().st_size < MAX_BYTES
