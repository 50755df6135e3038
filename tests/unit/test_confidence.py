"""Confidence against its formulas, worked out by hand and by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.cognition.confidence import (
    BOTH,
    COSINE_ONLY,
    COVERAGE_ONLY,
    Calibration,
    activation,
    interval,
    probability,
    use_evidence,
)

unit = st.floats(0, 1)
channel = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("cosine", "coverage", "fit"),
    [(0.5, 0.25, BOTH), (0.5, None, COSINE_ONLY), (None, 0.25, COVERAGE_ONLY)],
)
def test_activation_is_the_weighted_sum_less_the_threshold(
    cosine: float | None, coverage: float | None, fit: Calibration
) -> None:
    found = activation(
        None if cosine is None else np.array([cosine], np.float32),
        None if coverage is None else np.array([coverage], np.float32),
    )
    right = fit.cosine * (cosine or 0) + fit.coverage * (coverage or 0) - fit.threshold
    assert found.dtype == np.float64
    assert found.tolist() == pytest.approx([right])


def test_without_a_channel_there_is_no_activation() -> None:
    with pytest.raises(ValueError, match="no channel"):
        activation(None, None)


@given(channel)
def test_a_stronger_match_is_never_less_probable(cosines: list[float]) -> None:
    own = np.ones(len(cosines))
    ordered = np.sort(np.array(cosines, np.float32))
    points = probability(activation(ordered, None), own)
    assert np.all(np.diff(points) >= 0)


@given(st.floats(-50, 50), unit)
def test_probability_is_logistic_times_the_memorys_own_confidence(a: float, own: float) -> None:
    (found,) = probability(np.array([a]), np.array([own]))
    assert found == pytest.approx(own / (1 + math.exp(-a)))
    assert 0 <= found <= own


def test_at_the_threshold_retrieval_is_as_likely_as_not() -> None:
    assert probability(np.zeros(1), np.ones(1)).tolist() == [0.5]


@given(unit, st.floats(0, 1_000))
def test_the_interval_lies_within_0_and_1_and_holds_the_point(point: float, n: float) -> None:
    found = interval(point, n)
    assert found.point == point
    assert 0 <= found.lower <= found.point <= found.upper <= 1


@given(st.floats(0.01, 0.99), st.integers(1, 100), st.integers(1, 100))
def test_more_evidence_narrows_the_interval(point: float, n: int, more: int) -> None:
    few, many = interval(point, n), interval(point, n + more)
    assert many.upper - many.lower < few.upper - few.lower


@given(st.floats(0.001, 0.999), st.integers(1, 50))
def test_the_bounds_are_where_the_point_is_one_standard_error_away(point: float, n: int) -> None:
    """Wilson's bounds p solve (point - p)² = p (1 - p) / n at z = 1."""
    found = interval(point, n)
    for bound in (found.lower, found.upper):
        assert (point - bound) ** 2 == pytest.approx(bound * (1 - bound) / n, abs=1e-9)


def test_each_doubling_of_uses_is_one_trial() -> None:
    assert [use_evidence(count) for count in (0, 1, 3, 7, 1_023)] == [0, 1, 2, 3, 10]


def test_no_evidence_counts_as_one_trial() -> None:
    assert interval(0.5, 0.0) == interval(0.5, 1.0)
