"""YAML files and `key=value` overrides to a frozen, checked `Config`."""

import difflib
from collections.abc import Collection, Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from config.errors import UserError, suggestion
from config.schema import Config
from config.skeleton import Skeleton
from config.systems import SYSTEMS, SystemEntry
from config.yaml_files import parse_yaml, read_yaml

SKELETONS = Path(__file__).parent / "skeletons"


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file, apply dotted overrides such as `train.batch_size=2`, and check everything.

    A file's key `base` names another file, relative to its own folder, whose keys it inherits and changes. Raise UserError, one line with
    the file, the key and the nearest known key.
    """
    return parse_config(_read_with_base(Path(path)), str(path), overrides)


def _read_with_base(path: Path, derived: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the keys of a YAML file and those of its base that it does not change. derived: the files that have it as their base."""
    values = read_yaml(path, "configuration")
    if "base" not in values:
        return values
    base = values.pop("base")
    if not isinstance(base, str):
        raise UserError(f"configuration {path}: base: expected the path of a YAML file, got {base!r}")
    if path.resolve() in derived:
        raise UserError(f"configuration {path}: base: is a base of itself; remove the key from one of the files")
    return _merged(_read_with_base(path.parent / base, (*derived, path.resolve())), values)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return nested dictionaries merged; `changes` win."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if both else value
    return merged


def parse_config(values: dict[str, Any], source: str, overrides: Iterable[str] = ()) -> Config:
    """Check a nested dictionary, as read from YAML or a checkpoint, with overrides applied; `source` names it in errors."""
    values, overrides = deepcopy(values), list(overrides)
    for section, keys in _system(values, source).load("config").deprecated_keys.items():
        if isinstance(values.get(section), dict):
            values[section] = {key: value for key, value in values[section].items() if key not in keys}
    for override in overrides:
        _apply(values, override)
    source = " with ".join([source, *overrides])
    skeleton = values.get("skeleton", "coco")
    if isinstance(skeleton, str):
        values["skeleton"] = load_skeleton(skeleton)
    system, model = _system(values, source), values.get("model") or {}
    config_class = system.load("config")
    default = config_class.model_fields["model"].default.name
    name = model.get("name", default) if isinstance(model, dict) else default
    model_class = _named(system.networks, name, "model.name", source).load("config")
    known = _keys(config_class) + _keys(model_class, "model.")
    values["model"] = _validate(model_class, model, source, known, "model")
    return _validate(config_class, values, source, known)


def _system(values: dict[str, Any], source: str) -> SystemEntry:
    """Return the system's entry, before anything else is checked, so that errors name its keys."""
    return _named(SYSTEMS, values.get("system", "simplepose"), "system", source)


def _named(entries: dict[str, Any], name: Any, key: str, source: str) -> Any:
    if isinstance(name, str) and name in entries:
        return entries[name]
    raise UserError(f"{source}: unknown {key} {name!r}; {suggestion(str(name), entries)}")


def with_overrides(config: Config, overrides: Iterable[str]) -> Config:
    """Return the configuration with dotted overrides applied."""
    return parse_config(config.model_dump(mode="json"), "configuration", overrides)


