"""An artifact on disk: `manifest.json` beside the files of its archive, as built or as fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from artifact.archive import verify_file
from artifact.errors import ArtifactError
from artifact.manifest import MANIFEST_FILE, Manifest, Precision, graph_path
from artifact.run import RunStatus
from artifact.signature import SIGNATURE_FILE, Form, SignatureFile

_Document = TypeVar("_Document", bound=BaseModel)

LABELS_FILE: Final = "labels.txt"
RUN_FILES: Final = ("report.html", "report.json", "log.txt")
"""What one build run tells of itself: beside the manifest, not in the archive."""


class ArtifactFolder:
    """A complete, verified artifact on disk. `path` is its folder, `manifest` and `signatures` are what it says."""

    def __init__(self, path: Path) -> None:
        """Read and verify.

        Raises:
            ArtifactError: no manifest, one of another schema, or a file whose digest is not the manifest's.
        """
        self.path = path
        self.manifest = parse_manifest(_read(path, MANIFEST_FILE), str(path / MANIFEST_FILE))
        for name, entry in self.manifest.files.items():
            if not (path / name).is_file():
                raise ArtifactError(f"{path} is no complete artifact: {name} is missing; build or fetch it again")
            verify_file(path / name, entry, str(path / name))
        self.signatures = _parse(SignatureFile, _read(path, SIGNATURE_FILE), str(path / SIGNATURE_FILE))

    def graph(self, precision: Precision, form: Form) -> Path:
        """The ONNX file of one precision and form.

        Raises:
            ArtifactError: the artifact has none.
        """
        name = graph_path(precision, form)
        if name not in self.manifest.files:
            raise ArtifactError(f"{self.path} has no {name}; it has {', '.join(sorted(self.manifest.files))}")
        return self.path / name

    def labels(self) -> tuple[str, ...]:
        """Names of the classes, line by line of labels.txt; empty where the model has none."""
        if LABELS_FILE not in self.manifest.files:
            return ()
        return tuple((self.path / LABELS_FILE).read_text(encoding="utf-8").splitlines())


def parse_manifest(content: bytes, where: str) -> Manifest:
    """Read manifest.json.

    Raises:
        ArtifactError: not valid, naming `where` and each fault.
    """
    return _parse(Manifest, content, where)


def parse_status(content: bytes, where: str) -> RunStatus:
    """Read one message of a build run.

    Raises:
        ArtifactError: not valid, naming `where` and each fault.
    """
    return _parse(RunStatus, content, where)


def dump(value: BaseModel) -> bytes:
    """JSON of a manifest, signature file or status as it is written: indented, camelCase, fields in their order."""
    return value.model_dump_json(by_alias=True, indent=2).encode() + b"\n"


def _parse(schema: type[_Document], content: bytes, where: str) -> _Document:
    try:
        return schema.model_validate_json(content)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc'])) or 'document'}: {fault['msg']}" for fault in error.errors())
        raise ArtifactError(f"{where} is not valid: {'; '.join(faults)}") from error


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"{folder} is no complete artifact: {name} is missing; build or fetch it again") from None
    except NotADirectoryError:
        raise ArtifactError(f"{folder} is a file; name the folder that holds the artifact's {name}") from None
    except OSError as error:
        raise ArtifactError(f"{folder / name} cannot be read: {error.strerror}") from error
