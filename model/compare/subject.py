"""What `python -m model benchmark` is asked to compare: an artifact, and the TensorFlow model that it was made from."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from artifact.errors import ArtifactError
from artifact.folder import ArtifactFolder
from artifact.key import artifact_key
from artifact.manifest import MANIFEST_FILE
from artifact.recipe import BuildRequest
from artifact.repository import fetch
from artifact.signature import Signature, TensorSpec
from artifact.source import is_stored, source_identity
from artifact.uri import ArtifactUri
from model.build.progress import Reporter, native_output_to
from model.compare.runners import NAMES_FILE, save_native
from model.errors import BuildError
from model.source.models import Layout

_OUTPUT: Final = "output"
_LAYOUT: Final = "layout"
_IMAGENET_CLASSES: Final = 1000
_LOG: Final = "libraries.log"
_FACTS_FILE: Final = "model.json"


@dataclass(frozen=True, slots=True)
class Native:
    """The TensorFlow model on disk, as `model.compare.runners.save_native` leaves it."""

    folder: Path
    output: str
    """Its output with a score a class, or its first."""
    layout: Layout | None
    """Of its image; None for a model that takes none."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An artifact to compare, with the signature that photos come through, or else the tensor signature."""

    name: str
    artifact: ArtifactFolder
    signature: Signature
    native: Native | None
    native_missing: str = ""
    """Why there is no native row, and what to do."""

    @property
    def output(self) -> str:
        """The graphs' output that answers are read from: scores of a classifier, else the first."""
        specs = self.signature.outputs
        scores = [spec for spec in specs if spec.kind == "argmax"] or list(specs)
        return scores[0].tensor

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Of the tensor form."""
        return next(s for s in self.artifact.signatures.signatures.values() if s.form == "tensor").inputs

    @property
    def fixed_batch(self) -> int | None:
        """Images that the graphs take at once, no more and no fewer; None for any number."""
        batch = self.inputs[0].shape[0]
        return batch if batch > 0 else None

    @property
    def classifies(self) -> bool:
        """Whether answers are classes of photos."""
        return self.signature.preprocessing is not None and any(s.kind == "argmax" for s in self.signature.outputs)

    @property
    def knows_imagenet(self) -> bool:
        """Whether its classes are, by their number, ImageNet's, which the packaged photos are labelled with."""
        scores = (spec for spec in self.signature.outputs if spec.tensor == self.output and spec.kind == "tensor")
        return any(spec.shape[-1] - self.signature.label_offset == _IMAGENET_CLASSES for spec in scores)

    def label(self, number: int) -> str:
        """Name of a class of the graph's output; its number where the model has no labels."""
        labels, line = self.artifact.labels(), number - self.signature.label_offset
        return labels[line] if 0 <= line < len(labels) else f"class {number}"


def find_artifact(model: str, cache: Path) -> ArtifactFolder | None:
    """The artifact that `model` names, a folder or `gs://bucket/models/<key>/`; None where it names a source.

    Raises:
        ArtifactError: it names an artifact that is damaged, or cannot be fetched.
    """
    if (Path(model) / MANIFEST_FILE).is_file():
        return ArtifactFolder(Path(model))
    if is_stored(model):
        try:
            uri = ArtifactUri.parse(model)
        except ValueError:
            return None
        return fetch(uri, cache)
    return None


def existing_artifact(model: str, cache: Path) -> ArtifactFolder:
    """The artifact that `model` names.

    Raises:
        ArtifactError: it names none; the message says what is allowed.
    """
    found = find_artifact(model, cache)
    if found is None:
        raise ArtifactError(
            f"{model} is no artifact: name a folder that `python -m model build --out` made, or gs://bucket/models/<key>/"
        )
    return found


def subject_of(
    model: str, repository: Path, cache: Path, reporter: Reporter, *, source: str = "", want_native: bool = True
) -> Subject:
    """Find what `model` names; a source is built first, below `cache`.

    `source` names the TensorFlow model of an artifact that was made from a file which cannot be found any more.

    Raises:
        ArtifactError, BuildError, ValueError: as `find_artifact` and the build; `source` is none, is not what the
            artifact was made from, or is not asked for.
    """
    if source and not want_native:
        raise BuildError(
            "--source names the model of the row native, and --precisions has no such row: leave --source out"
        )
    artifact, native_source = find_artifact(model, cache), source
    if artifact is None:
        from model.build.pipeline import build  # noqa: PLC0415 - whoever compares a ready artifact builds nothing

        if source:
            raise BuildError(f"--source names the model of an artifact, and {model} is none: name an artifact as MODEL")
        request = BuildRequest(source=model)
        artifact = build(request, repository, cache / artifact_key(request.inputs(repository)), reporter).folder
        native_source = model
    signatures = artifact.signatures.signatures.values()
    forms = {signature.form: signature for signature in signatures}
    native, missing = None, ""
    if want_native:
        try:
            if source:
                _check_source(artifact, source, repository)
            native = _native(artifact, native_source, cache, reporter.line)
        except (BuildError, ValueError) as error:
            if source:
                raise BuildError(f"--source: {error}") from error
            missing = f"{error}; name the TensorFlow model with --source"
    return Subject(model, artifact, forms.get("image") or forms["tensor"], native, missing)


def _check_source(artifact: ArtifactFolder, source: str, repository: Path) -> None:
    named, made_from = source_identity(source, repository), artifact.manifest.inputs["source"]
    if named != made_from:
        raise BuildError(f"{source} is {named}, and the artifact was made from {made_from}")


def _native(artifact: ArtifactFolder, source: str, cache: Path, line: Callable[[str], None]) -> Native:
    inputs = artifact.manifest.inputs
    named = source or inputs["source"].rpartition("@")[0]
    if not source and named == "content":
        raise BuildError("the artifact was made from a file that it does not name")
    interface: dict[str, Any] = json.loads(inputs.get("interface", "{}"))
    # Labels are known from the artifact, and their file may be gone.
    read_as = {
        name: value for name, value in interface.items() if name in BuildRequest.model_fields and name != "labels"
    }
    place = cache / f"native-{artifact.manifest.key}"
    if not (place / NAMES_FILE).is_file():
        line(f"  reading the TensorFlow model {named}")
        cache.mkdir(parents=True, exist_ok=True)
        with native_output_to(cache / _LOG):
            _save(BuildRequest.model_validate({**read_as, "source": named}), place)
    facts = json.loads((place / _FACTS_FILE).read_text(encoding="utf-8"))
    return Native(place, facts[_OUTPUT], facts[_LAYOUT])


def _save(request: BuildRequest, place: Path) -> None:
    from model.source.models import prepare_source  # noqa: PLC0415 - imports TensorFlow, which takes seconds

    with tempfile.TemporaryDirectory() as folder:
        model = prepare_source(request, Path(folder, "source"))
        place.mkdir(parents=True, exist_ok=True)
        facts = {_OUTPUT: model.classifier or model.graph_outputs[0], _LAYOUT: model.layout}
        (place / _FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")
        # Names last: whoever finds them finds the rest.
        save_native(model.frozen, place)
