"""The way of a picture through a graph, from the decoder on: what each operation does to its pixels.

A picture is followed as long as it is cropped, resized, padded, turned to another layout, or has numbers added to or
multiplied with whole channels. The first operation that does anything else is where the model itself begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from artifact.geometry import Size, Window, cropped, resized
from artifact.signature import Resize, Step
from model.source.jpeg.per_image import NotRecognisedError
from model.source.jpeg.probe import Array, Probe
from model.source.jpeg.rules import crop_rule, pad_rule, resize_rule
from model.source.jpeg.view import GraphView, Node, attribute, data_inputs

Axis = Literal["N", "H", "W", "C"]
_Channels = npt.NDArray[np.float64]

_UNTOUCHED: Final = {
    "Identity", "StopGradient", "PreventGradient", "CheckNumerics", "EnsureShape", "PlaceholderWithDefault", "Snapshot",
}  # fmt: skip
_PADDED_BY_THEMSELVES: Final = {"Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool"}
"""Models of TensorFlow 1 pad in front of these, so that a stride begins where PyTorch's does."""
_ABOUT_SHAPES: Final = {"Shape", "ShapeN", "Rank", "Size"}
"""Take a picture only to see how large it is."""
_RESIZES: Final = {
    "ResizeBilinear": "bilinear",
    "ResizeBicubic": "bicubic",
    "ResizeNearestNeighbor": "nearest",
    "ResizeArea": "area",
}
_KERNELS: Final = {
    "triangle": "bilinear",
    "keyscubic": "bicubic",
    "lanczos3": "lanczos3",
    "lanczos5": "lanczos5",
    "gaussian": "gaussian",
    "mitchellcubic": "mitchellcubic",
}
"""Kernels of ScaleAndTranslate, by the names of artifact.signature."""
_MATHS: Final = {"Sub", "Add", "AddV2", "BiasAdd", "Mul", "RealDiv", "Div"}


@dataclass(frozen=True, slots=True)
class Position:
    """A tensor that holds the picture, with value = scale * pixel + shift for each of its channels."""

    tensor: str
    axes: tuple[Axis, ...]
    channels: tuple[int, ...] = (0, 1, 2)
    """Which of red, green and blue each channel is."""
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    shift: tuple[float, ...] = (0.0, 0.0, 0.0)
    whole: bool = True
    """Whether the values are 8-bit integers."""
    steps: tuple[Step, ...] = ()
    to_bytes: Literal["", "nearest", "truncate"] = ""
    """How floats became whole pixels, where they did."""
    clipped: bool = False
    """Whether overshoots of a filter were cut to 0..255."""


