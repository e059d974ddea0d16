"""A tiny, complete artifact for tests that need something to serve: it names the colour of a photo.

No TensorFlow, no weights, some milliseconds: a 1 x 1 convolution over pixels, then a mean and a softmax.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import simplejpeg
from onnx import TensorProto, helper, numpy_helper

from artifact.archive import file_entry, write_archive
from artifact.folder import LABELS_FILE, ArtifactFolder, dump
from artifact.manifest import MANIFEST_FILE, Manifest, Precision, graph_path
from artifact.signature import SIGNATURE_FILE, Form, Preprocessing, Signature, SignatureFile, TensorSpec

SIZE = 32
"""Height and width of the model's input."""
KEY = "0123456789abcdef0123"
PRECISIONS: tuple[Precision, ...] = ("int8", "int8-cpu", "fp32")
COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
}
"""Classes in order, each with the RGB colour that it stands for."""


def write_tiny_artifact(
    folder: Path, key: str = KEY, run: str = "test", signatures: SignatureFile | None = None
) -> ArtifactFolder:
    """Make a complete artifact in `folder`: manifest, archive, and the archive's files beside it.

    Its signatures are those of `tiny_signatures` unless others are given.
    """
    (folder / "onnx").mkdir(parents=True)
    names = [LABELS_FILE, SIGNATURE_FILE]
    for precision in PRECISIONS:
        for form in ("image", "tensor"):
            name = graph_path(precision, form)
            onnx.save(tiny_graph(form), folder / name)
            names.append(name)
    (folder / LABELS_FILE).write_text("".join(f"{name}\n" for name in COLOURS), encoding="utf-8")
    (folder / SIGNATURE_FILE).write_bytes(dump(signatures or tiny_signatures()))
    manifest = Manifest(
        key=key,
        runtime="onnxruntime-cpu",
        inputs={"source": "test:tiny"},
        tools={"onnx": onnx.__version__},
        archive=write_archive(folder, names),
        files={name: file_entry(folder / name) for name in names},
        precisions=PRECISIONS,
        run=run,
    )
    (folder / MANIFEST_FILE).write_bytes(dump(manifest))
    return ArtifactFolder(folder)


def tiny_signatures() -> SignatureFile:
    """JPEG and tensor signatures, as the built-in model has them."""
    classes = len(COLOURS)
    outputs = (
        TensorSpec(name="classes", dtype="int64", shape=(-1,), kind="argmax", tensor="probabilities"),
        TensorSpec(name="probabilities", dtype="float32", shape=(-1, classes), kind="tensor", tensor="probabilities"),
    )
    jpeg = TensorSpec(name="image_bytes", dtype="string", shape=(-1,), kind="jpeg", tensor="image")
    tensor = TensorSpec(name="image", dtype="float32", shape=(-1, SIZE, SIZE, 3), kind="tensor", tensor="image")
    preprocessing = Preprocessing(
        decoder="fast",
        interpolation="linear",
        crop_fraction=0.875,
        height=SIZE,
        width=SIZE,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )
    return SignatureFile(
        signatures={
            "serving_default": Signature(
                form="image", inputs=(jpeg,), outputs=outputs, preprocessing=preprocessing, max_batch=32
            ),
            "tensor": Signature(form="tensor", inputs=(tensor,), outputs=outputs, max_batch=32),
        }
    )


def tiny_graph(form: Form) -> onnx.ModelProto:
    """Softmax over minus the squared distance of the mean colour to each class's colour.

    Input `image`: uint8 (form `image`, 0..255) or float32 (form `tensor`, (pixel - 127) / 128), [N, SIZE, SIZE, 3].
    Output `probabilities`: float32 [N, 8].
    """
    colours = (np.array(list(COLOURS.values()), np.float32) - 127) / 128
    weights = {
        "kernel": (2 * colours).reshape(len(COLOURS), 3, 1, 1),
        "bias": -(colours**2).sum(1),
        "mean": np.float32(127),
        "inverse_std": np.float32(1 / 128),
    }
    nodes = [
        helper.make_node("Transpose", ["normalised"], ["planes"], name="planes", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel", "bias"], ["closeness"], name="closeness"),
        helper.make_node("GlobalAveragePool", ["closeness"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["logits"], name="logits"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], name="softmax", axis=1),
    ]
    if form == "image":
        nodes[:0] = [
            helper.make_node("Cast", ["image"], ["pixels"], name="pixels", to=TensorProto.FLOAT),
            helper.make_node("Sub", ["pixels", "mean"], ["centred"], name="centred"),
            helper.make_node("Mul", ["centred", "inverse_std"], ["normalised"], name="normalised"),
        ]
    else:
        nodes[:0] = [helper.make_node("Identity", ["image"], ["normalised"], name="normalised")]
    kind = TensorProto.UINT8 if form == "image" else TensorProto.FLOAT
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", kind, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(COLOURS)])],
        [
            numpy_helper.from_array(np.asarray(value, np.float32), name)
            for name, value in weights.items()
            if name in used
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def colour_jpeg(name: str, height: int = 48, width: int = 64) -> bytes:
    """A JPEG of one class's colour."""
    pixels: npt.NDArray[Any] = np.full((height, width, 3), COLOURS[name], np.uint8)
    return bytes(simplejpeg.encode_jpeg(pixels, 95))
