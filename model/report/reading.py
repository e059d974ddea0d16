"""Read back what a build's report says of its layers."""

from __future__ import annotations

import json
from pathlib import Path

from model.report.content import Layer, QuantisedGraph
from model.report.files import JSON


def reported_graphs(folder: Path) -> tuple[QuantisedGraph, ...]:
    """The quantised graphs of the report that lies beside a manifest; none where there is no report.

    It lies there where the artifact was built; of a fetched one it stays in the run's own folder.
    """
    try:
        report = json.loads((folder / JSON).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    return tuple(
        QuantisedGraph(
            precision=graph["precision"],
            layers=tuple(
                Layer(
                    name=layer["name"],
                    operator=layer["operator"],
                    precision=layer["precision"],
                    macs=layer["macs"],
                    sqnr_db=layer["sqnrDb"],
                    sensitivity_db=layer["sensitivityDb"],
                    reason=layer["reason"],
                )
                for layer in graph["layers"]
            ),
            repairs=tuple(graph["repairs"]),
        )
        for graph in report.get("graphs", ())
    )
