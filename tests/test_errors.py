"""Bad input to the scripts: one line that names the thing and the remedy, exit status 2, and nothing half-written."""

import re
import shutil
from types import SimpleNamespace

import h5py
import pytest
import torch
from disk import largest_file
from people import without_checksums

from config import UserError
from config.files import file_lock
from data.datasets import MixedDataset

BUILD = "data/coco_masks_hdf5.py"


@pytest.fixture
def train(fails, tiny, tmp_path):
    """Runs train.py on bad input and returns its message."""
    return lambda *arguments: fails("train.py", "--config", tiny, "--output", tmp_path / "run", *arguments)


@pytest.fixture
def evaluate(fails, tiny, trained, annotations, images, tmp_path):
    """Runs evaluate.py with some of its arguments replaced by bad ones and returns its message."""
    usual = {"config": tiny, "checkpoint": trained / "last.pth", "annotations": annotations, "images": images, "output": tmp_path / "out"}

    def start(*more: object, **replaced: object) -> str:
        named = [word for name, value in {**usual, **replaced}.items() for word in (f"--{name}", value)]
        return fails("evaluate.py", *named, *more)

    return start


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=2", "tiny.yaml with train.epoch=2: unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        ("data.train=[1, 2]", "data.train: expected a path, or a list of paths, got [1, 2]"),
        ("data.train=[{hdf5}, {folder}/nowhere.h5]", "nowhere.h5: not found"),
        ("data.val={folder}/empty.h5", "empty.h5: holds no sample"),
        ("data.val=null", "tiny.yaml: data.val: no training file is configured"),
        ("data.train_weights=[1, 2]", "data: train_weights: 2 weights for 1 training files"),
    ],
)
def test_training_refuses_files_and_configurations(train, hdf5, tmp_path, override, message):
    (tmp_path / "empty.h5").write_bytes(hdf5.read_bytes())
    without_checksums(tmp_path / "empty.h5")
    with h5py.File(tmp_path / "empty.h5", "r+") as file:
        file["people/area"][:] = 0  # too small, all of them
    assert message in train(override.format(hdf5=hdf5, folder=tmp_path))


def test_compiling_without_a_compiler_is_refused_before_there_is_a_run(train, monkeypatch):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    for dry in ([], ["--dry-run"]):
        assert "train.compile: needs a C++ compiler" in train(*dry, "train.compile=true")


def test_an_error_in_a_loader_process_is_one_line_too(run, tiny, tmp_path, monkeypatch):
    def corrupt(self, index):
        raise UserError(f"sample {index}: cannot be decoded")

    monkeypatch.setattr(MixedDataset, "__getitem__", corrupt)
    status, _, err = run("train.py", "--config", tiny, "--output", tmp_path / "run", "data.workers=1")
    assert (status, err.count("\n")) == (2, 1), err
    assert err.startswith("error: sample ") and err.endswith(": cannot be decoded\n"), err


class Malicious:
    def __reduce__(self):
        return exec, ("raise AssertionError('the pickle ran')",)


def test_a_checkpoint_that_would_run_code_is_refused_by_every_script(train, evaluate, fails, images, tmp_path):
    path = tmp_path / "bad.pth"
    torch.save({"weights": Malicious()}, path)
    demo = fails("demo_image.py", "--checkpoint", path, "--input", images, "--output", tmp_path / "demo")
    for message in (train("--resume", path), train("--init", path), evaluate(checkpoint=path), demo):
        assert "bad.pth: cannot be read" in message


