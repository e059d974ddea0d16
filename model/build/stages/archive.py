"""Put the artifact together: its files, the archive of them, and the manifest last."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Mapping

from artifact.archive import file_entry, write_archive
from artifact.folder import LABELS_FILE, dump
from artifact.key import ArtifactInputs, artifact_key
from artifact.manifest import MANIFEST_FILE, Manifest, SpeedRow, graph_path
from artifact.signature import SIGNATURE_FILE
from model.build.graphs import PRECISIONS, forms_of
from model.build.machine import machine_class, tool_versions
from model.build.stage import StageWork
from model.build.stages import evaluate, plan, source, speed
from model.plan.plans import plan_files
from model.report.content import BuildReport, Comparison, Machine
from model.report.files import write_report


def pack(work: StageWork, inputs: ArtifactInputs, run: str) -> Manifest:
    """Write the artifact into `work.folder`; its manifest names `run`."""
    model = source.load(work.earlier["source"])
    plans = plan.plans(work)
    made = {
        graph_path(precision, form): evaluate.graph_file(work, precision, form)
        for precision in PRECISIONS
        for form in forms_of(model)
    }
    made |= {name: work.earlier["plan"] / name for name in plan_files(work.earlier["plan"], plans)}
    for name, path in made.items():
        (work.folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, work.folder / name)
    names = [SIGNATURE_FILE, *made]
    (work.folder / SIGNATURE_FILE).write_bytes(dump(model.signatures()))
    if model.labels:
        (work.folder / LABELS_FILE).write_text("".join(f"{label}\n" for label in model.labels), encoding="utf-8")
        names.append(LABELS_FILE)
    manifest = Manifest(
        key=artifact_key(inputs),
        runtime=work.request.runtime,
        weights=model.weights,
        inputs=inputs.as_dict(),
        tools=tool_versions(),
        archive=write_archive(work.folder, names),
        files={name: file_entry(work.folder / name) for name in sorted(names)},
        precisions=PRECISIONS,
        plans=plans,
        accuracy=evaluate.accuracy(work),
        speed=tuple(
            SpeedRow(
                precision=row.row,
                runtime=row.runtime,
                batch=row.batch,
                images_per_s=round(row.images_per_s, 1),
                repetitions=len(row.samples),
            )
            for row in speed.speed(work)
        ),
        run=run,
    )
    (work.folder / MANIFEST_FILE).write_bytes(dump(manifest))
    return manifest


def report(
    work: StageWork, manifest: Manifest, seconds: Mapping[str, float], reused: frozenset[str], peak_gib: float
) -> None:
    """Write report.json and report.html beside the manifest, and the comparison's rows into log.txt."""
    machine = Machine(machine_class(), tool_versions(), dt.datetime.now(tz=dt.UTC).date().isoformat())
    comparison = Comparison(
        model=work.request.source,
        machine=machine,
        speed=speed.speed(work),
        photos=speed.photo_answers(work),
    )
    content = BuildReport(
        manifest=manifest,
        comparison=comparison,
        graphs=evaluate.layers(work),
        seconds=dict(seconds),
        cached=reused,
        peak_gib=peak_gib,
        sources={**source.load(work.earlier["source"]).facts, **manifest.inputs},
    )
    write_report(work.folder, content)
