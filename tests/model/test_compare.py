from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from artifact.errors import ArtifactError
from artifact.folder import ArtifactFolder
from artifact.manifest import FileEntry, SpeedRow
from artifact.manifest import Plan as ManifestPlan
from artifact.signature import SignatureFile, TensorSpec
from artifact.source import source_identity
from model.__main__ import main
from model.compare import benchmark, device
from model.compare.benchmark import Plan, compare
from model.compare.feed import Feed, random_tensors
from model.compare.process import RowProcess
from model.compare.runners import RowSpec
from model.compare.subject import Native, Subject, existing_artifact, subject_of
from model.compare.timing import InProcess, Setting, interleave, throughputs
from model.compare.worker import Start, serve
from model.errors import BuildError
from model.plan.target import Gpu
from tests.model.tiny import COLOURS, SIZE, colour_jpeg, tiny_signatures, write_tiny_artifact

Capture = pytest.CaptureFixture[str]
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def artifact(tmp_path: Path) -> ArtifactFolder:
    return write_tiny_artifact(tmp_path / "artifact")


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, ...]:
    found = []
    for colour in ("red", "blue"):
        found.append(tmp_path / f"{colour}.jpg")
        found[-1].write_bytes(colour_jpeg(colour))
    return tuple(found)


class Silent:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, name: str, fraction: float) -> None:
        pass

    def line(self, text: str) -> None:
        self.lines.append(text)


class FakeRow:
    """A row whose calls last as long as it is told, and that notes when it is asked."""

    def __init__(self, name: str, milliseconds: float, log: list[tuple[str, int, float]]) -> None:
        self.name, self.milliseconds, self.log = name, milliseconds, log

    def time(self, setting: Setting, seconds: float) -> tuple[float, ...]:
        self.log.append((self.name, setting.batch, seconds))
        return (self.milliseconds * setting.batch,) * 4


def test_repetitions_of_all_rows_take_turns() -> None:
    log: list[tuple[str, int, float]] = []
    rows = {name: FakeRow(name, duration, log) for name, duration in (("slow", 20.0), ("fast", 5.0))}
    told: list[float] = []
    timed = interleave(rows, [Setting(1), Setting(8)], rounds=3, seconds=0.25, progress=told.append)
    assert log == [(name, batch, 0.25) for batch in (1, 8) for name in ("slow", "fast")] * 3
    assert {cell: len(repetitions) for cell, repetitions in timed.items()} == {
        (name, Setting(batch)): 3 for batch in (1, 8) for name in ("slow", "fast")
    }
    assert throughputs(8, timed["fast", Setting(8)]) == (200.0,) * 3
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_preprocessing_is_part_of_a_call_only_where_it_is_asked_for() -> None:
    preprocessing = tiny_signatures().signatures["serving_default"].preprocessing
    assert preprocessing is not None
    decoded: list[int] = []

    class Counting(Feed):
        def decode(self, batch: int) -> tuple[Any, ...]:
            decoded.append(batch)
            return super().decode(batch)

    feed = Counting("image", (colour_jpeg("red"), colour_jpeg("blue")), preprocessing)
    shapes: list[tuple[int, ...]] = []
    row = InProcess(lambda pixels: shapes.append(pixels.shape), feed.source)
    for _ in range(3):
        row.time(Setting(5), 0.0)
    assert decoded == [5]
    for _ in range(3):
        row.time(Setting(5, preprocessing=True), 0.0)
    assert decoded == [5] * 4
    assert set(shapes) == {(5, SIZE, SIZE, 3)}


def test_the_models_own_tensors_are_normalised_and_in_its_layout() -> None:
    preprocessing = tiny_signatures().signatures["serving_default"].preprocessing
    photo = colour_jpeg("red")
    (pixels,) = Feed("image", (photo,), preprocessing).ready(2)
    (tensor,) = Feed("tensor", (photo,), preprocessing, "nchw").ready(2)
    assert (str(pixels.dtype), str(tensor.dtype), tensor.shape) == ("uint8", "float32", (2, 3, SIZE, SIZE))
    np.testing.assert_allclose(tensor.transpose(0, 2, 3, 1), (pixels - 127.0) / 128.0, atol=1e-6)