def changed_keys(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys in which two dumped configurations differ, with both values; None for a missing key."""
    changed: dict[str, tuple[Any, Any]] = {}
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changed |= changed_keys(before, after, f"{prefix}{key}.")
        elif before != after:
            changed[prefix + key] = before, after
    return changed


def load_skeleton(name: str) -> Skeleton:
    """Load a skeleton by its name in `config/skeletons`, or by the path of a YAML file."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else SKELETONS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(skeleton.name for skeleton in known_skeletons())
        raise UserError(f"skeleton {name!r}: no file {path}; known skeletons: {known}, or give the path of a YAML file")
    return _validate(Skeleton, read_yaml(path, "skeleton"), str(path), _keys(Skeleton))


def known_skeletons() -> list[Skeleton]:
    """Return the skeletons in `config/skeletons`."""
    return [load_skeleton(str(file)) for file in sorted(SKELETONS.glob("*.yaml"))]


def fitting_skeleton(names: Collection[str]) -> Skeleton:
    """Return the known skeleton with most of a data set's keypoints and fewest others; COCO's for none."""
    best = max(
        known_skeletons(), key=lambda skeleton: (len(set(skeleton.own_names(names)) & set(skeleton.dataset)), -len(skeleton.dataset))
    )
    return best if names else load_skeleton("coco")


def restore_order(skeleton: Skeleton) -> Skeleton:
    """Return a checkpoint's skeleton with the data set's keypoints in their own order: that of the known skeleton with the same ones.

    Files of `utils.export` have held all keys alphabetically. An unknown skeleton of such a file takes the order of its `keypoints`.
    """
    names = next((known.dataset for known in known_skeletons() if known.dataset == skeleton.dataset), skeleton.dataset)
    if names is skeleton.dataset and all(list(keys) == sorted(keys) for keys in (skeleton.dataset, skeleton.sigmas)):
        names = dict(sorted(names.items(), key=lambda pair: skeleton.keypoints.index(pair[1])))
    return skeleton.model_copy(update={"dataset": names})


def check_keypoint_names(names: Sequence[str], skeleton: Skeleton, source: str) -> None:
    """Raise UserError if a data set's keypoints and the skeleton's overlap only in part: each has some that the other lacks.

    A subset is allowed in either direction. A partial overlap is not: its AP would be mistaken for that of one of the data sets.
    """
    more = [name for name in names if name not in skeleton.dataset]
    fewer = [name for name in skeleton.dataset if name not in names]
    if more and fewer:
        fitting, remedy = fitting_skeleton(names), "write one of the file's"
        if set(names) <= set(fitting.dataset):
            remedy = f"skeleton={fitting.name} has all of the file's (data/coco_masks_hdf5.py: --skeleton {fitting.name})"
        raise UserError(
            f"{source}: its {len(names)} keypoints and those of the skeleton {skeleton.name!r} overlap only in part:"
            f" it has {first_names(more)} besides and lacks {first_names(fewer)}; {remedy}"
        )


def first_names(names: Sequence[str]) -> str:
    """Return the first three names for a message, and dots where there are more."""
    return ", ".join([*map(str, names[:3]), *["..."] * (len(names) > 3)])


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"override {override!r}: expected key=value, as in train.batch_size=2")
    value = parse_yaml(text, f"override {override!r}")
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"override {override!r}: {section} is not a section")
    values[last] = value


def _validate(model: type[BaseModel], values: Any, source: str, known: Sequence[str], section: str = "") -> Any:
    """Validate values as `model`. known: all dotted keys; section: the dotted section of the values."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        details = error.errors()
        wholes = {detail["loc"][:end] for detail in details for end in range(len(detail["loc"]))}  # as "0 items" of which one is wrong
        texts = [_explain(detail, known, section) for detail in details if detail["loc"] not in wholes]
        raise UserError(f"{source}: " + "; ".join(texts[:3])) from None


def _likeness(known: str, key: str) -> float:
    """Return how alike two dotted keys are, 0 to 1: as a whole, and in their last names, which may be in another section."""
    pairs = (known, key), (known.rpartition(".")[2], key.rpartition(".")[2])
    return sum(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs) / 2


def _explain(detail: Any, all_keys: Sequence[str], section: str) -> str:
    key = ".".join([*filter(None, [section]), *map(str, detail["loc"])])
    if detail["type"] == "extra_forbidden":
        near = max(all_keys, key=lambda known: _likeness(known, key))
        return f"unknown key {key!r}" + (f"; did you mean {near!r}?" if _likeness(near, key) > 0.5 else "")
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if detail["type"] == "value_error" and not detail["loc"]:  # of a whole section: the message names the keys
        return message
    shown = "" if isinstance(detail["input"], (dict, BaseModel)) else f", got {detail['input']!r}"
    return f"{key}: {message}{shown}"


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted keys of a configuration section and the sections in it."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _keys(field.annotation, f"{prefix}{name}.")
    return keys
