"""Files of other trainers are read without their code: objects become placeholders, and a call that could run code is an error."""

import argparse
import os
import pickle
import subprocess
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from datetime import datetime
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import FIXTURES, needs_fixtures
from torch import nn

from config import UserError
from utils import inert_pickle
from utils.checkpoint import read_checkpoint

LEGACY = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
PROTOCOLS = pytest.mark.parametrize("protocol", [2, 4])
MARK = "the code was here"


class Call:
    """Pickled, a call of a function."""

    def __init__(self, function: Callable, *arguments: object):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Loud:
    """A class of another package, whose code says where it runs."""

    def __new__(cls):
        return leave_mark() or super().__new__(cls)

    def __setstate__(self, state: dict) -> None:
        leave_mark()

    @classmethod
    def mean(cls) -> None:
        leave_mark()


class Items(dict):
    """As the configurations of several packages."""


class Names(list):
    """A list's subclass."""


def leave_mark(*_: object) -> None:
    Path(MARK).touch()


def loud() -> Loud:
    made = object.__new__(Loud)
    made.value = 1
    return made


def saved(content: object, legacy: bool = False, protocol: int = 2) -> Path:
    torch.save(content, "file.pth", _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    return Path("file.pth")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@LEGACY
@PROTOCOLS
@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1, path=Path("runs")), Path("a"), np.float64(0.5), np.arange(4.0), np.dtype("float32"),
        loud(), Loud.mean, leave_mark, Call(leave_mark), Call(Loud), partial(leave_mark), [Loud, {Loud: 1}, {Path("a"): 1}, {1, 2}],
        Counter("aab"), defaultdict(list, a=[1]), Items(a=Items(b=loud())), Names([1, loud()]), 1 + 2j, slice(3), torch.device("cpu"),
        torch.float16, datetime(2020, 1, 1),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_objects_beside_the_weights_become_inert(beside, legacy, protocol):
    weights = nn.BatchNorm2d(3).state_dict()
    content = read_checkpoint(saved({"beside": beside, "state_dict": weights, "epoch": 3}, legacy, protocol))
    assert list(content["state_dict"]) == list(weights) and content["epoch"] == 3
    assert all(torch.equal(content["state_dict"][name], weights[name]) for name in weights)
    assert not Path(MARK).exists()


def test_the_items_of_a_dictionarys_subclass_are_read():
    content = read_checkpoint(saved(Items(counts=defaultdict(int, a=2), inner=Items(a=torch.ones(2)), path=Path("a"))))
    assert content["counts"] == {"a": 2} and torch.equal(content["inner"]["a"], torch.ones(2)) and content["path"] == {}


@LEGACY
@PROTOCOLS
@pytest.mark.parametrize(
    "call, name",
    [
        (Call(os.mkdir, MARK), r"\w+\.mkdir"),
        (Call(os.system, f"mkdir '{MARK}'"), r"\w+\.system"),
        (Call(eval, f"open({MARK!r}, 'w')"), "builtins.eval"),
        (Call(subprocess.Popen, ["mkdir", MARK]), "subprocess.Popen"),
        (Call(Path.touch, Path(MARK)), r"builtins\.getattr|pathlib\.Path\.touch"),
        (Call(Loud.mean), "builtins.getattr"),
        (Call(partial(os.mkdir, MARK)), "functools.partial"),
        ({"deep": [(Call(os.mkdir, MARK),)]}, r"\w+\.mkdir"),
        (Call(torch._tensor._rebuild_from_type_v2, os.mkdir, Loud, (MARK,), {}), r"\w+\.mkdir"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_would_run_code_is_refused_and_does_not(call, name, legacy, protocol):
    with pytest.raises(UserError, match=rf"^checkpoint file\.pth: cannot be read, it holds ({name}), which could run code; .*state dict"):
        read_checkpoint(saved({"state_dict": {"a": torch.ones(1)}, "extra": call}, legacy, protocol))
    assert not Path(MARK).exists()


@LEGACY
def test_a_pickled_network_is_refused(legacy):
    with pytest.raises(UserError, match=r"is a pickled network, torch\.nn\..*Sequential, .*torch\.save\(network\.state_dict\(\), FILE\)"):
        read_checkpoint(saved(nn.Sequential(nn.Conv2d(3, 4, 1)), legacy))


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\nN}S'__call__'\ncbuiltins\nlist\ns\x86b.",  # BUILD on a class ...
        b"ctorch._utils\n_rebuild_tensor_v2\n}S'__wrapped__'\nNsb.",  # ... and on a function of PyTorch
        b"(S'mkdir x'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'mkdir x'\no.",  # OBJ
        b"cos\nsystem\nS'mkdir x'\n\x85R.",
        b"\x80\x02cos\nsystem\nS'mkdir x'\n\x85\x81)R.",  # NEWOBJ, and its object called
        b"\x82\x01.",  # EXT1
    ],
)
def test_no_pickle_changes_or_calls_what_is_outside_of_it(program):
    before = dict(vars(torch._utils._rebuild_tensor_v2))
    with pytest.raises((pickle.UnpicklingError, inert_pickle.CodeError, TypeError, ValueError, AttributeError)):
        inert_pickle.load(BytesIO(program))
    assert vars(torch._utils._rebuild_tensor_v2) == before and not list(Path().iterdir())


def test_classes_that_are_installed_are_not_taken():
    found = inert_pickle.load(BytesIO(pickle.dumps([OrderedDict, Path, Loud])))
    assert found[0] is OrderedDict and all(issubclass(kind, inert_pickle.Inert) for kind in found[1:])


@needs_fixtures
@pytest.mark.parametrize("year", [2020, 2022, 2023])
def test_the_forms_of_mmpose_are_read(year):
    """Values of other kinds, numpy arrays in `meta`, and the trainer's log with a `getattr`."""
    content = read_checkpoint(FIXTURES / f"mmpose_file_{year}.pth")
    weights = content["state_dict"]
    assert {"meta", "state_dict"} <= content.keys() and content["meta"]["epoch"] > 0
    assert len(weights) == (15 if year == 2022 else 13) and all(isinstance(value, torch.Tensor) for value in weights.values())
    assert weights["backbone.conv1.weight"].shape == (64, 3, 7, 7) and weights["backbone.conv1.weight"].std() > 0
