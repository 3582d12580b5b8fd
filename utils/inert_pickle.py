"""Unpickle tensors and plain values, and nothing else: `torch.load(..., pickle_module=utils.inert_pickle)` runs no code of a file.

What is no tensor, dictionary, list, number or text becomes an `Inert`. Its class is neither imported nor called.
"""

from __future__ import annotations

import pickle
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

# Of the standard library, what makes no more than a value; a file that calls anything else of it is refused, not read
VALUE_MODULES = {
    *("_codecs", "argparse", "array", "collections", "copyreg", "datetime", "decimal", "enum", "fractions", "functools", "logging"),
    *("operator", "pathlib", "random", "re", "types", "uuid"),
}
VALUE_BUILTINS = {
    *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "getattr", "int", "list", "object", "range", "set"),
    *("slice", "str", "tuple"),
}


class CodeError(Exception):
    """A file calls a function that could run any code. The message is the function's name."""


class InertType(type):
    """The class of a placeholder's class: a call of what it stands for makes a placeholder."""

    makes_value: bool

    def __call__(cls, *_: Any, **__: Any) -> Inert:
        if not cls.makes_value:
            raise CodeError(cls.__name__)
        return cls.__new__(cls)


class Inert(dict, metaclass=InertType):
    """A placeholder for an object of a class that is not read. It holds the items of a dictionary's subclass, and no attributes."""

    is_network = False

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return dict.__new__(cls)

    def __setstate__(self, state: Any) -> None:  # also keeps a file from setting attributes of the class
        if isinstance(state, dict) and "_modules" in state:  # nn.Module's
            self.is_network = True

    def __call__(self, *_: Any, **__: Any) -> None:  # what getattr would return
        raise CodeError(type(self).__name__)

    def append(self, *_: Any) -> None:
        """Ignore the items of a list's subclass."""

    extend = append
    __hash__ = object.__hash__


def makes_value(module: str, name: str) -> bool:
    """Return whether a call of a function or class makes a value, as `pathlib.PosixPath` does, and could not run any code, as `os.system`.

    Functions and classes of other packages are taken for harmless; they are not called either.
    """
    package = module.split(".")[0]
    if package == "builtins":
        return name in VALUE_BUILTINS
    return package not in sys.stdlib_module_names or (package in VALUE_MODULES and "." not in name)  # pathlib, Path.touch


def find_network(content: Any) -> str | None:
    """Return the class of the first pickled network in nested dictionaries; None if there is none."""
    if isinstance(content, Inert) and content.is_network:
        return type(content).__name__
    return next(filter(None, map(find_network, content.values())), None) if isinstance(content, Mapping) else None


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


# Of files before PyTorch 0.4, and since
TENSORS: dict[tuple[str, str], Callable[..., Tensor]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): lambda function, _, args, __: function(*args),  # of a subclass
}


class Unpickler(pickle._Unpickler):  # the one in C allocates as much memory as a damaged file asks for
    """An unpickler without imports."""

    def find_class(self, module: str, name: str) -> Any:
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))  # Python 2's, also in protocol 2
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) in TENSORS:
            return partial(TENSORS[module, name])  # an own object each time: a file could set attributes of a shared one
        return InertType(f"{module}.{name}", (Inert,), {"makes_value": makes_value(module, name)})


def load(file: Any, **options: Any) -> Any:
    """Read one pickle, as `pickle.load` does. PyTorch calls this for the head of files that are no zip."""
    return Unpickler(file, **options).load()
