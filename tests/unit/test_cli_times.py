"""Times as people type them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from engram.cli.times import moment_of, time_of
from engram.errors import Invalid


@pytest.fixture(autouse=True)
def two_hours_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "XYZ-02:00")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-05-01", datetime(2026, 4, 30, 22, tzinfo=UTC)),
        ("2026-05-01T09:00", datetime(2026, 5, 1, 7, tzinfo=UTC)),
        ("2026-05-01 09:00:30", datetime(2026, 5, 1, 7, 0, 30, tzinfo=UTC)),
        ("2026-05-01T09:00:00Z", datetime(2026, 5, 1, 9, tzinfo=UTC)),
        ("2026-05-01t09:00:00z", datetime(2026, 5, 1, 9, tzinfo=UTC)),
        ("2026-05-01T09:00:00.5-01:30", datetime(2026, 5, 1, 10, 30, 0, 500_000, tzinfo=UTC)),
        ("2026-05-01T09:00+02:00", datetime(2026, 5, 1, 7, tzinfo=UTC)),
    ],
)
def test_a_time_without_a_zone_is_local(text: str, expected: datetime) -> None:
    assert time_of("--at", text) == expected


def test_no_time_is_none() -> None:
    assert time_of("--at", None) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "2026", "2026-05", "20260501", "2026-W01-1", "01.05.2026", "1777626000"),
        *("2026-05-01T9:00", "2026-05-01T09", "2026-05-01T24:61", "2026-02-29", "2026-13-01"),
        *("2026-05-01T09:00:00+25:00", "2026-05-01Z", "2026-05-01T09:00:00 Z", "２０２６-05-01"),
        *("2026-05-01T23:59:60Z", "2026-05-01\n"),
    ],
)
def test_all_else_is_refused_with_the_flag(text: str) -> None:
    with pytest.raises(Invalid, match=r"^--at: .* not a time"):
        time_of("--at", text)


def test_a_local_time_that_has_none_in_utc_is_said_to_lie_outside() -> None:
    with pytest.raises(Invalid, match="'0001-01-01' lies outside of the years 1 to 9999 in UTC"):
        time_of("--at", "0001-01-01")


def test_a_moment_is_a_position_or_a_time() -> None:
    assert moment_of("--as-of", "1200") == 1200
    assert moment_of("--as-of", "2026") == 2026
    assert moment_of("--as-of", "2026-05-01") == datetime(2026, 4, 30, 22, tzinfo=UTC)
    assert moment_of("--as-of", None) is None


@pytest.mark.parametrize("text", ["", "-1", "1.5", "yesterday", "12:00", "9" * 20, "\u0661"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=r"--as-of: .* is neither a position nor a time"):
        moment_of("--as-of", text)


def test_a_moment_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Invalid, match="not a time that exists"):
        moment_of("--as-of", "2026-02-30")
