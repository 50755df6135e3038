"""How much of a space's history has to stay, and where its log may begin then. Pure.

Retention is a promise of at least so much: a log lets go of whole segments only, from its
beginning, and never of its last one. What goes is history; what is remembered stays.

The textual form is `all`, `positions:10000` or `age:30d` (s, m, h or d).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from engram.errors import Invalid
from engram.memory.durations import DURATION_S_MAX, UNITS, duration_text, seconds_in

POSITIONS_MAX: Final = (1 << 63) - 1
AGE_S_MAX: Final = DURATION_S_MAX
_NS_PER_S: Final = 1_000_000_000
_POSITIONS: Final = re.compile(r"[0-9]{1,19}")
_FORMS: Final = f"all, positions:10000 or age:30d ({UNITS})"
_BOTH: Final = "keeps by positions or by age_s, not by both; give one of them"


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """At least the last `positions` of history stay, or those of the last `age_s` seconds. With
    neither all of it does.
    """

    positions: Annotated[int, msgspec.Meta(ge=1, le=POSITIONS_MAX)] | None = None
    age_s: Annotated[int, msgspec.Meta(ge=1, le=AGE_S_MAX)] | None = None

    def __post_init__(self) -> None:
        if self.positions is not None and self.age_s is not None:
            raise ValueError(f"a retention {_BOTH}")

    def __str__(self) -> str:
        """The textual form."""
        if self.positions is not None:
            return f"positions:{self.positions}"
        if self.age_s is None:
            return "all"
        return f"age:{duration_text(self.age_s)}"


KEEP_ALL: Final = Retention()


def check_retention(field: str, value: object) -> Retention:
    """A retention, given as one or in its textual form. Raises :class:`engram.errors.Invalid`."""
    if isinstance(value, str):
        return parse_retention(field, value)
    if not isinstance(value, Retention):
        raise Invalid.of(
            field, f"must be engram.Retention or text, as {_FORMS}; not {type(value).__name__}"
        )
    return checked_retention(field, value.positions, value.age_s)


def checked_retention(field: str, positions: object, age_s: object) -> Retention:
    """The retention of these parts; `field` leads to it in errors."""
    if positions is not None and age_s is not None:
        raise Invalid.of(field, _BOTH)
    return Retention(
        positions=_whole(f"{field}.positions", positions, POSITIONS_MAX),
        age_s=_whole(f"{field}.age_s", age_s, AGE_S_MAX),
    )


def parse_retention(field: str, text: str) -> Retention:
    """The retention that a text stands for. Raises :class:`engram.errors.Invalid`."""
    kind, _, amount = text.partition(":")
    if text == "all":
        return KEEP_ALL
    if kind == "positions" and _POSITIONS.fullmatch(amount):
        return Retention(positions=_whole(field, int(amount), POSITIONS_MAX))
    if kind == "age" and (age_s := seconds_in(amount)) is not None:
        return Retention(age_s=_whole(field, age_s, AGE_S_MAX))
    raise Invalid.of(field, f"{text[:64]!r} is no retention; give {_FORMS}")


def _whole(field: str, value: object, most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        what = "seconds" if most == AGE_S_MAX else "positions"
        raise Invalid.of(field, f"must be a whole number of {what}, from 1 to {most}")
    return int(value)


def floor(
    retention: Retention,
    durable_position: int,
    now_ns: int,
    segments: Sequence[tuple[int, int, int]],
) -> int:
    """The oldest position that must stay. Those before it may go, and are whole segments.

    `segments` are a log's, oldest first, as (first position, next position, time of the last record
    in nanoseconds since the epoch). The floor is the first position of one of them: of the first,
    if nothing may go, and never behind that of the last. Without segments it is 1.
    """
    if not segments:
        return 1
    for first_position, next_position, last_time_ns in segments[:-1]:
        if retention.positions is not None:
            may_go = next_position <= durable_position + 1 - retention.positions
        elif retention.age_s is not None:
            may_go = last_time_ns < now_ns - retention.age_s * _NS_PER_S
        else:
            may_go = False
        if not may_go:
            return first_position
    return segments[-1][0]
