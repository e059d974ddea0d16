"""A model that takes JPEGs: encoded photos in, the original signature's classes against those that will be served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx

from artifact.manifest import Accuracy
from artifact.signature import Preprocessing
from model.build.graphs import in_form
from model.build.material import Material
from model.evaluate.jpeg_gate import Flip, jpeg_gate, served_scores
from model.evaluate.metrics import Scores
from model.source.models import JpegOriginal, SourceModel


@dataclass(frozen=True, slots=True)
class WholeWay:
    """What the original answers to the photos of a build."""

    source: SourceModel
    classifier: str
    preprocessing: Preprocessing
    names: tuple[str, ...]
    photos: tuple[bytes, ...]
    original: Scores
    line: Callable[[str], None]

    @classmethod
    def of(
        cls, original: JpegOriginal, material: Material, source: SourceModel, line: Callable[[str], None]
    ) -> WholeWay | None:
        """Run the original; None where there are no classes or no photos to compare."""
        if source.classifier is None or source.preprocessing is None or not material.judged_photos():
            return None
        photos = material.judged_photos()
        encoded = tuple(photo.path.read_bytes() for photo in photos)
        names = tuple(photo.path.name for photo in photos)
        return cls(source, source.classifier, source.preprocessing, names, encoded, original(encoded), line)

    def judge(self, row: Accuracy, graph: onnx.ModelProto) -> Accuracy:
        """Add what `graph`, in tensor form, answers to the same photos, decoded as in serving."""
        image_form = in_form(graph, "image", self.source)
        served = served_scores(image_form, self.classifier, self.photos, self.preprocessing, self.source.fixed_batch)
        gate = jpeg_gate(self.original, served, self.names)
        self.line(f"  {row.graph:<8} JPEGs in: the original's class for {gate.agreement:.3f} of {gate.photos} photos")
        flips = tuple(map(self._sentence, gate.flips))
        for flip in flips:
            self.line(f"    {flip}")
        facts = {"jpeg_agreement": gate.agreement, "flips": flips, "gates": (*row.gates, gate.result)}
        return row.model_copy(update=facts)

    def _sentence(self, flip: Flip) -> str:
        before, now = (self.source.label_of(number) for number in (flip.original, flip.answer))
        return f"{flip.photo}: {before} in the original, {now} as served (margin {flip.margin:.3f})"
