from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from artifact.manifest import GateResult
from model.errors import BuildError
from model.evaluate.export_gates import export_gates, need_numbers
from model.evaluate.gates import MAX_FLIP_MARGIN, quantisation_gates
from model.evaluate.metrics import (
    Scores,
    cluster_bootstrap,
    same_top1,
    softmax,
    sqnr_db,
    top2_margin,
    top_k_share,
)

RANDOM = np.random.default_rng(0)
PHOTOS = np.repeat(np.arange(20), 10)
LABELS = np.zeros(200, np.int64)


def good() -> Scores:
    """Sure of class 0 on every image."""
    scores = RANDOM.normal(0, 1, (200, 30)).astype(np.float32)
    scores[:, 0] = 8
    return scores


def noisy(scores: Scores, db: float) -> Scores:
    """The same scores with Gaussian noise so strong that the SQNR is `db`."""
    noise = RANDOM.normal(0, 1, scores.shape)
    noise -= noise.mean(1, keepdims=True)
    signal = scores - scores.mean(1, keepdims=True)
    factor = np.sqrt((signal**2).sum() / (noise**2).sum() / 10 ** (db / 10))
    disturbed: Scores = (scores + factor * noise).astype(np.float32)
    return disturbed


def by_name(gates: tuple[GateResult, ...]) -> dict[str, GateResult]:
    return {gate.name: gate for gate in gates}


def judge(reference: Scores, answer: Scores, labels: npt.NDArray[np.int64] = LABELS) -> dict[str, GateResult]:
    return by_name(quantisation_gates(reference, answer, PHOTOS, labels))


@pytest.mark.parametrize("db", [8.0, 15.0, 30.0])
def test_the_signal_to_noise_ratio_is_what_was_added(db: float) -> None:
    scores = good()
    assert sqnr_db(scores, noisy(scores, db)) == pytest.approx(db, abs=0.01)


def test_a_constant_added_to_a_row_is_no_noise() -> None:
    scores = good()
    shifted = scores + np.arange(200, dtype=np.float32)[:, None]
    assert sqnr_db(scores, shifted) > 100
    assert sqnr_db(scores, scores) == float("inf")


def test_small_metrics_by_hand() -> None:
    scores = np.array([[1.0, 3.0, 2.0], [5.0, 0.0, 1.0]], np.float32)
    np.testing.assert_allclose(softmax(scores).sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(softmax(scores)[0, 1], 1 / (1 + np.exp(-1) + np.exp(-2)), rtol=1e-6)
    np.testing.assert_allclose(top2_margin(scores), [1, 4])
    assert same_top1(scores, scores[:, ::-1]).tolist() == [True, False]
    assert top_k_share(scores, np.array([2, 0]), 1) == 0.5
    assert top_k_share(scores, np.array([2, 0]), 2) == 1


def test_the_bootstrap_resamples_photos_and_not_crops() -> None:
    values = np.ones(200)
    values[PHOTOS == 3] = 0
    spread = np.ones(200)
    spread[::20] = 0
    low, high = cluster_bootstrap(values, PHOTOS)
    assert 0.8 <= low < 0.9, "a photo may be drawn thrice"
    assert high == 1
    low, high = cluster_bootstrap(spread, np.arange(200))
    assert 0.9 < low < 0.95 < high < 1
    assert cluster_bootstrap(np.zeros(200), PHOTOS) == (0, 0)


def test_a_good_graph_passes_every_gate() -> None:
    scores = good()
    assert all(gate.passed for gate in judge(scores, noisy(scores, 25)).values())


def test_noise_fails_the_signal_to_noise_gate_alone() -> None:
    scores = good()
    failed = [name for name, gate in judge(scores, noisy(scores, 14.5)).items() if not gate.passed]
    assert failed == ["SQNR dB"]


def test_many_flips_fail_the_agreement_gate() -> None:
    scores = np.zeros((200, 30), np.float32)
    scores[:, 0], scores[:, 1] = 8, 7.99
    answer = scores.copy()
    answer[::10, 1] = 8.01  # one crop of every photo
    gates = judge(scores, answer)
    assert not gates["agreement upper bound"].passed
    assert gates["agreement upper bound"].value == pytest.approx(0.9, abs=0.01)
    assert gates["margin of flips"].passed


def test_one_confident_flip_fails_the_margin_gate_alone() -> None:
    scores = good()
    answer = scores.copy()
    answer[7, 4] = 9
    failed = [name for name, gate in judge(scores, answer).items() if not gate.passed]
    assert failed == ["margin of flips"]
    assert judge(scores, answer)["margin of flips"].value > MAX_FLIP_MARGIN


def test_lost_accuracy_fails_where_labels_exist() -> None:
    scores = good()
    labels = LABELS.copy()
    answer = scores.copy()
    answer[:10, 0] = -8
    gates = judge(scores, answer, labels)
    assert gates["top-1 loss"].value == pytest.approx(0.05)
    assert not gates["top-1 loss"].passed
    assert not gates["top-5 loss"].passed


def test_the_export_gate_passes_rounding_and_stops_more() -> None:
    scores = good()
    assert all(gate.passed for gate in export_gates(scores, scores * np.float32(1 + 2e-6)))
    gates = by_name(export_gates(scores, scores + np.float32(2e-3)))
    assert not gates["export difference"].passed


def test_an_original_that_answers_no_numbers_is_named() -> None:
    need_numbers("scores", good())
    broken = good().copy()
    broken[3, 1] = np.nan
    with pytest.raises(BuildError, match=r"^output scores of the original itself is NaN or infinite"):
        need_numbers("scores", broken)


def test_the_export_gate_lets_ties_change_and_nothing_else() -> None:
    tie = np.array([[1.0, 1.00001, 0.0]], np.float32)
    assert all(gate.passed for gate in export_gates(tie, np.array([[1.00002, 1.0, 0.0]], np.float32)))
    decided = np.array([[1.0, 1.1, 0.0]], np.float32)
    assert not by_name(export_gates(decided, np.array([[1.2, 1.1, 0.0]], np.float32)))["export class changes"].passed
