"""The model build and the serving containers run different NumPys; an image must come out of both the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artifact.signature import Crop, Preprocessing, Resize, Step
from tests.artifact.test_preprocessing import EXACT, FAST, SEEDS, photo, png, progressive

REPOSITORY = Path(__file__).resolve().parents[2]
TENSORFLOW_1: tuple[Step, ...] = (
    Resize(to="short_side", height=73, width=73, method="bilinear", coordinates="legacy"),
    Crop(of="pixels", height=64, width=64),
)
TENSORFLOW_2: tuple[Step, ...] = (Resize(to="size", height=64, width=64, method="bicubic", antialias=True),)
SERVING_PYTHON = REPOSITORY / ".venv-serving" / "bin" / "python"
DIGESTS = """
import hashlib, json, sys, numpy
from pathlib import Path
from artifact.preprocessing import load_image
from artifact.signature import Preprocessing
folder = Path(sys.argv[1])
preps = [Preprocessing.model_validate(p) for p in json.loads((folder / "preps.json").read_text())]
digests = [
    hashlib.sha256(load_image(path.read_bytes(), prep)).hexdigest()
    for prep in preps for path in sorted(folder.glob("*.image"))
]
print(json.dumps({"numpy": numpy.__version__, "tensorflow": "tensorflow" in sys.modules, "digests": digests}))
"""


def run(python: Path, folder: Path) -> dict[str, Any]:
    command = [str(python), "-c", DIGESTS, str(folder)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.mark.servers
def test_both_environments_decode_to_the_same_bits(tmp_path: Path) -> None:
    big = photo(1600, 1203)
    for number, data in enumerate([*SEEDS, progressive(big), png(big)]):
        (tmp_path / f"{number}.image").write_bytes(data)
    preps: list[Preprocessing] = [FAST, EXACT, FAST.model_copy(update={"interpolation": "cubic"})]
    preps += [EXACT.model_copy(update={"steps": steps, "dct": "fast"}) for steps in (TENSORFLOW_1, TENSORFLOW_2)]
    (tmp_path / "preps.json").write_text(json.dumps([prep.model_dump(mode="json") for prep in preps]))
    build, serving = run(Path(sys.executable), tmp_path), run(SERVING_PYTHON, tmp_path)
    assert build["numpy"].startswith("2.")
    assert serving["numpy"].startswith("1.26")
    assert not build["tensorflow"]
    assert build["digests"] == serving["digests"]
    assert len(set(build["digests"])) > 10
