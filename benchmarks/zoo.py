"""Print the table of docs/model_zoo.md: networks by name with their parameters and work. Nothing is downloaded.

python benchmarks/zoo.py [NAME ...]

GFLOP: multiplications and additions of `predict` for one image of `data.input_size`, without flip test.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse

import torch
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import report
from config import Config, load_config
from config.errors import run_cli
from models import build_model
from utils.checkpoint import RECIPES, config_for
from utils.zoo import networks


def parameters_and_flop(config: Config) -> tuple[int, int]:
    """Return a network's number of parameters and its operations; tensors have no values here."""
    with FakeTensorMode(), FlopCounterMode(display=False) as counter, torch.no_grad():
        network = build_model(config).eval()
        network.predict(torch.empty(1, 3, *config.data.input_size))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    rows = []
    for name in parser.parse_args().names or networks():
        network = networks()[name]
        config = load_config(RECIPES / f"{name}.yaml") if network.url else config_for(name)
        parameters, flop = parameters_and_flop(config)
        size = "{} x {}".format(*config.data.input_size)
        row = {"name": f"`{name}`", "parameters, M": parameters / 1e6, "GFLOP": flop / 1e9, "input": size, "reported": network.reported}
        rows.append({**row, "on": network.data, "file": f"[{network.megabytes} MB]({network.url})" if network.url else "bundled"})
    report("zoo", "Networks", rows)


if __name__ == "__main__":
    run_cli(main)
