"""What each parameter may be, by its name. Pure.

The tables of operations say which parameters each of them takes; what one means is the same
everywhere but where :data:`ELSEWHERE` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from engram import limits
from engram.memory.event_types import EVENT_TYPES
from engram.memory.kinds import KINDS
from engram.server.events import SPACES_PER_STREAM_MAX
from engram.server.query import PARAMETERS_MAX, POSITION_MAX

Schema = dict[str, Any]

SPACE_ID: Final[Schema] = {
    "type": "string",
    "pattern": f"^[a-z0-9][a-z0-9_-]{{0,{limits.SPACE_ID_CHARACTERS_MAX - 1}}}$",
    "description": "No name that Windows reserves (`con`, `nul`, `com1` …).",
}
_NOWHERE: Final = r"\/\\\x00-\x1f\x7f-\x9f"
"""What no place of an id may have; spaces only the first and the last may not be."""
MEMORY_ID: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": limits.MEMORY_ID_CHARACTERS_MAX,
    "pattern": f"^[^\\s{_NOWHERE}](?:[^{_NOWHERE}]*[^\\s{_NOWHERE}])?$",
    "description": "Printable characters, and not `.` or `..`.",
}
POSITION: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": POSITION_MAX}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}


class Parameter(NamedTuple):
    """One parameter. A schema of an array: it may be given several times."""

    description: str
    schema: Schema
    required: bool = False


PARAMETERS: Final[Mapping[str, Parameter]] = {
    "after": Parameter(
        "Continue behind this position: the `next` of the page before.",
        {"type": "integer", "minimum": 0, "maximum": POSITION_MAX},
    ),
    "as_of": Parameter(
        "As the space was at this position, or at this time.", {"anyOf": [POSITION, TIME]}
    ),
    "deleted": Parameter("Also spaces that were deleted and can be restored.", {"type": "boolean"}),
    "from": Parameter("`occurred_at` (else `stored_at`) at or behind this time.", TIME),
    "include": Parameter(
        "What else to answer.",
        {"type": "array", "items": {"enum": ["embedding"]}, "maxItems": PARAMETERS_MAX},
    ),
    "incarnation": Parameter(
        "The `space_uuid` of events seen so far: 410 if the id belongs to another space by now.",
        {"type": "string"},
    ),
    "kind": Parameter("Only memories of this kind.", {"enum": list(KINDS)}),
    "limit": Parameter(
        "How many to answer at most.",
        {
            "type": "integer",
            "minimum": 1,
            "maximum": limits.LIST_LIMIT_MAX,
            "default": limits.LIST_LIMIT_DEFAULT,
        },
    ),
    "memory_id": Parameter("The memory at either end of the links.", MEMORY_ID, required=True),
    "purge": Parameter("Gone for good, instead of forgotten.", {"type": "boolean"}),
    "relation": Parameter(
        "The link of this relation; needed where there are several.",
        {"type": "string", "minLength": 1, "maxLength": limits.RELATION_CHARACTERS_MAX},
    ),
    "source": Parameter(
        "Only memories of this source.",
        {"type": "string", "minLength": 1, "maxLength": limits.SOURCE_CHARACTERS_MAX},
    ),
    "space": Parameter(
        "A space to follow. Several make one stream of all of them.",
        {
            "type": "array",
            "items": SPACE_ID,
            "maxItems": SPACES_PER_STREAM_MAX,
            "uniqueItems": True,
        },
    ),
    "tag": Parameter(
        "Only memories that have all of these tags.",
        {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": limits.TAG_CHARACTERS_MAX},
            "maxItems": limits.TAGS_PER_MEMORY_MAX,
        },
    ),
    "to": Parameter("`occurred_at` (else `stored_at`) before this time.", TIME),
    "type": Parameter(
        "Only events of these types.",
        {
            "type": "array",
            "items": {"enum": list(EVENT_TYPES)},
            "maxItems": PARAMETERS_MAX,
        },
    ),
}

_RESUME: Final = Parameter(
    "The id of the last event that was seen; `0` for all of history. Without it and "
    "`Last-Event-ID`, only what comes is sent.",
    {"type": "string"},
)
ELSEWHERE: Final[Mapping[tuple[str, str], Parameter]] = {
    ("list_spaces", "after"): Parameter(
        "Continue behind this space: the `next` of the page before.", SPACE_ID
    ),
    ("events", "after"): _RESUME,
    ("events_of_several", "after"): _RESUME,
}
"""By operation and parameter, where one means something else."""

PATH_PARAMETERS: Final[Mapping[str, Parameter]] = {
    "space": Parameter("The memory space.", SPACE_ID),
    "id": Parameter("The memory.", MEMORY_ID),
    "source": Parameter("The memory where the link begins.", MEMORY_ID),
    "target": Parameter("The memory where the link ends.", MEMORY_ID),
}


def parameter_of(operation: str, name: str) -> Parameter:
    """Raises :class:`KeyError` for a parameter that nothing is said about."""
    return ELSEWHERE.get((operation, name)) or PARAMETERS[name]
