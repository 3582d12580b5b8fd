"""YAML that means something else to another reader, or never ends: refused in one line, quickly, wherever YAML is read."""

import time

import pytest

from config import UserError, load_config
from config.load import load_skeleton
from config.yaml_files import MAX_BYTES, parse_yaml, read_yaml

ALIASES = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
MERGES = "a: &a0 {k: v}\n" + "".join(f"b{n}: &a{n} {{<<: *a{n - 1}, l: *a{n - 1}, r: *a{n - 1}}}\n" for n in range(1, 30))

REFUSED = {
    "key twice": ("train:\n  epochs: 3\n  epochs: 4\n", "line 3: the key 'train.epochs' is given twice"),
    "section twice": ("train: {epochs: 3}\ntrain: {}\n", "line 2: the key 'train' is given twice"),
    "aliases of aliases": (ALIASES, "more than 20,000 values"),
    "merges of merges": (MERGES, "more than 20,000 values"),
    "alias in itself": ("train: &t\n  epochs: [*t]\n", "alias within itself"),
    "lists in lists": (("- " + "[" * 400 + "]" * 400 + "\n") * 200, "nested more than 20 levels deep"),
    "keys in keys": ("".join(" " * n + "a:\n" for n in range(400)), "nested more than 20 levels deep"),
    "date": ("data: {train: 2024-01-01}", "data.train: some readers of YAML take '2024-01-01' for a date; quote"),
    "no date": ("data: {train: 2024-13-45}", "data.train: some readers"),
    "date as key": ("2024-01-01: x", "for a date"),
    "to base 60": ("train: {epochs: 1:30:00}", "train.epochs: some readers of YAML take '1:30:00' for a number to base 60"),
    "to base 8": ("train: {epochs: 017}", "for a number to base 8"),
    "yes": ("train: {channels_last: yes}", "train.channels_last: some readers of YAML take 'yes' for true or false"),
    "in a list": ("a: {b: [x, off]}", "a.b.1: some readers of YAML take 'off' for true or false"),
    "digits": (f"train: {{epochs: {'9' * 5000}}}", "train.epochs: expected a finite number"),
    "overflow": ("train: {learning_rate: 1.0e+400}", "train.learning_rate: expected a finite number"),
    "not a number": ("train: {learning_rate: .nan}", "train.learning_rate: expected a finite number"),
    "number as key": ("1: x", "the key 1 is not a text; quote it"),
    "list as key": ("? [a, b]\n: 1", "got 'seq'"),
    "merged text": ("<<: x", "'<<' takes keys and values"),
    "tab": ("train:\n\tepochs: 3", "line 2: not valid YAML"),
    "two documents": ("a: 1\n---\nb: 1", "expected a single document"),
    "null character": ("system: simple\0pose", "not valid YAML"),
    "list": ("- a\n", "expected keys and values"),
    "code": ("train: !!python/object/apply:os.system [exit]", "train: expected a text or a number, got 'python"),
    "large": ("# comment\n" * (MAX_BYTES // 10 + 1), "expected at most 262,144"),
}


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_yaml_can_mean_in_two_ways_is_refused_in_one_line(tmp_path, text, problem):
    path, start = tmp_path / "my.yaml", time.process_time()
    path.write_text(text)
    for read, what in ((load_config, "configuration"), (lambda name: load_skeleton(str(name)), "skeleton")):
        with pytest.raises(UserError) as error:
            read(path)
        message = str(error.value)
        assert message.startswith(f"{what} {path}: ") and problem in message and "\n" not in message, message
    assert time.process_time() - start < 20


def test_overrides_and_stored_configurations_are_read_the_same_way(tmp_path):
    path = tmp_path / "stored.yaml"
    path.write_text("train: {epochs: 3, optimizer: sgd}")
    for override, problem in (("train.optimizer=no", "for true or false"), ("train={epochs: 1, epochs: 2}", "'epochs' is given twice")):
        with pytest.raises(UserError, match=problem) as error:
            load_config(path, [override])
        assert str(error.value).startswith(f"override {override!r}: ")


def test_aliases_and_merge_keys_are_read():
    text = "base: &b {x: 1, y: [1e-5, 'no']}\nother: {<<: *b, x: 2}\nboth: {<<: [{x: 3}, *b]}\nlist: [*b, *b]"
    base = {"x": 1, "y": ["1e-5", "no"]}
    assert parse_yaml(text, "text") == {"base": base, "other": base | {"x": 2}, "both": base | {"x": 3}, "list": [base, base]}


def test_whole_numbers_are_keys_below_the_first_level_where_allowed(tmp_path):
    """As in YOLO's `names`."""
    path = tmp_path / "data.yaml"
    path.write_text("names: {0: person, 1: dog}")
    assert read_yaml(path, "data", whole_number_keys=True) == {"names": {0: "person", 1: "dog"}}
    with pytest.raises(UserError, match=r"names: the key 0 is not a text; quote it"):
        read_yaml(path, "data")
    for text, key in (("0: person", "0"), ("names: {true: person}", "True"), ("names: {0.5: person}", "0.5")):
        path.write_text(text)
        with pytest.raises(UserError, match=f"the key {key} is not a text"):
            read_yaml(path, "data", whole_number_keys=True)
    path.write_text("names: {0: person, 0: dog}")
    with pytest.raises(UserError, match=r"the key 'names\.0' is given twice"):
        read_yaml(path, "data", whole_number_keys=True)
