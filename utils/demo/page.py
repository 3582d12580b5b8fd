"""A web page to try networks on images: choose one, give it an image, and see people, keypoints and heatmaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from config import UserError
from data.images import to_bgr
from utils.demo.inputs import check_aspect
from utils.visualize.heatmaps import named_overlays
from utils.zoo import networks

if TYPE_CHECKING:
    from utils.inference import PoseEstimator

HOST, PORT = "127.0.0.1", 7860
TABLE = ("person", "keypoint", "x", "y", "score")
CACHE = 3600  # seconds that images which the page was given stay on the disk; none is left at the end
LOCAL_FONTS = {"font": "system-ui", "font_mono": "monospace"}  # Gradio's default ones are downloaded


def build_page(names: Sequence[str], estimator_for: Callable[[str], PoseEstimator], min_score: float) -> Any:
    """Return the page as `gradio.Blocks`.

    names: of the networks, the first one chosen. estimator_for: returns a network's estimator; the page shows its UserError.
    min_score: people below are excluded; where the page's slider begins. Raises UserError where Gradio is not installed.
    """
    try:
        import gradio
    except ImportError as error:
        raise UserError("--serve: Gradio is not installed; pip install 'gradio>=6'") from error

    def predict(image: Image.Image | None, name: str, least: float) -> tuple[str, np.ndarray | None, np.ndarray | None, list[list]]:
        """Return the number of people or an error, the image (H, W, 3) uint8 RGB with its people, its heatmaps, and the rows of TABLE."""
        if image is None:
            return "", None, None, []
        try:
            pixels = to_bgr(image)
            check_aspect(pixels, "given")
            ((people, overlays),) = estimator_for(name).stream_with_overlays([pixels])
        except UserError as error:
            return f"error: {error}", None, None, []
        people = people.select(people.scores >= least)
        people = replace(people, ids=np.arange(1, len(people) + 1))  # the numbers in the image are those of the table
        poses = enumerate(people.to_json()["people"], 1)
        rows = [[n, part, *point] for n, pose in poses for part, point in zip(people.names, pose["keypoints"]) if point[2]]
        heatmaps = np.hstack(named_overlays(pixels, overlays))
        return f"people: {len(people)}", np.asarray(people.draw(pixels))[..., ::-1], heatmaps[..., ::-1], rows

    buttons = ["download", "fullscreen"]  # not Gradio's third one, which publishes the image
    with gradio.Blocks(title="SimplePose", analytics_enabled=False, delete_cache=(CACHE, CACHE)) as page:
        with gradio.Row():
            with gradio.Column():
                image = gradio.Image(type="pil", image_mode=None, label="image")
                name = gradio.Dropdown([(_label(name), name) for name in names], value=names[0], label="network")
                least = gradio.Slider(0, 1, min_score, step=0.01, label="least score of a person")
            with gradio.Column():
                drawn = gradio.Image(label="people", interactive=False, buttons=buttons)
                result = gradio.Textbox(label="result", interactive=False)
        heatmaps = gradio.Image(show_label=False, interactive=False, buttons=buttons)  # the panels have names
        table = gradio.Dataframe(headers=list(TABLE), label="keypoints, in pixels", interactive=False, max_height=400)
        gradio.on([image.change, name.change, least.release], predict, [image, name, least], [result, drawn, heatmaps, table])
    return page


def _label(name: str) -> str:
    network = networks().get(name)
    return name if network is None else f"{name}: {network.reported}, {network.megabytes} MB"


def launch_page(page: Any, host: str, port: int) -> str:
    """Serve a page in another thread, until its `close`. Return its address. Raise UserError where host and port cannot be taken."""
    import gradio

    theme = gradio.themes.Default(**LOCAL_FONTS)
    options = {"share": False, "quiet": True, "prevent_thread_lock": True, "footer_links": [], "theme": theme}
    try:
        return page.launch(server_name=host, server_port=port, **options)[1]
    except (OSError, OverflowError) as error:  # no port is above 65535
        raise UserError(f"--host {host} --port {port}: not available; choose another port, or an address of this machine") from error