def test_made_up_inputs_have_the_models_types_and_shapes() -> None:
    specs = (
        TensorSpec(name="x", dtype="float32", shape=(-1, 4), kind="tensor", tensor="x"),
        TensorSpec(name="ids", dtype="int64", shape=(-1, 3, 2), kind="tensor", tensor="ids"),
    )
    x, ids = random_tensors(specs, 6)
    assert (str(x.dtype), x.shape, str(ids.dtype), ids.shape) == ("float32", (6, 4), "int64", (6, 3, 2))
    assert Feed("tensor", tensors=(x, ids)).ready(9)[1].shape == (9, 3, 2)
    words = specs[0].model_copy(update={"dtype": "string"})
    with pytest.raises(BuildError, match="input 'x' of dtype string"):
        random_tensors((words,), 1)
    endless = specs[0].model_copy(update={"shape": (-1, -1)})
    with pytest.raises(BuildError, match="only numeric inputs with fixed dimensions"):
        random_tensors((endless,), 1)


def start_of(artifact: ArtifactFolder, photos: Sequence[Path], precision: str = "fp32") -> Start:
    signature = artifact.signatures.signatures["serving_default"]
    return Start(
        spec=RowSpec(
            row=precision,
            kind="onnxruntime",
            model=artifact.path / f"onnx/{precision}.image.onnx",
            output="probabilities",
            threads=1,
        ),
        form="image",
        photos=tuple(photos),
        preprocessing=signature.preprocessing,
    )


def test_a_rows_process_times_answers_and_tells_its_memory(artifact: ArtifactFolder, photos: tuple[Path, ...]) -> None:
    asked = (
        {"do": "time", "batch": 3, "preprocessing": True, "seconds": 0.01},
        {"do": "answer", "photos": [str(photo) for photo in photos]},
        {"do": "memory"},
    )
    lines = io.StringIO("\n".join([start_of(artifact, photos).model_dump_json(), *map(json.dumps, asked)]) + "\n")
    replies: list[dict[str, Any]] = []
    serve(lines, replies.append)
    started, timed, answered, memory = replies
    assert started["runtime"].startswith("ONNX Runtime 1.")
    assert len(timed["ms"]) >= 1
    assert min(timed["ms"]) > 0
    names = [[list(COLOURS)[number] for number, _ in best] for best in answered["answers"]]
    assert [best[0] for best in names] == ["red", "blue"]
    assert [len(best) for best in names] == [5, 5]
    scores = [score for _, score in answered["answers"][0]]
    assert scores == sorted(scores, reverse=True)
    assert memory["mib"] > 10


class FakeProcess:
    """Stands for a row's process: TensorFlow is fastest without XLA at batch 1 and with XLA at batch 8."""

    running: int = 0
    started: list[RowSpec]
    starts: list[Start]
    broken: Callable[[RowSpec], bool]

    def __init__(self, start: Start, log: Path) -> None:
        del log
        spec = start.spec
        FakeProcess.started.append(spec)
        FakeProcess.starts.append(start)
        if FakeProcess.broken(spec):
            raise BuildError(f"row {spec.row}: no kernel for it")
        self.spec, self.runtime = spec, "TensorFlow 2" if spec.kind == "tensorflow" else "ONNX Runtime 1"
        self.timed: list[int] = []
        self.closed = False
        FakeProcess.running += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        FakeProcess.running -= not self.closed
        self.closed = True

    def time(self, setting: Setting, seconds: float) -> tuple[float, ...]:
        del seconds
        assert not self.closed
        self.timed.append(setting.batch)
        per_image = {"native": 8.0, "fp32": 4.0, "fp16": 9.0, "int8-cpu": 2.0, "int8": 1.0}[self.spec.row]
        if self.spec.kind == "tensorflow":
            per_image /= self.spec.threads
            if self.spec.xla:
                per_image *= 1.5 if setting.batch == 1 else 0.5
        return (per_image * setting.batch,) * 3

    def answers(self, photos: tuple[Path, ...]) -> tuple[tuple[tuple[int, float], ...], ...]:
        first = list(COLOURS).index("red")
        wrong = self.spec.row == "int8-cpu"
        return tuple(((first + (number if wrong else 0), 0.9), (0, 0.05), (1, 0.03)) for number, _ in enumerate(photos))

    def memory_mib(self) -> float:
        return 100.0


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> type[FakeProcess]:
    FakeProcess.running, FakeProcess.started, FakeProcess.starts = 0, [], []
    FakeProcess.broken = lambda _: False
    monkeypatch.setattr(benchmark, "RowProcess", FakeProcess)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    return FakeProcess


