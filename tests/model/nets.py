"""Small ONNX networks with the shapes of real ones, seeded."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 16
CLASSES = 10


class NetBuilder:
    """Appends nodes one after the other; each method answers the name of its output."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: object, dtype: type = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, kind: str, name: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def conv(self, name: str, x: str, channels: tuple[int, int], kernel: int = 1, group: int = 1) -> str:
        channels_in, channels_out = channels
        fan_in = channels_in // group * kernel**2
        weight = self.random.normal(0, np.sqrt(2 / fan_in), (channels_out, channels_in // group, kernel, kernel))
        # Channels of very different size are why scales are per channel.
        weight *= np.exp(self.random.normal(0, 0.7, (channels_out, 1, 1, 1)))
        inputs = (
            x,
            self.constant(f"{name}_w", weight),
            self.constant(f"{name}_b", self.random.normal(0, 0.3, channels_out)),
        )
        pads = [kernel // 2] * 4
        return self.node("Conv", name, *inputs, kernel_shape=[kernel, kernel], pads=pads, group=group)

    def relu6(self, name: str, x: str) -> str:
        return self.node("Clip", name, x, self.constant(f"{name}_low", 0), self.constant(f"{name}_high", 6))

    def model(self, output: str, *shape: int) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", SIZE, SIZE, 3])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", *shape])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def mobile_net(seed: int = 0) -> onnx.ModelProto:
    """One inverted residual block between a stem and a classifier, with depthwise convolution and ReLU6.

    Input `image` float32 [N, 16, 16, 3]; output `probabilities_out` [N, 10].
    """
    b = NetBuilder(seed)
    x = b.node("Transpose", "planes", "image", perm=[0, 3, 1, 2])
    x = b.relu6("stem_act", b.conv("stem", x, (3, 8), 3))
    y = b.relu6("expand_act", b.conv("expand", x, (8, 24)))
    y = b.relu6("depthwise_act", b.conv("depthwise", y, (24, 24), 3, group=24))
    x = b.node("Add", "residual", b.conv("project", y, (24, 8)), x)
    x = b.node("GlobalAveragePool", "pool", b.relu6("head_act", b.conv("head", x, (8, 32))))
    x = b.node("Flatten", "flatten", x)
    weight = b.constant("dense_w", b.random.normal(0, 0.4, (32, CLASSES)))
    x = b.node("Gemm", "dense", x, weight, b.constant("dense_b", b.random.normal(0, 0.2, CLASSES)))
    return b.model(b.node("Softmax", "probabilities", x, axis=1), CLASSES)


def two_branch_net() -> onnx.ModelProto:
    """A residual Add whose both inputs are convolutions, as at the start of a ResNet stage; ReLU behind it."""
    b = NetBuilder()
    x = b.node("Transpose", "planes", "image", perm=[0, 3, 1, 2])
    x = b.node("Relu", "stem_act", b.conv("stem", x, (3, 8), 3))
    x = b.node("MaxPool", "pool", x, kernel_shape=[2, 2], strides=[2, 2])
    shortcut = b.conv("shortcut", x, (8, 16))
    y = b.conv("second", b.node("Relu", "first_act", b.conv("first", x, (8, 8), 3)), (8, 16))
    return b.model(b.node("Relu", "sum_act", b.node("Add", "residual", y, shortcut)), 16, SIZE // 2, SIZE // 2)


def images(count: int, seed: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Normalised images [count, 16, 16, 3]: smooth, within [-1, 1]."""
    coarse = np.random.default_rng(seed).uniform(-1, 1, (count, 4, 4, 3)).astype(np.float32)
    return np.kron(coarse, np.ones((1, 4, 4, 1), np.float32))


def concat_net() -> onnx.ModelProto:
    """Two branches of very different range, concatenated for a convolution; a MaxPool before them.

    Input `image` float32 [N, 16, 16, 3]; output `last_act_out` [N, 16, 8, 8], rectified.
    """
    b = NetBuilder(3)
    x = b.node("Transpose", "planes", "image", perm=[0, 3, 1, 2])
    x = b.node("Relu", "stem_act", b.conv("stem", x, (3, 8), 3))
    x = b.node("MaxPool", "pool", x, kernel_shape=[2, 2], strides=[2, 2])
    small = b.node("Relu", "small_act", b.conv("small", x, (8, 8)))
    great = b.node("Relu", "great_act", b.conv("great", b.node("Mul", "grow", x, b.constant("ten", 10)), (8, 8)))
    joined = b.node("Concat", "joined", small, great, axis=1)
    return b.model(b.node("Relu", "last_act", b.conv("last", joined, (16, 16), 3)), 16, SIZE // 2, SIZE // 2)


def unbalanced_net() -> onnx.ModelProto:
    """ReLU network with a residual Add, whose inner channels differ in size by up to four orders of magnitude.

    The next layer's weights make up for it, as equalisation would have to. Output `dense_out` [N, 10].
    """
    b = NetBuilder(5)
    x = b.node("Transpose", "planes", "image", perm=[0, 3, 1, 2])
    x = b.node("Relu", "stem_act", b.conv("stem", x, (3, 16), 3))
    y = b.node("Relu", "inner_act", b.conv("inner", x, (16, 16), 3))
    y = b.node("Relu", "depthwise_act", b.conv("depthwise", y, (16, 16), 3, group=16))
    x = b.node("Relu", "sum_act", b.node("Add", "residual", b.conv("project", y, (16, 16)), x))
    x = b.node("Flatten", "flatten", b.node("GlobalAveragePool", "pool", b.conv("head", x, (16, 32))))
    weight = b.constant("dense_w", b.random.normal(0, 0.4, (32, CLASSES)))
    model = b.model(b.node("Gemm", "dense", x, weight, b.constant("dense_b", np.zeros(CLASSES))), CLASSES)
    factors = np.exp(b.random.uniform(-3, 3, 16)).astype(np.float32)
    inner = np.exp(b.random.uniform(-3, 3, 16)).astype(np.float32)
    # Rows of what makes a tensor, columns of what takes it; the depthwise layer's rows are both.
    scaled = {
        "stem_w": factors[:, None, None, None],
        "stem_b": factors,
        "project_w": factors[:, None, None, None],
        "project_b": factors,
        "inner_w": inner[:, None, None, None] / factors[None, :, None, None],
        "inner_b": inner,
        "depthwise_w": 1 / inner[:, None, None, None],
        "head_w": 1 / factors[None, :, None, None],
    }
    for tensor in model.graph.initializer:
        if tensor.name in scaled:
            values = numpy_helper.to_array(tensor) * scaled[tensor.name]
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    return model


def planted_net() -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A ReLU6 network of twelve 3 x 3 convolutions, and the names of three small layers that INT8 ruins.

    Each of the three has in every output channel one weight a thousand times greater than the others, on an input
    channel that is nearly zero: a scale a channel cannot hold both. Equalisation would, were it not for the ReLU6 in
    front. Output `dense_out` [N, 10].
    """
    b = NetBuilder(7)
    bad = ("squeeze2", "squeeze5", "squeeze8")
    x = b.node("Transpose", "planes", "image", perm=[0, 3, 1, 2])
    x = b.relu6("stem_act", b.conv("stem", x, (3, 16), 3))
    for number in range(1, 12):
        if f"squeeze{number}" in bad:
            x = b.relu6(f"squeeze{number}_act", b.conv(f"squeeze{number}", x, (16, 16)))
        x = b.relu6(f"wide{number}_act", b.conv(f"wide{number}", x, (16, 16), 3))
    x = b.node("Flatten", "flatten", b.node("GlobalAveragePool", "pool", x))
    weight = b.constant("dense_w", b.random.normal(0, 0.4, (16, CLASSES)))
    model = b.model(b.node("Gemm", "dense", x, weight, b.constant("dense_b", np.zeros(CLASSES))), CLASSES)
    before = {f"wide{int(name[7:]) - 1}": name for name in bad}
    for tensor in model.graph.initializer:
        layer, _, role = tensor.name.rpartition("_")
        values = numpy_helper.to_array(tensor).copy()
        if layer in before:
            values[0] = 1e-3 if role == "b" else values[0] * 1e-4
        elif layer in bad and role == "w":
            values[:, 0] = 1000 * np.abs(values).max()
        else:
            continue
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    return model, bad
