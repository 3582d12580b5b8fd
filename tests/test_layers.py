"""Imports go down the layers, and never in circles."""

import ast
from pathlib import Path

from places import ROOT

LAYERS = [
    {"config"},
    {"data", "models", "losses"},
    {"deploy.sessions", "utils.boxes", "utils.device", "utils.inert_pickle", "utils.oks", "utils.visualize", "utils.zoo"},
    {"utils.onnx_network", "utils.predictions", "utils.preprocess"},
    {"utils.batching", "utils.checkpoint", "utils.distributed"},
    {"utils.bundled_model", "utils.results_log", "utils.assignment", "utils.output_formats"},
    {"utils.systems"},
    {"deploy", "utils.inference", "utils.tracking", "utils.smoothing"},
    {"utils.evaluation", "utils.detectors", "utils.demo", "utils.inspect", "utils.label"},
    {"utils.export", "utils.training"},
    {"evaluate", "demo_image", "hubconf", "train", "train_parallel", "train_distributed"},
]
FILES = [path for folder in ("config", "data", "deploy", "losses", "models", "utils") for path in sorted((ROOT / folder).rglob("*.py"))]
FILES += sorted(ROOT.glob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def layer_of(module: str) -> tuple[int, str] | None:
    """Return the number of a module's layer and its part of the layer; None outside of the project, and for a mere folder."""
    found = ((number, name) for number, names in enumerate(LAYERS) for name in names if f"{module}.".startswith(f"{name}."))
    return next(found, None)


def imports(path: Path) -> set[str]:
    """Return the names imported anywhere in a file, also for types only."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


IMPORTS = {module_of(path): imports(path) for path in FILES}


def test_imports_go_down():
    for module, names in IMPORTS.items():
        layer = layer_of(module)
        assert layer or module in ("setup", "utils"), f"{module}: a new part; add it to its layer in LAYERS"
        for other in filter(None, map(layer_of, names)) if layer else ():
            assert other[0] < layer[0] or other[1] == layer[1], f"{module} imports {other[1]}"


def test_no_circles():
    """Not inside a part of a layer either."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for other in IMPORTS[module] & IMPORTS.keys():
                if not module.startswith(f"{other}."):  # a package's own parts may be named before it
                    visit(other, (*path, module))
            done.add(module)

    for module in IMPORTS:
        visit(module, ())
