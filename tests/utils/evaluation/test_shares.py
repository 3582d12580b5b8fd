"""Sharing images among processes: places, devices, and waiting that ends."""

from __future__ import annotations

import pytest
import torch

from config import UserError
from config.progress import Progress
from utils.evaluation import shares
from utils.evaluation.shares import Share, joined
from utils.journal import Journal, Others


def test_alone_without_torchrun(monkeypatch):
    for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(key, raising=False)
    with joined() as share:
        assert (share, share.is_first, share.device(None), share.device("cpu")) == (Share(0, 1, 0), True, None, "cpu")
        share.meet()


def test_a_place_for_each_process(monkeypatch):
    """There may be more processes than GPUs: assignment is the processor's work."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [Share(number, 4, number).device(None) for number in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert Share(5, 8, 1).device("cuda:0") == "cuda:0"
    monkeypatch.setenv("RANK", "5"), monkeypatch.setenv("WORLD_SIZE", "8"), monkeypatch.setenv("LOCAL_RANK", "1")
    assert (Share.of_environment(), Share.of_environment().is_first) == (Share(5, 8, 1), False)


def test_processes_that_cannot_be_reached_are_one_line(monkeypatch):
    monkeypatch.setattr(shares, "MEETING", shares.timedelta(seconds=1))
    for key, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError, match="process 1 of 2: cannot reach the others"), joined():
        pass


def test_who_waits_counts_what_the_others_do_and_gives_up_when_they_do_nothing(tmp_path, monkeypatch):
    progress, path = Progress(6, "test", shown=False), tmp_path / "journal.partial"
    monkeypatch.setattr(shares, "LOOKS", 0.01)
    with Journal(path, "this") as first, Journal(path, "this", 1) as second:
        first.add_all([(1, []), (2, [])])
        progress.advance(2)
        second.add_all([(3, []), (4, [])])
        others = Others(first, 2)
        with pytest.raises(UserError, match="the other processes have done nothing for 0 s, 2 of 6 images are left"):
            Share(0, 2).wait_for(others, progress, patience=0.05)
        second.add_all([(5, []), (6, [])])
        Share(0, 2).wait_for(others, progress, patience=0.05)
        assert progress.count == 6
        assert sorted(first.found()) == [1, 2, 3, 4, 5, 6]
