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
