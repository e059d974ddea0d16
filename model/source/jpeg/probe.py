"""What a graph computes from the size of an image: its own numbers, for many sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from model.source.jpeg.per_image import NotRecognisedError, PerImage
from model.source.jpeg.view import attribute, data_inputs, tensor_name

Array = npt.NDArray[Any]
_SEED: Final = 11
_USUAL: Final = (
    (375, 500),
    (500, 375),
    (480, 640),
    (333, 500),
    (500, 334),
    (256, 256),
    (225, 226),
    (224, 224),
    (301, 90),
)
_RANDOM: Final = 36


def probe_sizes() -> tuple[tuple[int, int], ...]:
    """Heights and widths in pixels: usual ones, and random ones that tell roundings apart; the same every time."""
    random = np.random.default_rng(_SEED)
    return (*_USUAL, *((int(h), int(w)) for h, w in random.integers(40, 640, (_RANDOM, 2))))


@dataclass(frozen=True, slots=True)
class Probe:
    """Runs a graph with pictures of given sizes fed in place of what makes them.

    `feeds` holds, for each picture, the tensors to feed.
    """

    graph: Any
    session: Any
    feeds: tuple[dict[str, Array], ...]

    @classmethod
    def of(cls, graph_def: Any, feeds: tuple[dict[str, Array], ...]) -> Probe:  # noqa: ANN401 - TensorFlow has no public types
        """Load a graph definition."""
        import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
        return cls(graph, tf.compat.v1.Session(graph=graph), feeds)

    def values(self, tensors: Sequence[str]) -> list[tuple[Array, ...]]:
        """Values of tensors, for each picture.

        Raises:
            NotRecognisedError: they depend on more than a picture's size.
        """
        import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

        try:
            return [tuple(self.session.run(list(tensors), feed)) for feed in self.feeds]
        except (tf.errors.OpError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise NotRecognisedError(f"{', '.join(tensors)} cannot be computed from an image's size: {first}") from None

    def shapes(self, tensor: str) -> list[tuple[int, ...]]:
        """The shape of a tensor, for each picture."""
        import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

        with self.graph.as_default():
            shape = tf.shape(self.graph.get_tensor_by_name(tensor))
        return [tuple(int(side) for side in value) for (value,) in self.values([shape.name])]

    def constant(self, tensor: str) -> Array | None:
        """A tensor's value where it is the same for every picture."""
        import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

        try:
            values = [self.session.run(tensor, feed) for feed in (*self.feeds[:3], *self.feeds[-2:])]
        except (tf.errors.OpError, ValueError):
            return None
        first = np.asarray(values[0])
        return first if all(np.array_equal(first, value) for value in values[1:]) else None


def probe_images(image: PerImage) -> tuple[Probe, tuple[tuple[int, int], ...], list[Array] | None]:
    """Feed black pictures of many sizes in place of the decoder.

    Returns the probe, the sizes of the encoded pictures, and where the decoder crops by itself its windows
    [top, left, height, width], one a picture.
    """
    sizes = probe_sizes()
    told = [f"{node.name}:0" for node in image.graph_def.node if node.op == "ExtractJpegShape"]
    types = {
        node.name: attribute(node, "output_type").type for node in image.graph_def.node if node.op == "ExtractJpegShape"
    }
    shapes = [{name: np.array([h, w, 3], _integer(types[name.partition(":")[0]])) for name in told} for h, w in sizes]
    windows: list[Array] | None = None
    pictures = list(sizes)
    if image.decoder.op == "DecodeAndCropJpeg":
        window = data_inputs(image.decoder)[1]
        windows = [value for (value,) in Probe.of(image.graph_def, tuple(shapes)).values([window])]
        pictures = [(int(value[2]), int(value[3])) for value in windows]
    decoded = tensor_name(image.decoder.name)
    kind = _decoded_type(image.decoder)
    feeds = tuple({**shape, decoded: np.zeros((h, w, 3), kind)} for shape, (h, w) in zip(shapes, pictures, strict=True))
    return Probe.of(image.graph_def, feeds), sizes, windows


def _integer(number: int) -> Any:  # noqa: ANN401 - a NumPy type
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    return tf.dtypes.as_dtype(number or tf.int32).as_numpy_dtype


def _decoded_type(decoder: Any) -> Any:  # noqa: ANN401 - a NumPy type
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    number = attribute(decoder, "dtype").type if decoder.op in {"DecodeImage", "DecodePng"} else 0
    return tf.dtypes.as_dtype(number or tf.uint8).as_numpy_dtype
