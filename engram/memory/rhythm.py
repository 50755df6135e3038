"""When a space consolidates by itself. Pure.

`after` so many new episodes, or once one has waited for `every_s` seconds, whatever comes first;
with neither only when somebody asks. New are those stored behind the last look.

The textual form is `off`, `after:100`, `every:1d` (s, m, h or d) or `after:100,every:1d`.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from engram.errors import Invalid
from engram.memory.durations import DURATION_S_MAX, UNITS, duration_text, seconds_in

AFTER_MAX: Final = 1_000_000_000
_FORMS: Final = f"off, after:100 (new episodes), every:1d ({UNITS}) or after:100,every:1d"


class Rhythm(msgspec.Struct, frozen=True, kw_only=True):
    """After how many new episodes, and at the latest how long after one, a space consolidates."""

    after: Annotated[int, msgspec.Meta(ge=1, le=AFTER_MAX)] | None = None
    every_s: Annotated[int, msgspec.Meta(ge=1, le=DURATION_S_MAX)] | None = None

    def __str__(self) -> str:
        """The textual form."""
        parts = [] if self.after is None else [f"after:{self.after}"]
        if self.every_s is not None:
            parts.append(f"every:{duration_text(self.every_s)}")
        return ",".join(parts) or "off"


OFF: Final = Rhythm()


def check_rhythm(field: str, value: object) -> Rhythm:
    """A rhythm, given as one or in its textual form. Raises :class:`engram.errors.Invalid`."""
    if isinstance(value, str):
        return parse_rhythm(field, value)
    if not isinstance(value, Rhythm):
        raise Invalid.of(
            field, f"must be engram.Rhythm or text, as {_FORMS}; not {type(value).__name__}"
        )
    return checked_rhythm(field, value.after, value.every_s)


def checked_rhythm(field: str, after: object, every_s: object) -> Rhythm:
    """The rhythm of these parts; `field` leads to it in errors."""
    return Rhythm(
        after=_whole(f"{field}.after", after, AFTER_MAX),
        every_s=_whole(f"{field}.every_s", every_s, DURATION_S_MAX),
    )


def parse_rhythm(field: str, text: str) -> Rhythm:
    """The rhythm that a text stands for. Raises :class:`engram.errors.Invalid`."""
    if text == "off":
        return OFF
    said: dict[str, int] = {}
    for part in text.split(",")[:3]:
        name, _, amount = part.partition(":")
        number = seconds_in(amount) if name == "every" else None
        if name == "after" and amount.isascii() and amount.isdigit() and len(amount) <= 19:
            number = int(amount)
        if number is None or name in said:
            raise Invalid.of(field, f"{text[:64]!r} is no rhythm; give {_FORMS}")
        said[name] = number
    return Rhythm(
        after=_whole(field, said.get("after"), AFTER_MAX),
        every_s=_whole(field, said.get("every"), DURATION_S_MAX),
    )


def _whole(field: str, value: object, most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        what = "seconds" if most == DURATION_S_MAX else "episodes"
        raise Invalid.of(field, f"must be a whole number of {what}, from 1 to {most}")
    return int(value)
