"""Times between users (aware datetimes) and columns (int64 microseconds since the epoch, UTC)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
NEVER_US: Final = (1 << 63) - 1
"""Stands for "no such time" where a column needs a number that lies behind every other."""


def to_us(time: datetime) -> int:
    """Microseconds since the epoch; `time` must be aware."""
    return (time - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


FIRST_US: Final = to_us(datetime.min.replace(tzinfo=UTC))
LAST_US: Final = to_us(datetime.max.replace(tzinfo=UTC))
"""The first and the last time that users can be shown: years 1 to 9999."""
