"""What a stage of the build is given, and what its cached results depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from artifact.builtin import MODEL_LOCK
from artifact.key import ArtifactInputs
from artifact.recipe import BuildRequest
from model.build.code import code_of, digest_of

if TYPE_CHECKING:
    # Not imported: a change in what only some stages use would make the results of all of them worthless.
    from model.build.material import Material
    from model.source.models import SourceModel


@dataclass(frozen=True, slots=True)
class StageWork:
    """One run of one stage. It writes into `folder`, which is empty, and reads what `earlier` stages have written."""

    request: BuildRequest
    repository: Path
    folder: Path
    earlier: Mapping[str, Path]
    """Folders of finished stages by name."""
    scratch: Path
    """A folder that outlives the run, for what makes the next one faster and changes nothing else."""
    material: Callable[[SourceModel], Material]
    """What the model is calibrated on and judged with."""
    patience_s: float
    """How long to ask again for what Cloud Storage withholds: bindings of a new VM take minutes to work."""
    line: Callable[[str], None]
    """Tell something worth keeping."""
    fraction: Callable[[float], None]
    """The stage is 0 to 1 done."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One link of the chain: `model/build/stages/<name>.py`, whose `run` takes a StageWork.

    `asks` names what it takes of the request: fields of ArtifactInputs, `runtime`, and `recipe.<field>`.
    """

    name: str
    needs: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """Where it is."""
        return f"model.build.stages.{self.name}"

    def digest(
        self, fields: Mapping[str, object], earlier: Mapping[str, str], tools: Mapping[str, str], repository: Path
    ) -> str:
        """SHA-256 of all that its results depend on.

        `fields` is what is asked for (`fields_of`), `earlier` has the digests of the stages before it. Code is what the
        stage's module imports of this repository; libraries are the lock and the versions in `tools`.
        """
        content = {
            "stage": self.name,
            "earlier": {name: earlier[name] for name in self.needs},
            "asks": {name: fields[name] for name in self.asks},
            "code": digest_of(code_of(self.module, repository), repository),
            "lock": digest_of((MODEL_LOCK,), repository),
            "tools": dict(tools),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def fields_of(request: BuildRequest, inputs: ArtifactInputs) -> dict[str, object]:
    """What a person has asked for, by the names that `Stage.asks` uses."""
    recipe = request.recipe.model_dump(mode="json")
    return {
        **inputs.as_dict(),
        "runtime": request.runtime,
        **{f"recipe.{name}": value for name, value in recipe.items()},
    }
