"""Lengths of time as people write them: `30d`, `36h`, `5m`, `90s`. Pure."""

from __future__ import annotations

import re
from typing import Final

DURATION_S_MAX: Final = 100 * 366 * 24 * 3_600
"""A century, so that what is computed from it stays a time."""
UNITS: Final = "s, m, h or d"
_UNITS_S: Final = {"d": 24 * 3_600, "h": 3_600, "m": 60, "s": 1}
_DURATION: Final = re.compile(r"([0-9]{1,19})([smhd])")


def seconds_in(text: str) -> int | None:
    """How many seconds a text stands for, None if it is no length of time."""
    found = _DURATION.fullmatch(text)
    return None if found is None else int(found[1]) * _UNITS_S[found[2]]


def duration_text(seconds: int) -> str:
    """The textual form, in the largest unit that it is a multiple of."""
    unit = next((unit for unit, length in _UNITS_S.items() if seconds % length == 0), "s")
    return f"{seconds // _UNITS_S[unit]}{unit}"