def subject(artifact: ArtifactFolder, folder: Path, *, native: bool = True) -> Subject:
    (folder / "native").mkdir()
    (folder / "native" / "native.pb").write_bytes(b"1234")
    return Subject(
        name="the model",
        artifact=artifact,
        signature=artifact.signatures.signatures["serving_default"],
        native=Native(folder / "native", "probabilities", "nhwc") if native else None,
        native_missing="the TensorFlow model is gone",
    )


def test_the_fastest_way_to_run_tensorflow_is_the_native_row_at_each_batch(
    artifact: ArtifactFolder, photos: tuple[Path, ...], faked: type[FakeProcess], tmp_path: Path
) -> None:
    plan = Plan(photos=photos, batches=(1, 8), rounds=2, seconds=0.1)
    told = compare(subject(artifact, tmp_path), plan, tmp_path / "logs", Silent())
    native = {row.batch: row for row in told.speed if row.row == "native" and not row.preprocessing}
    assert (native[1].options, native[1].threads) == ("XLA off", 2)
    assert (native[8].options, native[8].threads) == ("XLA", 2)
    assert native[8].images_per_s == pytest.approx(500)
    assert native[1].size_bytes == 4
    # One thread is half as fast at batch 1, and just hopeful; with XLA it is slower still, and not tried at batch 8.
    tried = [(trial.options, trial.threads, trial.batch) for trial in told.trials]
    assert ("XLA", 1, 1) in tried
    assert ("XLA", 1, 8) not in tried
    assert ("XLA off", 1, 8) in tried
    assert faked.running == 0


def test_every_row_has_its_speed_size_memory_and_answers(
    artifact: ArtifactFolder, photos: tuple[Path, ...], faked: type[FakeProcess], tmp_path: Path
) -> None:
    plan = Plan(photos=photos, batches=(1,), rounds=3, seconds=0.1)
    told = compare(subject(artifact, tmp_path), plan, tmp_path / "logs", Silent())
    cells = [(row.row, row.preprocessing) for row in told.speed]
    assert cells == [(name, form) for form in (False, True) for name in ("native", "fp32", "int8-cpu")]
    assert all(len(row.samples) == 3 and len(row.calls) == 9 and row.memory_mib == 100 for row in told.speed)
    int8 = told.speed[2]
    assert int8.size_bytes == (artifact.path / "onnx/int8-cpu.image.onnx").stat().st_size
    assert [(missing.row, missing.reason) for missing in told.missing] == [
        ("fp16", "the artifact has no onnx/fp16.image.onnx")
    ]
    assert [photo.photo for photo in told.photos] == ["red.jpg", "blue.jpg"]
    assert [answer.label for answer in told.photos[1].answers["native"]] == ["red", "black", "white"]
    agreement = {row.row: row for row in told.agreement}
    assert (agreement["fp32"].same_top1, agreement["int8-cpu"].same_top1) == (1.0, 0.5)
    assert (agreement["fp32"].reference, agreement["fp32"].top1) == ("native", None)
    assert {spec.row for spec in faked.started} == {"native", "fp32", "int8-cpu"}


def test_what_cannot_run_is_said_and_the_rest_is_measured(
    artifact: ArtifactFolder, photos: tuple[Path, ...], faked: type[FakeProcess], tmp_path: Path
) -> None:
    faked.broken = lambda spec: spec.row == "int8-cpu"
    plan = Plan(photos=photos, batches=(1,), rounds=1, seconds=0.1)
    found = subject(artifact, tmp_path, native=False)
    told = compare(found, plan, tmp_path / "logs", Silent())
    assert {row.row for row in told.speed} == {"fp32"}
    assert {missing.row: missing.reason for missing in told.missing} == {
        "native": "the TensorFlow model is gone",
        "fp16": "the artifact has no onnx/fp16.image.onnx",
        "int8-cpu": "row int8-cpu: no kernel for it",
    }
    faked.broken = lambda _: True
    with pytest.raises(BuildError, match=r"nothing can be compared: .*int8-cpu: row int8-cpu: no kernel for it"):
        compare(found, plan, tmp_path / "logs", Silent())


