"""Export a trained network as one file: ONNX or a PyTorch program, which run without this project, or its weights as safetensors.

python -m utils.export --checkpoint F --output model.onnx|model.pt2|model.safetensors [--half | --int8] [--decode]
"""

import argparse
import io
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from config import Config, UserError
from config.errors import run_cli
from config.files import atomic_write, check_outputs
from config.load import with_overrides
from config.progress import progress_bar
from config.version import VERSION as PROJECT_VERSION
from models import build_model
from utils.checkpoint import METADATA, SAFETENSORS, Checkpoint, config_for, load_network, load_weights
from utils.demo.exported import ExportedEstimator
from utils.evaluation.coco import CocoMetric, GroundTruth
from utils.inference import PoseEstimator
from utils.onnx_network import CONFIG, CPU, IMAGES, NAME, RUNNER, SKELETON, SUFFIX, VERSION, OnnxNetwork, open_session, required
from utils.predictions import PosePredictions
from utils.results_log import InputImage
from utils.systems import Decoder, decoder_class

ONNX_PACKAGES, OPSET = ("onnx", "onnxruntime"), 17
# Limits of a PyTorch program: its tracer specializes maps of one pixel, and in some versions needs an upper limit of the batch
LEAST_MULTIPLES, LARGEST_BATCH = 2, 1 << 20
FLOAT_PART = 0.05  # of all weights: the smallest convolutions, which `--int8` leaves as they are
TOLERANCE, TOLERANCE_HALF = 1e-3, 1e-2  # largest difference from PyTorch's output, relative to its largest value; with float16 weights


class PredictModule(nn.Module):
    """Call a network's `predict`, and return its outputs as a tuple; with a decoder, what it decodes from them."""

    def __init__(self, network: nn.Module, decoder: Decoder | None = None):
        super().__init__()
        self.network, self.decoder = network, decoder

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.decoder is not None:
            return self.decoder.decode_in_graph(images)
        outputs = self.network.predict(images)
        return outputs if isinstance(outputs, tuple) else (outputs,)


