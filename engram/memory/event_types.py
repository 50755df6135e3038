"""The names of the types of events. They load nothing, so that help can show them at once."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class EventType(StrEnum):
    """The types of events there are, as a command line names them too."""

    SPACE_CREATED = "space.created"
    SPACE_CONFIGURED = "space.configured"
    SPACE_DELETED = "space.deleted"
    SPACE_RESTORED = "space.restored"
    SPACE_COMPACTED = "space.compacted"
    MEMORY_STORED = "memory.stored"
    MEMORY_REVISED = "memory.revised"
    MEMORY_FORGOTTEN = "memory.forgotten"
    MEMORY_RESTORED = "memory.restored"
    MEMORY_PURGED = "memory.purged"
    MEMORY_LINKED = "memory.linked"
    MEMORY_UNLINKED = "memory.unlinked"
    MEMORY_CONSOLIDATED = "memory.consolidated"
    MEMORY_RECALLED = "memory.recalled"
    ACTIVATION_SPREAD = "activation.spread"
    HISTORY_REDACTED = "history.redacted"
    REQUEST_ANSWERED = "request.answered"


EVENT_TYPES: Final = tuple(type_.value for type_ in EventType)
