"""`python -m model benchmark`: every precision next to native TensorFlow, on this machine."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from model.errors import BuildError

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_PRECISIONS: Final = ("native", "fp32", "fp16", "int8")
CACHE: Final = _REPOSITORY / ".cache" / "compare"
"""Artifacts that were fetched or built to be compared, and TensorFlow models that were read for it."""
_MODEL: Final = "folder of an artifact, gs://BUCKET/models/KEY/, or a source as the setting model.source takes it"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Put the command into the command line."""
    parser = commands.add_parser("benchmark", help="compare speed and answers of native, FP32, FP16 and INT8")
    parser.add_argument("model", metavar="MODEL", help=_MODEL)
    parser.add_argument(
        "--precisions",
        type=_precisions,
        default=_PRECISIONS,
        metavar="LIST",
        help=f"rows, a comma between two (default: {','.join(_PRECISIONS)})",
    )
    parser.add_argument(
        "--image", type=Path, nargs="+", default=(), metavar="PHOTO", help="photos whose labels are shown side by side"
    )
    parser.add_argument(
        "--batch", type=_batches, default=(1, 8, 32, 128), metavar="LIST", help="batch sizes (default: 1,8,32,128)"
    )
    parser.add_argument("--rounds", type=_positive, default=5, help="interleaved repetitions (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=_seconds, default=1.0, help="least duration of one repetition (default: %(default)s)"
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "gpu"),
        default="auto",
        help="where rows run; auto: the GPU where there is one that the artifact has plans for (default: %(default)s)",
    )
    parser.add_argument(
        "--source", default="", help="TensorFlow model of an artifact that does not name where it was made from"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of report.html, report.json and log.txt"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, only the result")
    parser.add_argument("--json", action="store_true", help="print report.json")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    # TensorFlow and ONNX Runtime take seconds to import: `--help` needs neither.
    from model.build.progress import Lines, Quiet, Terminal  # noqa: PLC0415
    from model.compare.benchmark import Plan, compare  # noqa: PLC0415
    from model.compare.feed import read_photos  # noqa: PLC0415
    from model.compare.subject import subject_of  # noqa: PLC0415
    from model.report.files import HTML, JSON, LOG, write_comparison  # noqa: PLC0415

    missing = [str(photo) for photo in options.image if not photo.is_file()]
    if missing:
        raise BuildError(f"no such photo: {', '.join(missing)}")
    read_photos(tuple(options.image))
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"the report cannot be written into {options.out}: {error.strerror}") from error
    plan = Plan(
        options.precisions, tuple(options.image), options.batch, options.rounds, options.seconds, options.device
    )
    on_terminal = sys.stderr.isatty() and not options.quiet
    with Terminal() if on_terminal else nullcontext(Quiet() if options.quiet else Lines()) as reporter:
        subject = subject_of(
            options.model, _REPOSITORY, CACHE, reporter, source=options.source, want_native="native" in plan.precisions
        )
        comparison = compare(subject, plan, options.out / "rows", reporter)
    write_comparison(options.out, comparison)
    if options.json:
        print((options.out / JSON).read_text(encoding="utf-8"), end="")
        return 0
    print((options.out / LOG).read_text(encoding="utf-8"), end="")
    print(f"report: {options.out / HTML}")
    return 0


def _precisions(text: str) -> tuple[str, ...]:
    asked = tuple(part.strip() for part in text.split(","))
    unknown = [part for part in asked if part not in _PRECISIONS]
    if unknown:
        named = ", ".join(map(repr, unknown))
        raise argparse.ArgumentTypeError(f"unknown: {named}; allowed: {', '.join(_PRECISIONS)}")
    return tuple(dict.fromkeys(asked))


def _batches(text: str) -> tuple[int, ...]:
    return tuple(sorted({_positive(part) for part in text.split(",")}))


def _positive(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration of more than 0 and at most 60 seconds")
    return value