def main() -> None:
    parser = argparse.ArgumentParser("utils.export", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", required=True, help="of this project or the published format, or a network's name")
    parser.add_argument("--output", type=Path, required=True, help=f"the file to write: {', '.join(FORMATS)}")
    parser.add_argument("--config", help="YAML file; default: the one stored in the checkpoint, or the published recipe")
    parser.add_argument("--mean-with", help="take the mean of the weights with this checkpoint's, such as the one that training began from")
    parser.add_argument("--half", action="store_true", help=f"{SAFETENSORS}, {SUFFIX}: weights in float16, half as large a file")
    parser.add_argument("--int8", action="store_true", help=f"{SUFFIX}: convolutions in int8, a quarter as large a file, less accurate")
    parser.add_argument("--annotations", type=Path, help="--int8: print its AP and the checkpoint's on the images of this annotation file")
    parser.add_argument("--images", type=Path, action="append", help="--annotations: folder or zip file of its images; can be repeated")
    parser.add_argument("--decode", action="store_true", help=f"{SUFFIX}: people instead of heatmaps")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a configuration key, as in inference.flip=false")
    options = parser.parse_intermixed_args()
    checkpoint = Checkpoint(options.checkpoint)
    mean_with = None if options.mean_with is None else Checkpoint(options.mean_with)
    check_outputs([options.output], [checkpoint.path, None if mean_with is None else mean_with.path, options.config, options.annotations])
    if options.mean_with is not None and options.annotations is not None:
        raise UserError("--mean-with: not with --annotations; write the mean to a .safetensors, and export that")
    if (options.annotations is None) != (options.images is None) or options.annotations is not None and not options.int8:
        raise UserError("--annotations and --images: both measure the AP of --int8; give all three, or none of the two")
    config = config_for(checkpoint, options.config, options.overrides)
    truth = None if options.annotations is None else GroundTruth(options.annotations, options.images, config.skeleton)
    export(config, checkpoint, options.output, options.half, options.decode, options.int8, mean_with)
    if truth is not None:
        inputs = CocoMetric().inputs(truth, decoder_class(config).needs_boxes)
        before = average_precision(PoseEstimator(config, checkpoint, "cpu", min_score=0), truth, inputs)
        exported = ExportedEstimator(options.output) if options.decode else PoseEstimator(config, options.output, "cpu", min_score=0)
        after = average_precision(exported, truth, inputs)
        print(f"AP on {len(truth.files)} images: {before:.4f} of the checkpoint, {after:.4f} in int8, {after - before:+.4f}")
    elif options.int8:
        print("AP of int8: not measured; add --annotations A.json --images DIR")


def average_precision(estimator: Callable[..., PosePredictions], truth: GroundTruth, inputs: dict[int, InputImage]) -> float:
    """Return COCO's AP on the ground truth's images. inputs: of the metric; a top-down system gets the annotated boxes."""
    metric, results = CocoMetric(), []
    for number, image in progress_bar(inputs.items(), len(inputs), "AP", "image"):
        results += metric.to_results(truth, number, estimator(image.file.read_image(), image.boxes))
    return metric.compute(results, truth)["AP"]


def export(
    config: Config,
    checkpoint: str | Path | Checkpoint | None,
    output: Path,
    half: bool = False,
    decode: bool = False,
    int8: bool = False,
    mean_with: Checkpoint | None = None,
) -> None:
    """Write a checkpoint's network to a file of one of the formats in `FORMATS`, and print its differences from the network on a CPU.

    checkpoint: None exports random weights. half: with weights in float16. decode: people instead of maps, by
    `Decoder.decode_in_graph`. int8: with quantized convolutions, of which no difference is too large. mean_with: the weights are the
    mean of both checkpoints' (WiSE-FT: Wortsman et al., CVPR 2022). Raises UserError, and writes nothing, where a difference exceeds the
    tolerance.
    """
    suffix = output.suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"--output {output}: unknown ending; known: {', '.join(FORMATS)}")
    if half and suffix not in (SAFETENSORS, SUFFIX):
        raise UserError(f"--half: not for {suffix}, only for {SAFETENSORS} and {SUFFIX}")
    for name, given in (("decode", decode), ("int8", int8)):
        if given and suffix != SUFFIX:
            raise UserError(f"--{name}: not for {suffix}, only for {SUFFIX}")
    if half and int8:
        raise UserError("--half: not with --int8; omit one of them")
    if suffix == SUFFIX:
        required(*ONNX_PACKAGES)
    config = with_overrides(config, ["inference.precision=float32"])  # the file's precision
    network = build_model(config)
    if checkpoint is not None:
        load_weights(network, checkpoint)
    if mean_with is not None:
        average_weights(network, mean_with)
    network = PredictModule(network, decoder_class(config)(network, config) if decode else None).eval().requires_grad_(False)
    values = config.model_dump(mode="json")
    about = {CONFIG: json.dumps(values), SKELETON: json.dumps(values["skeleton"]), NAME: output.stem, VERSION: PROJECT_VERSION}
    about[RUNNER] = json.dumps(runner_values(config))
    write, run = FORMATS[suffix]
    with atomic_write(output) as partial:
        write(network, partial, config, about, half)
        if int8:
            quantize(partial, about)
        tolerance = None if int8 else TOLERANCE_HALF if half else TOLERANCE
        differences = compare(network, run(partial, config, decode), config, tolerance)
    multiple = input_multiple(config, decode)
    sides = f"of multiples of {multiple}" if multiple else "of {} x {}".format(*config.data.input_size)
    sides = "of any size" if multiple == 1 else sides
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, from images {sides} to {', '.join(output_names(config, decode))}")
    print(f"largest difference from PyTorch: {differences}")
    if suffix != SAFETENSORS and getattr(network.network, "rescoring", None) is not None:
        print(f"without the checkpoint's rescoring network, which changes people's scores; {SAFETENSORS} keeps it")


def average_weights(network: nn.Module, checkpoint: Checkpoint) -> None:
    """Replace each weight of the network by the mean of it and the checkpoint's."""
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    load_weights(network, checkpoint)
    for name, tensor in network.state_dict().items():
        tensor.copy_((tensor + own[name]) / 2 if tensor.is_floating_point() else own[name])


