"""Times as people type them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from engram.errors import Invalid

_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)?)?"
)


_POSITION: Final = re.compile(r"[0-9]{1,19}")


def moment_of(flag: str, text: str | None) -> int | datetime | None:
    """A position, or what :func:`time_of` reads."""
    if text is not None and _POSITION.fullmatch(text):
        return int(text)
    if text is not None and not _TIME.fullmatch(text):
        raise Invalid.of(
            flag,
            f"{text!r} is neither a position nor a time. Write a position as 1200, a date as "
            "2026-05-01, or a time as 2026-05-01T09:00 or 2026-05-01T09:00:00Z",
        )
    return time_of(flag, text)


def time_of(flag: str, text: str | None) -> datetime | None:
    """A time with its zone: RFC 3339, or a date or time without zone, which is local.

    Raises :class:`engram.errors.Invalid` that shows the forms.
    """
    if text is None:
        return None
    if not _TIME.fullmatch(text):
        raise Invalid.of(
            flag,
            f"{text!r} is not a time. Write a date as 2026-05-01, a local time as "
            "2026-05-01T09:00, or one with its zone as 2026-05-01T09:00:00Z or +02:00",
        )
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise Invalid.of(flag, f"{text!r} is not a time that exists ({error})") from None
    try:
        return time if time.tzinfo is not None else time.astimezone()
    except (ValueError, OverflowError, OSError):
        raise Invalid.of(flag, f"{text!r} lies outside of the years 1 to 9999 in UTC") from None
