"""How much a space may hold and be asked for. Pure.

`memories` bounds the living memories, `bytes` the log (what a space's description calls so); both
are decided for each write in the writer's thread (:mod:`engram.spaces.room`). `writes_per_second`,
`recalls_per_second` and `subscribers` bound what a server does for the space
(:mod:`engram.server.rates`). A quota may be set below what is held: then nothing more comes in, and
nothing goes.

The textual form is `none`, or `memories:100000,bytes:1000000000,writes_per_second:50`: the parts
that are wanted, with commas between.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from engram.errors import Invalid, QuotaExceeded

QUOTA_MAX: Final = (1 << 63) - 1
_Amount = Annotated[int, msgspec.Meta(ge=0, le=QUOTA_MAX)] | None
_Rate = Annotated[int, msgspec.Meta(ge=1, le=QUOTA_MAX)] | None
_WHOLE: Final = re.compile(r"[0-9]{1,19}")


class Quotas(msgspec.Struct, frozen=True, kw_only=True):
    """At most so much; None is no bound of the space's own, and then a default of the server's
    may hold. The order of fields is part of the format: new ones stand at the end.
    """

    memories: _Amount = None
    bytes: _Amount = None
    writes_per_second: _Rate = None
    recalls_per_second: _Rate = None
    subscribers: _Amount = None

    def __str__(self) -> str:
        """The textual form."""
        said = msgspec.structs.asdict(self).items()
        return ",".join(f"{name}:{most}" for name, most in said if most is not None) or "none"

    def over(self, defaults: Quotas) -> Quotas:
        """These, and the defaults where they have nothing to say."""
        said = msgspec.structs.asdict(self).items()
        return msgspec.structs.replace(defaults, **{name: n for name, n in said if n is not None})


NO_QUOTAS: Final = Quotas()
QuotasGiven = Quotas | Mapping[str, int | None] | str
"""Quotas as callers name them."""
QUOTAS: Final = Quotas.__struct_fields__
_RATES: Final = frozenset({"writes_per_second", "recalls_per_second"})
_FORMS: Final = (
    f"none, or those that are wanted of {', '.join(QUOTAS)}, as memories:100000,bytes:1000000000"
)


def check_quotas(field: str, value: object) -> Quotas:
    """Quotas, given as such, as a mapping, or in their textual form. Raises
    :class:`engram.errors.Invalid`.
    """
    if isinstance(value, str):
        return parse_quotas(field, value)
    if isinstance(value, Quotas):
        return checked_quotas(field, msgspec.structs.asdict(value))
    if not isinstance(value, Mapping):
        raise Invalid.of(
            field, f"must be engram.Quotas or text, as {_FORMS}; not {type(value).__name__}"
        )
    return checked_quotas(field, value)


def checked_quotas(field: str, parts: Mapping[str, object]) -> Quotas:
    """The quotas of these parts; `field` leads to them in errors."""
    for name, most in parts.items():
        if name not in QUOTAS:
            raise Invalid.of(f"{field}.{name}", f"is no quota; there are {', '.join(QUOTAS)}")
        least = 1 if name in _RATES else 0
        if most is not None and (
            isinstance(most, bool) or not isinstance(most, int) or not least <= most <= QUOTA_MAX
        ):
            raise Invalid.of(
                f"{field}.{name}", f"must be a whole number from {least} to {QUOTA_MAX}, or null"
            )
    return Quotas(**parts)  # type: ignore[arg-type]  # checked above


def parse_quotas(field: str, text: str) -> Quotas:
    """The quotas that a text stands for. Raises :class:`engram.errors.Invalid`."""
    if text == "none":
        return NO_QUOTAS
    said: dict[str, int] = {}
    for part in text.split(",")[: len(QUOTAS) + 1]:
        name, _, amount = part.partition(":")
        if name not in QUOTAS or name in said or not _WHOLE.fullmatch(amount):
            raise Invalid.of(field, f"{text[:64]!r} says no quotas; give {_FORMS}")
        said[name] = int(amount)
    return checked_quotas(field, said)


def check_memories(most: int, living: int, more: int, memory_space_id: str) -> None:
    """Refuse `more` memories beside those that live, if that is too many."""
    if living + more > most:
        raise QuotaExceeded(
            f"space {memory_space_id!r} holds {living} memories, and its quota is {most}: there is "
            f"no room for {more} more, and nothing was stored. Forget or purge some, or raise the "
            "quota",
            memory_space_id=memory_space_id,
        )


def check_bytes(most: int, held: int, more: int, memory_space_id: str) -> None:
    """Refuse a record of `more` bytes behind a log of `held` bytes, if that is too long."""
    if held + more > most:
        raise QuotaExceeded(
            f"the log of space {memory_space_id!r} has {held} bytes, and its quota is {most}: "
            f"there is no room for the {more} that this takes, and nothing was done. Purge some "
            "memories, or keep less history (retention) and compact, or raise the quota",
            memory_space_id=memory_space_id,
        )
