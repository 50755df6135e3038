"""What can go wrong with a log. Every error of this package descends from :class:`WalError`.

They are split by whose fault it is: the caller's (:class:`Closed`, :class:`RecordTooLarge`,
:class:`Truncated`), the environment's (:class:`Locked`, :class:`DiskFull`, :class:`NoDescriptor`,
:class:`ReadOnly`), the disk's (:class:`Poisoned`, :class:`OutcomeUnknown`) or the data's
(:class:`Damaged`, :class:`Foreign`, :class:`Unsupported`).
"""

from __future__ import annotations

from typing import ClassVar


class WalError(Exception):
    """Root of everything `wal` raises on purpose."""


class Closed(WalError):
    """The log was closed; open it again."""


class RecordTooLarge(WalError):
    """One atomic record is larger than the format allows; split the request."""


class PositionOutOfRange(WalError):
    """A read was asked to start at a position this log does not hold."""


class Truncated(WalError):
    """A read was asked to start at a position that history no longer holds."""

    def __init__(self, position: int, oldest_position: int) -> None:
        super().__init__(f"position {position} is gone; the oldest one held is {oldest_position}")
        self.oldest_position = oldest_position


class Locked(WalError):
    """Another process owns the folder."""

    def __init__(self, where: str, owner: str) -> None:
        super().__init__(f"{where} is in use by {owner or 'another process'}")
        self.where = where
        self.owner = owner


class ReadOnly(WalError):
    """The folder cannot be written (permissions or a read-only mount)."""


class DiskFull(WalError):
    """No room for the write. Nothing of the failed group remains in the log."""

    lack: ClassVar[str] = "no room left"
    advice: ClassVar[str] = "free some space"


class NoDescriptor(WalError):
    """No file can be opened just now. As with a full disk, nothing of the failed group remains."""

    lack: ClassVar[str] = "no descriptor left"
    advice: ClassVar[str] = "raise the limit (ulimit -n)"


class Poisoned(WalError):
    """An earlier write or sync failed in a way that leaves the disk's state unknown.

    Nothing is retried: after a failed fsync the kernel may report success for data that is gone.
    The log has to be closed and recovered.
    """


class Decayed(Poisoned):
    """History that was verified once no longer is: the log takes no more writes, nor readers."""


class OutcomeUnknown(Poisoned):
    """Raised to the callers whose writes were in the group whose sync failed."""


class Damaged(WalError):
    """Bytes that were durable once do not verify. Nothing was changed.

    `file` is the path inside the space's folder, `offset` the byte where it starts.
    """

    def __init__(self, file: str, offset: int, reason: str) -> None:
        super().__init__(f"{file} at byte {offset}: {reason}")
        self.file = file
        self.offset = offset
        self.reason = reason


class Foreign(Damaged):
    """A file of another space, or of another incarnation of this one, lies in the folder."""


class Unsupported(WalError):
    """The file was written by a newer version, or uses features that this one does not know."""
