"""What a revision of a memory is called by, so that somebody can change just that one. Pure.

An etag stands for one position of one incarnation of a space, and a position is never used twice:
so each revision has another one, and so have a memory of an id that was used anew, and one of a
space that was made anew. Callers take it for opaque.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from engram.errors import Invalid, Stale

Expected = frozenset[int] | None
"""The positions of which a memory's newest version must have one; None demands nothing."""
ANY: Final = "*"
_SPACE_CHARACTERS: Final = 16
_ETAG: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{1,16})")


def etag_of(space_uuid: str, position: int) -> str:
    return f"{_prefix(space_uuid)}-{position:x}"


def _prefix(space_uuid: str) -> str:
    return space_uuid.replace("-", "")[:_SPACE_CHARACTERS]


def checked_etags(field: str, given: object) -> tuple[str, ...] | None:
    """One etag or several, as they were given; None for none, or for `*`."""
    if given is None:
        return None
    etags = (given,) if isinstance(given, str) else given
    if not isinstance(etags, Iterable) or isinstance(etags, bytes):
        raise Invalid.of(field, f"must be the etag of a memory, not {type(given).__name__}")
    listed = tuple(etags)
    for etag in listed:
        if not isinstance(etag, str) or not etag:
            raise Invalid.of(field, "must be the etag of a memory, as `memory.etag` gives it")
    return None if ANY in listed else listed


def expected_of(field: str, given: object, space_uuid: str) -> Expected:
    """The positions that etags stand for in this incarnation of a space; what is none of its etags
    stands for none.
    """
    etags = checked_etags(field, given)
    if etags is None:
        return None
    found = (_ETAG.fullmatch(etag) for etag in etags)
    prefix = _prefix(space_uuid)
    return frozenset(int(each[2], 16) for each in found if each and each[1] == prefix)


def check_expected(expected: Expected, position: int, memory_id: str, memory_space_id: str) -> None:
    """Raise :class:`engram.errors.Stale` unless that position is one that was expected."""
    if expected is not None and position not in expected:
        raise Stale(
            f"memory {memory_id!r} of space {memory_space_id!r} is not what it was when its etag "
            "was read; nothing was changed. Get it again, and decide anew",
            memory_space_id=memory_space_id,
        )