def output_names(config: Config, decode: bool) -> tuple[str, ...]:
    decoder = decoder_class(config)
    return decoder.decoded_names if decode else decoder.output_names


def runner_values(config: Config) -> dict[str, Any]:
    """Return what `deploy` needs besides the configuration's keys."""
    skeleton, model = config.skeleton, config.model
    values = {name: getattr(model, name) for name in ("stride", "input_multiple", "pixel_center")}
    return values | {name: getattr(skeleton, name).tolist() for name in ("limb_ends", "flip_keypoints", "flip_limbs")}


def input_multiple(config: Config, decode: bool) -> int | None:
    """Return the number that image sides must be multiples of; None where the network takes one size only. Decoding graphs pad."""
    if decoder_class(config).fixed_input_size:
        return None
    return 1 if decode else config.model.input_multiple


def check_sizes(config: Config, decode: bool) -> list[tuple[int, int]]:
    """Return the (height, width) pairs of the check: the only size, or two of about half the configured sides, at least two multiples."""
    if input_multiple(config, decode) is None:
        return [config.data.input_size]
    multiple = config.model.input_multiple
    height, width = (max(LEAST_MULTIPLES, -(-side // (2 * multiple))) for side in config.data.input_size)
    padded = (3, 9) if decode else (0, 0)
    return [(multiple * height, multiple * width), (multiple * (height + 1) - padded[0], multiple * (width + 2) - padded[1])]


def random_images(count: int, size: tuple[int, int]) -> Tensor:
    """Return (N, 3, height, width) in [0, 1]: smooth patches of color, which resemble photographs to a network."""
    patches = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(patches, size, mode="bicubic").clamp(0, 1)


@torch.no_grad()
def compare(network: PredictModule, exported: Callable[[Tensor], tuple[Tensor, ...]], config: Config, tolerance: float | None) -> str:
    """Describe each output's largest difference at several image and batch sizes.

    Raises UserError where it exceeds the tolerance, a part of the largest value, or is not finite. None: it is described only.
    """
    names = output_names(config, network.decoder is not None)
    largest = torch.zeros(len(names), 2)  # of each output: difference, and PyTorch's value
    sizes = check_sizes(config, network.decoder is not None)
    for images in (random_images(count, size) for size in sizes for count in (1, 3)):
        pairs = zip(network(images), exported(images), strict=True)
        largest = largest.maximum(torch.tensor([((ours - theirs).abs().amax(), ours.abs().amax()) for ours, theirs in pairs]))
    texts = [f"{difference:.1e} in {name} of up to {value:.1e}" for name, (difference, value) in zip(names, largest.tolist())]
    for text, (difference, value) in zip(texts, largest.tolist()):
        if tolerance is not None and not difference <= tolerance * value < float("inf"):
            raise UserError(f"nothing was written: the exported network differs from PyTorch {torch.__version__} by {text}")
    return "; ".join(texts)


def write_onnx(network: PredictModule, path: Path, config: Config, about: dict[str, str], half: bool) -> None:
    """Write ONNX with the metadata. half: computed in float16, but for input and outputs; with decoding only stored in it, since float16
    cannot hold positions in large images.

    PyTorch's tracing exporter (dynamo=False) writes all networks from 2.6 on, in a second. The newer one fails for some of them in 2.6, and
    takes half a minute. ONNX Runtime simplifies the graph, so that sessions begin sooner; all its operators remain ONNX's.
    """
    onnx, runtime = required(*ONNX_PACKAGES)
    decode = network.decoder is not None
    outputs, of_images, of_maps = output_names(config, decode), {0: "batch"}, {0: "batch"}
    if input_multiple(config, decode) is not None:
        of_images |= {2: "height", 3: "width"}
        of_maps |= {} if decode else {2: "map height", 3: "map width"}
    axes = {IMAGES: of_images, **dict.fromkeys(outputs, of_maps)}
    names = {"input_names": [IMAGES], "output_names": list(outputs), "dynamic_axes": axes}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the check shows what a trace cannot follow
        torch.onnx.export(network, (random_images(2, check_sizes(config, decode)[-1]),), path, dynamo=False, opset_version=OPSET, **names)
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    runtime.InferenceSession(path.read_bytes(), options, [CPU])
    model = onnx.load(path)
    del model.opset_import[:]  # ONNX Runtime names all operators that it has besides
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    if half and decode:
        store_in_half(model.graph)
    elif half:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = convert_float_to_float16(model, keep_io_types=True)
    onnx.helper.set_model_props(model, about)
    onnx.save(model, path)


def store_in_half(graph: Any) -> None:
    """Store the weights of an ONNX graph in float16, in place; sessions convert them to float32 as they begin."""
    onnx, _ = required(*ONNX_PACKAGES)
    for tensor in [t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1]:
        half = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16), f"{tensor.name}.half")
        graph.node.insert(0, onnx.helper.make_node("Cast", [half.name], [tensor.name], to=onnx.TensorProto.FLOAT))
        graph.initializer.remove(tensor)
        graph.initializer.append(half)


def quantize(path: Path, about: dict[str, str]) -> None:
    """Quantize the large convolutions of an ONNX file by ONNX Runtime's dynamic quantization.

    The small ones, first and last layers and those of single channels, would make the file hardly smaller and the people worse.
    """
    onnx, _ = required(*ONNX_PACKAGES)
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    weights = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    sizes = sorted((weights.get(node.input[1], 0), node.name) for node in model.graph.node if node.op_type == "Conv")
    up_to = np.cumsum([size for size, _ in sizes])
    small = [name for (_, name), total in zip(sizes, up_to) if total <= FLOAT_PART * up_to[-1]]
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})  # without a warning that it is not
    quantize_dynamic(model, path, ["Conv"], weight_type=QuantType.QUInt8, nodes_to_exclude=small)  # no CPU takes signed ones
    model = onnx.load(path)
    onnx.helper.set_model_props(model, about)
    onnx.save(model, path)


