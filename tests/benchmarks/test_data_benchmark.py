"""benchmarks/data.py, tiny: its tables for every pose system, what they hold, and what is refused."""

from __future__ import annotations

import itertools
import mmap
import multiprocessing

import pytest
import torch
from places import ROOT

from benchmarks.data import STAGES, differences, largest_difference, loading, memory, repeating_loader
from benchmarks.data_stages import REST, OpenCvAlone, Stopwatch, one_pass
from config import load_config
from data.datasets import MixedDataset
from data.targets import render_batch
from utils.training.loader import begin_epoch

SCRIPT = "benchmarks/data.py"
FEW = ("--rounds", 2, "--samples", 8, "--device", "cpu")


def tables(out: str) -> list[list[list[str]]]:
    """The cells of each Markdown table, heads first."""
    blocks = [block.splitlines() for block in out.split("\n\n")[1:]]
    assert all(line.startswith("| ") and line.endswith(" |") for lines in blocks for line in (lines[0], *lines[2:]))
    return [[line[2:-2].split(" | ") for line in (lines[0], *lines[2:])] for lines in blocks]


def numbers(row: list[str]) -> list[float]:
    return [float(cell) for cell in row[1:] if cell.strip()]


@pytest.fixture
def measured(run, tiny, annotations, images):
    def start(*arguments: object) -> list[list[list[str]]]:
        given = ("--config", tiny, "--annotations", annotations, "--images", images)
        ended = run(SCRIPT, *given, *FEW, *arguments)
        assert ended.status == 0, ended.err
        assert "cores" in ended.out.splitlines()[0]
        found = tables(ended.out)
        assert all(len(row) == len(rows[0]) for rows in found for row in rows)
        return found

    return start


def test_figures_and_stages(measured, hdf5, samples):
    figures, stages, drawn = measured("--parts", "figures", "stages")
    speed, size, building, alone = map(numbers, figures[1:])
    assert min(speed + building + alone) > 0
    assert all(rate[1] >= rate[0] for rate in (speed, building, alone))
    assert size == [pytest.approx(hdf5.stat().st_size / samples / 1000, abs=0.1)]
    of_stage = {row[0]: numbers(row) for row in stages[1:]}
    assert list(of_stage) == [*STAGES, REST, "collate", "all"]
    best = {name: values[1] for name, values in of_stage.items()}
    assert best["all"] >= sum(best.values()) - best["all"] - 0.01
    assert best["decode"] > 0
    assert of_stage["all"][2] >= of_stage["decode"][2] + of_stage["warp"][2] - 0.002  # each is the best of its own rounds
    assert {row[0].split(", ")[0] for row in drawn[1:]} == {"targets", "images and targets"}


def test_loaders_and_training(measured):
    loaders, training = measured("--parts", "workers", "training", "--workers", 0, 1, "--batches", 8, "--steps", 4)
    assert [row[0] for row in loaders[1:]] == [row[0] for row in training[1:]] == ["0", "1"]
    for row in loaders[1:]:
        median, best, _, _, _, *memories, sent = numbers(row)
        assert 0 < median <= best
        assert all(not 0 <= mebibytes < 50 for mebibytes in memories)
        assert sent == pytest.approx(2 * (64 * 64 * 3 + 2 * 16 * 16) / 1000, abs=3)  # and joints
    assert all(rate > 0 and 0 <= share <= most <= 100 for rate, share, most in map(numbers, training[1:]))


def test_people_are_drawn_where_none_are_named(run, tiny):
    ended = run(SCRIPT, "--config", tiny, "--parts", "figures", *FEW)
    assert ended.status == 0, ended.err
    assert "drawn pictures" in ended.out.splitlines()[0]
    assert len(tables(ended.out)[0]) == 5


