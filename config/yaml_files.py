"""YAML to plain values. What YAML's readers disagree on is refused with its line and key; time and memory are bounded."""

import math
import re
import reprlib
from pathlib import Path
from typing import Any, NoReturn

import yaml

from config.errors import UserError
from config.files import existing_file, read_text

MAX_BYTES = 2**18  # of a file: PyYAML reads it in seconds
MAX_VALUES = 20_000  # those that aliases stand for are counted each time
MAX_DEPTH = 20
TAG = "tag:yaml.org,2002:"
OCTAL = re.compile(r"[-+]?0[0-7_]+")


def read_yaml(path: str | Path, what: str, whole_number_keys: bool = False) -> dict[str, Any]:
    """Return the keys and values of a YAML file, none of an empty one. Raises UserError, which calls the file `what`.

    whole_number_keys: keys below the first level can be whole numbers, too.
    """
    size = existing_file(path, what).stat().st_size
    if size > MAX_BYTES:
        raise UserError(f"{what} {path}: has {size:,} bytes, expected at most {MAX_BYTES:,}; is it a YAML file?")
    values = parse_yaml(read_text(path, what), f"{what} {path}", whole_number_keys)
    if not isinstance(values, dict | None):
        raise UserError(f"{what} {path}: expected keys and values, such as train: {{epochs: 3}}")
    return values or {}


def parse_yaml(text: str, source: str, whole_number_keys: bool = False) -> Any:
    """Return the value of a YAML text. Raises UserError, one line that begins with `source`. whole_number_keys: see `read_yaml`."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _Reader(loader, source, whole_number_keys).value(node, "", 0)
    except yaml.YAMLError as error:
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:  # its own text quotes the line, in several lines
            problem = ", ".join(filter(None, (error.context, error.problem)))
            raise UserError(f"{source}: line {error.problem_mark.line + 1}: not valid YAML: {problem}") from error
        raise UserError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's, which stops at MAX_DEPTH: its time grows with the square of the depth."""

    depth = -1

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_DEPTH} levels deep", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Reader:
    """Values of PyYAML's nodes, which it has made of a text without writing out any alias."""

    def __init__(self, loader: _Loader, source: str, whole_number_keys: bool = False):
        self.loader, self.source, self.count = loader, source, 0
        self.key_types = (str, int) if whole_number_keys else (str,)

    def value(self, node: yaml.Node, key: str, depth: int) -> Any:
        """Return what a node stands for. key: its dotted key; depth: collections around it."""
        self.count += 1
        if self.count > MAX_VALUES:
            self._refuse(node, "", f"more than {MAX_VALUES:,} values, counting each use of an alias")
        if depth > MAX_DEPTH:
            self._refuse(node, "", f"nested more than {MAX_DEPTH} levels deep, or an alias within itself")
        if node.tag == TAG + "map" and isinstance(node, yaml.MappingNode):
            return self._mapping(node, key, depth)
        if node.tag == TAG + "seq" and isinstance(node, yaml.SequenceNode):
            return [self.value(child, f"{key}.{number}", depth + 1) for number, child in enumerate(node.value)]
        return self._scalar(node, key)

    def _mapping(self, node: yaml.MappingNode, key: str, depth: int) -> dict[str, Any]:
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for name_node, value_node in node.value:
            if name_node.tag == TAG + "merge":
                value = self.value(value_node, key, depth + 1)
                for mapping in value if isinstance(value, list) else [value]:
                    if not isinstance(mapping, dict):
                        self._refuse(value_node, key, "'<<' takes keys and values")
                    merged = {**mapping, **merged}
                continue
            name = self._scalar(name_node, key)
            if type(name) not in (self.key_types if key else (str,)):
                self._refuse(name_node, key, f"the key {name!r} is not a text; quote it")
            dotted = f"{key}.{name}" if key else str(name)
            if name in own:
                self._refuse(name_node, "", f"the key {dotted!r} is given twice; remove one of them")
            own[name] = self.value(value_node, dotted, depth + 1)
        return {**merged, **own}

    def _scalar(self, node: yaml.Node, key: str) -> str | int | float | bool | None:
        kind, text = node.tag.removeprefix(TAG), node.value
        if not isinstance(node, yaml.ScalarNode) or kind not in ("str", "int", "float", "bool", "null", "timestamp"):
            self._refuse(node, key, f"expected a text or a number, got {kind!r}")
        number, shown, meaning = kind in ("int", "float"), reprlib.repr(text), None
        if kind == "timestamp":
            meaning = "a date"
        elif kind == "bool" and text.lower() not in ("true", "false"):
            meaning = "true or false"
        elif number and (":" in text or OCTAL.fullmatch(text)):
            meaning = f"a number to base {60 if ':' in text else 8}"
        if meaning is not None:
            self._refuse(
                node, key, f"some readers of YAML take {shown} for {meaning}; quote a text, or write true, false or a decimal number"
            )
        try:
            value = self.loader.construct_object(node)
        except (ValueError, LookupError):  # more digits than Python converts, or a tag that the text does not go with
            value = math.nan
        if isinstance(value, int | float) and not (abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)):
            self._refuse(node, key, f"expected a finite number of 64 bits, got {shown}")
        return value

    def _refuse(self, node: yaml.Node, key: str, problem: str) -> NoReturn:
        where = f"line {node.start_mark.line + 1}: "
        raise UserError(f"{self.source}: {where}{f'{key}: ' * bool(key)}{problem}")
