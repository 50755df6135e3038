"""What sources that are files have in common: lines, ids that stay the same, and no surprises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec

from engram import limits
from engram.errors import EngramError, Invalid, Malformed, TooLarge
from engram.memory.validate import check_memory_id, check_source, check_text

LINE_BYTES_MAX: Final = limits.BODY_BYTES_MAX
_BOM: Final = b"\xef\xbb\xbf"
_ID_BYTES: Final = 12


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers.

    Raises :class:`engram.errors.Malformed` if it cannot be read, and `TooLarge`.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                if len(line) > LINE_BYTES_MAX:
                    raise TooLarge(
                        f"line {number} has more than {LINE_BYTES_MAX} bytes. Is there one JSON "
                        "object a line?"
                    )
                data = line.removeprefix(_BOM) if number == 1 else line
                if data.strip():
                    yield number, data
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Malformed(f"{str(path)!r} cannot be read: {reason}") from None


def object_of(number: int, line: bytes) -> dict[str, Any]:
    """The JSON object that a line is."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Malformed(f"line {number} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Malformed(f"line {number} is not a JSON object")
    return found


def made_id(prefix: str, *parts: str) -> str:
    """An id that is the same whenever it is made of the same."""
    data = msgspec.json.encode(parts)
    return f"{prefix}-{blake2b(data, digest_size=_ID_BYTES).hexdigest()}"


def id_or_made(prefix: str, name: str) -> str:
    """`name` where it is a memory id, else one that is made of it."""
    try:
        return check_memory_id("id", name)
    except Invalid:
        return made_id(prefix, name)


def source_or_none(name: str) -> str | None:
    """`name` where a memory's source may be called so."""
    try:
        return check_source("source", name)
    except Invalid:
        return None


def tags_of(name: str) -> tuple[str, ...]:
    """`name` as the only tag, where a tag may be called so."""
    try:
        return (check_text("tag", name, limits.TAG_CHARACTERS_MAX),)
    except Invalid:
        return ()


def in_place(where: str, error: EngramError) -> EngramError:
    """The same error, saying where it is about."""
    error.detail = f"{where}: {error.detail.rstrip('.')}. Nothing was stored"
    return error


def described(format: str, path: Path, **more: Any) -> Mapping[str, Any]:
    return {"format": format, "file": str(path), **more}
