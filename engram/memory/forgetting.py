"""Why memories are forgotten without anybody's asking for each. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

REQUEST: Final = "request"
EXPIRED: Final = "expired"


class Judged(NamedTuple):
    """A memory that is to be forgotten, and why; `revision` is the one that was judged."""

    id: str
    revision: int
    reason: str


class NothingLeft(Exception):
    """Of all that was judged to go, nothing has to go any more."""
