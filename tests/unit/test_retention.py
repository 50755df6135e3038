"""Retention: its forms, what is refused, and that a floor never gives up what was to be kept."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.errors import Invalid
from engram.memory.retention import (
    AGE_S_MAX,
    KEEP_ALL,
    POSITIONS_MAX,
    Retention,
    check_retention,
    checked_retention,
    floor,
    parse_retention,
)

DAY_S = 24 * 3_600
NS = 1_000_000_000
Segments = list[tuple[int, int, int]]

retentions = st.one_of(
    st.just(KEEP_ALL),
    st.builds(Retention, positions=st.integers(1, 60) | st.integers(1, POSITIONS_MAX)),
    st.builds(Retention, age_s=st.integers(1, 60) | st.integers(1, AGE_S_MAX)),
)


@pytest.mark.parametrize(
    ("text", "retention"),
    [
        ("all", Retention()),
        ("positions:1", Retention(positions=1)),
        ("positions:10000", Retention(positions=10_000)),
        ("age:1s", Retention(age_s=1)),
        ("age:90s", Retention(age_s=90)),
        ("age:5m", Retention(age_s=300)),
        ("age:36h", Retention(age_s=36 * 3_600)),
        ("age:30d", Retention(age_s=30 * DAY_S)),
        (f"positions:{POSITIONS_MAX}", Retention(positions=POSITIONS_MAX)),
        ("age:36600d", Retention(age_s=AGE_S_MAX)),
    ],
)
def test_the_textual_forms(text: str, retention: Retention) -> None:
    assert parse_retention("retention", text) == retention
    assert str(retention) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("age:60s", "age:1m"), ("age:24h", "age:1d"), ("positions:007", "positions:7")],
)
def test_one_amount_has_one_form(text: str, shown: str) -> None:
    assert str(parse_retention("retention", text)) == shown


@given(retentions)
def test_every_retention_comes_back_from_its_forms(retention: Retention) -> None:
    assert parse_retention("retention", str(retention)) == retention
    assert msgspec.json.decode(msgspec.json.encode(retention), type=Retention) == retention
    assert check_retention("retention", retention) == retention


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "All", "all ", "all:", "all:1", "none", "10000", "30d", "positions", "age"),
        *("positions:", "positions:0", "positions:-1", "positions:1.5", "positions:1e3"),
        *("positions: 1", "positions:1 ", "positions:١", "positions:1_000", "positions:1:2"),
        *("age:", "age:30", "age:d", "age:0d", "age:-1d", "age:1.5h", "age:1w", "age:1D"),
        *("age:1d12h", "age:1d ", "age:1d\n", "Age:1d", "age:36601d", f"positions:{1 << 63}"),
        f"positions:{'9' * 5_000}",
    ],
)
def test_what_is_no_retention_is_refused_by_name(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_retention("--retention", text)
    assert [error.field for error in caught.value.errors] == ["--retention"]
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize(
    ("positions", "age_s", "field"),
    [
        (1, 1, "retention"),
        (0, None, "retention.positions"),
        (-1, None, "retention.positions"),
        (True, None, "retention.positions"),
        (1.0, None, "retention.positions"),
        ("7", None, "retention.positions"),
        (POSITIONS_MAX + 1, None, "retention.positions"),
        (None, 0, "retention.age_s"),
        (None, 1.5, "retention.age_s"),
        (None, False, "retention.age_s"),
        (None, AGE_S_MAX + 1, "retention.age_s"),
    ],
)
def test_parts_that_cannot_be_are_refused_by_name(positions: Any, age_s: Any, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        checked_retention("retention", positions, age_s)
    assert [error.field for error in caught.value.errors] == [field]
    parts = {"positions": positions, "age_s": age_s}
    with pytest.raises(msgspec.ValidationError):  # nor is it read from a log
        msgspec.convert(parts, Retention)


@pytest.mark.parametrize("value", [None, 5, True, {}, {"positions": 1}, b"all", Retention])
def test_another_type_is_refused(value: Any) -> None:
    with pytest.raises(Invalid, match="retention: must be"):
        check_retention("retention", value)


def test_a_retention_that_was_never_checked_is_checked_where_it_is_used() -> None:
    with pytest.raises(Invalid, match=r"retention\.positions"):
        check_retention("retention", Retention(positions=0))


@st.composite
def logs(draw: st.DrawFn) -> tuple[Segments, dict[int, int]]:
    """Segments that follow each other, and the time of each position in them. Any may be empty, but
    not two that begin alike; times do not run backwards.
    """
    position = draw(st.integers(1, 20))
    now_ns = draw(st.integers(0, 5)) * NS
    segments: Segments = []
    times: dict[int, int] = {}
    for size in draw(st.lists(st.integers(1, 6), max_size=6)):
        first = position
        for position in range(first, first + size):
            now_ns += draw(st.integers(0, 3)) * NS
            times[position] = now_ns
        position += 1
        segments.append((first, position, now_ns))
    if segments and draw(st.booleans()):
        segments.append((position, position, now_ns))  # a fresh one, with nothing in it yet
    return segments, times


@given(logs(), retentions, st.integers(0, 80))
def test_a_floor_keeps_what_was_asked_for_and_no_whole_segment_more(
    log: tuple[Segments, dict[int, int]], retention: Retention, now_s: int
) -> None:
    segments, times = log
    durable = max(times, default=0)
    now_ns = now_s * NS
    oldest = floor(retention, durable, now_ns, segments)
    if not segments:
        assert oldest == 1
        return
    firsts = [first for first, _, _ in segments]
    assert oldest in firsts
    if retention.positions is not None:
        wanted = {p for p in times if p > durable - retention.positions}
    elif retention.age_s is not None:
        wanted = {p for p, time_ns in times.items() if time_ns >= now_ns - retention.age_s * NS}
    else:
        wanted = set(times)
    assert all(position >= oldest for position in wanted), "something was to be kept"
    at = firsts.index(oldest)
    if at + 1 < len(segments):  # the next segment could only be the floor if nothing here is wanted
        assert any(position in wanted for position in range(oldest, segments[at][1]))


@given(logs(), retentions, st.integers(0, 80), st.integers(0, 80))
def test_a_floor_never_goes_back_as_time_passes(
    log: tuple[Segments, dict[int, int]], retention: Retention, now_s: int, later_s: int
) -> None:
    segments, times = log
    durable = max(times, default=0)
    before, after = sorted((now_s, later_s))
    assert floor(retention, durable, before * NS, segments) <= floor(
        retention, durable, after * NS, segments
    )


SEGMENTS: Segments = [(1, 11, 10 * NS), (11, 21, 20 * NS), (21, 31, 30 * NS)]


@pytest.mark.parametrize(
    ("retention", "now_s", "expected"),
    [
        (Retention(), 10**9, 1),
        (Retention(positions=30), 0, 1),
        (Retention(positions=21), 0, 1),
        (Retention(positions=20), 0, 11),
        (Retention(positions=11), 0, 11),
        (Retention(positions=10), 0, 21),
        (Retention(positions=1), 0, 21),
        (Retention(positions=POSITIONS_MAX), 0, 1),
        (Retention(age_s=10), 20, 1),
        (Retention(age_s=10), 21, 11),
        (Retention(age_s=10), 30, 11),
        (Retention(age_s=10), 31, 21),
        (Retention(age_s=10), 10**9, 21),
        (Retention(age_s=AGE_S_MAX), 30, 1),
    ],
)
def test_where_the_floor_lies(retention: Retention, now_s: int, expected: int) -> None:
    assert floor(retention, 30, now_s * NS, SEGMENTS) == expected


def test_history_that_is_gone_already_does_not_come_back() -> None:
    assert floor(KEEP_ALL, 30, 0, SEGMENTS[1:]) == 11
