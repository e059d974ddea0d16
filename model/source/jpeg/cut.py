"""Cut a graph that takes JPEG strings behind its preprocessing, and say what the preprocessing was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from artifact.geometry import Size, Window
from artifact.signature import Preprocessing, Resize
from model.errors import BuildError
from model.export.frozen import FrozenSignature
from model.source.jpeg.candidates import candidates
from model.source.jpeg.path import Axis, PicturePath, Position
from model.source.jpeg.per_image import NotRecognisedError, PerImage, per_image
from model.source.jpeg.pictures import Difference, pixel_difference
from model.source.jpeg.probe import Array, Probe, probe_images
from model.source.jpeg.surgery import Picture, begin_at
from model.source.jpeg.view import GraphView, Node, attribute, tensor_name

MAX_PIXEL_DIFFERENCE: Final = 0.1
"""Greatest difference, on the 0..255 scale, of this preprocessing from TensorFlow's before rounding to bytes.

Measured for the filters of artifact.resampling: at most 0.003 (area), else 0.0003; any other rule or filter is off by
whole units."""


_SAME: Final = 1e-4
"""Difference of answers that batches of another size may make, as a share of the greatest."""
_CUT_COLUMNS: Final = 4
"""Outermost columns that are not compared where the decoder crops by itself: it enlarges the colour of the first and
last column without their neighbours, by which up to 30 of 255 were measured there. Ours decodes the whole picture."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A model behind its preprocessing.

    The one input of `frozen` is float32 [N, height, width, 3]: RGB pixels after `(pixel - mean) / std`.
    """

    frozen: FrozenSignature
    preprocessing: Preprocessing
    at: str
    """The tensor of the original graph that the input stands for."""
    difference: Difference
    """Of the exact preprocessing's pixels from TensorFlow's, also where `preprocessing` is the fast one."""
    fixed_batch: int | None


def cut_jpeg_signature(
    frozen: FrozenSignature, preprocess: Literal["exact", "fast", ""] = "", outputs: tuple[str, ...] = ()
) -> Cut:
    """Cut a signature with one string input, and read its preprocessing.

    `preprocess` chooses between the model's own filter and decoding (`exact`, the default) and serving's quick ones
    (`fast`). Only `outputs` are kept; all by default.

    Raises:
        BuildError: the graph is not understood; the message names where it could be cut instead.
    """
    kept = {name: tensor for name, tensor in frozen.outputs.items() if not outputs or name in outputs}
    signature = lowered(FrozenSignature(frozen.graph_def, frozen.inputs, kept))
    (strings,) = signature.inputs.values()
    graph = GraphView(signature.graph_def)
    try:
        return _cut(graph, tensor_name(strings), signature, preprocess)
    except NotRecognisedError as error:
        where = candidates(graph, tensor_name(strings), signature.outputs.values())
        raise BuildError(
            f"the preprocessing of the input {next(iter(signature.inputs))!r} is not understood: {error}. "
            f"{_advice(where)}"
        ) from error


def _advice(where: tuple[str, ...]) -> str:
    if not where:
        return "No single tensor stands between it and the answers: export the model with a numeric input"
    return (
        "Name the tensor at which the model itself begins (--input-names, setting model.inputNames), and say in "
        f"model.preprocessing how a photo becomes it. Candidates: {'; '.join(where)}"
    )


def lowered(frozen: FrozenSignature) -> FrozenSignature:
    """The same graph with functions inlined, and loops and conditions as Switch and Merge, as freezing leaves them."""
    calls = {"While", "StatelessWhile", "If", "StatelessIf", "PartitionedCall", "StatefulPartitionedCall"}
    if not calls & {node.op for node in frozen.graph_def.node}:
        return frozen
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415 - takes seconds to import
        convert_variables_to_constants_v2,
    )

    graph_def = type(frozen.graph_def)()
    graph_def.CopyFrom(frozen.graph_def)
    for nodes in (graph_def.node, *(function.node_def for function in graph_def.library.function)):
        for node in nodes:
            if node.op in calls:
                # Who froze the graph may have asked for loops and conditions to stay functions.
                node.attr["_lower_using_switch_merge"].b = True
    whole = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph_def, name=""), [])
    feeds = [whole.graph.get_tensor_by_name(name) for name in frozen.inputs.values()]
    fetches = [whole.graph.get_tensor_by_name(name) for name in frozen.outputs.values()]
    inlined = convert_variables_to_constants_v2(whole.prune(feeds, fetches))
    return FrozenSignature(
        inlined.graph.as_graph_def(),
        {name: tensor.name for name, tensor in zip(frozen.inputs, inlined.inputs, strict=True)},
        {name: tensor.name for name, tensor in zip(frozen.outputs, inlined.outputs, strict=True)},
    )


def _cut(graph: GraphView, strings: str, signature: FrozenSignature, preprocess: Literal["exact", "fast", ""]) -> Cut:
    image = per_image(graph, strings)
    path = _path_in_loop(image)
    if image.batch:
        path = _path_behind(graph, image, path, signature)
    at = _place_of_cut(path.positions)
    preprocessing = _preprocessing(at, path.sizes[0], image.decoder)
    margin = _CUT_COLUMNS if image.decoder.op == "DecodeAndCropJpeg" else 0
    difference = pixel_difference(signature, strings, at, preprocessing, margin)
    if difference.floats > MAX_PIXEL_DIFFERENCE:
        raise NotRecognisedError(
            f"read as {preprocessing.model_dump(mode='json', exclude_defaults=True)}, it gives pixels that differ from "
            f"TensorFlow's by {difference.floats:.3g} of 255"
        )
    behind = begin_at(signature, at.tensor, Picture(preprocessing.height, preprocessing.width, at.axes, at.channels))
    return Cut(
        frozen=behind,
        preprocessing=fast_form(preprocessing) if preprocess == "fast" else preprocessing,
        at=at.tensor,
        difference=difference,
        fixed_batch=None if image.batch else _fixed_batch(behind, preprocessing),
    )


def _path_in_loop(image: PerImage) -> PicturePath:
    """From the decoder to what the loop keeps, or where there is no loop to where the model begins."""
    decoder = image.decoder
    channels = attribute(decoder, "channels").i
    if channels not in {0, 3}:
        raise NotRecognisedError(f"{decoder.name} decodes to {channels} channels; only 3 (RGB) are taken here")
    if attribute(decoder, "ratio").i not in {0, 1}:
        raise NotRecognisedError(f"{decoder.name} decodes at 1/{attribute(decoder, 'ratio').i} of the size")
    probe, sizes, windows = probe_images(image)
    decoded = tensor_name(decoder.name)
    scaled = probe.feeds[0][decoded].dtype.kind == "f"
    scale = (1 / 255,) * 3 if scaled else (1.0,) * 3
    start = Position(decoded, ("H", "W", "C"), scale=scale, whole=not scaled)
    graph = GraphView(image.graph_def)
    path = PicturePath(graph, probe, tuple(Size.of(*size) for size in sizes), [start])
    if windows is not None:
        path.positions[0] = path.crop_while_decoding(start, [_window(w) for w in windows], decoder)
    path.follow(set(graph.nodes))
    if image.value and path.positions[-1].tensor != image.value:
        raise NotRecognisedError(f"in what is done to each image, {path.stopped or 'the way of the picture ends'}")
    return path


def _window(values: Array) -> Window:
    top, left, height, width = (int(value) for value in values)
    return Window(top, left, height, width)


def _path_behind(graph: GraphView, image: PerImage, inner: PicturePath, signature: FrozenSignature) -> PicturePath:
    """What is done to the whole batch before the model begins."""
    last, sizes = inner.positions[-1], set(inner.sizes)
    if len({(size.height, size.width) for size in sizes}) != 1:
        raise NotRecognisedError("the images of a batch are not made equally large")
    size = inner.sizes[0]
    axes: tuple[Axis, ...] = ("N", *last.axes)
    sides = {"N": 1, "H": size.height, "W": size.width, "C": 3}
    picture = np.zeros([sides[axis] for axis in axes], np.uint8 if last.whole else np.float32)
    relevant = graph.needed_for(signature.outputs.values())
    probe = Probe.of(graph.graph_def, ({image.batch: picture},))
    begin = replace(last, tensor=image.batch, axes=axes)
    path = PicturePath(graph, probe, (Size.of(size.height, size.width),), [begin], pads=False)
    path.follow(relevant)
    return path


def _place_of_cut(positions: list[Position]) -> Position:
    """The earliest position that has a batch and behind which nothing happens to the picture any more."""
    last = positions[-1]

    def done(position: Position) -> bool:
        same = (position.scale, position.shift, position.steps, position.to_bytes, position.channels)
        return same == (last.scale, last.shift, last.steps, last.to_bytes, last.channels)

    for position in positions:
        if "N" in position.axes and not position.whole and done(position):
            return position
    raise NotRecognisedError(f"the picture at {last.tensor} is no batch of float images when the model begins")


def _preprocessing(at: Position, size: Size, decoder: Node) -> Preprocessing:
    if min(at.scale) <= 0:
        raise NotRecognisedError(f"the pixels at {at.tensor} are multiplied with {min(at.scale):g}")
    by_colour = sorted(zip(at.channels, at.scale, at.shift, strict=True))
    mean = tuple(_short(-shift / scale) for _, scale, shift in by_colour)
    std = tuple(_short(1 / scale) for _, scale, _ in by_colour)
    return Preprocessing.model_validate(
        {
            "decoder": "exact",
            **_decoder_options(decoder),
            "steps": at.steps,
            "to_bytes": at.to_bytes or "nearest",
            "height": size.height,
            "width": size.width,
            "mean": mean,
            "std": std,
        }
    )


def _short(value: float) -> float:
    """Without the digits that float32 constants do not have: 0.00392156886 is 1 / 255."""
    return float(f"{value:.7g}") + 0.0


def _decoder_options(decoder: Node) -> dict[str, str]:
    """Fields of Preprocessing that an exact decoder has.

    `dct_method` "" is libjpeg's fast integer DCT in TensorFlow (measured: with it, pixels are equal to the bit).
    """
    accurate = attribute(decoder, "dct_method").s == b"INTEGER_ACCURATE"
    plain = "fancy_upscaling" in decoder.attr and not attribute(decoder, "fancy_upscaling").b
    return {"dct": "accurate" if accurate else "fast", "upsampling": "plain" if plain else "smooth"}


def fast_form(preprocessing: Preprocessing) -> Preprocessing:
    """The same sizes and crops with serving's quick decoding and OpenCV's linear filter."""
    steps = tuple(
        step.model_copy(update={"method": "fast", "antialias": False}) if isinstance(step, Resize) else step
        for step in preprocessing.steps
    )
    return preprocessing.model_copy(update={"decoder": "fast", "steps": steps})


def _fixed_batch(behind: FrozenSignature, preprocessing: Preprocessing) -> int | None:
    """1 where the model answers two pictures at once otherwise than one after the other."""
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    shape = (2, preprocessing.height, preprocessing.width, 3)
    pair = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    for output in behind.outputs:
        run = behind.runner(output, before_softmax=True)
        try:
            together = run(pair)
        except tf.errors.OpError:
            return 1
        apart = [run(pair[i : i + 1]) for i in range(2)]
        if together.shape[0] != 2:
            return 1
        extent = float(np.abs(together).max())
        if float(np.abs(together - np.concatenate(apart)).max()) > _SAME * extent:
            return 1
    return None
