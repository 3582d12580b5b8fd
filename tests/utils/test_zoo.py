"""Networks by name, from a server on the loopback address; nothing else is connected to."""

import hashlib
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from disk import largest_file
from places import ROOT

from config import UserError, load_config
from evaluate import evaluation_folder
from utils import zoo
from utils.checkpoint import config_for, init_weights, load_backbone, load_network, load_weights
from utils.detectors import PoseDetector, load_detector
from utils.inference import PoseEstimator
from utils.zoo import WEIGHTS, Network, cached_file, download, list_networks, network_file, networks

CONTENT = b"0123456789abcdef" * 40_000
HASH = hashlib.sha256(CONTENT).hexdigest()[:8]


class Server(ThreadingHTTPServer):
    """Answer each request by `how`; a stalled answer ends with the server. Counts the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.how, self.requests, self.closing = CONTENT, "whole", 0, threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/some/path/network_{HASH}-20221228.pth"

    def handle_error(self, *_: object) -> None:
        """Say nothing where a client hangs up."""

    def close(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.requests += 1
        if server.how == "silent":
            server.closing.wait()
            return
        if server.how == "404":
            self.send_error(404)
            return
        if server.how == "elsewhere":
            self.send_response(302)
            self.send_header("Location", "https://127.0.0.1:1/")
            self.end_headers()
            return
        content, half = server.content, len(server.content) // 2
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:half])
        if server.how == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        if server.how in ("stalled", "interrupt"):
            server.closing.wait()
        if server.how == "slow":
            server.closing.wait(0.2)
        if server.how != "cut":
            self.wfile.write(content[half:] if server.how != "other" else bytes(len(content) - half))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """PyTorch's folder of downloads, which does not exist."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def server(cache, monkeypatch) -> Iterator[Server]:
    """A server of the network `served_network`."""
    server = Server()
    monkeypatch.setitem(networks(), "served_network", Network(1, "", "", "", "", server.url, HASH))
    yield server
    server.close()


def test_a_network_is_downloaded_once_and_then_used_offline(server, cache, capfd):
    path = network_file("served_network")
    assert (path, path.read_bytes()) == (cache / server.url.rpartition("/")[2], CONTENT)
    assert list(cache.iterdir()) == [path]
    assert "network served_network: 100% 640k/640k" in capfd.readouterr().err
    server.close()
    assert network_file("served_network") == path
    assert server.requests == 1


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("cut", "cut short at 320,000 of 640,000 bytes"),
        ("other", f"its SHA-256 begins with [0-9a-f]{{8}}, expected {HASH}"),
        ("404", "the server answers 404 Not Found"),
        ("elsewhere", "the server answers 302 Found"),
        ("silent", "no answer for 0.3 s"),
        ("stalled", "no answer for 0.3 s"),
        ("unresolved", "no answer for 0.3 s"),
        ("closed", r".*Connection refused"),
    ],
)
def test_what_is_not_whole_is_not_kept(server, cache, fails, images, monkeypatch, how, reason):
    monkeypatch.setattr(zoo, "TIMEOUT", 0.3 if how in ("silent", "stalled", "unresolved") else 30)
    server.how = how
    if how == "unresolved":
        monkeypatch.setattr("socket.getaddrinfo", lambda *_: server.closing.wait() and [])
    if how == "closed":
        server.close()
    error = fails("demo_image.py", "--input", images, "--output", cache.parents[2] / "demo", "--checkpoint", "served_network")
    instead = f"download it elsewhere and give the file in place of the name, or put it into {cache}\n"
    assert re.fullmatch(
        rf"error: network served_network: {re.escape(server.url)} cannot be downloaded \({reason}\); {re.escape(instead)}", error
    )


def test_an_interrupt_leaves_nothing(server, cache, tmp_path):
    server.how = "interrupt"
    with pytest.raises(KeyboardInterrupt):
        network_file("served_network")
    assert not list(tmp_path.iterdir())


def test_two_processes_download_once(server, cache, capfd):
    """The second one also removes what a killed one left."""
    server.how = "slow"
    cache.mkdir(parents=True)
    (cache / f".network_{HASH}-20221228.1234abcd.partial.pth").write_bytes(b"half")
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=network_file, args=("served_network",)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert [path.read_bytes() for path in cache.iterdir()] == [CONTENT]
    assert server.requests == 1
    assert capfd.readouterr().err.count("waiting for another process, which downloads it") == 1


def test_a_file_with_another_hash_is_replaced_if_that_is_possible(server, cache):
    path = cached_file(server.url)
    cache.mkdir(parents=True)
    path.write_bytes(b"half")
    server.how = "404"
    with pytest.raises(UserError, match=f"in place of the one there, with a SHA-256 that begins with [0-9a-f]{{8}}, not {HASH}$"):
        network_file("served_network")
    assert path.read_bytes() == b"half"
    server.how = "whole"
    assert network_file("served_network").read_bytes() == CONTENT


