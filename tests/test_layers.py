"""Imports go down, never up and never around."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from places import ROOT

FLOORS = [
    {"config"},
    {"data", "models", "losses"},
    {"utils.device", "utils.oks", "utils.batching", "utils.onnx_network", "utils.safetensors_file"},
    {
        "utils.distributed",
        "utils.checkpoint",
        "utils.bundled_model",
        "utils.results_log",
        "utils.assignment",
        "utils.visualize",
        "utils.output_formats",
    },
    {"utils.systems"},
    {"utils.inference", "utils.tracking"},
    {"utils.evaluation", "utils.detectors", "utils.demo", "utils.export", "utils.inspect"},
    {"utils.training"},
    {"evaluate", "demo_image", "train", "train_parallel", "train_distributed"},
]
FILES = [path for folder in ("config", "data", "models", "losses", "utils") for path in sorted((ROOT / folder).rglob("*.py"))]
FILES += sorted(ROOT.glob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(module: str) -> tuple[int, str] | None:
    """The floor of a module, and its part of the floor; None for what is not of the project, or nothing but a folder."""
    for floor, rooms in enumerate(FLOORS):
        for name in rooms:
            if module == name or module.startswith(f"{name}."):
                return floor, name
    return None


def imports(path: Path) -> set[str]:
    """Everywhere in a file, also where they are for types only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_down(path):
    here = room(module_of(path))
    if here is None:
        assert module_of(path) in ("setup", "utils"), "a new room: say on which floor it is"
        return
    for other in filter(None, map(room, imports(path))):
        assert other[0] < here[0] or other[1] == here[1], f"{here[1]} imports {other[1]}"


def test_no_circles():
    """Not inside a room either."""
    names = {module_of(path): imports(path) for path in FILES}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way, module])
        if module not in done:
            for other in names[module] & names.keys():
                if not module.startswith(f"{other}."):  # a package's own parts may be named before it
                    visit(other, (*way, module))
            done.add(module)

    for module in names:
        visit(module, ())
