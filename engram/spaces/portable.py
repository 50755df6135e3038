"""What a handle can do with a space as a whole: keep it as a bundle, or copy it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from engram.bundles.files import Target, opened_target
from engram.bundles.outgoing import Outgoing
from engram.errors import Invalid
from engram.memory.model import EmbeddingSpec, ExportReport, Origin
from engram.spaces.ids import check_space_id

if TYPE_CHECKING:
    from engram.spaces.entry import Entry
    from engram.spaces.space import Space


Progress = Callable[[int, int], None]
"""Told how many memories are embedded, and how many there are."""


class Copies(Protocol):
    """Makes spaces of others; see :mod:`engram.spaces.copies`."""

    def receive(
        self, space_id: str, chunks: Iterator[bytes], as_of: int | None = None, /
    ) -> Space: ...

    def reembed(
        self,
        source: Entry,
        space_id: str,
        spec: EmbeddingSpec,
        as_of: int | None,
        progress: Progress | None,
        /,
    ) -> Space: ...

    def forget(self, source_uuid: str, /) -> None: ...


class Portable:
    """The part of :class:`engram.Space` that is about bundles.

    `origin` says what the space was made from, on the handle that making it returned; None on all
    others.
    """

    def __init__(self, entry: Entry, copies: Copies, origin: Origin | None) -> None:
        self._entry = entry
        self._copies = copies
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

    def fork(
        self,
        new_id: str,
        as_of: int | None = None,
        *,
        embedding: EmbeddingSpec | None = None,
        progress: Progress | None = None,
    ) -> Space:
        """Copy the space, durably, and return the handle of the copy: the same memories, positions
        and times, under another id. From then on they go separate ways.

        With `as_of` it is a copy of what the space was at that position, if history still leads
        there; its `origin` says where the copy ends, which is before a batch that `as_of` falls
        inside of. Raises :class:`engram.errors.SpaceExists`, `SpaceDeleted`, `SpaceInvalid`,
        `PositionBeyondEnd`, `HistoryGone`, `DiskFull`, and `EmbedderUnavailable` for an embedder
        that has to be asked.

        With `embedding`, another one than the space has, its memories are embedded anew from their
        contents: the newest revision of each id, forgotten ones too, with links and settings. What
        was before cannot come along, since its vectors are another embedder's: the history of the
        copy begins behind the position it was made from. What is remembered meanwhile is not in it.

        That may take minutes. `progress` is called with how many memories are done and how many
        there are, and ends it with whatever it raises. What was embedded is kept, so that the same
        call goes on where it was cut off, by whatever; for seven days, and not beyond a purge in
        the space or the end of it. Raises `Invalid` for a model that is not known, is the space's
        own, or is none ("caller"), and for a memory that the model can make nothing of;
        `EmbedderUnavailable` with what was done kept; `SpaceLocked` while somebody makes `new_id`
        of this space; `SpaceNotFound` if it is deleted meanwhile.
        """
        check_space_id(new_id)
        if progress is not None and not callable(progress):
            raise Invalid.of("progress", f"must be callable, not {type(progress).__name__}")
        if embedding is not None:
            return self._copies.reembed(self._entry, new_id, embedding, as_of, progress)
        bundle = self.outgoing(as_of)
        return self._copies.receive(new_id, bundle.chunks(), as_of)

    @contextmanager
    def _unstaged(self) -> Iterator[None]:
        """For a purge: what is kept for a copy to go on from holds no vector of what is purged.

        Forgotten beforehand, for a crash may follow; and behind it, for it may have begun anew.
        """
        self._copies.forget(self._entry.identity.uuid)
        try:
            yield
        finally:
            self._copies.forget(self._entry.identity.uuid)
