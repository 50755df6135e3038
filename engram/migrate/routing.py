"""Which spaces a memory of a shared space goes to: by its metadata, its tags or its source. Pure.

A value becomes a space id by writing it in lower case and in ASCII, with `-` for what an id cannot
hold. Where that makes one id of two values, nobody is asked to guess: it is a problem, which a
mapping solves. So is a value of which no id can be made.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from engram.errors import Malformed, SpaceInvalid
from engram.memory.model import Memory
from engram.spaces.ids import check_space_id

SPACES_MAX: Final = 10_000
"""More spaces than this are hardly meant by anybody: the key has a value for each memory."""

NO_VALUE: Final = "no value"
UNUSABLE: Final = "a value that is not text, a number or a list of these"
SEVERAL: Final = "several spaces"
HERE: Final = "its space is the source itself"
FORMED: Final = "a belief formed here"

Several = Literal["stay", "each", "rest"]
_SLOT: Final = "{value}"
_FOREIGN: Final = re.compile(r"[^a-z0-9_-]+")


class By(NamedTuple):
    """What decides: `metadata` (with a key), `tag` or `source`."""

    field: str
    key: str = ""

    def __str__(self) -> str:
        return f"{self.field}.{self.key}" if self.key else self.field


class Problem(NamedTuple):
    """Why a value has no space of its own."""

    value: str
    space: str
    reason: str


class Route(NamedTuple):
    """Where a memory goes, by which value, or why it stays."""

    spaces: tuple[str, ...] = ()
    value: str | None = None
    stays: str | None = None


def by_of(text: str) -> By:
    """`metadata.KEY`, `tag` or `source`."""
    field, dot, key = text.partition(".")
    if (field, bool(key)) == ("metadata", True) or (text in {"tag", "source"} and not dot):
        return By(field, key)
    raise Malformed(f"--by {text!r} is not known; use metadata.KEY, tag or source")


def space_id_of(value: str, pattern: str = _SLOT) -> str:
    """The space id that a value makes. Raises :class:`engram.errors.SpaceInvalid`."""
    plain = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode().lower()
    slug = _FOREIGN.sub("-", plain).strip("-")
    if not slug.strip("_"):
        raise SpaceInvalid("no letter or digit of a space id is in it")
    return check_space_id(pattern.replace(_SLOT, slug))


class Routes:
    """The way of each memory of one space; collects the `problems` it meets."""

    def __init__(
        self,
        here: str,
        by: By,
        *,
        pattern: str = _SLOT,
        mapping: Mapping[str, str] | None = None,
        prefix: str = "",
        rest: str | None = None,
        several: Several = "stay",
    ) -> None:
        if _SLOT not in pattern:
            raise Malformed(f"--into {pattern!r} does not say where the value goes: {_SLOT}")
        if several == "rest" and rest is None:
            raise Malformed("--several rest needs --rest SPACE")
        self._here = here
        self._by = by
        self._pattern = pattern
        self._mapping = {value: check_space_id(space) for value, space in (mapping or {}).items()}
        self._prefix = prefix
        self._rest = None if rest is None else check_space_id(rest)
        self._several = several
        self._made: dict[str, str | None] = {}
        self._of_space: dict[str, str] = {}
        self.problems: dict[str, Problem] = {}

    def of(self, memory: Memory) -> Route:
        values = self._values(memory)
        if values is None:
            return Route(stays=UNUSABLE)
        if not values:
            return self._to_rest(NO_VALUE)
        spaces = {space: value for value in values if (space := self._space(value)) is not None}
        if not spaces:
            return Route(stays=NO_VALUE, value=values[0])
        if len(spaces) > 1 and self._several != "each":
            return self._to_rest(SEVERAL) if self._several == "rest" else Route(stays=SEVERAL)
        ids = tuple(sorted(space for space in spaces if space != self._here))
        if not ids:
            return Route(stays=HERE, value=values[0])
        return Route(ids, values[0] if len(values) == 1 else ", ".join(values))

    def by_space(self) -> dict[str, list[str]]:
        """The values that go to each space."""
        found: dict[str, list[str]] = {}
        for value, space in sorted(self._made.items()):
            found.setdefault(space or "", []).append(value)
        return found

    def _to_rest(self, why: str) -> Route:
        if self._rest is None:
            return Route(stays=why)
        return Route(stays=HERE) if self._rest == self._here else Route((self._rest,))

    def _values(self, memory: Memory) -> list[str] | None:
        """The values a memory has, each once; None if what it has is not a value."""
        given: object
        if self._by.field == "tag":
            given = list(memory.tags)
        elif self._by.field == "source":
            given = memory.source
        else:
            given = memory.metadata.get(self._by.key)
        if given is None:
            return []
        texts = [_text(value) for value in (given if isinstance(given, list) else [given])]
        values = [text for text in texts if text is not None]
        if len(values) < len(texts):
            return None
        cut = [v.removeprefix(self._prefix) for v in values if v.startswith(self._prefix)]
        return list(dict.fromkeys(value for value in cut if value))

    def _space(self, value: str) -> str | None:
        if value not in self._made:
            self._made[value] = self._decided(value)
            if len(self._made) > SPACES_MAX:
                raise Malformed(
                    f"{self._by} has more than {SPACES_MAX} values in {self._here!r}, so it hardly "
                    "names agents. Choose another key, or --prefix"
                )
        return self._made[value]

    def _decided(self, value: str) -> str | None:
        if value in self._mapping:
            return self._mapping[value]
        try:
            space = space_id_of(value, self._pattern)
        except SpaceInvalid as error:
            self.problems[value] = Problem(value, "", error.detail)
            return None
        other = self._of_space.setdefault(space, value)
        if other != value:
            self.problems[value] = Problem(value, space, f"{other!r} makes the same id")
        elif space in {*self._mapping.values(), self._rest}:
            self.problems[value] = Problem(value, space, "that is where others were sent")
        return space


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None
