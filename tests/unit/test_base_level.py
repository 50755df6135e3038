"""Base levels against the documented formulas, added up use by use in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.cognition.base_level import (
    US_PER_DAY,
    base_levels,
    presence,
    presence_max,
)
from engram.indexes.uses import RECENT_USES, Used
from engram.memory.decay import Decay

decays = st.one_of(
    st.builds(Decay, exponent=st.sampled_from([0.01, 0.3, 0.5, 1.0, 1.0 + 1e-9, 5.0])),
    st.builds(
        Decay, family=st.just("exponential"), half_life_s=st.sampled_from([60, 86_400, 10**9])
    ),
    st.just(Decay(family="none")),
)
DAY_S = 86_400


def used(*uses_s: list[int]) -> Used:
    """Of memories with these uses, in seconds, the first first."""
    recent = np.zeros((len(uses_s), RECENT_USES), np.int64)
    for row, times in enumerate(uses_s):
        last = times[1:][-RECENT_USES:][::-1]
        recent[row, : len(last)] = np.array(last) * 1_000_000
    return Used(
        np.array([times[0] * 1_000_000 for times in uses_s]),
        np.array([len(times) - 1 for times in uses_s]),
        recent,
    )


def counts_for(age_s: float, decay: Decay) -> float:
    if decay.family == "none":
        return 1.0
    if decay.half_life_s is not None:
        return float(2.0 ** (-max(age_s, 0) / decay.half_life_s))
    assert decay.exponent is not None
    return float((1.0 + max(age_s, 0) / DAY_S) ** -decay.exponent)


times = st.lists(st.integers(0, 10**8), min_size=1, max_size=RECENT_USES + 1).map(sorted)


@given(st.lists(times, min_size=1, max_size=5), decays, st.integers(0, 10**9))
def test_as_long_as_all_uses_are_known_it_is_their_sum(
    memories: list[list[int]], decay: Decay, now_s: int
) -> None:
    found = presence(used(*memories), decay, now_s * 1_000_000)
    levels = base_levels(used(*memories), decay, now_s * 1_000_000)
    for row, uses in enumerate(memories):
        each = [counts_for(now_s - time, decay) for time in uses]
        last, total = each[-1], sum(each)
        squashed = total / (1 + total)
        assert found.recency[row] == pytest.approx(last / (1 + last), abs=1e-12)
        assert found.frequency[row] == pytest.approx(squashed - last / (1 + last), abs=1e-9)
        if total > 1e-300:
            assert levels[row] == pytest.approx(math.log(total), abs=1e-9)
        assert 0 <= found.recency[row] + found.frequency[row] < presence_max(len(uses) - 1) + 1e-12


@given(st.integers(1, 200), st.integers(1, 10**6), decays, st.integers(0, 10**7))
def test_of_older_uses_the_mean_of_their_time_is_taken(
    more: int, every_s: int, decay: Decay, since_s: int
) -> None:
    """Between the least and the most that uses of that time could count for, and near the sum where
    they are spread evenly, as is assumed.
    """
    uses = [n * every_s for n in range(RECENT_USES + 1 + more)]
    now_s = uses[-1] + since_s
    total = math.exp(base_levels(used(uses), decay, now_s * 1_000_000)[0])
    each = [counts_for(now_s - time, decay) for time in uses]
    known = sum(each[-RECENT_USES:])
    others = more + 1
    assert known + others * each[0] <= total * (1 + 1e-9) + 1e-300
    assert total <= (known + others * each[-RECENT_USES]) * (1 + 1e-9)
    if decay.family == "none":
        assert total == pytest.approx(len(uses))


def test_what_is_spread_evenly_is_taken_for_what_it_is() -> None:
    uses = list(range(0, 200 * DAY_S, DAY_S))
    for decay in (
        Decay(),
        Decay(exponent=1.0),
        Decay(family="exponential", half_life_s=40 * DAY_S),
    ):
        found = math.exp(base_levels(used(uses), decay, 200 * DAY_S * 1_000_000)[0])
        right = sum(counts_for(200 * DAY_S - time, decay) for time in uses)
        assert found == pytest.approx(right, rel=0.02)


def test_recency_is_of_the_last_use_and_frequency_of_the_others() -> None:
    now = 100 * US_PER_DAY
    once, thrice, lately = [0], [0, 10 * DAY_S, 20 * DAY_S], [0, 99 * DAY_S]
    found = presence(used(once, thrice, lately), Decay(), now)
    assert found.frequency[0] == 0
    assert found.recency[2] > found.recency[1] > found.recency[0] > 0
    assert found.frequency[1] > found.frequency[2] > 0


def test_what_is_to_come_counts_as_now() -> None:
    found = presence(used([50], [0]), Decay(), 0)
    assert found.recency.tolist() == [0.5, 0.5]


def test_without_decay_time_does_not_count() -> None:
    early, late = (
        presence(used([0], [0, 5, 7]), Decay(family="none"), now * US_PER_DAY) for now in (1, 9_999)
    )
    for one, other in zip(early, late, strict=True):
        assert np.array_equal(one, other)
    assert early.recency.tolist() == [0.5, 0.5]
    assert early.frequency.tolist() == [0.0, 0.25]


def test_where_nothing_is_left_the_base_level_has_no_bottom() -> None:
    gone = Decay(family="exponential", half_life_s=1)
    assert base_levels(used([0]), gone, 10**9 * 1_000_000).tolist() == [-math.inf]
    assert presence(used([0]), gone, 10**9 * 1_000_000).recency.tolist() == [0.0]