@dataclass(slots=True)
class PicturePath:
    """Follows a picture through `graph` from `position` on; `sizes` are the pictures of `probe` there."""

    graph: GraphView
    probe: Probe
    sizes: tuple[Size, ...]
    positions: list[Position]
    pads: bool = True
    """Whether padding may be preprocessing: behind the loop over images it is a convolution's own."""
    stopped: str = ""
    """Why the last position is the last one."""
    _relevant: set[str] = field(default_factory=set)

    def follow(self, relevant: set[str]) -> None:
        """Go as far as the way is understood; `relevant` nodes are those that the answers come from.

        Raises:
            NotRecognisedError: a crop or size on the way follows no rule known here.
        """
        self._relevant = relevant
        while True:
            here = self.positions[-1]
            users = self._users(here.tensor)
            if not users:
                self.stopped = "nothing takes it"
                return
            following = self._joined_channels(here, users) if len(users) > 1 else self._after(here, users[0])
            if following is None:
                named = " and ".join(f"{node.name} ({node.op})" for node in users[:2])
                self.stopped = f"{named} {'is' if len(users) == 1 else 'are'} no preprocessing that is known here"
                return
            self.positions.append(following)

    def _users(self, tensor: str) -> list[Node]:
        return [
            node for node in self.graph.users(tensor) if node.name in self._relevant and node.op not in _ABOUT_SHAPES
        ]

    def _after(self, here: Position, node: Node) -> Position | None:
        """The picture behind a node; None where the node does what no preprocessing does."""
        there = replace(here, tensor=f"{node.name}:0")
        if node.op in _UNTOUCHED:
            return there
        if node.op in _MATHS:
            return self._with_constant(here, node)
        if node.op in {"Split", "Unpack"}:
            return self._joined_channels(here, [node])
        handler = {
            "Cast": self._cast,
            "ExpandDims": self._reshaped,
            "Squeeze": self._reshaped,
            "Reshape": self._reshaped,
            "Pack": self._reshaped,
            "Transpose": self._transposed,
            "ReverseV2": self._reversed,
            "StridedSlice": self._strided,
            "Slice": self._sliced,
            "Pad": self._padded,
            "PadV2": self._padded,
            "CropAndResize": self._boxed,
            "ScaleAndTranslate": self._scaled,
            "Round": self._rounded,
            "Rint": self._rounded,
            "ClipByValue": self._clipped,
            "Maximum": self._limited,
            "Minimum": self._limited,
            **dict.fromkeys(_RESIZES, self._resized),
        }.get(node.op)
        return None if handler is None else handler(here, there, node)

    # Numbers

    def _with_constant(self, here: Position, node: Node) -> Position | None:
        """Plus, minus, times or divided by a constant a channel."""
        value = self._constant_beside(here.tensor, node)
        by_channel = None if value is None or here.whole else _by_channel(value, here)
        if by_channel is None:
            return None
        after = _calculated(node, here.tensor, np.array(here.scale), np.array(here.shift), by_channel)
        if after is None:
            return None
        return replace(here, tensor=f"{node.name}:0", scale=_tuple(after[0]), shift=_tuple(after[1]))

    def _constant_beside(self, tensor: str, node: Node) -> Array | None:
        """The other operand of a calculation, where it is a constant."""
        first, second = data_inputs(node)
        return None if first == second else self.probe.constant(second if first == tensor else first)

    def _cast(self, here: Position, there: Position, node: Node) -> Position | None:
        kinds = {1: "float32", 4: "uint8", 2: "float64", 3: "int32", 9: "int64", 6: "int8"}
        kind = kinds.get(attribute(node, "DstT").type)
        if kind in {"float32", "float64"}:
            return replace(there, whole=False)
        if here.whole and kind in {"int32", "int64", "uint8"}:
            return there
        if kind in {"uint8", "int32", "int64"} and _is_raw(here):
            return replace(there, whole=True, to_bytes=here.to_bytes or "truncate")
        return None

    def _rounded(self, here: Position, there: Position, _: Node) -> Position | None:
        return replace(there, to_bytes=here.to_bytes or "nearest") if _is_raw(here) else None

    def _clipped(self, here: Position, there: Position, node: Node) -> Position | None:
        """To 0..255, which rounding to bytes does as well."""
        bounds = [self.probe.constant(name) for name in data_inputs(node)[1:]]
        if not _is_raw(here) or [None if bound is None else float(bound) for bound in bounds] != [0, 255]:
            return None
        return replace(there, clipped=True)

    def _limited(self, here: Position, there: Position, node: Node) -> Position | None:
        """One half of clipping, as tf.saturate_cast writes it."""
        bound = self._constant_beside(here.tensor, node)
        if not _is_raw(here) or bound is None or bound.size != 1:
            return None
        return replace(there, clipped=True) if float(bound) == (0 if node.op == "Maximum" else 255) else None

    # Layout

    def _reshaped(self, here: Position, there: Position, node: Node) -> Position | None:
        """Axes of size 1 come or go; anything else that a reshape does is the model's own."""
        if node.op == "Pack" and len(data_inputs(node)) != 1:
            return None
        before, after = self.probe.shapes(here.tensor), self.probe.shapes(there.tensor)
        if any(_without_ones(b) != _without_ones(a) for b, a in zip(before, after, strict=True)):
            return None
        order = tuple(axis for axis in here.axes if axis != "N")
        if len(after[0]) == len(here.axes):
            return there
        if len(after[0]) == 3:
            return replace(there, axes=order)
        return replace(there, axes=("N", *order)) if len(after[0]) == 4 and after[0][0] == 1 else None

    def _transposed(self, here: Position, there: Position, node: Node) -> Position | None:
        order = self.probe.constant(data_inputs(node)[1])
        return None if order is None else replace(there, axes=tuple(here.axes[int(axis)] for axis in order))

    def _reversed(self, here: Position, there: Position, node: Node) -> Position | None:
        axes = self.probe.constant(data_inputs(node)[1])
        if axes is None or [here.axes[int(axis)] for axis in np.ravel(axes)] != ["C"]:
            return None
        return _reverse(there)

    def _joined_channels(self, here: Position, users: Sequence[Node]) -> Position | None:
        """Channels taken apart, each calculated with by itself, and joined again."""
        channels = self._apart(here, users)
        if sorted(channels.values()) != [0, 1, 2]:
            return None
        ends: dict[str, tuple[int, float, float]] = {}
        joins: dict[str, Node] = {}
        for start, channel in channels.items():
            tensor, scale, shift = start, here.scale[channel], here.shift[channel]
            while len(takers := self._users(tensor)) == 1 and takers[0].op in {*_MATHS, *_UNTOUCHED}:
                if takers[0].op in _MATHS:
                    number = self._constant_beside(tensor, takers[0])
                    if number is None or number.size != 1 or here.whole:
                        return None
                    after = _calculated(takers[0], tensor, np.array([scale]), np.array([shift]), number.ravel())
                    if after is None:
                        return None
                    (scale,), (shift,) = after
                tensor = f"{takers[0].name}:0"
            if len(takers) != 1 or takers[0].op not in {"ConcatV2", "Pack"}:
                return None
            ends[tensor] = channel, float(scale), float(shift)
            joins[takers[0].name] = takers[0]
        if len(joins) != 1:
            return None
        ((name, join),) = joins.items()
        parts = data_inputs(join)[:3]
        if set(parts) != set(ends) or self.probe.shapes(f"{name}:0")[0] != self.probe.shapes(here.tensor)[0]:
            return None
        order = [ends[part] for part in parts]
        return replace(
            here,
            tensor=f"{name}:0",
            channels=tuple(here.channels[channel] for channel, _, _ in order),
            scale=tuple(scale for _, scale, _ in order),
            shift=tuple(shift for _, _, shift in order),
        )

    def _apart(self, here: Position, users: Sequence[Node]) -> dict[str, int]:
        """Tensors that hold one channel each, with its index in the picture."""
        if len(users) == 1 and users[0].op in {"Split", "Unpack"}:
            node = users[0]
            split = node.op == "Split"
            axis = self.probe.constant(data_inputs(node)[0]) if split else np.array(attribute(node, "axis").i)
            count = attribute(node, "num_split" if split else "num").i
            if axis is None or here.axes[int(axis)] != "C":
                return {}
            return {f"{node.name}:{channel}": channel for channel in range(count)}
        found: dict[str, int] = {}
        for node in users:
            if node.op != "StridedSlice" or data_inputs(node)[0] != here.tensor:
                return {}
            shape = self.probe.shapes(here.tensor)[0]
            cut = _slices(node, self.probe.values(data_inputs(node)[1:4])[0], shape)
            if cut is None:
                return {}
            by_axis = dict(zip(here.axes, cut, strict=True))
            channel = by_axis.pop("C")
            if any(
                kept != slice(0, side, 1)
                for kept, side in zip(by_axis.values(), _but_channels(here, shape), strict=True)
            ):
                return {}
            if isinstance(channel, slice):
                if channel.stop is None or channel.stop - channel.start != 1:
                    return {}
                channel = channel.start
            found[f"{node.name}:0"] = channel
        return found

    # Crops and sizes

    def _strided(self, here: Position, there: Position, node: Node) -> Position | None:
        """image[0], image[top:bottom, left:right] or image[..., ::-1]."""
        names = data_inputs(node)[1:4]
        shapes = self.probe.shapes(here.tensor)
        numbers = self.probe.values(names)
        cuts = [_slices(node, numbers[i], shapes[i]) for i in range(len(shapes))]
        if any(cut is None for cut in cuts):
            return None
        by_axis = [dict(zip(here.axes, cut, strict=True)) for cut in cuts if cut is not None]
        removed = {axis for axis, cut in by_axis[0].items() if isinstance(cut, int)}
        if not removed <= {"N"} or any(cut.get("N", slice(0, 1, 1)) not in (0, slice(0, 1, 1)) for cut in by_axis):
            # A slice along the batch keeps all of it, or takes the only image.
            return None
        there = replace(there, axes=tuple(axis for axis in here.axes if axis not in removed))
        channels = by_axis[0]["C"]
        if channels == slice(2, None, -1):
            there = _reverse(there)
        elif channels != slice(0, 3, 1):
            return None
        windows = []
        for cut in by_axis:
            rows, columns = cut["H"], cut["W"]
            if not isinstance(rows, slice) or not isinstance(columns, slice) or rows.step != 1 or columns.step != 1:
                return None
            windows.append(Window(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start))
        return self._crop(there, windows, node, names)

    def _sliced(self, here: Position, there: Position, node: Node) -> Position | None:
        names = data_inputs(node)[1:3]
        rows, columns, channels = (here.axes.index(axis) for axis in ("H", "W", "C"))
        windows = []
        for (begin, extent), shape in zip(self.probe.values(names), self.probe.shapes(here.tensor), strict=True):
            sides = [int(e) if e >= 0 else s - int(b) for b, e, s in zip(begin, extent, shape, strict=True)]
            if sides[channels] != 3:
                return None
            windows.append(Window(int(begin[rows]), int(begin[columns]), sides[rows], sides[columns]))
        return self._crop(there, windows, node, names)

    def crop_while_decoding(self, there: Position, windows: Sequence[Window], node: Node) -> Position:
        """What a decoder crops by itself."""
        return self._crop(there, windows, node, data_inputs(node)[1:2])

    def _crop(self, there: Position, windows: Sequence[Window], node: Node, from_tensors: Sequence[str]) -> Position:
        rule = crop_rule(self.sizes, windows, self._constants(from_tensors), node.name)
        if rule is None:
            return there
        self._refuse_after_rounding(there, node)
        self.sizes = tuple(_size_of(cropped(rule, size)) for size in self.sizes)
        return replace(there, steps=(*there.steps, rule))

    def _resized(self, here: Position, there: Position, node: Node) -> Position | None:
        if here.axes != ("N", "H", "W", "C"):
            return None
        aligned, half = attribute(node, "align_corners").b, attribute(node, "half_pixel_centers").b
        filter_only = Resize(
            to="size",
            height=1,
            width=1,
            method=_RESIZES[node.op],  # type: ignore[arg-type]
            coordinates="align_corners" if aligned else "half_pixel" if half else "legacy",
        )
        return self._resize(there, filter_only, data_inputs(node)[1], node)

    def _scaled(self, here: Position, there: Position, node: Node) -> Position | None:
        kernel = _KERNELS.get(attribute(node, "kernel_type").s.decode() or "lanczos3")
        if kernel is None or here.axes != ("N", "H", "W", "C"):
            return None
        _, size, scale, translation = data_inputs(node)
        for before, (to, by, moved) in zip(self.sizes, self.probe.values([size, scale, translation]), strict=True):
            whole = np.array(to, np.float32) / np.array([before.height, before.width], np.float32)
            if np.any(moved) or not np.allclose(by, whole, rtol=1e-6):
                raise NotRecognisedError(f"{node.name} does not scale the whole picture to its new size")
        filter_only = Resize(
            to="size",
            height=1,
            width=1,
            method=kernel,  # type: ignore[arg-type]
            antialias=attribute(node, "antialias").b,
        )
        return self._resize(there, filter_only, size, node)

    def _resize(self, there: Position, filter_only: Resize, size: str, node: Node) -> Position:
        self._refuse_after_rounding(there, node)
        after = [(int(value[0]), int(value[1])) for (value,) in self.probe.values([size])]
        rule = resize_rule(filter_only, self.sizes, after, node.name)
        self.sizes = tuple(resized(rule, before) for before in self.sizes)
        whole = there.whole and rule.method == "nearest"
        return replace(there, steps=(*there.steps, rule), whole=whole)

    def _boxed(self, here: Position, there: Position, node: Node) -> Position | None:
        """tf.image.crop_and_resize of one constant box."""
        _, boxes, numbers, size = data_inputs(node)
        box, number, target = (self.probe.constant(name) for name in (boxes, numbers, size))
        if box is None or target is None or number is None:
            raise NotRecognisedError(
                f"the boxes of {node.name} depend on the picture; only constant ones are known here"
            )
        if box.shape != (1, 4) or number.tolist() != [0] or here.axes != ("N", "H", "W", "C"):
            return None
        top, left, bottom, right = (float(value) for value in box[0])
        outside = min(top, left) < 0 or max(bottom, right) > 1
        if outside and (any(here.shift) or attribute(node, "extrapolation_value").f):
            raise NotRecognisedError(
                f"{node.name} reaches outside the picture and fills it with another colour than black"
            )
        self._refuse_after_rounding(there, node)
        rule = Resize(
            to="size",
            height=int(target[0]),
            width=int(target[1]),
            method="nearest" if attribute(node, "method").s == b"nearest" else "bilinear",
            box=(top, left, bottom, right),
        )
        self.sizes = tuple(resized(rule, before) for before in self.sizes)
        return replace(there, steps=(*there.steps, rule), whole=False)

    def _padded(self, here: Position, there: Position, node: Node) -> Position | None:
        """One colour around the picture."""
        if not self.pads or any(user.op in _PADDED_BY_THEMSELVES for user in self._users(there.tensor)):
            return None
        names = data_inputs(node)[1:]
        value = self.probe.constant(names[1]) if len(names) > 1 else np.zeros(())
        if value is None:
            return None
        colours = {(float(value) - shift) / scale for scale, shift in zip(here.scale, here.shift, strict=True)}
        rows, columns = here.axes.index("H"), here.axes.index("W")
        corners = []
        for (amounts,), size in zip(self.probe.values(names[:1]), self.sizes, strict=True):
            others = [tuple(amounts[i]) for i in range(len(amounts)) if i not in {rows, columns}]
            if any(amount != (0, 0) for amount in others):
                return None
            (top, bottom), (left, right) = amounts[rows], amounts[columns]
            corners.append(Window(int(top), int(left), size.height + int(top + bottom), size.width + int(left + right)))
        if len(colours) != 1:
            raise NotRecognisedError(f"{node.name} pads with another value in each channel")
        rule = pad_rule(self.sizes, corners, colours.pop(), node.name)
        if rule is None:
            return there
        self._refuse_after_rounding(there, node)
        self.sizes = tuple(Size.of(rule.height, rule.width) for _ in self.sizes)
        return replace(there, steps=(*there.steps, rule))

    def _refuse_after_rounding(self, there: Position, node: Node) -> None:
        if there.to_bytes:
            raise NotRecognisedError(f"{node.name} ({node.op}) works on pixels that were rounded before")

    def _constants(self, tensors: Sequence[str]) -> Iterator[float]:
        """Floats that tensors are computed from."""
        import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

        picture = {position.tensor.partition(":")[0] for position in self.positions}
        for name in self.graph.needed_for(tensors, lambda node: node.name in picture):
            node = self.graph.nodes[name]
            if node.op == "Const" and attribute(node, "dtype").type in {1, 2}:
                value = tf.make_ndarray(attribute(node, "value").tensor)
                if value.size == 1:
                    yield float(value.ravel()[0])
                    yield 1.0 - float(value.ravel()[0])


