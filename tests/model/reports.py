"""Comparisons with made-up figures, for tests of what is written about them."""

from __future__ import annotations

from model.report.content import (
    Agreement,
    Comparison,
    Layer,
    Machine,
    Missing,
    PhotoAnswer,
    QuantisedGraph,
    Ranked,
    Speed,
    Trial,
)

DEVICE = "x86_64 avx512_vnni, 2 cores"
RATES = {"native": 71.5, "fp32": 172.25, "fp16": 61.0, "int8-cpu": 361.125}


def speed(row: str, batch: int = 1, *, calls: int = 250, preprocessing: bool = False) -> Speed:
    rate = RATES[row] * (1 + 0.01 * batch) * (0.5 if preprocessing else 1)
    return Speed(
        row=row,
        runtime="TensorFlow 2.21.0" if row == "native" else "ONNX Runtime 1.32.0",
        device=DEVICE,
        batch=batch,
        threads=2,
        samples=tuple(rate * factor for factor in (0.97, 1.0, 1.02, 0.99, 1.04)),
        calls=tuple(1000 * batch / rate + number / 1000 for number in range(calls)),
        preprocessing=preprocessing,
        options="XLA off" if row == "native" else "",
        memory_mib=512.4,
        size_bytes=18_539_089,
        note="not representative" if row == "fp16" else "",
    )


def comparison() -> Comparison:
    """Four rows at two batch sizes, with and without preprocessing; names that HTML must escape."""
    labels = ("Egyptian cat", "tabby <cat>", "lynx", "tiger cat", "remote control")
    straight = tuple(Ranked(label, 0.5 / (place + 1)) for place, label in enumerate(labels))
    swapped = (straight[0], straight[2], straight[1], *straight[3:])
    answers = dict.fromkeys(("native", "fp32", "fp16"), straight) | {"int8-cpu": swapped}
    return Comparison(
        model="builtin:efficientnet-lite0",
        machine=Machine(DEVICE, {"tensorflow": "2.21.0", "onnxruntime": "1.32.0"}, "2026-11-24"),
        speed=tuple(
            speed(row, batch, calls=250 if batch == 1 else 20, preprocessing=preprocessing)
            for preprocessing in (False, True)
            for batch in (1, 8)
            for row in RATES
        ),
        photos=(PhotoAnswer("cat & mouse.jpg", "tabby <cat>", answers),),
        agreement=(
            Agreement("native", "native", 120, 1.0, 20, 0.9, 1.0),
            Agreement("int8-cpu", "native", 120, 0.975, 20, 0.85, 0.95),
        ),
        missing=(Missing("int8", "there is no GPU: run it on the builder VM"),),
        trials=(Trial("native", "XLA", 2, 1, 2.5), Trial("native", "XLA off", 2, 1, 71.5)),
    )


def quantised_graph(precision: str = "int8") -> QuantisedGraph:
    layers = tuple(
        Layer(
            name=f"Conv_{number}",
            operator="Conv",
            precision="fp16" if number == 3 else "int8",
            macs=1_000_000,
            sqnr_db=30.0 - number,
            sensitivity_db=25.0 + number,
            reason="most sensitive" if number == 3 else "",
        )
        for number in range(10)
    )
    return QuantisedGraph(precision, layers, ("cross-layer equalisation", "Conv_3 (Conv) stays FP16"))
