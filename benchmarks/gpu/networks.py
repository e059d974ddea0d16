"""On the development machine: the graphs that `bench.py` builds engines from, made by this repository's own code.

    python -m benchmarks.gpu.networks ARTIFACT OUT

ARTIFACT is a folder that `python -m model build` made of the built-in EfficientNet-Lite0; its INT8 and FP32 graphs are
taken as they are. ResNet-50 (v1 and v2) have random weights: they say how fast a graph is, nothing about answers.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from artifact.folder import ArtifactFolder
from artifact.manifest import Precision
from artifact.preprocessing import load_image
from artifact.recipe import Recipe
from artifact.signature import Preprocessing
from benchmarks.gpu.seeds import Seeded, expand, strip, weights_of
from benchmarks.gpu.windows import PHOTO_SIDE, SIDE, windows
from model.evaluate.images import batches, normalise
from model.export.frozen import freeze
from model.export.image_form import with_image_input
from model.export.onnx_export import export_onnx
from model.export.saved_model import PROBABILITIES_OUTPUT, TENSOR_SIGNATURE, quiet_tensorflow, write_saved_model
from model.graph import FloatArray, logit_tensors, session
from model.quantise.folding import optimise
from model.quantise.int8 import calibrated_tensors, tensorrt_graph
from model.quantise.statistics import collect
from model.source.photos import calibration_photos, evaluation_photos

if TYPE_CHECKING:
    import keras

RESNETS: Final = {"resnet50": "ResNet50", "resnet50v2": "ResNet50V2"}
GRAPHS: Final[tuple[Precision, ...]] = ("fp32", "int8")
CALIBRATION: Final = 32
"""Photos that fix the random networks' activation ranges."""
_BATCH: Final = 4
MAX_APART: Final = 1e-3
"""Share of a weight's values that rounding may put elsewhere."""
PREPROCESSING: Final = Preprocessing(
    decoder="fast",
    interpolation="linear",
    crop_fraction=0.875,
    height=SIDE,
    width=SIDE,
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.networks")
    parser.add_argument("artifact", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    write_efficientnet(ArtifactFolder(options.artifact), options.out)
    quiet_tensorflow()
    for number, (name, builder) in enumerate(RESNETS.items()):
        write_resnet(name, builder, 1000 * (number + 1), options.out)
        print(f"{name}: written and checked")


def write_efficientnet(artifact: ArtifactFolder, out: Path) -> None:
    """Graphs with their logits as an output, photos, and ONNX Runtime's answers to compare with."""
    photos = evaluation_photos()
    square = PREPROCESSING.model_copy(update={"height": PHOTO_SIDE, "width": PHOTO_SIDE, "crop_fraction": 1.0})
    pixels = np.stack([load_image(photo.path.read_bytes(), square) for photo in photos])
    np.savez_compressed(out / "photos.npz", photos=pixels)
    images = windows(pixels)
    answers: dict[Precision, FloatArray] = {}
    for graph in GRAPHS:
        model = onnx.load(str(artifact.graph(graph, "image")))
        (logits,) = logit_tensors(model)
        model.graph.output.append(helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["N", 1000]))
        onnx.save(model, str(out / f"efficientnet-lite0.{graph}.onnx"))
        run, name = session(model), model.graph.input[0].name
        answers[graph] = np.concatenate([run.run([logits], {name: part})[0] for part in batches(images, 8)])
        # The device's side expands every graph; this one is whole.
        np.savez_compressed(out / f"efficientnet-lite0.{graph}.npz", names=np.array([], "U"), seeds=np.array([], int))
    labels = np.repeat([photo.label for photo in photos], len(images) // len(photos))
    np.savez_compressed(out / "reference.npz", logits=logits, labels=labels, fp32=answers["fp32"], int8=answers["int8"])


def write_resnet(name: str, builder: str, first_seed: int, out: Path) -> None:
    """Skeletons of the FP32 and the INT8 graph of a network with seeded weights."""
    import keras  # noqa: PLC0415 - after TensorFlow has been told to be quiet

    photos = [path.read_bytes() for path in calibration_photos()[:CALIBRATION]]
    pixels = np.stack([load_image(photo, PREPROCESSING) for photo in photos])
    model = getattr(keras.applications, builder)(weights=None)
    kernels = seed_weights(model, first_seed)
    settle_batch_normalisation(model, normalise(pixels, PREPROCESSING))
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(model, PREPROCESSING, Path(folder) / "saved_model")
        frozen = freeze(Path(folder) / "saved_model", TENSOR_SIGNATURE)
    fp32 = optimise(export_onnx(frozen, (PROBABILITIES_OUTPUT,)))
    histograms = collect(
        fp32,
        calibrated_tensors(fp32),
        lambda: (normalise(part, PREPROCESSING) for part in batches(pixels, _BATCH)),
    )
    weights = weights_of(fp32, kernels)
    graphs = {"fp32": fp32, "int8": tensorrt_graph(fp32, histograms, Recipe().method)}
    for graph, tensor_form in graphs.items():
        image_form = with_image_input(tensor_form, PREPROCESSING)
        skeleton = out / f"{name}.{graph}.onnx"
        strip(image_form, weights, skeleton)
        check(image_form, expand(skeleton))


def seed_weights(model: keras.Model, first_seed: int) -> list[Seeded]:
    """Give every kernel He-normal weights that a seed names (He et al. 2015, "Delving deep into rectifiers")."""
    kernels: list[Seeded] = []
    for layer in model.layers:
        if not hasattr(layer, "kernel"):
            continue
        kernel = Seeded(first_seed + len(kernels), tuple(int(size) for size in layer.kernel.shape))
        fan_in = float(np.prod(kernel.shape[:-1]))
        layer.kernel.assign(kernel.values() * np.float32(np.sqrt(2 / fan_in)))
        kernels.append(kernel)
    return kernels


def settle_batch_normalisation(model: keras.Model, images: npt.NDArray[np.float32]) -> None:
    """Take the means and variances of every layer from these images, so that activations have the usual ranges."""
    import keras  # noqa: PLC0415 - see write_resnet

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images, training=True)


def check(whole: onnx.ModelProto, expanded: onnx.ModelProto) -> None:
    """Raise ValueError unless the weights are the same, but for a few that rounding put on the next integer."""
    made = {tensor.name: numpy_helper.to_array(tensor) for tensor in expanded.graph.initializer}
    for tensor in whole.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size:
            apart = float((np.abs(values - made[tensor.name]) > np.abs(values).max() * 1e-5).mean())
            if apart > MAX_APART:
                raise ValueError(f"{tensor.name}: {apart:.2%} of its values are others after expanding it")


if __name__ == "__main__":
    main()
