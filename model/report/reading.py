"""Read back what a build's report says of its layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.errors import BuildError
from model.report.content import Layer, QuantisedGraph
from model.report.files import JSON


def reported_graphs(folder: Path) -> tuple[QuantisedGraph, ...]:
    """The quantised graphs of the report that lies beside a manifest; none where there is no report.

    It lies there where the artifact was built; of a fetched one it stays in the run's own folder.

    Raises:
        BuildError: it is no report, or one of another version.
    """
    try:
        return _graphs(json.loads((folder / JSON).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return ()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BuildError(
            f"{folder / JSON} is damaged, or of another version: build the artifact again, or remove the file, which "
            "adds figures of single layers and nothing else"
        ) from error


def _graphs(report: Any) -> tuple[QuantisedGraph, ...]:  # noqa: ANN401 - what is in the file
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
