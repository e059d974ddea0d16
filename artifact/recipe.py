"""How a model is quantised."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from artifact.manifest import Runtime

CalibrationMethod = Literal["max", "percentile", "mse", "entropy"]


class Recipe(BaseModel):
    """The dials of quantisation, as in the `model.recipe` setting."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    method: CalibrationMethod = "mse"
    """How an activation's range is chosen from its histogram."""
    cpu_weight_bits: Literal[7, 8] = 7
    """Weights of the CPU graph: 7 bits everywhere, as sums of U8 x S8 products saturate on CPUs without VNNI or AMX;
    8 with them."""

    def canonical(self, runtime: Runtime) -> str:
        """Canonical JSON of the recipe and what will run the graphs, as the artifact's key takes it."""
        return json.dumps(self.model_dump(by_alias=True) | {"runtime": runtime}, sort_keys=True, separators=(",", ":"))
