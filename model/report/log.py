"""The rows of log.txt, in the words of TensorFlow's own TensorRT benchmark (tensorflow/models, research/tensorrt)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from model.report.content import Comparison, Speed
from model.report.text import in_order


def log_lines(comparison: Comparison) -> Iterator[str]:
    """For each row its speed and latency, then the labels that it gives each photo, then rows that are missing."""
    for speed in comparison.speed:
        yield from _speed(speed)
    for photo in comparison.photos:
        yield f"Photo: {photo.photo}" + (f" ({photo.label})" if photo.label else "")
        for row in in_order(photo.answers):
            yield f"Precision:  {row} {[answer.label for answer in photo.answers[row]]}"
    for missing in comparison.missing:
        yield f"not measured: {missing.row}: {missing.reason}"


def _speed(speed: Speed) -> Iterator[str]:
    what = ", ".join(part for part in (f"{speed.row} {speed.runtime}", speed.options, speed.note) if part)
    form = "with preprocessing" if speed.preprocessing else "without preprocessing"
    yield "=========================="
    yield (
        f"network: {what}, {form}, {speed.threads} threads on {speed.device},\t batchsize {speed.batch}, "
        f"repetitions {len(speed.samples)}, steps {len(speed.calls)}"
    )
    mean = statistics.fmean(speed.samples)
    deviation = statistics.median(abs(sample - speed.images_per_s) for sample in speed.samples)
    # 1.4826 makes the median deviation of a normal distribution its standard deviation.
    yield f"  fps \tmedian: {speed.images_per_s:.1f}, \tmean: {mean:.1f}, \tjitter: {1.4826 * deviation:.1f}"
    if speed.p50_ms is not None:
        words = [f"median: {speed.p50_ms / 1000:.5f}", f"mean: {statistics.fmean(speed.calls) / 1000:.5f}"]
        if speed.p99_ms is not None:
            words.append(f"99th_p: {speed.p99_ms / 1000:.5f}")
        yield "  latency \t" + ", \t".join(words)
