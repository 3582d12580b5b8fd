"""The page that demo_image.py --serve opens: as a program, as a browser shows it, and errors before it opens."""

import shutil
import socket
import sys
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from PIL import Image
from runs import free_port

from config import UserError
from utils.inference import PoseEstimator
from utils.predictions import PosePredictions

HEIGHT, WIDTH = 160, 128  # of the upright image
COLOR = (40, 60, 120)  # red, green, blue
NOSE = (100, 30)  # x, y in pixels
LOOPBACK = {"127.0.0.1", "localhost", None}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def photo(tmp_path):
    """An image of one color that a camera has stored lying on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (HEIGHT, WIDTH), COLOR).save(tmp_path / "photo.jpg", exif=exif)
    return tmp_path / "photo.jpg"


@pytest.fixture
def visit(run, trained, monkeypatch):
    """Starts demo_image.py --serve, calls a function with the page's address, ends the page and returns what the function returned.

    The network predicts two people with scores 0.8 and 0.1. The page asks no other machine.
    """
    pytest.importorskip("gradio", reason="Gradio is not installed")
    keypoints = np.zeros((2, 18, 3))
    keypoints[:, 0] = [*NOSE, 0.9]

    def predict(estimator, images):
        people = PosePredictions(keypoints, np.array([0.8, 0.1]), estimator.config.skeleton)
        return [(people, dict.fromkeys(("keypoints", "limbs"), np.zeros(image.shape[:2]))) for image in images]

    monkeypatch.setattr(PoseEstimator, "stream_with_overlays", predict)

    def resolve(host, *rest, **more):
        hosts.add(host)
        return getaddrinfo(host if host in LOOPBACK else "127.0.0.1", *rest, **more)

    hosts, getaddrinfo = set(), socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    def start(work):
        returned = []
        monkeypatch.setattr("gradio.Blocks.block_thread", lambda page: (returned.append(work(page.local_url)), page.close()))
        ended = run("demo_image.py", "--serve", "--checkpoint", trained / "best.pth", "--port", free_port())
        assert ended.status == 0, ended.err
        assert hosts <= LOOPBACK
        return returned[0]

    return start


def test_the_page_returns_people_heatmaps_and_a_table_to_this_machine_only(visit, photo, trained, monkeypatch):
    def no_connection(*_: object) -> None:
        raise UserError("no connection")

    def work(url):
        from gradio_client import Client, handle_file

        def predict(network, least):
            return client.predict(handle_file(photo), str(network), least, api_name="/predict")

        client = Client(url, verbose=False)
        text, drawn, heatmaps, table = predict(trained / "best.pth", 0.2)
        with pytest.raises(OSError, match="refused"), socket.socket() as other:
            other.connect(("127.0.0.2", urlsplit(url).port))
        results = text, cv2.imread(drawn["path"] if isinstance(drawn, dict) else drawn), cv2.imread(heatmaps), table["data"]
        return *results, predict(trained / "best.pth", 0)[0], predict("dekr_w32_coco_mmpose", 0)

    monkeypatch.setattr("utils.zoo.download", no_connection)
    for name in ("build_hf_headers", "send_telemetry"):  # with which the client, not the page, asks a server
        monkeypatch.setattr(f"gradio_client.client.{name}", lambda *_, **__: {})
    text, drawn, heatmaps, rows, everyone, failed = visit(work)
    assert (text, everyone) == ("people: 1", "people: 2")
    assert rows == [[1, "nose", *NOSE, 0.9]]
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    assert drawn[-1, 0].tolist() == pytest.approx(COLOR[::-1], abs=6)
    assert np.ptp(drawn, (0, 1)).max() > 100
    assert heatmaps.shape == (HEIGHT, 2 * WIDTH, 3)
    assert failed[:3] == ("error: no connection", None, None)
    assert not failed[3]["data"]


def test_a_browser_shows_the_page_and_asks_no_other_machine(visit, photo):
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")

    def work(url):
        with (
            sync_api.sync_playwright() as playwright,
            playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
        ):
            page, hosts = browser.new_page(), set()
            page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
            page.goto(url)
            page.set_input_files("input[type=file]", photo)
            page.wait_for_function("[...document.querySelectorAll('textarea')].some(area => area.value == 'people: 1')")
            page.get_by_text("nose", exact=True).locator("visible=true").first.wait_for()
            page.wait_for_function("[...document.images].filter(image => image.naturalWidth > 100).length == 3")
            return hosts

    assert visit(work) <= LOOPBACK


def test_errors_come_before_the_page(fails, trained, monkeypatch):
    usual = "demo_image.py", "--serve", "--checkpoint", trained / "best.pth"
    assert "the page writes no files and takes images only; omit --batch-size" in fails(*usual, "--batch-size", 2)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "gradio", None)
        assert "--serve: Gradio is not installed; pip install 'gradio>=6'" in fails(*usual)
    pytest.importorskip("gradio", reason="Gradio is not installed")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for taken in (port, 65536):
            assert f"--host 127.0.0.1 --port {taken}: not available" in fails(*usual, "--port", taken)
