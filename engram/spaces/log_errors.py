"""What users meet of the log's own errors: the same, in the words of spaces."""

from __future__ import annotations

from typing import Final

from engram.errors import (
    DataRootUnusable,
    DiskFull,
    EngramError,
    HistoryGone,
    OutcomeUnknown,
    SpaceDamaged,
    SpaceLocked,
    TooLarge,
    Unavailable,
)
from wal import errors as wal_errors

REOPEN: Final = (
    "It stays readable meanwhile; `engram space reopen`, `POST …/reopen` or `space.reopen()` goes "
    "on with what the disk holds"
)


def error_for(error: wal_errors.WalError, memory_space_id: str) -> EngramError:
    """What an error of a space's log is to its users."""
    space = f"space {memory_space_id!r}"
    match error:
        case wal_errors.Damaged():
            return SpaceDamaged(
                f"{space} is damaged: {error}. Nothing was changed; `engram log verify` on its "
                "folder lists all that is wrong",
                memory_space_id=memory_space_id,
            )
        case wal_errors.Unsupported():
            return SpaceDamaged(f"{space} cannot be read: {error}", memory_space_id=memory_space_id)
        case wal_errors.Locked():
            return SpaceLocked(
                f"{space} is in use by {error.owner or 'another process'}. Talk to that process "
                "(a server: over HTTP), or stop it first",
                memory_space_id=memory_space_id,
            )
        case wal_errors.DiskFull():
            return DiskFull(f"{space}: {error}", memory_space_id=memory_space_id)
        case wal_errors.RecordTooLarge():
            return TooLarge(f"the batch is too large: {error}", memory_space_id=memory_space_id)
        case wal_errors.Decayed():
            return SpaceDamaged(
                f"{space} is damaged: {error}. What is in memory can still be read; `engram log "
                "verify` on its folder lists all that is wrong",
                memory_space_id=memory_space_id,
            )
        case wal_errors.Truncated():
            return HistoryGone(
                f"{space}: {error}. Start from there",
                memory_space_id=memory_space_id,
                oldest_position=error.oldest_position,
            )
        case wal_errors.Poisoned():
            return OutcomeUnknown(f"{space}: {error}. {REOPEN}", memory_space_id=memory_space_id)
        case wal_errors.ReadOnly():
            return DataRootUnusable(f"{space}: {error}", memory_space_id=memory_space_id)
        case _:
            return Unavailable(f"{space}: {error}", memory_space_id=memory_space_id)
