"""What README.md and the pages of docs/ show is true: commands are known and run, messages and files exist.

The commands run on small data in the places that the pages name. Those of docs/ run with `DOCS=1 python -m pytest tests/docs` only;
otherwise their options and configuration keys are checked.
"""

import argparse
import os
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import cv2
import pytest
from places import ROOT, SHARED

from config import load_config
from data.synthetic import write_video
from models import build_model
from utils.bundled_model import bundled_checkpoint
from utils.checkpoint import read_checkpoint, save_checkpoint

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )?(?:python|torchrun|make|pip|tensorboard|source|sbatch) .*")
SKIPPED = {  # part of a command -> why it is not run here
    r"^(pip|make|source|python -m venv)": "installs the environment in which this test runs",
    r"torchrun|train_parallel": "needs several GPUs",
    r"float16": "needs a GPU",
    r"sbatch": "needs Slurm",
    r"tensorboard|--serve": "serves until it is ended",
    r"-m pytest|benchmarks/": "tests/ runs it by itself",
    r"https://|rtsp://|_mmpose|fasterrcnn": "needs a connection",
    r"--show": "needs a camera and a screen",
    r"PoseNet_52|pose_dekr|pose_resnet|resnet50.pth": "needs published weights",
    r"mine/data.yaml": "is run by tests/data/formats/test_yolo_pose.py",
    r"top_down.onnx": "is run by tests/utils/test_export.py",
    r"ema\.pth": "needs the result of a command that is skipped",
    r"--mean-with": "is run by tests/utils/test_export.py",
    r"dekr_rescoring": "is run by tests/utils/systems/test_dekr_rescoring.py",
}
LINKS = {  # what lies in the places that the pages name -> what shared/ has of it
    "coco/annotations": "data/coco_mini/annotations",
    "coco/train2017": "data/coco_mini/train2017",
    "coco/val2017": "data/coco_mini/val2017",
    "crowdpose/json/crowdpose_trainval.json": "data/crowdpose/test_crowdpose.json",
    "crowdpose/json/crowdpose_test.json": "data/crowdpose/test_crowdpose.json",
    "crowdpose/images": "data/crowdpose",
    "mpii/annot/train.json": "data/mpii/test_mpii.json",
    "mpii/images": "data/mpii",
    "posetrack18": "data/posetrack18",
    "multipose.safetensors": "movenet/multipose.safetensors",
    "thunder.safetensors": "movenet/thunder.safetensors",
}
NETWORK = ["model={stages: 1, channels: 16, channels_increase: 0, depth: 2}", "loss.scale_weights=[1,1,1]", "inference.pad_multiple=16"]
SMALL = ["data.input_size=[64,64]", "data.workers=0", "train.batch_size=2", "train.epochs=1", "train.milestones=null"]
ADDED = {  # to a command, so that it takes seconds; of an option that is given twice the last one counts
    "data/synthetic.py --count": ["--count", "8"],
    "data/synthetic.py --video": ["--video", "4"],
    "evaluate.py --images": ["--limit", "2"],
    "config/finetune.yaml": [key for key in SMALL if "input_size" not in key],
    "config/simplepose_small.yaml": [key for key in SMALL if "input_size" not in key],
    "train.py": [*NETWORK, *SMALL],
}