@pytest.mark.parametrize("recipe", ["dekr_w32_coco", "simple_baselines_r50_256x192"])
def test_stages_that_a_system_has(recipe, hdf5):
    """All of a sample's time is some stage's; afterwards nothing is timed any more."""
    config = load_config(ROOT / "config" / f"{recipe}.yaml")
    dataset, watch = MixedDataset([hdf5], config, augment=True), Stopwatch()
    with watch.watching(config):
        one_pass(dataset, 0, 3, 3)
    masks = {"masks"} & set(STAGES) if recipe.startswith("dekr") else set()
    assert watch.seconds.keys() == {"read", "decode", "warp", REST, *masks}
    before = dict(watch.seconds)
    one_pass(dataset, 0, 3, 3)
    assert watch.seconds == before


def test_what_a_stage_calls_for_is_not_its_own():
    watch = Stopwatch()

    def busy() -> None:
        sum(range(300_000))

    inner = watch.around("inner", busy)
    watch.around("outer", lambda: [inner() for _ in range(3)])()
    assert watch.seconds["inner"] > 0
    assert watch.seconds["outer"] < watch.seconds["inner"]


def test_opencv_does_each_sample_once(hdf5, tiny):
    config = load_config(tiny)
    dataset = MixedDataset([hdf5], config, augment=True)
    alone = OpenCvAlone(dataset, 2 * len(dataset))
    assert len(alone.files) == len(alone.warps) == 2 * len(dataset)
    assert all(size == (64, 64) for _, size in alone.warps)


def test_a_small_set_is_repeated_otherwise_augmented(hdf5, tiny):
    config = load_config(tiny, ["data.workers=0"])
    loader, taken = repeating_loader(hdf5, config, 20)
    begin_epoch(loader, 0, taken)
    batches = list(loader)
    assert len(batches) == 20
    images = torch.cat([batch.image for batch in batches])
    assert len({image.numpy().tobytes() for image in images}) == len(images) == 40 > len(loader.dataset)


def test_processes_end_with_their_row(hdf5, tiny):
    before, held = memory(), mmap.mmap(-1, 2**26, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # no memory that was kept serves it
    held[:: mmap.PAGESIZE] = b"1" * (len(held) // mmap.PAGESIZE)
    assert memory() != memory() or memory() - before == pytest.approx(64, abs=8)
    assert loading(hdf5, load_config(tiny), 2, 8, 2)[0] == "2"
    assert multiprocessing.active_children() == []


def test_targets_of_all_systems_are_compared(hdf5, tiny, monkeypatch):
    rows = tables("\n\n" + "\n".join(differences(hdf5, load_config(tiny), torch.device("cpu"), 3)))[0]
    assert rows[1:] == [[system, "0.0e+00"] for system in ("simplepose", "dekr", "simple_baselines")]
    turns = itertools.count()

    def further_each_time(batch, config, device):
        turn = next(turns)
        return tuple(target + 2.0 * turn for target in render_batch(batch, config, device))

    monkeypatch.setattr("benchmarks.data.render_batch", further_each_time)
    rows = tables("\n\n" + "\n".join(differences(hdf5, load_config(tiny), torch.device("cpu"), 3)))[0]
    assert [difference for _, difference in rows[1:]] == ["2.0e+00"] * 3
    assert largest_difference(torch.tensor([True, False]), torch.tensor([True, True])) == 1


def test_what_cannot_be_measured(fails, run, tiny, images, annotations):
    assert "one needs the other" in fails(SCRIPT, "--config", tiny, "--images", images)
    assert "one needs the other" in fails(SCRIPT, "--config", tiny, "--annotations", annotations)
    assert "--workers -1: expected at least 0" in fails(SCRIPT, "--config", tiny, "--workers", 0, -1)
    assert "--batches 3: expected at least 4" in fails(SCRIPT, "--config", tiny, "--batches", 3)
    assert "--steps 1: expected at least 2" in fails(SCRIPT, "--config", tiny, "--steps", 1)
    ended = run(SCRIPT, "--config", tiny, "--annotations", "nowhere.json", "--images", images)
    assert (ended.status, ended.err.splitlines()[-1]) == (2, "error: annotation file nowhere.json: not found")
