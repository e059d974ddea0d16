"""Read the model that is to be converted: its graph with constants for variables, and all that must be known of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, Final, get_type_hints

from pydantic import TypeAdapter

from model.build.stage import StageWork
from model.export.frozen import FrozenSignature
from model.export.saved_model import quiet_tensorflow
from model.source.jpeg.original import FrozenOriginal
from model.source.models import SourceModel, prepare_source

_GRAPH: Final = "graph.pb"
_FACTS: Final = "source.json"
_MODEL: Final = "model"
_ORIGINAL: Final = "original"
_NOT_PLAIN: Final = frozenset({"frozen", "original", "graph_def"})
"""Fields of SourceModel and FrozenSignature that JSON does not hold."""


def run(work: StageWork) -> None:
    """Write the graph and source.json.

    Raises:
        BuildError: the source cannot be read or converted.
    """
    folder = work.folder / _MODEL
    source = prepare_source(work.request, folder, work.patience_s)
    (work.folder / _GRAPH).write_bytes(source.frozen.graph_def.SerializeToString(deterministic=True))
    facts = {
        "source": _plain(source),
        "frozen": _plain(source.frozen),
    }
    if isinstance(source.original, FrozenOriginal):
        (work.folder / _ORIGINAL).mkdir()
        source.original.write(work.folder / _ORIGINAL)
    (work.folder / _FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    for name, fact in source.facts.items():
        work.line(f"  {name}: {fact}")
    work.line(f"  {len(source.inputs)} inputs, {len(source.graph_outputs)} outputs, {source.weights} weights")


def load(folder: Path, *, graph: bool = False) -> SourceModel:
    """The model that `run` has written into `folder`, without `original`.

    Its graph, for which TensorFlow is imported, only with `graph`: else `frozen` has the names and no `graph_def`.
    """
    facts = json.loads((folder / _FACTS).read_bytes())
    frozen = FrozenSignature(
        graph_def=_read_graph(folder / _GRAPH) if graph else None, **_loaded(FrozenSignature, facts["frozen"])
    )
    return SourceModel(frozen=frozen, **_loaded(SourceModel, facts["source"]))


def original(folder: Path) -> FrozenOriginal | None:
    """The untouched signature, of a model that takes encoded photos itself."""
    if not (folder / _ORIGINAL).is_dir():
        return None
    quiet_tensorflow()
    return FrozenOriginal.read(folder / _ORIGINAL)


def _read_graph(path: Path) -> Any:  # noqa: ANN401 - TensorFlow has no public types
    quiet_tensorflow()
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(path.read_bytes())
    return graph


def _adapters(kind: type[Any]) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind) if field.name not in _NOT_PLAIN]
    return {name: TypeAdapter(hints[name]) for name in names}


def _plain(value: SourceModel | FrozenSignature) -> dict[str, Any]:
    return {
        name: adapter.dump_python(getattr(value, name), mode="json") for name, adapter in _adapters(type(value)).items()
    }


def _loaded(kind: type[Any], facts: dict[str, Any]) -> dict[str, Any]:
    return {name: adapter.validate_json(json.dumps(facts[name])) for name, adapter in _adapters(kind).items()}