def test_output_that_cannot_be_written_is_refused_by_every_script(fails, train, evaluate, tiny, trained, annotations, images, tmp_path):
    """Below a regular file: permissions do not stop an administrator."""
    (tmp_path / "a file").touch()
    below = tmp_path / "a file" / "folder"
    messages = [
        fails("train.py", "--config", tiny, "--output", below),
        evaluate(output=below),
        fails("demo_image.py", "--checkpoint", trained / "last.pth", "--input", images, "--output", below),
        fails(BUILD, "--annotations", annotations, "--images", images, "--output", below / "out.h5", "--workers", 1),
        fails("data/synthetic.py", "--output", below, "--count", 1, "--seed", 1),
    ]
    for message in messages:
        assert f"output folder {below}: cannot be written" in message


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (BUILD, "--annotations {a} --images {images} --output {a}"),
        (BUILD, "--annotations {a} --images {images} --output {images}/../link/000000000001.jpg"),
        (BUILD, "--annotations {a} --images {images} --skeleton {yaml} --output {yaml}"),
        ("evaluate.py", "--annotations {out}/metrics.json --detections {a} --output {out}"),
        ("evaluate.py", "--annotations {a} --detections {out}/person_keypoints_val2017_mine_results.json --output {out}"),
        ("evaluate.py", "--annotations {a} --images {images} --checkpoint {out}/detections.json --config {tiny} --output {out}"),
        ("evaluate.py", "--annotations {a} --images {out}/worst --checkpoint {pth} --config {tiny} --output {out}"),
        ("train.py", "--config {out}/config.yaml --output {out}"),
        ("train.py", "--config {tiny} --init {out}/best.pth --output {out} --resume auto"),
        ("utils/export.py", "--checkpoint {pth} --output {out}/../best.pth"),
        ("utils/inspect/__main__.py", "{a} --output {a}"),
        ("utils/systems/dekr_rescoring.py", "make --checkpoint {pth} --annotations {a} --images {images} --output {a}"),
        ("utils/systems/dekr_rescoring.py", "train --data {a} --output {a}"),
        ("examples/five_keypoints/annotate.py", "--annotations {a} --output {a}"),
    ],
)
def test_an_output_that_is_an_input_is_refused_by_every_script(fails, tiny, trained, annotations, images, tmp_path, script, words):
    """Also by another path, a link, or a name that only an evaluation or a run writes."""
    (tmp_path / "link").symlink_to(shutil.copytree(images, tmp_path / "images"))
    shutil.copytree(images, tmp_path / "out" / "worst")
    copies = dict.fromkeys(("a.json", "out/metrics.json", "out/person_keypoints_val2017_mine_results.json"), annotations)
    copies |= {"out/config.yaml": tiny, **dict.fromkeys(("best.pth", "out/best.pth", "out/detections.json"), trained / "best.pth")}
    for name, source in copies.items():
        shutil.copyfile(source, tmp_path / name)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    named = {"a": tmp_path / "a.json", "pth": tmp_path / "best.pth", "yaml": tmp_path / "out" / "config.yaml", "tiny": tiny}
    arguments = (word.format(**named, out=tmp_path / "out", images=tmp_path / "images") for word in words.split())
    assert "would overwrite the input" in fails(script, *arguments)
    assert {path: path.read_bytes() for path in files} == files


@pytest.mark.parametrize(
    ("script", "words", "name"),
    [
        (BUILD, "--annotations {a} --images {images} --workers 1", "out.h5"),
        ("utils/export.py", "--checkpoint {pth}", "out.safetensors"),
        ("data/synthetic.py", "--video 40 --people 1 --seed 1", "video.avi"),
    ],
)
def test_a_full_disk_ends_in_a_line_with_the_file(run, trained, annotations, images, tmp_path, script, words, name):
    named, output = {"a": annotations, "images": images, "pth": trained / "best.pth"}, tmp_path / name
    arguments = [word.format(**named) for word in words.split()]
    with largest_file(30_000):  # more than a frame
        status, _, err = run(script, *arguments, "--output", tmp_path if name == "video.avi" else output)
    assert status == 2, err
    assert re.fullmatch(rf"error: .*{name}: .*(ulimit|space).*", err.splitlines()[-1]), err
    assert "Traceback" not in err and not output.exists()


def test_little_shared_memory_is_refused(train, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2**16))
    assert "shared memory /dev/shm: 0.1 MiB are free" in train("data.workers=3", "data.input_size=[128, 128]")


@pytest.mark.parametrize(
    ("script", "words", "name"),
    [
        (BUILD, "--annotations {a} --images {images} --workers 1 --output {folder}/out.h5", "out.h5"),
        ("data/synthetic.py", "--count 1 --seed 1 --output {folder}", ""),
        ("data/synthetic.py", "--video 1 --seed 1 --output {folder}", ""),
    ],
)
def test_the_second_writer_is_refused(fails, annotations, images, tmp_path, script, words, name):
    with file_lock(tmp_path / name):
        message = fails(script, *(word.format(a=annotations, images=images, folder=tmp_path) for word in words.split()))
    assert "another process is writing to it" in message


def test_a_full_disk_leaves_the_former_checkpoint_whole(run, tiny, trained, annotations, images, copy_of):
    folder = copy_of(trained)
    former = (folder / "last.pth").read_bytes()
    train = ("train.py", "--config", tiny, "--output", folder, "--resume", "auto", "train.epochs=3", "train.val_images=0")
    evaluate = ("evaluate.py", "--config", tiny, "--checkpoint", folder / "best.pth", "--annotations", annotations, "--images", images)
    for size, arguments in ((len(former) // 2, train), (50, evaluate)):
        with largest_file(size):
            status, _, err = run(*arguments)
        assert status == 2, err
        assert err.splitlines()[-1].startswith("error: "), err
        assert "Traceback" not in err
        assert not list(folder.rglob(".*"))
    assert (folder / "last.pth").read_bytes() == former
