"""Which requests were answered, and how: so that one that comes again is told the same.

Theory of operation. An answer is kept with the events that it told of, in one record, so that
either both are there or neither. Here they are by the digest of their key, for :data:`KEPT_US` from
the time of their record; whether one counts is asked with the time of the record that would be
next, so a replay decides as the first run did, whatever the clock says meanwhile. Answers are
documents in a column, oldest first; one that was kept long enough goes when the next one comes.

Purging a memory takes with it what answers said that name it: of such an answer only its key stays.
Since the answer lies in a record, and that may hold no event of that memory (it told how the memory
was, and changed nothing), the positions of such records are known for as long as history is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Set
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from engram.indexes.columns import BytesView, GrowingColumn, LayeredBytes, LayeredView

KEPT_US: Final = 24 * 3_600 * 1_000_000
Int64Array = npt.NDArray[np.int64]


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """An answer. `key` and `request` are digests; `request` is empty once it was purged, and then
    so is all that follows it. `body` is compressed.
    """

    key: bytes
    request: bytes
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    ids: tuple[str, ...] = ()

    @property
    def purged(self) -> bool:
        return not self.request


class _Named(msgspec.Struct, frozen=True, array_like=True):
    """The ids of a :class:`Kept`, without what stands before them."""

    key: msgspec.Raw
    request: msgspec.Raw
    status: msgspec.Raw
    headers: msgspec.Raw
    body: msgspec.Raw
    ids: tuple[str, ...]


_encode: Final = msgspec.msgpack.Encoder().encode
_kept: Final = msgspec.msgpack.Decoder(Kept)
_named: Final = msgspec.msgpack.Decoder(_Named)
_ids: Final = msgspec.msgpack.Decoder(tuple[str, ...])


class AnswerColumns(NamedTuple):
    """Answers as a checkpoint holds them: documents, the times of their records, ascending, and
    the positions of records whose answer names memories that they hold no event of, with all the
    ids that it names.
    """

    documents: BytesView
    times_us: Int64Array
    positions: Int64Array
    names: BytesView

    def check(self) -> None:
        """Raises :class:`ValueError` for columns that do not belong together."""
        if (
            len(self.documents) != len(self.times_us)
            or len(self.names) != len(self.positions)
            or (self.times_us[1:] < self.times_us[:-1]).any()
            or (self.positions[1:] <= self.positions[:-1]).any()
        ):
            raise ValueError("its answers do not belong together")


def no_answers() -> AnswerColumns:
    nothing = BytesView(np.empty(0, np.uint8), np.zeros(1, np.uint64))
    return AnswerColumns(nothing, np.empty(0, np.int64), np.empty(0, np.int64), nothing)


class FrozenAnswers(NamedTuple):
    """Answers that stay as they are. `stripped` are the positions of records whose answers hold
    what was purged since the state began, `elsewhere` those that name what they have no event of.
    """

    documents: LayeredView
    times_us: Int64Array
    first: int
    purged: frozenset[int]
    replaced: frozenset[int]
    elsewhere: dict[int, tuple[str, ...]]
    stripped: frozenset[int]

    def kept(self, drop_to: int, gone: Set[str]) -> AnswerColumns:
        """As columns, where history begins behind `drop_to`, and `gone` are purged later."""
        documents = []
        rows = [r for r in range(self.first, len(self.times_us)) if r not in self.replaced]
        for row in rows:
            document = self.documents.get(row)
            if row in self.purged or not gone.isdisjoint(_named.decode(document).ids):
                document = _encode(_stripped(_kept.decode(document)))
            documents.append(document)
        named = {
            position: ids
            for position, ids in sorted(self.elsewhere.items())
            if position > drop_to and gone.isdisjoint(ids)
        }
        return AnswerColumns(
            _blobs(documents),
            self.times_us[rows],
            np.array(list(named), np.int64),
            _blobs([_encode(ids) for ids in named.values()]),
        )


def _stripped(kept: Kept) -> Kept:
    return Kept(kept.key, b"")


def _blobs(blobs: list[bytes]) -> BytesView:
    offsets = np.zeros(len(blobs) + 1, np.uint64)
    np.cumsum([len(blob) for blob in blobs], out=offsets[1:])
    return BytesView(np.frombuffer(b"".join(blobs), np.uint8), offsets)


class Answers:
    """See the module. One thread changes them; any may call `find`."""

    __slots__ = (
        "_changing",
        "_documents",
        "_elsewhere",
        "_first",
        "_purged",
        "_replaced",
        "_rows",
        "_stripped",
        "_times_us",
    )

    def __init__(self, columns: AnswerColumns | None = None) -> None:
        """Begin with what a checkpoint holds. Raises :class:`ValueError` for what is no answer."""
        columns = columns or no_answers()
        self._documents = LayeredBytes(columns.documents)
        self._times_us = GrowingColumn.of(columns.times_us)
        self._first = 0
        self._purged: set[int] = set()
        self._replaced: set[int] = set()
        try:
            documents = map(columns.documents.get, range(len(columns.documents)))
            self._rows = {_kept.decode(each).key: row for row, each in enumerate(documents)}
            self._elsewhere = {
                position: _ids.decode(columns.names.get(row))
                for row, position in enumerate(columns.positions.tolist())
            }
        except msgspec.MsgspecError as error:
            raise ValueError(f"an answer cannot be read: {error}") from error
        self._stripped: set[int] = set()
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, kept: Kept, position: int, time_us: int, held: Iterable[str]) -> None:
        """Keep an answer of the record at a position, which holds events of the memories `held`."""
        if not kept.key:
            return  # of a space that this one is a copy of
        with self._changing:
            for row in self._over(time_us):
                if row not in self._replaced:
                    del self._rows[_kept.decode(self._documents.get(row)).key]
                self._replaced.discard(row)
                self._purged.discard(row)
                self._first = row + 1
            before = self._rows.get(kept.key)
            if before is not None:
                self._replaced.add(before)
            self._rows[kept.key] = len(self._documents)
            self._documents.extend([_encode(kept)])
            self._times_us.append(time_us)
            if not set(kept.ids).issubset(held):
                self._elsewhere[position] = kept.ids

    def _over(self, time_us: int) -> Iterator[int]:
        """The rows that were kept long enough by then, oldest first."""
        times_us = self._times_us.view()
        end = int(np.searchsorted(times_us, time_us - KEPT_US, side="right"))
        yield from range(self._first, end)

    def find(self, key: bytes, time_us: int) -> Kept | None:
        """What a key was answered, for a request that comes at that time."""
        with self._changing:
            row = self._rows.get(key)
            if row is None or int(self._times_us.view()[row]) <= time_us - KEPT_US:
                return None
            kept = _kept.decode(self._documents.get(row))
            return _stripped(kept) if row in self._purged else kept

    def purge(self, ids: Set[str]) -> None:
        """Keep nothing of what was said of these memories."""
        with self._changing:
            for row in range(self._first, len(self._documents)):
                if not ids.isdisjoint(_named.decode(self._documents.get(row)).ids):
                    self._purged.add(row)
            for position, named in list(self._elsewhere.items()):
                if not ids.isdisjoint(named):
                    del self._elsewhere[position]
                    self._stripped.add(position)

    def frozen(self) -> FrozenAnswers:
        """For the thread that changes them."""
        return FrozenAnswers(
            self._documents.view(),
            self._times_us.view(),
            self._first,
            frozenset(self._purged),
            frozenset(self._replaced),
            dict(self._elsewhere),
            frozenset(self._stripped),
        )
