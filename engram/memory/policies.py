"""What a policy of :mod:`engram.memory.forgetting` may be, as a value or as text. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from engram.errors import Invalid
from engram.memory.durations import DURATION_S_MAX, UNITS, seconds_in
from engram.memory.forgetting import (
    CAPACITY_MAX,
    FORGET_NOTHING,
    GRACE_ALONE,
    LEVEL_MAX,
    Forgetting,
)
from engram.memory.kinds import KINDS
from engram.memory.validate import check_kind, check_tags, items_of

_WHOLE: Final = re.compile(r"[0-9]{1,19}")
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,32}(\.[0-9]{1,32})?(e[+-]?[0-9]{1,3})?")
_FORMS: Final = (
    f"none, or capacity:50000, threshold:-7.5, grace:1d ({UNITS}), spare:belief and "
    "spare-tag:pinned, those that are wanted, with commas between"
)
_NO_BOUND: Final = "says what to spare, but not from what; give a capacity or a threshold"


def check_forgetting(field: str, value: object) -> Forgetting:
    """A policy, given as one or in its textual form. Raises :class:`engram.errors.Invalid`."""
    if isinstance(value, str):
        return parse_forgetting(field, value)
    if not isinstance(value, Forgetting):
        raise Invalid.of(
            field, f"must be engram.Forgetting or text, as {_FORMS}; not {type(value).__name__}"
        )
    return checked_forgetting(
        field,
        capacity=value.capacity,
        threshold=value.threshold,
        grace_s=value.grace_s,
        spare_kinds=value.spare_kinds,
        spare_tags=value.spare_tags,
    )


def checked_forgetting(
    field: str,
    *,
    capacity: object,
    threshold: object,
    grace_s: object,
    spare_kinds: object,
    spare_tags: object,
) -> Forgetting:
    """The policy of these parts; `field` leads to it in errors."""
    kinds = [
        check_kind(f"{field}.spare_kinds[{i}]", kind)
        for i, kind in enumerate(items_of(f"{field}.spare_kinds", spare_kinds, "a list of kinds"))
    ]
    tags = check_tags(f"{field}.spare_tags", spare_tags)
    most = _whole(f"{field}.capacity", capacity, 1, CAPACITY_MAX, "of memories")
    least = _level(f"{field}.threshold", threshold)
    grace = _whole(f"{field}.grace_s", grace_s, 0, DURATION_S_MAX, "of seconds")
    if grace is not None and least is None:
        raise Invalid.of(f"{field}.grace_s", GRACE_ALONE)
    if most is None and least is None and (kinds or tags):
        raise Invalid.of(field, _NO_BOUND)
    return Forgetting(
        capacity=most,
        threshold=least,
        grace_s=grace,
        spare_kinds=tuple(kind for kind in KINDS if kind in kinds),
        spare_tags=tags,
    )


def parse_forgetting(field: str, text: str) -> Forgetting:
    """The policy that a text stands for. Raises :class:`engram.errors.Invalid`."""
    if text == "none":
        return FORGET_NOTHING
    said: dict[str, Any] = {"capacity": None, "threshold": None, "grace": None}
    kinds, tags = list[str](), list[str]()
    for part in text.split(","):
        name, _, value = part.partition(":")
        if name == "spare":
            kinds.append(value)
        elif name == "spare-tag":
            tags.append(value.replace("%2C", ",").replace("%25", "%"))
        elif name not in said or said[name] is not None or (found := _read(name, value)) is None:
            raise Invalid.of(field, f"{text[:64]!r} is no policy; give {_FORMS}")
        else:
            said[name] = found
    return checked_forgetting(
        field,
        capacity=said["capacity"],
        threshold=said["threshold"],
        grace_s=said["grace"],
        spare_kinds=kinds,
        spare_tags=tags,
    )


def _read(name: str, value: str) -> float | None:
    """A part of the textual form; None if it is none."""
    if name == "grace":
        return seconds_in(value)
    if name == "capacity":
        return int(value) if _WHOLE.fullmatch(value) else None
    return float(value) if _NUMBER.fullmatch(value) else None


def _whole(field: str, value: object, least: int, most: int, of: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Invalid.of(field, f"must be a whole number {of}, from {least} to {most}")
    return int(value)


def _level(field: str, value: object) -> float | None:
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not -LEVEL_MAX <= value <= LEVEL_MAX
    ):
        raise Invalid.of(field, f"must be a number from {-LEVEL_MAX:g} to {LEVEL_MAX:g}")
    return float(value)
