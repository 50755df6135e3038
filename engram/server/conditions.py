"""The headers by which a request says under which condition it is meant (RFC 9110, 13). Pure.

A header that an operation does not understand is refused where leaving it out of account would
do something that the caller wanted done conditionally; `If-None-Match` on what only reads is passed
over, since the whole answer is always right.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, NamedTuple

from starlette.datastructures import Headers

from engram.errors import Malformed
from engram.memory.etags import ANY

IF_MATCH: Final = "If-Match"
IF_NONE_MATCH: Final = "If-None-Match"
REPLAYED_HEADER: Final = "Idempotency-Replayed"
IDEMPOTENCY_KEY: Final = "Idempotency-Key"
_KEY: Final = re.compile(r"[ -~]{1,255}")
_NOT_KEYED: Final = (
    f"{IDEMPOTENCY_KEY} is not taken here, but by POST of memories and links, and by PATCH, DELETE "
    "(without purge) and restore of a memory, and DELETE of links. Leave it out. What reads can be "
    "repeated; so can what purges, forgets by a filter, compacts, consolidates, reopens or sets "
    "something: it does what is left to do. A space that is to be made once has an id of your own: "
    "PUT /spaces/{space} makes it or finds it, and import and fork refuse one that is there"
)
SAFE: Final = frozenset({"GET", "HEAD"})
_TAG: Final = re.compile(r'(W/)?"([!\x23-\x7e\x80-\xff]*)"')
_LIST: Final = re.compile(rf"[ \t,]*(?:{_TAG.pattern}[ \t]*(?:,[ \t,]*|$))+")


class Conditions(NamedTuple):
    """What was given: opaque tags, of which `*` is any there may be, and the key of a request that
    is to be done once; None without the header.
    """

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None
    key: str | None = None

    def held_already(self, etag: str | None) -> bool:
        """Whether the caller has what an etag stands for."""
        held = self.if_none_match
        return held is not None and (ANY in held or etag in held)


NO_CONDITIONS: Final = Conditions()


def read_conditions(headers: Headers, method: str, understood: Collection[str]) -> Conditions:
    """Raises :class:`engram.errors.Malformed` for what cannot be read or is not understood here."""
    matching = _tags(headers, IF_MATCH)
    held = _tags(headers, IF_NONE_MATCH)
    if matching is not None and IF_MATCH not in understood:
        raise Malformed(
            f"{IF_MATCH} is not understood here, but where a memory is changed: by PATCH, DELETE "
            "and restore. Leave it out"
        )
    if held is not None and IF_NONE_MATCH not in understood:
        if method not in SAFE:
            raise Malformed(
                f"{IF_NONE_MATCH} is not understood here, but where a memory is read. Leave it "
                "out; an id that lives is not remembered anew anyway"
            )
        held = None
    return Conditions(
        # Compared strongly: what is only equivalent is not what is to be changed.
        None if matching is None else tuple(tag for weak, tag in matching if not weak),
        None if held is None else tuple(tag for _, tag in held),
        idempotency_key(headers, understood),
    )


def idempotency_key(headers: Headers, understood: Collection[str] = ()) -> str | None:
    """The key that a request is to be done once by."""
    keys = headers.getlist(IDEMPOTENCY_KEY)
    if not keys:
        return None
    if IDEMPOTENCY_KEY not in understood:
        raise Malformed(_NOT_KEYED)
    if len(keys) > 1:
        raise Malformed(f"the header {IDEMPOTENCY_KEY} was sent {len(keys)} times; send it once")
    if not _KEY.fullmatch(keys[0]):
        raise Malformed(
            f"the header {IDEMPOTENCY_KEY} must have 1 to 255 printable ASCII characters, as a UUID"
        )
    return keys[0]


def _tags(headers: Headers, name: str) -> list[tuple[bool, str]] | None:
    """The tags of a header, and whether each is weak. Sent several times, it is one list."""
    values = headers.getlist(name)
    if not values:
        return None
    value = ",".join(values).strip(" \t")
    if value == ANY:
        return [(False, ANY)]
    if not _LIST.fullmatch(value):
        raise Malformed(
            f"the header {name} must be * or a list of entity tags in double quotes, as ETag gave "
            "them"
        )
    return [(bool(weak), tag) for weak, tag in _TAG.findall(value)]
