"""What cannot be converted, found before the converter stumbles over it and said with node, operator and remedy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from model.errors import BuildError
from model.export.frozen import FrozenSignature

_LOOPS: Final = frozenset(
    """
    Case Enter Exit If LoopCond Loop Merge NextIteration RefEnter RefExit RefMerge RefNextIteration RefSwitch Scan
    StatelessCase StatelessIf StatelessWhile Switch TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3
    TensorArraySizeV3 TensorArrayV3 TensorArrayWriteV3 TensorListFromTensor TensorListGetItem TensorListReserve
    TensorListSetItem TensorListStack While
    """.split()  # noqa: SIM905 - one can read a list of words
)
_VALUES_DECIDE_SHAPE: Final = frozenset(
    """
    CTCGreedyDecoder DynamicPartition NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4
    NonMaxSuppressionV5 RaggedRange RaggedTensorToSparse RaggedTensorToTensor Unique UniqueV2 UniqueWithCounts
    UniqueWithCountsV2 Where
    """.split()  # noqa: SIM905 - one can read a list of words
)
_RANDOM: Final = frozenset(
    """
    Multinomial RandomGamma RandomNormal RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt
    StatelessMultinomial StatelessRandomNormalV2 StatelessRandomUniformV2 TruncatedNormal
    """.split()  # noqa: SIM905 - one can read a list of words
)
_STRINGS: Final = frozenset(
    """
    AsString DecodeAndCropJpeg DecodeBase64 DecodeBmp DecodeImage DecodeJpeg DecodePng DecodeRaw HashTableV2
    LookupTableFindV2 ParseExample ParseExampleV2 ParseSingleExample ReadFile ReduceJoin StringJoin StringSplitV2
    StringToHashBucketFast StringToNumber
    """.split()  # noqa: SIM905 - one can read a list of words
)
_OTHER_OUTPUTS: Final = "or keep outputs that do not need it only (--output-names, setting model.outputNames)"
_SHOWN: Final = 3


def check_convertible(signature: FrozenSignature) -> None:
    """Refuse a graph that ONNX or a fixed-shape engine cannot express.

    Raises:
        BuildError: control flow, shapes that depend on values, strings, randomness, or an operator without a
            counterpart in ONNX; the message names up to three nodes with their operators and says what to do. Or
            outputs need more than the signature's inputs.
    """
    nodes = list(_needed(signature).node)
    for kinds, what, remedy in (
        (_STRINGS, "strings or encoded data", "name a signature that takes numbers (--signature, model.signature)"),
        (_LOOPS, "loops or branches", "export the model for inference, with loops unrolled and branches decided"),
        (_VALUES_DECIDE_SHAPE, "shapes that depend on values", "let it answer a fixed number of rows, padded"),
        (_RANDOM, "random numbers, so no two answers are the same", "export the model for inference"),
    ):
        _refuse((node for node in nodes if node.op in kinds), what, remedy)
    known = _convertible()
    _refuse(
        (node for node in nodes if node.op not in known),
        "operators that ONNX has no counterpart for",
        "express it with other operators",
    )
    fed = {tensor.partition(":")[0] for tensor in signature.inputs.values()}
    if unfed := [node.name for node in nodes if node.op == "Placeholder" and node.name not in fed]:
        raise BuildError(
            f"outputs need node {unfed[0]} (Placeholder), which is none of the inputs ({', '.join(signature.inputs)}): "
            f"name it as well (--input-names, setting model.inputNames), {_OTHER_OUTPUTS}"
        )


def _refuse(nodes: Iterator[Any], what: str, remedy: str) -> None:
    found = list(nodes)
    if found:
        named = ", ".join(f"{node.name} ({node.op})" for node in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise BuildError(f"the model holds {what}: node {named}{more}; {remedy}, {_OTHER_OUTPUTS}")


def _needed(signature: FrozenSignature) -> Any:  # noqa: ANN401 - TensorFlow has no public types
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    nodes = [tensor.partition(":")[0] for tensor in signature.outputs.values()]
    return tf.compat.v1.graph_util.extract_sub_graph(signature.graph_def, nodes)


def _convertible() -> set[str]:
    from tf2onnx import tfonnx  # noqa: F401, PLC0415 - registers the operators it converts
    from tf2onnx.handler import tf_op  # noqa: PLC0415 - imports TensorFlow

    return {name for versions in tf_op.get_opsets().values() for operators in versions for name in operators}