def test_an_artifact_whose_source_is_gone_says_what_to_name(artifact: ArtifactFolder, tmp_path: Path) -> None:
    made_of_a_file = {**artifact.manifest.inputs, "source": "content@" + 64 * "a"}
    manifest = artifact.manifest.model_copy(update={"inputs": made_of_a_file})
    (artifact.path / "manifest.json").write_text(manifest.model_dump_json(by_alias=True))
    found = subject_of(str(artifact.path), REPOSITORY, tmp_path, Silent())
    assert found.native is None
    assert found.native_missing == (
        "the artifact was made from a file that it does not name; name the TensorFlow model with --source"
    )
    assert found.label(2) == "red"
    assert found.label(1000) == "class 1000"


@pytest.mark.slow
def test_a_comparison_by_command_line_measures_in_processes_of_their_own(
    artifact: ArtifactFolder, photos: tuple[Path, ...], tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    words = ["benchmark", str(artifact.path), "--precisions", "int8", "--image", *map(str, photos), "--batch", "2"]
    assert main([*words, "--rounds", "2", "--seconds", "0.01", "--out", str(out), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "network: int8-cpu ONNX Runtime" in said
    assert "Precision:  int8-cpu ['red', " in said
    assert said.endswith(f"report: {out / 'report.html'}\n")
    document = json.loads((out / "report.json").read_text())
    assert [row["preprocessing"] for row in document["speed"]] == [False, True]
    assert all(row["memoryMib"] > 20 and row["repetitions"] == 2 for row in document["speed"])
    assert (out / "rows" / "int8-cpu.log").is_file()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--precisions", "fp8"], 2, "unknown: 'fp8'; allowed: native, fp32, fp16, int8"),
        (["--batch", "1,0"], 2, "'0' is no whole number above 0"),
        (["--seconds", "0"], 2, "at most 60 seconds"),
        (["--image", "nowhere.jpg"], 1, "error: no such photo: nowhere.jpg\n"),
    ],
)
def test_a_question_that_has_no_answer_is_one_line(
    words: list[str], status: int, said: str, tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["benchmark", "builtin:smoke", "--out", str(tmp_path / "out"), *words]
    if status == 2:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
    else:
        assert main(arguments) == status
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_photo_is_named_before_a_model_is_built(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "notes.jpg").write_bytes(b"words")
    words = ["benchmark", "builtin:smoke", "--out", str(tmp_path / "out"), "--image", str(tmp_path / "notes.jpg")]
    assert main(words) == 1
    assert capsys.readouterr().err == (
        f"error: photo {tmp_path / 'notes.jpg'}: not a JPEG or PNG image: it starts with the bytes 77 6f 72 64\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_photo_that_cannot_be_decoded_is_named(
    artifact: ArtifactFolder, photos: tuple[Path, ...], faked: type[FakeProcess], tmp_path: Path
) -> None:
    photos[1].write_bytes(photos[1].read_bytes()[:-40])
    with pytest.raises(BuildError, match=rf"^photo {photos[1]}: the JPEG is truncated or corrupt: "):
        compare(subject(artifact, tmp_path), Plan(("fp32",), photos), tmp_path / "logs", Silent())
    assert faked.started == []


def test_photos_for_a_model_that_takes_none_are_refused(
    photos: tuple[Path, ...], tmp_path: Path, capsys: Capture
) -> None:
    signatures = tiny_signatures()
    numbers = SignatureFile(signatures={"tensor": signatures.signatures["tensor"]})
    model = write_tiny_artifact(tmp_path / "numbers", signatures=numbers).path
    words = ["benchmark", str(model), "--out", str(tmp_path / "out"), "--precisions", "fp32", "--image"]
    assert main([*words, *map(str, photos), "--quiet"]) == 1
    assert capsys.readouterr().err == (
        f"error: {model} takes no photos, its inputs are image float32 [-1, 32, 32, 3]: leave --image out\n"
    )


def without_classes(folder: Path) -> ArtifactFolder:
    """An artifact of a model that takes photos and answers numbers only."""
    scores = {
        name: signature.model_copy(update={"outputs": signature.outputs[1:]})
        for name, signature in tiny_signatures().signatures.items()
    }
    return write_tiny_artifact(folder, signatures=SignatureFile(signatures=scores))


def test_a_model_of_photos_without_classes_is_timed_and_has_no_labels(
    photos: tuple[Path, ...], faked: type[FakeProcess], tmp_path: Path
) -> None:
    model = subject(without_classes(tmp_path / "scores"), tmp_path)
    told = compare(model, Plan(("fp32",), batches=(1,), rounds=1), tmp_path / "logs", Silent())
    assert [row.preprocessing for row in told.speed] == [False, True]
    assert (told.photos, told.missing) == ((), ())
    (started,) = faked.starts
    assert started.photos, "it is fed the packaged photos"
    told = compare(model, Plan(("fp32",), photos, (1,), rounds=1), tmp_path / "logs", Silent())
    assert [(missing.row, missing.reason) for missing in told.missing] == [
        ("labels of photos", "the model has no output that is a class")
    ]


def test_a_report_that_cannot_be_written_is_said_first(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert main(["benchmark", "builtin:smoke", "--out", str(tmp_path / "file" / "out")]) == 1
    assert capsys.readouterr().err == (
        f"error: the report cannot be written into {tmp_path / 'file' / 'out'}: Not a directory\n"
    )


def test_inspect_tells_signature_precisions_layers_gates_plans_and_key(
    artifact: ArtifactFolder, capsys: Capture
) -> None:
    assert main(["inspect", str(artifact.path)]) == 0
    said = capsys.readouterr().out
    assert f"artifact   {artifact.manifest.key}" in said
    assert "serving_default  image: image_bytes string [-1] (jpeg) -> " in said
    assert "plans: none" in said
    assert "int8-cpu: onnx/int8-cpu.image.onnx" in said
    # A 1 x 1 convolution from 3 to 8 channels at every pixel.
    assert f"{SIZE * SIZE * 3 * 8:,} MACs an image" in said
    assert "closeness  Conv      fp32" in said
    assert main(["inspect", str(artifact.path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["graphs"]) == {"int8", "int8-cpu", "fp32"}
    (layer,) = document["graphs"]["fp32"]["layers"]
    assert (layer["name"], layer["precision"], layer["macs"], layer["sqnrDb"]) == ("closeness", "fp32", 24576, None)
    assert document["labels"] == len(COLOURS)


def test_inspect_fills_noise_by_layer_from_the_builds_report(artifact: ArtifactFolder, capsys: Capture) -> None:
    layer = {"name": "closeness", "operator": "Conv", "precision": "int8", "macs": 24576, "reason": ""}
    noisy = {**layer, "sqnrDb": 33.25, "sensitivityDb": 40.0}
    report = {"graphs": [{"precision": "int8", "repairs": [], "layers": [noisy]}]}
    (artifact.path / "report.json").write_text(json.dumps(report))
    assert main(["inspect", str(artifact.path), "--json"]) == 0
    graphs = json.loads(capsys.readouterr().out)["graphs"]
    assert [graphs[name]["layers"][0]["sqnrDb"] for name in ("int8", "int8-cpu")] == [33.25, None]


def test_inspect_of_a_single_graph(artifact: ArtifactFolder, tmp_path: Path, capsys: Capture) -> None:
    graph = artifact.path / "onnx" / "fp32.tensor.onnx"
    assert main(["inspect", str(graph)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == [str(graph), "  input  image float32 [N, 32, 32, 3]", "  output probabilities float32 [N, 8]"]
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    for name, words in (("broken.onnx", "is no valid ONNX file"), ("absent.onnx", "there is no file")):
        assert main(["inspect", str(tmp_path / name)]) == 1
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


def test_two_artifacts_are_compared_by_inputs_accuracy_speed_and_files(tmp_path: Path, capsys: Capture) -> None:
    folders = []
    for name, method, rate in (("a", "mse", 100.0), ("b", "max", 150.0)):
        folder = write_tiny_artifact(tmp_path / name, key=(name * 20)).path
        manifest = ArtifactFolder(folder).manifest
        recipe = json.dumps({"method": method, "runtime": "onnxruntime-cpu"})
        row = SpeedRow(precision="int8-cpu", runtime="ONNX Runtime", batch=1, images_per_s=rate, repetitions=5)
        changed = {"inputs": {**manifest.inputs, "recipe": recipe}, "speed": (row,)}
        (folder / "manifest.json").write_text(manifest.model_copy(update=changed).model_dump_json(by_alias=True))
        folders.append(str(folder))
    assert main(["compare", *folders, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["keys"] == ["a" * 20, "b" * 20]
    assert document["inputs"] == {"recipe.method": ['"mse"', '"max"']}
    assert document["speed"] == [{"row": "int8-cpu", "batch": 1, "a": 100.0, "b": 150.0, "ratio": 1.5}]
    assert document["files"] == []
    assert main(["compare", *folders]) == 0
    said = capsys.readouterr().out
    assert 'recipe.method  "mse"  "max"' in said
    assert "1.50 x" in said
    assert "no file differs" in said
    assert main(["compare", folders[0], folders[0]]) == 0
    assert capsys.readouterr().out == f"{'a' * 20}: the same artifact, byte for byte\n"


def test_what_is_no_artifact_is_named(tmp_path: Path, capsys: Capture) -> None:
    with pytest.raises(ArtifactError, match="is no artifact: name a folder"):
        existing_artifact(str(tmp_path), tmp_path)
    assert main(["inspect", str(tmp_path)]) == 1
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 1
    assert capsys.readouterr().err.count(f"error: {tmp_path} is no artifact") == 2


def test_labels_of_imagenets_photos_count_only_for_a_model_of_its_classes(
    artifact: ArtifactFolder, tmp_path: Path
) -> None:
    small = subject(artifact, tmp_path)
    assert not small.knows_imagenet
    outputs = tuple(
        spec.model_copy(update={"shape": (-1, 1001)}) if spec.kind == "tensor" else spec
        for spec in small.signature.outputs
    )
    signature = small.signature.model_copy(update={"outputs": outputs, "label_offset": 1})
    assert replace(small, signature=signature).knows_imagenet
    assert replace(small, signature=signature).label(3) == "red"


def test_a_model_of_a_fixed_batch_is_measured_at_that_batch_alone(
    artifact: ArtifactFolder, photos: tuple[Path, ...], faked: type[FakeProcess], tmp_path: Path
) -> None:
    document = json.loads((artifact.path / "signature.json").read_text())
    document["signatures"]["tensor"]["inputs"][0]["shape"][0] = 4
    artifact.signatures = artifact.signatures.model_validate(document)
    told = Silent()
    plan = Plan(("int8",), photos, (1, 8), rounds=1, seconds=0.1)
    found = compare(subject(artifact, tmp_path), plan, tmp_path / "logs", told)
    assert {row.batch for row in found.speed} == {4}
    assert told.lines[0] == "  the model takes 4 images at once, so that is the only batch size"
    assert [spec.row for spec in faked.started] == ["int8-cpu"]


def test_on_a_gpu_rows_are_plans_and_tensorflow_must_see_it(
    artifact: ArtifactFolder,
    photos: tuple[Path, ...],
    faked: type[FakeProcess],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = "plans/nvidia-tesla-t4-sm75-trt10.13.2.6"
    (artifact.path / folder).mkdir(parents=True)
    (artifact.path / folder / "int8.image.plan").write_bytes(b"a plan")
    plan = ManifestPlan(gpu="nvidia-tesla-t4", compute_capability="7.5", tensorrt="10.13.2.6", folder=folder)
    files = {**artifact.manifest.files, f"{folder}/int8.image.plan": FileEntry(sha256="0" * 64, size=6)}
    artifact.manifest = artifact.manifest.model_copy(update={"plans": (plan,), "files": files})
    monkeypatch.setattr(device, "visible_gpus", lambda: (Gpu("Tesla T4", "7.5"),))
    asked = Plan(("native", "fp16", "int8"), photos, (1,), rounds=1, seconds=0.1)
    told = compare(subject(artifact, tmp_path), asked, tmp_path / "logs", Silent())
    assert {(row.row, row.device, row.size_bytes) for row in told.speed} == {
        ("native", "Tesla T4", 4),
        ("int8", "Tesla T4", 6),
    }
    assert [missing.reason for missing in told.missing] == [f"the artifact has no {folder}/fp16.image.plan"]
    assert {(spec.kind, spec.on_gpu) for spec in faked.started} == {("tensorflow", True), ("tensorrt", True)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--source", "builtin:smoke"),
            r"--source: builtin:smoke is builtin:smoke@.*the artifact was made from test:tiny",
        ),
        (
            ("--source", "nowhere"),
            r"--source: model\.source 'nowhere' is unknown: it is no file or folder of this machine",
        ),
        (("--source", "gs://bucket/model.tar"), r"--source: 'gs://bucket/model\.tar' names no generation"),
        (
            ("--source", "builtin:smoke", "--precisions", "fp32,int8"),
            r"--precisions has no such row: leave --source out",
        ),
    ],
)
def test_a_source_that_is_not_the_artifacts_own_is_refused_before_anything_is_measured(
    words: tuple[str, ...], said: str, artifact: ArtifactFolder, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert main(["benchmark", str(artifact.path), "--out", str(out), "--quiet", *words]) == 1
    told = capsys.readouterr()
    assert re.fullmatch(f"error: .*{said}.*\n", told.err)
    assert told.out == ""
    assert list(out.iterdir()) == []


def test_a_source_beside_another_source_is_refused_before_either_is_built(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="builtin:smoke is none: name an artifact as MODEL"):
        subject_of("builtin:smoke", REPOSITORY, tmp_path, Silent(), source="builtin:smoke")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_native_tensorflow_answers_alike_with_and_without_xla(
    artifact: ArtifactFolder, photos: tuple[Path, ...], tmp_path: Path
) -> None:
    found = subject_of(str(artifact.path), REPOSITORY, tmp_path, Silent())
    assert found.native is None, "the tiny model was made from nothing that could be read"
    of_smoke = {**artifact.manifest.inputs, "source": source_identity("builtin:smoke", REPOSITORY)}
    manifest = artifact.manifest.model_copy(update={"inputs": of_smoke})
    (artifact.path / "manifest.json").write_text(manifest.model_dump_json(by_alias=True))
    told = Silent()
    native = subject_of(str(artifact.path), REPOSITORY, tmp_path, told).native
    assert native is not None
    assert (native.output, native.layout) == ("probabilities", "nhwc")
    assert told.lines == ["  reading the TensorFlow model builtin:smoke"]
    answers = []
    for xla in (False, True):
        spec = RowSpec(
            row="native", kind="tensorflow", model=native.folder.resolve(), output=native.output, threads=1, xla=xla
        )
        prep = artifact.signatures.signatures["serving_default"].preprocessing
        start = Start(spec=spec, form="tensor", photos=photos, preprocessing=prep, layout=native.layout)
        with RowProcess(start, tmp_path / "row.log") as process:
            assert process.runtime.startswith("TensorFlow 2.")
            assert min(process.time(Setting(3, preprocessing=True), 0.01)) > 0
            answers.append(process.answers(photos))
            assert process.memory_mib() > 100
    for plain, compiled in zip(*answers, strict=True):
        assert [number for number, _ in plain] == [number for number, _ in compiled]
        np.testing.assert_allclose([score for _, score in plain], [score for _, score in compiled], rtol=1e-3)
    again = Silent()
    subject_of(str(artifact.path), REPOSITORY, tmp_path, again)
    assert again.lines == [], "it is read once"


@pytest.mark.slow
def test_a_row_that_cannot_run_is_one_line_with_its_log(artifact: ArtifactFolder, tmp_path: Path) -> None:
    start = start_of(artifact, ())
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    broken = start.spec.model_copy(update={"model": tmp_path / "broken.onnx"})
    with pytest.raises(BuildError, match=r"row fp32: .*row\.log\)") as caught:
        RowProcess(start.model_copy(update={"spec": broken}), tmp_path / "row.log")
    assert "\n" not in str(caught.value)
    with pytest.raises(BuildError, match=rf"^row fp32: photo {tmp_path}/gone\.jpg cannot be read: No such file"):
        RowProcess(start_of(artifact, [tmp_path / "gone.jpg"]), tmp_path / "row.log")
