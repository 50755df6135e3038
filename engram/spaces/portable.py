"""What a handle can do with a space as a whole: keep it as a bundle, or copy it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from engram.bundles.files import Target, opened_target
from engram.bundles.outgoing import Outgoing
from engram.memory.model import ExportReport, Origin
from engram.spaces.ids import check_space_id

if TYPE_CHECKING:
    from engram.spaces.entry import Entry
    from engram.spaces.space import Space


class Receive(Protocol):
    """Makes a space from the bytes of a bundle."""

    def __call__(
        self, space_id: str, chunks: Iterator[bytes], as_of: int | None = None, /
    ) -> Space: ...


class Portable:
    """The part of :class:`engram.Space` that is about bundles.

    `origin` says what the space was made from, on the handle that making it returned; None on all
    others.
    """

    def __init__(self, entry: Entry, receive: Receive, origin: Origin | None) -> None:
        self._entry = entry
        self._receive = receive
        self.origin = origin

    def export(self, file: Target, *, force: bool = False) -> ExportReport:
        """Write the space into one file, a bundle: its memories, and its history as it is retained.

        `file` is a path, or a binary file open for writing. A file that is named gets its name once
        all of it is on the disk; with `force` it may replace another. The bundle is the space at
        one durable position; reads and writes go on meanwhile. Raises FileExistsError and OSError;
        :class:`engram.errors.Unavailable` if a compaction let go of history meanwhile.
        """
        bundle = self.outgoing()
        with opened_target(file, force=force) as target:
            for chunk in bundle.chunks():
                target.write(chunk)
        return bundle.report

    def outgoing(self, as_of: int | None = None) -> Outgoing:
        """The space as a bundle, for surfaces that send it in their own way."""
        return Outgoing(self._entry, as_of)

    def fork(self, new_id: str, as_of: int | None = None) -> Space:
        """Copy the space, durably, and return the handle of the copy: the same memories, positions
        and times, under another id. From then on they go separate ways.

        With `as_of` it is a copy of what the space was at that position, if history still leads
        there; its `origin` says where the copy ends, which is before a batch that `as_of` falls
        inside of. Raises :class:`engram.errors.SpaceExists`, `SpaceDeleted`, `SpaceInvalid`,
        `PositionBeyondEnd`, `HistoryGone`, `DiskFull`, and `EmbedderUnavailable` for an embedder
        that has to be asked.
        """
        check_space_id(new_id)
        bundle = self.outgoing(as_of)
        return self._receive(new_id, bundle.chunks(), as_of)