def commands(page: Path) -> list[str]:
    """Return the commands of a page's shell blocks and of its indented lines."""
    text = page.read_text(encoding="utf-8")
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)).splitlines()
    lines += [
        line.strip() for line in re.findall(r"^    \S.*", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    ]
    return [line for line in lines if COMMAND.fullmatch(line)]


def script_of(command: str) -> tuple[str, list[str]] | None:
    """Return the project's script that a command starts, relative to the root, and its arguments; None for other programs."""
    words = shlex.split(command.partition(" > ")[0], comments=True)
    if words[0] == "torchrun":
        words = words[next(n for n, word in enumerate(words) if word.endswith(".py")) :]
    elif words[0] != "python":
        return None
    elif words[1] == "-m":
        words = [words[2].replace(".", "/"), *words[3:]]
        if (ROOT / words[0]).is_dir():
            words[0] += "/__main__"
        words[0] += ".py"
        if words[0] in ("venv.py", "pytest.py"):
            return None
    else:
        words = words[1:]
    return words[0], words[1:]


class Parsed(BaseException):
    """Ends a script once it has parsed its options, its only argument."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_options_and_keys_are_known(page, monkeypatch, capsys):
    def stop(parse):
        def parse_and_stop(self, args=None, namespace=None):
            options = parse(self, args, namespace)
            if args is not None and len(args) == 1:  # a script with several commands parses the first word alone
                return options
            raise Parsed(options)

        return parse_and_stop

    for method in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, method, stop(getattr(argparse.ArgumentParser, method)))
    monkeypatch.chdir(ROOT)
    for command in commands(page):
        if command.startswith("make "):
            assert re.search(rf"^\.PHONY:.* {command.split()[1]}\b", Path("Makefile").read_text(), re.MULTILINE), command
        if (started := script_of(command)) is None:
            continue
        script, arguments = started
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises((Parsed, SystemExit)) as ended:
            runpy.run_path(script, run_name="__main__")
        if ended.type is SystemExit:  # --list prints and ends
            assert ended.value.code == 0, f"{command}\n{capsys.readouterr().err}"
            continue
        options = vars(ended.value.args[0])
        bundled = Path(f"config/{options.get('checkpoint')}.yaml")
        configs = options.get("config") or "config/simplepose_coco_512.yaml"
        configs = bundled if bundled.is_file() else configs
        for config in [configs] if isinstance(configs, (str, Path)) else configs:  # benchmarks take several
            load_config(config, options.get("overrides") or [])


@pytest.fixture(scope="module")
def places(tmp_path_factory, annotations, images, hdf5, trained) -> Path:
    """A clone with the files that the pages name: photographs, a video, data sets in small, checkpoints of small networks."""
    root = tmp_path_factory.mktemp("clone")

    def link(name: str, target: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)

    for folder in ("config", "models", "examples"):
        link(folder, ROOT / folder)
    for name, target in LINKS.items():
        if SHARED.is_dir():
            link(name, SHARED / target)
    for split in ("train2017", "val2017"):
        if not SHARED.is_dir():
            link(f"coco/annotations/person_keypoints_{split}.json", annotations)
            link(f"coco/{split}", images)
    shutil.copytree(images, root / "photos")
    link("mine.json", annotations)
    link("mine_val.json", annotations)
    for name in ("photo.jpg", "a.jpg", "b.jpg"):
        cv2.imwrite(str(root / name), cv2.imread(str(ROOT / "docs" / "people.jpg"))[:, :240])  # one person
    (root / "videos").mkdir()
    write_video(root / "made", 4, 2, seed=1)
    shutil.move(root / "made" / "video.avi", root / "videos" / "dance.mp4")
    link("dance.mp4", root / "videos" / "dance.mp4")
    for folder in ("", "runs/quickstart/data", "data/coco", "runs/own"):
        for name in ("train", "val", "train2017", "val2017", "mine", "mine_val"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(hdf5, root / folder / f"{name}.h5")
    shutil.copytree(trained, root / "runs" / "quickstart", dirs_exist_ok=True)
    (root / "runs" / "simplepose_coco_512").mkdir()
    save_checkpoint(root / "runs" / "simplepose_coco_512" / "best.pth", **read_checkpoint(bundled_checkpoint()))
    for name, keys in (("dekr_quickstart", []), ("crowdpose", ["skeleton=crowdpose"])):
        dekr = load_config(ROOT / "config" / "dekr_quickstart.yaml", ["data.input_size=[64,64]", "inference.scales=[1]", *keys])
        weights = build_model(dekr).state_dict()
        (root / "runs" / name).mkdir()
        save_checkpoint(root / "runs" / name / "best.pth", weights=weights, config=dekr.model_dump(mode="json"))
    return root


QUICK = "DOCS" not in os.environ
DOCS_ONLY = pytest.mark.skipif(QUICK, reason="takes minutes; DOCS=1 runs the commands and examples of docs/")
EXAMPLES = [README, pytest.param(ROOT / "docs" / "inference.md", marks=DOCS_ONLY)]


def _cases() -> list:
    pairs = [(page, command) for page in PAGES for command in commands(page)]
    return [pytest.param(page.stem, command, marks=[] if page == README else DOCS_ONLY) for page, command in pairs]


@pytest.mark.parametrize(("page", "command"), _cases())
def test_command_runs_and_writes_its_output(page, command, places, run, monkeypatch):
    for part, reason in SKIPPED.items():
        if re.search(part, command):
            pytest.skip(reason)
    for name in LINKS:
        if name in command and not (places / name).exists():
            pytest.skip(f"{name} is in the folder shared/ beside the project, which is missing")
    if ".onnx" in command:
        pytest.importorskip("onnxruntime")
        if QUICK:
            pytest.skip("takes ten seconds; tests/utils/test_export.py exports and runs small networks")
    monkeypatch.chdir(places)
    script, arguments = script_of(command)
    added = next((more for part, more in ADDED.items() if all(word in command for word in part.split())), [])
    if script == "train.py":  # each page starts its run anew
        if "--output" not in command:
            arguments += ["--output", "runs/default"]
        if QUICK:
            added = ["--dry-run", *added]
        shutil.rmtree(arguments[arguments.index("--output") + 1], ignore_errors=True)
    ended = run(script, *arguments, *added)
    assert ended.status in (0, None), ended.err
    if "--output" in arguments and "--dry-run" not in [*arguments, *added]:
        assert Path(arguments[arguments.index("--output") + 1]).exists()


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.stem)
def test_python_examples_run_and_print_what_is_shown(page, places, monkeypatch, capsys):
    """Numbers aside."""
    monkeypatch.chdir(places)
    shutil.copy(places / "runs" / "quickstart" / "best.pth", places / "best.pth")
    for example, shown in re.findall(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", page.read_text(), re.DOTALL):
        exec(compile(example, page.name, "exec"), {})
        _, _, printed = capsys.readouterr().out.partition("downloaded once\n")
        assert not shown or re.split(r"[\d.\s\[\]]+", printed) == re.split(r"[\d.\s\[\]]+", shown)


def test_links_of_the_readme_are_files():
    """Sphinx checks those of docs/."""
    links = re.findall(r"\]\((?!http)([^)#]+)", README.read_text())
    assert links and [link for link in links if not (ROOT / link).is_file()] == []


def test_messages_are_those_of_the_code():
    """The parts of each message of docs/troubleshooting.md between its dots are in the code."""
    files = [path for folder in ("config", "data", "models", "utils") for path in (ROOT / folder).rglob("*.py")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in files)
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # texts of several lines
    messages = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(messages) == 20
    parts = [part.strip(" :;") for message in messages for part in message.split("...")]
    assert [part for part in parts if part.strip("(). ") and part not in source] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_in_backticks_exist(page):
    named = re.findall(
        r"`((?:config|data|models|losses|utils|tests|benchmarks|examples|docs)/[\w/*.]+\.(?:py|yaml|md|sh))`", page.read_text()
    )
    assert [name for name in named if not any(ROOT.glob(name.replace("NAME", "*")))] == []
