"""Progress in a log file."""

import sys

from config.progress import Progress


def test_units_of_an_earlier_run_do_not_change_rate_and_time_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    with Progress(1000, "poses", " images") as progress:
        progress.skip(900)
        for _ in range(20):
            now[0] += 1
            progress.advance(2, note="few")
    assert capsys.readouterr().err.splitlines() == [
        "poses:  93% 930/1000 [00:15<00:35,  2.00 images/s, few]",
        "poses:  94% 940/1000 [00:20<00:30,  2.00 images/s, few]",
    ]


def test_a_message_between_two_bars_is_one_line(capsys):
    """Nothing moves a cursor, which a log file lacks."""
    with Progress(5, "images"), Progress(7, "frames"):
        Progress.write("image a.jpg: cannot be decoded", file=sys.stderr)
    first, *others = capsys.readouterr().err.splitlines(keepends=True)
    assert first == "image a.jpg: cannot be decoded\n" and len(others) == 2