def test_a_full_disk_and_a_folder_that_cannot_be_made_are_named(server, cache, monkeypatch):
    with largest_file(100_000), pytest.raises(UserError, match=r"\.pth: File too large; raise the limit.*, or set TORCH_HOME to another"):
        network_file("served_network")
    assert not cache.exists()
    monkeypatch.setenv("TORCH_HOME", __file__)
    with pytest.raises(UserError, match=r"^network served_network: .*: Not a directory; set TORCH_HOME to another folder$"):
        network_file("served_network")


def test_proxies_of_the_environment_are_used(server, cache, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    download("http://elsewhere.invalid/file.pth", HASH, "file", "")
    assert (cache / "file.pth").read_bytes() == CONTENT


def test_a_name_stands_for_a_checkpoint_everywhere(server, cache, trained, monkeypatch, tmp_path):
    server.content = (trained / "best.pth").read_bytes()
    digest = hashlib.sha256(server.content).hexdigest()[:8]
    monkeypatch.setitem(networks(), "served_network", Network(1, "", "", "", "", server.url, digest))
    monkeypatch.chdir(tmp_path)
    config = config_for("served_network")
    assert config == config_for(trained / "best.pth")
    network, key = load_network(config, "served_network", "cpu"), "front.stem.conv.weight"
    expected = network.state_dict()[key].clone()
    for load in (load_weights, init_weights, load_backbone):
        network.state_dict()[key].zero_()
        load(network, "served_network")
        assert torch.equal(network.state_dict()[key], expected)
    assert PoseEstimator(checkpoint="served_network", device="cpu").config == config
    assert isinstance(load_detector("served_network", device="cpu"), PoseDetector)
    assert server.requests == 1
    assert evaluation_folder(Path("served_network")) == Path("runs/served_network/evaluation")
    assert evaluation_folder(Path("a/best.pth")) == Path("a/evaluation")
    assert evaluation_folder(None) == Path("runs/evaluation")


def test_a_files_own_name_tells_its_configuration(trained, tiny, tmp_path, monkeypatch):
    weights = torch.load(trained / "best.pth", weights_only=True)["weights"]
    (tmp_path / "dekr_w32_coco_mmpose.yaml").write_text(tiny.read_text())
    monkeypatch.setattr("utils.checkpoint.RECIPES", tmp_path)
    path = tmp_path / "dekr_hrnet-w32_8xb10-140e_coco-512x512_ac7c17bf-20221228 (1).pth"  # as a browser names a second download
    torch.save({"meta": {}, "state_dict": weights}, path)
    assert config_for(path) == load_config(tiny)
    path = path.rename(tmp_path / "weights.pth")
    with pytest.raises(UserError, match="simplepose_coco_512.yaml: not found"):  # told by the shapes of the tensors
        config_for(path)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("dekr_w32_coco", "no network has this name; did you mean 'dekr_w32_coco_mmpose'? (python demo_image.py --list shows all)"),
        ("xyz", "no network has this name; known: dekr_small, simplepose_small, "),
        ("dekr_w32_coco_mmpose.pth", "checkpoint dekr_w32_coco_mmpose.pth: not found; check its path."),
        ("folder", "is a folder, not a file"),
    ],
)
def test_unknown_names(tmp_path, monkeypatch, word, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=f"^checkpoint {word}: ") as error:
        config_for(word)
    assert message in f"{error.value}."


def test_a_file_comes_before_a_network_of_its_name_a_folder_does_not(server, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("served_network").mkdir()
    assert network_file("served_network").parent == cache
    Path("served_network").rmdir()
    Path("served_network").touch()
    assert network_file(Path("served_network")) == Path("served_network")
    assert network_file("simplepose_small") == ROOT / "models" / "weights" / "simplepose_small.safetensors"


def test_the_table_is_complete():
    """Each address is MMPose's, and has the hash in its file name; each network has a recipe and a row in the docs."""
    published, page = {name: network for name, network in networks().items() if network.url}, (ROOT / "docs" / "model_zoo.md").read_text()
    assert networks().keys() - published.keys() == {path.stem for path in WEIGHTS.glob("*.safetensors")}
    for name, network in published.items():
        assert (ROOT / "config" / f"{name}.yaml").is_file()
        cells = [f"{network.reported} (reported)", network.data, f"[file]({network.url})"]
        assert re.search(rf"^\| `{name}` .* \| {re.escape(' | '.join(cells))} \|$", page, re.MULTILINE)
        assert network.url.startswith("https://download.openmmlab.com/mmpose/")
        assert re.search(rf"[-_]{network.sha256}[-_]20\d{{6}}\.pth$", network.url)
        assert len(network.sha256) == 8
    assert len(published) == len({network.sha256 for network in published.values()}) == 16


def test_the_table_is_listed(run):
    status, out, _ = run("demo_image.py", "--list")
    assert (status, out) == (0, list_networks() + "\n")
    assert re.search(r"^dekr_w32_coco_mmpose +119 +short side 512 +AP \.686, AR \.735 +COCO val2017 +Apache-2\.0$", out, re.MULTILINE)
    assert '"reported" is the publisher\'s result' in out
