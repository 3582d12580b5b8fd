"""Videos: what is written, what is read, and what is silent about corrupt ones."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from disk import largest_file

from config import UserError
from data.video import video_writer
from utils.visualize.video import VideoReader
from utils.visualize.window import Window

RATE = 11025  # of sound; its times are no whole milliseconds, so those of some files overlap


@pytest.mark.parametrize(("rate", "read"), [(30000 / 1001, 29.97), (127.38347913, 127.38), (600.0, 600), (0.1, 0.1), (700, 25)])
def test_frames_get_the_first_ones_size_in_videos_of_every_rate(tmp_path, rate, read):
    with video_writer(tmp_path / "new" / "out.mp4", rate) as write:
        for size in ((64, 80), (32, 40), (64, 80)):
            write(np.full((*size, 3), 90, np.uint8))
    open_files = Path("/proc/self/fd") if Path("/proc/self/fd").is_dir() else tmp_path
    before = len(list(open_files.iterdir()))
    reader = VideoReader(tmp_path / "new" / "out.mp4")
    assert reader.rate == pytest.approx(read, abs=0.01)
    assert (reader.count, [frame.shape for frame in reader]) == (3, [(64, 80, 3)] * 3)
    next(iter(VideoReader(tmp_path / "new" / "out.mp4")))
    assert len(list(open_files.iterdir())) == before, "a video is closed, read to its end or not"


def test_browsers_play_what_is_written(tmp_path, monkeypatch):
    """H.264 in yuv420p, whose sides are even, with the index in front."""
    monkeypatch.chdir(tmp_path)
    path, colors = Path("a: b.mp4"), ((0, 0, 220), (0, 220, 0), (220, 0, 0))
    frame = np.repeat(np.uint8(colors), 33, 0)[None].repeat(65, 0)
    with video_writer(path, 10) as write:
        write(frame)
    with av.open(f"file:{path}") as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.width, codec.height) == ("h264", "yuv420p", 100, 66)
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")
    (read,) = VideoReader(path)
    np.testing.assert_allclose(read[[30, 65]][:, [15, 50, 85]].astype(int), [colors, colors], atol=6)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le", "libmp3lame"])
def test_frame_times_and_sound_are_those_of_the_input(tmp_path, codec):
    times, frame = [0, 0.1, 0.5, 0.6], np.zeros((16, 16, 3), np.uint8)
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        video, audio = container.add_stream("mpeg4", rate=10), container.add_stream(codec, rate=RATE)
        video.width = video.height = 16
        for time in times:
            image = av.VideoFrame.from_ndarray(frame, format="bgr24")
            image.pts, image.time_base = round(1000 * (time + 1)), Fraction(1, 1000)  # the first frame comes after a second of sound
            container.mux(video.encode(image))
        for number in range(20):
            sound = av.AudioFrame.from_ndarray(np.full((1, 2 * 1024), 1000 * number, np.int16), format="s16", layout="stereo")
            sound.pts, sound.rate, sound.time_base = 1024 * number, RATE, Fraction(1, RATE)
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    reader = VideoReader(tmp_path / "in.mkv")
    with video_writer(tmp_path / "out.mp4", reader.rate, sound=reader.sound) as write:
        read = [(write(frame, reader.time), reader.time)[1] for frame in reader]
    assert read == pytest.approx(times, abs=0.002)
    written = VideoReader(tmp_path / "out.mp4")
    assert [written.time for _ in written] == pytest.approx(times, abs=0.002)
    with av.open(str(tmp_path / "out.mp4")) as container:
        sound, rate = [frame.to_ndarray().mean() for frame in container.decode(audio=0)], container.streams.audio[0].rate
        assert (container.streams.audio[0].codec.canonical_name, rate) == ("aac", RATE if codec == "aac" else 48000)
    assert len(sound) * 1024 / rate == pytest.approx(0.7, abs=0.2), "as long as the video"
    loudness = sound[round(0.3 * rate / 1024)] * 2**15
    assert loudness == pytest.approx(1000 * (1 + 0.3) * RATE / 1024, abs=1000), "from the first frame on"


def test_times_of_a_stream_that_begins_anew_go_on(tmp_path):
    with av.open(str(tmp_path / "once.ts"), "w") as container:
        video, audio = container.add_stream("mpeg4", rate=10), container.add_stream("aac", rate=48000)
        video.width = video.height = 16
        for number in range(5):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="bgr24")))
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 4800), np.int16), format="s16", layout="stereo")
            sound.pts, sound.rate = 4800 * number, 48000
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    (tmp_path / "twice.ts").write_bytes(2 * (tmp_path / "once.ts").read_bytes())
    reader = VideoReader(tmp_path / "twice.ts")
    with video_writer(tmp_path / "out.mp4", reader.rate, sound=reader.sound) as write:
        times = [(write(frame, reader.time), reader.time)[1] for frame in reader]
    assert (len(times), min(np.diff(times)) > 0.03, times[-1]) == (10, True, pytest.approx(0.9, abs=0.07))
    with av.open(str(tmp_path / "out.mp4")) as container:
        sound = container.streams.audio[0]
        assert float(sound.duration * sound.time_base) == pytest.approx(0.9, abs=0.1)
        assert len(list(container.decode(audio=0))) * 1024 / 48000 == pytest.approx(0.9, abs=0.1)


def test_a_video_is_turned_as_the_camera_was_held(tmp_path):
    image = np.full((48, 80, 3), 30, np.uint8)
    image[:24, :40] = 220
    with video_writer(tmp_path / "flat.mp4", 10) as write:
        write(image)
    content, flat = (tmp_path / "flat.mp4").read_bytes(), struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 2**30)
    place = content.rindex(flat)  # of the track
    for (a, b), expected in {(0, 65536): np.rot90(image, -1), (0, -65536): np.rot90(image), (-65536, 0): np.rot90(image, 2)}.items():
        turned = struct.pack(">9i", a, b, 0, -b, a, 0, 0, 0, 2**30)
        (tmp_path / "turned.mp4").write_bytes(content[:place] + turned + content[place + len(turned) :])
        (read,) = VideoReader(tmp_path / "turned.mp4")
        np.testing.assert_allclose(read[8:-8:8, 8:-8:8].astype(int), expected[8:-8:8, 8:-8:8], atol=4)


def test_a_video_is_written_whole_or_not_at_all(tmp_path):
    """The limit on the size of files acts as a full disk does."""
    rng, error = np.random.default_rng(0), r"out.mp4: could not be written \(File too large\); raise the limit on the size of files"
    with largest_file(20_000), pytest.raises(UserError, match=error), video_writer(tmp_path / "out.mp4", 10) as write:
        for _ in range(3):
            write(rng.integers(0, 255, (128, 128, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_a_build_without_h264_says_what_it_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with video_writer(tmp_path / "out.mp4", 29.97) as write:
        write(np.zeros((16, 16, 3), np.uint8))
    assert "out.mp4: is MPEG-4, which browsers do not play" in capsys.readouterr().err
    assert VideoReader(tmp_path / "out.mp4").count == 1


def test_corrupt_videos_are_named(tmp_path, capfd):
    whole = tmp_path / "whole.mp4"
    with video_writer(whole, 10) as write:
        for number in range(30):
            write(np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8))
    content = whole.read_bytes()
    for name, data in {"a.mp4": b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 9, "a.avi": bytes(10000), "b.mp4": content[:500]}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=f"^video {tmp_path / name}: no frame can be read from it$"):
            VideoReader(tmp_path / name)
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    count = len(list(VideoReader(tmp_path / "cut.mp4")))
    assert 5 < count < 27
    assert capfd.readouterr().err == f"warning: video {tmp_path / 'cut.mp4'}: has {count} of 30 frames; is it whole?\n", "FFmpeg is silent"
    assert len(list(VideoReader(whole))) == 30 and capfd.readouterr().err == ""


def test_a_window_stops_at_q_or_when_it_is_closed(monkeypatch):
    keys, shown, visible = iter([ord("n"), -1, -1, ord("q"), -1]), [], [1]
    monkeypatch.setenv("DISPLAY", ":0")
    for name, function in {
        "namedWindow": lambda title: None,
        "imshow": lambda title, image: shown.append(image.shape),
        "waitKey": lambda milliseconds: next(keys),
        "getWindowProperty": lambda *_: visible[0],
    }.items():
        monkeypatch.setattr(cv2, name, function, raising=False)
    window, image = Window("people"), np.zeros((1800, 1600, 3), np.uint8)
    assert [window.show(image, wait=True), window.show(image, wait=True)] == [True, False], "it waits for a key"
    visible[0] = 0
    assert not window.show(image, wait=False)
    assert shown == [(900, 800, 3)] * 3
