"""The sections of the configuration file that say how a space is to be made. Pure.

    [spaces.alpha]
    embedding = "all-minilm-l6-v2-int8"
    quotas = "memories:100000,writes_per_second:50"
    retention = "age:30d"

A section says what the flags of `engram space create alpha` would, and those of `configure` for
what can be set, in the same words. It counts when that space is made, by that command or as the
default space of a server; one that is there already keeps what it has, and if that is something
else, it is a conflict.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from engram.errors import EngramError, Malformed
from engram.limits import DIMENSIONS_MAX

SPACES: Final = "spaces"
SETTING_KEYS: Final = ("retention", "decay", "forgetting", "consolidation", "quotas")
SECTION_KEYS: Final = ("embedding", "dimensions", *SETTING_KEYS)
Section = Mapping[str, str | int]


def sections_in(table: Mapping[str, object], path: str, text: str = "") -> dict[str, Section]:
    """What a configuration file says of spaces, by their ids; `text` is the file's, for lines.

    Raises :class:`engram.errors.Malformed`, naming the file and the key.
    """
    found = table.get(SPACES, {})
    if not isinstance(found, dict):
        raise Malformed(f"{path}: {SPACES} must be sections, as [{SPACES}.alpha]")
    return {name: _section(name, section, path, text) for name, section in found.items()}


def line_of(text: str, key: str, section: str | None = None) -> str:
    """Where in a file a key stands, as `:3`; nothing where that cannot be told."""
    here: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line)
        if header is not None:
            here = re.sub(r"[\s\"']", "", header[1])
            if section is None and here.partition(".")[0] == key:
                return f":{number}"
            continue
        assigned = re.match(r"\s*[\"']?([^\"'=.\s]+)[\"']?\s*[=.]", line)
        if here == section and assigned is not None and assigned[1] == key:
            return f":{number}"
    return ""


def _section(name: str, section: object, path: str, text: str) -> Section:
    from engram.spaces.ids import check_space_id  # which a file without sections does without

    where = f"{SPACES}.{name}"
    try:
        check_space_id(name)
    except EngramError as error:
        raise Malformed(f"{path}: section {where}: {error.detail}") from None
    if not isinstance(section, dict):
        raise Malformed(f"{path}: {where} must be a section, as [{SPACES}.alpha]")
    for key, value in section.items():
        if key not in SECTION_KEYS:
            raise Malformed(
                f"{path}{line_of(text, key, where)}: unknown key {key!r} in section {where}; there "
                f"are {', '.join(SECTION_KEYS)}"
            )
        _check(f"{path}{line_of(text, key, where)}: {where}.{key}", key, value)
    return section


def _check(where: str, key: str, value: Any) -> None:
    if key == "dimensions":
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or not 1 <= value <= DIMENSIONS_MAX
        ):
            raise Malformed(f"{where} must be a whole number from 1 to {DIMENSIONS_MAX}")
        return
    if not isinstance(value, str) or not value:
        raise Malformed(f"{where} must be a string, as the flag of that name takes it")
    if key in SETTING_KEYS:
        from engram.memory.settings import checked_setting

        try:
            checked_setting(where, key, value)
        except EngramError as error:
            raise Malformed(error.detail) from None
