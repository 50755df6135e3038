"""Every record of one segment file that verifies, wherever it stands, and what lies in between.

Replay stops at the first byte that is no record; whoever looks at a damaged file wants what is
behind it too. A piece of a file is a record, a hole (bytes that should have been records), or the
zeros that were reserved behind the last one. Whether a record continues the one before it is not
asked here.

Files are read in pieces, never mapped: a server may cut the active segment back at any moment. Of
a file of any size no more is held than its largest record.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from crc32c import crc32c

from wal import format as f
from wal.codec import Bad, Record, decode_record
from wal.vfs import File

WINDOW_BYTES: Final = 1 << 20
VOTES_MIN: Final = 2
_GAP: Final = "zeros stand where records were"


class Hole(NamedTuple):
    """Bytes from `offset` to `end` that do not verify."""

    offset: int
    end: int
    reason: str


class Zeros(NamedTuple):
    """Reserved room behind the last record, to the end of the file."""

    offset: int
    end: int


Piece = Record | Hole | Zeros


class _Window:
    """A file as last read, a piece at a time. It may be growing or shrinking meanwhile."""

    def __init__(self, file: File) -> None:
        self._file = file
        self.size = file.size()
        self._start = 0
        self._data = b""

    def view(self, offset: int, length: int) -> memoryview:
        """The bytes from `offset` on; fewer than `length` only where the file ends."""
        length = max(0, min(length, self.size - offset))
        if not self._start <= offset <= offset + length <= self._start + len(self._data):
            wanted = min(max(length, WINDOW_BYTES), self.size - offset)
            self._data, self._start = self._file.read_at(offset, wanted), offset
            if len(self._data) < wanted:
                self.size = offset + len(self._data)
        at = offset - self._start
        return memoryview(self._data)[at : at + length]


def survey(file: File, seed: int, start: int = f.SEGMENT_HEADER_BYTES) -> Iterator[Piece]:
    """The pieces of a segment from `start` on, in order and without a gap."""
    window = _Window(file)
    offset = start
    while offset < window.size:
        found = _record_at(window, offset, seed)
        if isinstance(found, Record):
            yield found
            offset = found.end
            continue
        following, used_end = _next_record(window, offset, seed)
        if following is not None:
            # Even where all of it is zeros: none are written between records.
            yield Hole(offset, following.offset, _GAP if found is None else found.reason)
            yield following
            offset = following.end
            continue
        if used_end > offset:
            used_end = min(f.padded(used_end), window.size)
            reason = "zeros, and then bytes that are no record" if found is None else found.reason
            yield Hole(offset, used_end, reason)
        if used_end < window.size:
            yield Zeros(used_end, window.size)
        return


def _record_at(window: _Window, offset: int, seed: int) -> Record | Bad | None:
    """The record at `offset`, or why there is none; None for a header's length of zeros."""
    head = window.view(offset, f.RECORD_HEADER_BYTES)
    if not any(head):
        return None
    view = head
    if len(head) == f.RECORD_HEADER_BYTES and _stored_crc(head) == f.mask(_header_crc(head, seed)):
        length = min(f.RECORD_HEADER.unpack_from(head)[1], f.PAYLOAD_BYTES_MAX)
        view = window.view(offset, f.RECORD_HEADER_BYTES + f.padded(length))
    found = decode_record(view, 0, seed)
    if isinstance(found, Record):
        return found._replace(offset=offset, end=offset + found.end)
    if isinstance(found, Bad):
        return found._replace(offset=offset)
    return None


def _next_record(window: _Window, start: int, seed: int) -> tuple[Record | None, int]:
    """The first record behind `start`, and where the last byte before it that is not zero ends."""
    used_end = start
    for at, chunk in _chunks(window, start):
        for place in _magics(chunk):
            if at + place == start:
                continue
            found = _record_at(window, at + place, seed)
            if isinstance(found, Record):
                return found, used_end
        used = bytes(chunk).rstrip(b"\0")
        if used:
            used_end = at + len(used)
    return None, used_end


def _chunks(window: _Window, start: int) -> Iterator[tuple[int, memoryview]]:
    at = start
    while at < window.size:
        chunk = window.view(at, WINDOW_BYTES)
        if not len(chunk):
            return
        yield at, chunk
        at += len(chunk)


def _magics(chunk: memoryview) -> Iterator[int]:
    """Aligned places of the bytes that begin a record. Chunks begin aligned, so none is cut."""
    data = bytes(chunk)
    place = data.find(f.RECORD_MAGIC)
    while place != -1:
        if place % f.RECORD_ALIGN == 0:
            yield place
        place = data.find(f.RECORD_MAGIC, place + 1)


def _header_crc(head: memoryview, seed: int) -> int:
    return crc32c(head[: f.RECORD_HEADER_CRC_OFFSET], seed)


def _stored_crc(head: memoryview) -> int:
    stored: int = f.CRC.unpack_from(head, f.RECORD_HEADER_CRC_OFFSET)[0]
    return stored


def recover_seed(file: File) -> int | None:
    """The seed of a segment whose header page is damaged, as its records imply it.

    A record's header checksum was calculated from the seed on, and that calculation can be run
    backwards. What comes out is believed if the record says that it is the first one (it repeats
    the seed as its `prev_crc`), or if another record gives the same; the payload's checksum has to
    match in any case.
    """
    window = _Window(file)
    votes: dict[int, int] = {}
    start = f.SEGMENT_HEADER_BYTES
    for at, chunk in _chunks(window, start):
        for place in _magics(chunk):
            head = window.view(at + place, f.RECORD_HEADER_BYTES)
            if len(head) < f.RECORD_HEADER_BYTES:
                continue
            seed = _seed_before(head)
            found = _record_at(window, at + place, seed)
            if not isinstance(found, Record):
                continue
            votes[seed] = votes.get(seed, 0) + 1
            if found.prev_crc == seed or votes[seed] >= VOTES_MIN:
                return seed
    return None


def _seed_before(head: memoryview) -> int:
    """The start value that gives a record header the checksum it holds."""
    # A CRC is affine in its start value: crc(data, seed) = crc(data, 0) ^ turned(seed).
    difference = _unmask(_stored_crc(head)) ^ _header_crc(head, 0)
    seed = 0
    for bit, (pivot, origin) in _turned_back().items():
        if difference >> bit & 1:
            difference ^= pivot
            seed ^= origin
    return seed


def _unmask(stored: int) -> int:
    """The CRC whose stored form this is; see :func:`wal.format.mask`."""
    rotated = (stored - f.MASK_DELTA) & 0xFFFFFFFF
    return ((rotated << 15) | (rotated >> 17)) & 0xFFFFFFFF


@cache
def _turned_back() -> dict[int, tuple[int, int]]:
    """By its highest bit, from the highest down: what a start value turns into, and that value.

    Start values run through 56 zero bytes, a linear and invertible map; this is its elimination.
    """
    zeros = bytes(f.RECORD_HEADER_CRC_OFFSET)
    rows: dict[int, tuple[int, int]] = {}
    for number in range(32):
        origin = 1 << number
        turned = crc32c(zeros, origin) ^ crc32c(zeros, 0)
        while turned and (bit := turned.bit_length() - 1) in rows:
            pivot, its_origin = rows[bit]
            turned, origin = turned ^ pivot, origin ^ its_origin
        rows[turned.bit_length() - 1] = (turned, origin)
    return dict(sorted(rows.items(), reverse=True))
