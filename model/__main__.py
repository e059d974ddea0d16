"""`python -m model`: build an artifact, look into it, compare its precisions, publish it, or say which key it has."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from artifact.errors import ArtifactError
from artifact.key import artifact_key
from artifact.manifest import Manifest, Runtime
from artifact.recipe import CROP_FRACTION, DECODER, NONE, BuildRequest, CalibrationMethod, Recipe
from artifact.run import new_run, valid_run
from artifact.signature import Preprocessing
from model.commands import benchmark, inspection
from model.errors import BuildError

if TYPE_CHECKING:
    from artifact.repository import Published

_REPOSITORY = Path(__file__).resolve().parents[1]
_Schema = TypeVar("_Schema", bound=BaseModel)
_PREPROCESSING = (
    '{"decoder": "fast", "interpolation": "linear", "cropFraction": 0.875, "height": 224, "width": 224, '
    '"mean": [127.5, 127.5, 127.5], "std": [127.5, 127.5, 127.5]}'
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the process's exit status: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (BuildError, ArtifactError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: no artifact was written; a build goes on where it was stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="convert, check and pack a model into a folder")
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the artifact")
    build.add_argument(
        "--cache", type=Path, metavar="DIR", help="where finished stages are kept (default: .model-cache beside --out)"
    )
    _add_request(build)
    build.add_argument(
        "--publish",
        metavar="gs://BUCKET[/PREFIX]",
        help="upload the artifact as well, unless it is there, and progress",
    )
    build.add_argument(
        "--run", dest="run_id", type=_run, metavar="ID", help="id of this run (default: its time and random digits)"
    )
    _add_output(build)
    build.set_defaults(run=_build)
    key = commands.add_parser("key", help="print the key of an artifact without building it")
    _add_request(key)
    key.set_defaults(run=_key)
    publish = commands.add_parser("publish", help="upload a built artifact; its manifest goes last")
    publish.add_argument("folder", type=Path, metavar="DIR", help="folder that `build` made")
    publish.add_argument("root", metavar="gs://BUCKET[/PREFIX]", help="where artifacts are kept")
    _add_output(publish)
    publish.set_defaults(run=_publish)
    benchmark.add(commands)
    inspection.add(commands)
    return parser


def _add_request(parser: argparse.ArgumentParser) -> None:
    defaults = BuildRequest()
    parser.add_argument("--request", type=_build_request, metavar="JSON", help="all that follows, as one JSON object")
    parser.add_argument("--source", default=defaults.source, help="model to convert (default: %(default)s)")
    parser.add_argument(
        "--calibration", default=defaults.calibration, help="photos, or rows of tensors (default: %(default)s)"
    )
    parser.add_argument("--signature", default="", metavar="NAME", help="of a SavedModel (default: serving_default)")
    parser.add_argument(
        "--input-names",
        type=_names,
        default=(),
        metavar="A,B",
        help="tensors that a frozen graph takes; the one at which a model of JPEGs is cut",
    )
    parser.add_argument("--output-names", type=_names, default=(), metavar="A,B", help="outputs to keep (default: all)")
    parser.add_argument("--labels", default="", metavar="FILE", help="text file with one line a class")
    parser.add_argument("--label-offset", type=int, metavar="N", help="class that the first line of the labels names")
    parser.add_argument("--preprocess", default="", choices=("exact", "fast"), help="of a model that takes JPEGs")
    parser.add_argument(
        "--preprocessing",
        type=_preprocessing,
        metavar="JSON",
        help="how photos become the input of one that takes numbers",
    )
    parser.add_argument("--runtime", default=defaults.runtime, choices=get_args(Runtime), help="what will run it")
    parser.add_argument("--recipe", type=_recipe, default=Recipe(), metavar="JSON", help="as the setting model.recipe")
    parser.add_argument("--method", choices=get_args(CalibrationMethod), help="overrides the recipe's")
    parser.add_argument("--cpu-weight-bits", type=int, choices=(7, 8), help="overrides the recipe's")
    parser.add_argument(
        "--tensorrt", default=NONE, metavar="VERSION", help="TensorRT version or container of the plans"
    )
    parser.add_argument("--gpu-type", default=NONE, metavar="TYPE", help="GPU that the plans are for")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="no progress, only the result")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def _recipe(text: str) -> Recipe:
    return _parsed(Recipe, "recipe", text)


def _build_request(text: str) -> BuildRequest:
    return _parsed(BuildRequest, "request", text)


def _preprocessing(text: str) -> Preprocessing:
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if isinstance(given, dict):
        text = json.dumps({"decoder": DECODER, "cropFraction": CROP_FRACTION} | given)
    return _parsed(Preprocessing, "preprocessing", text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _parsed(schema: type[_Schema], what: str, text: str) -> _Schema:
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or what}: {fault['msg']}" for fault in error.errors())
        example = _PREPROCESSING if schema is Preprocessing else schema().model_dump_json(by_alias=True)
        raise argparse.ArgumentTypeError(f"{faults}; a {what} is, for example, {example}") from None


def _run(text: str) -> str:
    try:
        return valid_run(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _request(options: argparse.Namespace) -> BuildRequest:
    if options.request:
        request: BuildRequest = options.request
        return request
    overrides = {"method": options.method, "cpu_weight_bits": options.cpu_weight_bits}
    recipe = options.recipe.model_copy(update={name: value for name, value in overrides.items() if value is not None})
    return BuildRequest(
        source=options.source,
        calibration=options.calibration,
        signature=options.signature,
        input_names=options.input_names,
        output_names=options.output_names,
        labels=options.labels,
        label_offset=options.label_offset,
        preprocess=options.preprocess,
        preprocessing=options.preprocessing,
        recipe=recipe,
        runtime=options.runtime,
        tensorrt=options.tensorrt,
        gpu_type=options.gpu_type,
    )


def _key(options: argparse.Namespace) -> int:
    print(artifact_key(_request(options).inputs(_REPOSITORY)))
    return 0


def _build(options: argparse.Namespace) -> int:
    from model.build.pipeline import build  # noqa: PLC0415 - `key` and `--help` answer at once without it
    from model.build.progress import Lines, Quiet, Terminal  # noqa: PLC0415 - likewise
    from model.build.run import build_and_publish  # noqa: PLC0415 - likewise

    on_terminal = sys.stderr.isatty() and not options.quiet
    run = options.run_id or new_run()
    with Terminal() if on_terminal else nullcontext(Quiet() if options.quiet else Lines()) as reporter:
        if options.publish:
            published = build_and_publish(
                _request(options),
                _REPOSITORY,
                options.out,
                address=options.publish,
                run=run,
                reporter=reporter,
                cache=options.cache,
            )
        else:
            built = build(_request(options), _REPOSITORY, options.out, reporter, run=run, cache=options.cache)
    if options.publish:
        return _say_published(published, options)
    manifest = built.folder.manifest
    if options.json:
        _print_json(manifest, folder=str(options.out), created=built.created)
    elif built.created:
        print(f"built {manifest.key} in {options.out}")
    else:
        print(f"{options.out} holds {manifest.key} already, and it is undamaged: nothing to build")
    return 0


def _publish(options: argparse.Namespace) -> int:
    from artifact.repository import publish  # noqa: PLC0415 - see _build

    return _say_published(publish(options.folder, options.root), options)


def _say_published(published: Published, options: argparse.Namespace) -> int:
    if options.json:
        _print_json(published.manifest, uri=str(published.uri), created=published.created)
        return 0
    if not published.created and not options.quiet:
        print(f"{published.manifest.key} is published already: nothing to upload", file=sys.stderr)
    print(published.uri)
    return 0


def _print_json(manifest: Manifest, **more: object) -> None:
    print(json.dumps({"key": manifest.key, **more, "manifest": json.loads(manifest.model_dump_json(by_alias=True))}))


if __name__ == "__main__":
    sys.exit(main())
