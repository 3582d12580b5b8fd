"""benchmarks/training.py, tiny: its table, and variants that cannot be run."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from places import ROOT
from runs import fresh_run, random_batch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training import Variant, operations, table, variants
from config import load_config
from models import build_model

ON_CPU = torch.device("cpu")


def test_a_table_of_all_variants(tiny):
    options = ("--device", "cpu", "--precisions", "float32", "--no-compile", "--rounds", "1", "--steps", "1")
    command = [sys.executable, ROOT / "benchmarks" / "training.py", "--config", tiny, *options]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    title, _, names, line, *rows, _, last = ended.stdout.splitlines()
    assert "2 x 64 x 64" in title
    assert names.count("|") == line.count("|") == 10
    assert [row.split(" | ")[:3] for row in rows] == [
        ["| float32", memory_format, "no"] for memory_format in ("contiguous", "channels_last")
    ]
    for row in rows:
        rate, part, peak, first, done, share = (float(word.strip(" |%")) for word in row.split(" | ")[3:])
        assert rate > 0
        assert 50 < peak < 10_000
        assert share < 100
    assert last.startswith("Of the peak memory, ")


def test_what_is_counted_is_the_work_forth_and_back(tiny, tmp_path):
    """Of a network whose work is nearly all convolutions: twice as much back as forth, but for the first layer's input."""
    config = load_config(tiny)
    batch = random_batch(fresh_run(tiny, tmp_path), 1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        build_model(config)(torch.rand(1, 3, 64, 64))
    assert operations(config, batch, ON_CPU) == pytest.approx(3 * counter.get_total_flops(), rel=0.05)
    assert operations(config, [tensor.repeat(3, *[1] * (tensor.ndim - 1)) for tensor in batch], ON_CPU) == pytest.approx(
        operations(config, batch, ON_CPU)
    )


def test_medians_and_rows_that_say_why_there_is_nothing():
    turn = {"memory": 2**20, "matrix_rate": 1e12, "turn": 3.0}
    answers = {
        Variant("float32", False, False): [{**turn, "seconds": s} for s in (9.0, 1.0, 2.0, 50.0)],
        Variant("float16", True, True): [{"error": "RuntimeError: no", "turn": 1.0}],
        Variant("bfloat16", False, True): [{**turn, "seconds": s, "memory": 2**21} for s in (9.0, 1.0, 1.0, 50.0)],
    }
    rows = table(answers, batch_size=4, of_sample=5e10)[2:]
    assert rows[0] == "| float32 | contiguous | no | 2.00 | 1.00 | 1 | 3.0 | 0.100 | 10% |"
    assert rows[1] == "| float16 | channels_last | yes | – | – | – | – | – | – |"
    assert rows[2] == "| bfloat16 | contiguous | yes | 4.00 | 2.00 | 2 | 3.0 | 0.200 | 20% |"
    assert rows[3:] == ["", "float16, channels_last, compiled: RuntimeError: no"]


def test_variants_of_a_cpu_and_a_gpu():
    assert len(variants(None, True, ON_CPU)) == 8
    assert len(variants(None, False, torch.device("cuda"))) == 8
    assert {variant.numbers for variant in variants(None, True, ON_CPU)} == {"float32", "bfloat16"}


def test_tf32_is_refused_on_a_cpu(fails, tiny):
    assert "--precisions tf32" in fails("benchmarks/training.py", "--config", tiny, "--device", "cpu", "--precisions", "tf32")
