"""Install the packages for use from other code; to work on the project itself, `make setup` is enough.

The top-level packages have generic names (config, data, deploy, losses, models, utils) and may clash with those of other projects.
Install into an environment of its own. There are no console scripts: the scripts run from a clone.
"""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
requirements = [line for line in (HERE / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]

setup(
    name="simplepose",
    version=runpy.run_path(str(HERE / "config" / "version.py"))["VERSION"],
    description="SimplePose: bottom-up multi-person pose estimation with body part heatmaps",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["config*", "data*", "deploy*", "losses*", "models*", "utils*"]),
    package_data={"config": ["*.yaml", "skeletons/*.yaml"], "models": ["weights/*.safetensors", "weights/*.onnx", "weights/zoo.yaml"]},
    install_requires=requirements,
    extras_require={"export": ["onnx>=1.17"], "heic": ["pillow-heif>=1.0"], "serve": ["gradio>=6"]},
)