def _size_of(window: Window) -> Size:
    return Size.of(window.height, window.width)


def _calculated(
    node: Node, tensor: str, scale: _Channels, shift: _Channels, number: _Channels
) -> tuple[_Channels, _Channels] | None:
    """Scale and shift behind a node that calculates with the picture `tensor` and a number."""
    picture_first = data_inputs(node)[0] == tensor
    if node.op == "Mul":
        return scale * number, shift * number
    if node.op in {"RealDiv", "Div"}:
        return (scale / number, shift / number) if picture_first else None
    if node.op != "Sub":
        return scale, shift + number
    return (scale, shift - number) if picture_first else (-scale, number - shift)


def _but_channels(position: Position, shape: tuple[int, ...]) -> list[int]:
    return [side for axis, side in zip(position.axes, shape, strict=True) if axis != "C"]


def _is_raw(position: Position) -> bool:
    return set(position.scale) == {1.0} and set(position.shift) == {0.0}


def _tuple(values: _Channels) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _reverse(position: Position) -> Position:
    return replace(position, channels=position.channels[::-1], scale=position.scale[::-1], shift=position.shift[::-1])


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)


def _by_channel(value: Array, position: Position) -> _Channels | None:
    """A constant as one number for each channel; None where it differs from pixel to pixel."""
    if not np.issubdtype(value.dtype, np.floating) or value.ndim > len(position.axes):
        return None
    aligned = value.reshape((1,) * (len(position.axes) - value.ndim) + value.shape)
    channel = position.axes.index("C")
    if any(side != 1 for axis, side in enumerate(aligned.shape) if axis != channel):
        return None
    numbers = aligned.ravel().astype(np.float64)
    return np.broadcast_to(numbers, (3,)).copy() if numbers.size in {1, 3} else None


def _slices(node: Node, numbers: tuple[Array, ...], shape: tuple[int, ...]) -> tuple[slice | int, ...] | None:
    """For each axis what a StridedSlice keeps: start, stop and step, or the index that it takes out."""
    begin, end, stride = ([int(v) for v in number] for number in numbers)
    masks = {
        name: attribute(node, f"{name}_mask").i for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    if masks["new_axis"]:
        return None
    found: list[slice | int] = []
    for entry in range(len(begin)):
        if masks["ellipsis"] >> entry & 1:
            whole = len(shape) - (len(begin) - 1)
            found += [slice(0, side, 1) for side in shape[len(found) : len(found) + whole]]
            continue
        side = shape[len(found)]
        if masks["shrink_axis"] >> entry & 1:
            found.append(begin[entry] % side)
            continue
        start = None if masks["begin"] >> entry & 1 else begin[entry]
        stop = None if masks["end"] >> entry & 1 else end[entry]
        first, last, step = slice(start, stop, stride[entry]).indices(side)
        found.append(slice(first, None if last < 0 else last, step))
    found += [slice(0, side, 1) for side in shape[len(found) :]]
    return tuple(found)
