"""The one place that decides which memory space a request means. Pure.

A space can be named in two places: over HTTP by the path and by the header `X-Memory-Space`, over
gRPC by a field and by the metadata `x-memory-space`. Every surface hands in what it found, and what
comes back is one valid id or a refusal: nothing is guessed, and no name wins over another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from engram.errors import SpaceConflict, SpaceInvalid, SpaceRequired
from engram.spaces.ids import check_space_id

SPACE_HEADER: Final = "X-Memory-Space"


class Places(NamedTuple):
    """What a surface calls the place of its own for a space, and the one beside the request."""

    own: str
    beside: str
    advice: str


OVER_HTTP: Final = Places(
    "the path",
    f"the header {SPACE_HEADER}",
    f"send the header {SPACE_HEADER}, or use the path /api/v1/spaces/{{space}}/…",
)
NameSpace = Callable[[str | None, Sequence[str]], str | None]
"""What :func:`named_space` and :func:`resolve` are."""


def named_space(
    path_space: str | None, header_values: Sequence[str], places: Places = OVER_HTTP
) -> str | None:
    """The space that path and header name, or None where neither names one.

    `path_space` is None for routes whose path has no place for a space; `header_values` has one
    item for each time the header was sent. Raises :class:`SpaceConflict` for a header sent twice
    (even with equal values: what sent it is confused) or at odds with the path, and
    :class:`SpaceInvalid` for what cannot be a space id.
    """
    # A proxy may fold two header lines into one with a comma, which no space id can hold.
    if len(header_values) > 1 or any("," in value for value in header_values):
        raise SpaceConflict(f"{places.beside} names more than one space; send it once")
    if path_space is not None:
        check_space_id(path_space)
    if not header_values:
        return path_space
    header_space = header_values[0]
    if not header_space:
        raise SpaceInvalid(f"{places.beside} is empty; name a space or leave it out")
    check_space_id(header_space)
    if path_space is not None and path_space != header_space:
        raise SpaceConflict(
            f"{places.own} names the space '{path_space}', {places.beside} names "
            f"'{header_space}'; name one of them"
        )
    return header_space


def resolve(
    path_space: str | None, header_values: Sequence[str], places: Places = OVER_HTTP
) -> str:
    """As :func:`named_space`, for requests that need a space: raises :class:`SpaceRequired`."""
    space_id = named_space(path_space, header_values, places)
    if space_id is None:
        raise SpaceRequired(f"name the memory space: {places.advice}")
    return space_id


def agree(named: str | None, body_space: str | None, places: Places = OVER_HTTP) -> None:
    """Refuse a request to create a space whose header names another one than its body."""
    if named is None or named == body_space:
        return
    said = f"names '{body_space}'" if body_space is not None else "leaves the id to the server"
    raise SpaceConflict(
        f"{places.beside} names the space '{named}', the body {said}; put the id into "
        "memory_space_id and leave that out"
    )