def write_program(network: PredictModule, path: Path, config: Config, about: dict[str, str], _: bool) -> None:
    """Write what `torch.export.load` reads, with the metadata as extra files."""
    multiple, dynamic = input_multiple(config, False), {0: Dim("batch", max=LARGEST_BATCH)}
    if multiple is not None:
        dynamic |= {axis: multiple * Dim(side, min=LEAST_MULTIPLES) for axis, side in ((2, "height"), (3, "width"))}
    with torch.no_grad():
        program = torch.export.export(network, (random_images(2, check_sizes(config, False)[-1]),), dynamic_shapes=(dynamic,), strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # holds paths of this machine
    content = io.BytesIO()  # PyTorch ends the process where a file cannot be written
    torch.export.save(program, content, extra_files=about)
    path.write_bytes(content.getbuffer())


def write_weights(network: PredictModule, path: Path, config: Config, about: dict[str, str], half: bool) -> None:
    """Write what `utils.checkpoint` reads: all weights, including those that only training needs.

    half: in float16, except for biases and batch norms: they are few, and variances may exceed its range. Raises UserError where another
    number does.
    """
    weights = {name: tensor.contiguous() for name, tensor in network.network.state_dict().items()}
    for name, tensor in weights.items():
        if half and tensor.ndim > 1 and tensor.is_floating_point():
            weights[name] = tensor.half()
            if (weights[name].isinf() & tensor.isfinite()).any():
                raise UserError(f"nothing was written: {name} has numbers too large for float16; omit --half")
    stored = {"config": config.model_dump(mode="json"), "name": about[NAME], "version": about[VERSION]}
    path.write_bytes(save(weights, {METADATA: json.dumps(stored)}))


# Suffix -> how a file is written, and how it is run
FORMATS = {
    SUFFIX: (write_onnx, lambda path, config, decode: PredictModule(OnnxNetwork(open_session(path), config, path, decode))),
    ".pt2": (write_program, lambda path, config, _: torch.export.load(path).module()),
    SAFETENSORS: (write_weights, lambda path, config, _: PredictModule(load_network(config, path, "cpu"))),
}


if __name__ == "__main__":
    run_cli(main)
