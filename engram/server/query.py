"""Query strings, read strictly: what a route does not know, or cannot read, is refused. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Final
from urllib.parse import parse_qsl

import msgspec

from engram.errors import Malformed
from engram.limits import FILTER_VALUES_MAX, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX
from engram.memory.model import KINDS, AsOf, Kind

PARAMETERS_MAX: Final = FILTER_VALUES_MAX + 16
POSITION_MAX: Final = (1 << 63) - 1
_DIGITS: Final = re.compile(r"[0-9]{1,19}")
_LIKE_A_TIME: Final = re.compile(r"[0-9]{4}-")
_NO_MOMENT: Final = (
    "the parameter 'as_of' must be a position, from 1 on, or an RFC 3339 time with its zone, for "
    "example 2026-05-01T09:00:00Z"
)
_AwareTime = Annotated[datetime, msgspec.Meta(tz=True)]


class Query:
    """The parameters of one request; every accessor refuses with :class:`Malformed`."""

    def __init__(self, values: Mapping[str, Sequence[str]]) -> None:
        self._values = values

    def many(self, name: str) -> tuple[str, ...]:
        """All values of a repeatable parameter."""
        return tuple(self._values.get(name, ()))

    def one(self, name: str) -> str | None:
        values = self._values.get(name, ())
        if len(values) > 1:
            raise Malformed(f"the parameter '{name}' was given {len(values)} times; give it once")
        return values[0] if values else None

    def limit(self) -> int:
        text = self.one("limit")
        limit = LIST_LIMIT_DEFAULT if text is None else _integer(text)
        if limit is None or not 1 <= limit <= LIST_LIMIT_MAX:
            raise Malformed(f"the parameter 'limit' must be an integer from 1 to {LIST_LIMIT_MAX}")
        return limit

    def flag(self, name: str) -> bool:
        text = self.one(name)
        if text not in (None, "true", "false"):
            raise Malformed(f"the parameter '{name}' must be true or false")
        return text == "true"

    def position(self, name: str) -> int | None:
        text = self.one(name)
        if text is None:
            return None
        position = _integer(text)
        if position is None or position > POSITION_MAX:
            raise Malformed(
                f"the parameter '{name}' must be a position: the 'next' of the page before"
            )
        return position

    def kind(self) -> Kind | None:
        text = self.one("kind")
        if text is None:
            return None
        for kind in KINDS:
            if text == kind:
                return kind
        raise Malformed(f"the parameter 'kind' must be one of {', '.join(KINDS)}")

    def time(self, name: str) -> datetime | None:
        text = self.one(name)
        if text is None:
            return None
        try:
            return msgspec.convert(text, _AwareTime)
        except msgspec.ValidationError:
            hint = " (in a query, '+' is written %2B)" if " " in text else ""
            raise Malformed(
                f"the parameter '{name}' must be an RFC 3339 time with its zone, for example "
                f"2026-05-01T09:00:00Z{hint}"
            ) from None

    def as_of(self) -> AsOf | None:
        """A position from 1 on, or a time."""
        text = self.one("as_of")
        if text is None:
            return None
        position = _integer(text)
        if position is None:
            if not _LIKE_A_TIME.match(text):
                raise Malformed(_NO_MOMENT)
            return self.time("as_of")
        if not 1 <= position <= POSITION_MAX:
            raise Malformed(_NO_MOMENT)
        return position

    def includes(self, choices: Collection[str]) -> frozenset[str]:
        """The parts asked for with `include=…`, comma-separated or repeated."""
        parts = frozenset(
            part for value in self._values.get("include", ()) for part in value.split(",")
        )
        if unknown := sorted(parts - frozenset(choices)):
            raise Malformed(
                f"the parameter 'include' knows {', '.join(sorted(choices))}, not '{unknown[0]}'"
            )
        return parts


def parse_query(query_string: bytes, known: Collection[str]) -> Query:
    """The parameters of a raw query string. Raises :class:`Malformed` for any not in `known`."""
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=PARAMETERS_MAX,
        )
    except UnicodeDecodeError:
        raise Malformed("the query is not percent-encoded UTF-8") from None
    except ValueError:
        raise Malformed(f"the query has more than {PARAMETERS_MAX} parameters") from None
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    for name in values:
        if name not in known:
            takes = f"known are: {', '.join(sorted(known))}" if known else "this route takes none"
            raise Malformed(f"unknown parameter '{name[:64]}'; {takes}")
    return Query(values)


def _integer(text: str) -> int | None:
    return int(text) if _DIGITS.fullmatch(text) else None
