"""A file of columns: arrays that are mapped rather than read, each checked before it is used.

    header page   who the file belongs to, and the position it stands for     4096 bytes
    columns       each at a multiple of 64, zeros in between
    checks        a CRC32C for every 64 KiB of the columns' part
    table         name, dtype, shape and place of each column, as JSON
    trailer       where checks and table are, with their checksums            64 bytes

All checksums start from a seed of the space's uuid, the position and a nonce, so that no block of
another file can stand in for one of this. Opening reads the header, the table and the trailer. The
blocks of a column are verified when it is first asked for: opening costs nothing for columns that
are never used. All numbers are little-endian.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from struct import Struct
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from crc32c import crc32c

from wal.decoding import decoder_of
from wal.errors import Damaged, Foreign, Unsupported
from wal.format import mask
from wal.segment import write_all
from wal.vfs import Buffer, File

MAJOR: Final = 1
MINOR: Final = 0
PAGE_BYTES: Final = 4_096
ALIGN_BYTES: Final = 64
"""Where columns begin: aligned for any dtype and a cache line, and small where there is little."""
BLOCK_BYTES: Final = 64 << 10
SYNC_STEP_BYTES: Final = 2 << 20
"""A large file is synced as it grows: one large sync would have every other wait behind it."""
_HEADER_MAGIC: Final = b"\xe6EGCOL\r\n"
_TRAILER_MAGIC: Final = b"\xe6EGCEND\n"
# magic, major, minor, header_len, space_uuid, position, time_ns, nonce
_HEADER: Final = Struct("<8sHHI16sQQ16s")
_SEED: Final = Struct("<16sQ16s")
# magic, data_end, blocks, table_length, checks_crc, table_crc, reserved, trailer_crc
_TRAILER: Final = Struct("<8sQQQII20sI")
_CRC: Final = Struct("<I")
THREADS_MAX: Final = min(4, os.cpu_count() or 1)
BLOCKS_A_THREAD_MIN: Final = 128
# What columns may be made of: fixed in size, the same on every machine once little-endian.
DTYPES: Final = ("|u1", "|b1", "<u2", "<u4", "<u8", "<i4", "<i8", "<f4", "<f8")

# What a shape may say, an empty one too: beyond, numpy has no array for it.
SIDES_MAX: Final = 32
ELEMENTS_MAX: Final = 1 << 40

Array = npt.NDArray[Any]


class Identity(NamedTuple):
    """Whose state the columns hold, and up to which position. `nonce` has 16 random bytes."""

    space_uuid: bytes
    position: int
    time_ns: int
    nonce: bytes

    @property
    def seed(self) -> int:
        return crc32c(_SEED.pack(self.space_uuid, self.position, self.nonce))


class _Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def length(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def fits(self, end: int) -> bool:
        """Whether there can be such a column in front of byte `end`."""
        return (
            self.dtype in DTYPES
            and len(self.shape) <= SIDES_MAX
            and all(side >= 0 for side in self.shape)
            and math.prod(max(side, 1) for side in self.shape) <= ELEMENTS_MAX
            and PAGE_BYTES <= self.offset <= self.offset + self.length <= end
        )


class _Checks:
    """CRCs of consecutive blocks, fed in pieces of any size."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._crc = seed
        self._filled = 0
        self.crcs: list[int] = []

    def feed(self, data: memoryview) -> None:
        while len(data):
            part = data[: BLOCK_BYTES - self._filled]
            self._crc = crc32c(part, self._crc)
            self._filled += len(part)
            data = data[len(part) :]
            if self._filled == BLOCK_BYTES:
                self.end()

    def end(self) -> None:
        """Close the block that is being filled, if there is one."""
        if self._filled:
            self.crcs.append(mask(self._crc))
            self._crc, self._filled = self._seed, 0


def write_columns(
    file: File, identity: Identity, columns: Iterable[tuple[str, Array]]
) -> tuple[int, int]:
    """Write a column file into an empty file; returns its length and the stored trailer CRC.

    Not durable before the caller's sync. Raises ValueError for a name given twice and for a dtype
    that is not in :data:`DTYPES`.
    """
    checks = _Checks(identity.seed)
    write_all(file, 0, _encode_header(identity))
    at = PAGE_BYTES
    synced = at
    places: list[_Place] = []
    for name, values in columns:
        array = _plain(name, values)
        if any(place.name == name for place in places):
            raise ValueError(f"the column {name!r} was given twice")
        places.append(_Place(name, array.dtype.str, array.shape, at))
        data = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        for part in (*_pieces(data), memoryview(bytes(-len(data) % ALIGN_BYTES))):
            write_all(file, at, part)
            checks.feed(part)
            at += len(part)
            if at - synced >= SYNC_STEP_BYTES:
                file.sync_data()
                synced = at
    checks.end()
    crcs = np.array(checks.crcs, "<u4").tobytes()
    table = msgspec.json.encode(places)
    trailer = _encode_trailer(identity.seed, at, crcs, table)
    write_all(file, at, crcs + table + trailer)
    return at + len(crcs) + len(table) + len(trailer), _CRC.unpack(trailer[-_CRC.size :])[0]


def _pieces(data: memoryview) -> Iterator[memoryview]:
    return (data[at : at + SYNC_STEP_BYTES] for at in range(0, len(data), SYNC_STEP_BYTES))


def _plain(name: str, values: Array) -> Array:
    """The array as it is stored: contiguous and little-endian."""
    array = np.ascontiguousarray(values)
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and sys.byteorder == "big"):
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.dtype.newbyteorder("<").str not in DTYPES:
        raise ValueError(f"the column {name!r} has dtype {array.dtype}; known are {DTYPES}")
    return array


def _encode_header(identity: Identity) -> bytes:
    page = bytearray(PAGE_BYTES)
    _HEADER.pack_into(
        page,
        0,
        _HEADER_MAGIC,
        MAJOR,
        MINOR,
        PAGE_BYTES,
        identity.space_uuid,
        identity.position,
        identity.time_ns,
        identity.nonce,
    )
    crc = crc32c(memoryview(page)[: -_CRC.size])
    _CRC.pack_into(page, PAGE_BYTES - _CRC.size, mask(crc))
    return bytes(page)


def _encode_trailer(seed: int, data_end: int, crcs: bytes, table: bytes) -> bytes:
    trailer = bytearray(_TRAILER.size)
    _TRAILER.pack_into(
        trailer,
        0,
        _TRAILER_MAGIC,
        data_end,
        len(crcs) // _CRC.size,
        len(table),
        mask(crc32c(crcs, seed)),
        mask(crc32c(table, seed)),
        bytes(20),
        0,
    )
    crc = crc32c(memoryview(trailer)[: -_CRC.size], seed)
    _CRC.pack_into(trailer, _TRAILER.size - _CRC.size, mask(crc))
    return bytes(trailer)


class ColumnFile:
    """An open column file. `where` names it in errors; `view` is the whole of it, mapped.

    Columns are views on the map and keep it alive. Safe to use from several threads.
    """

    def __init__(self, where: str, view: memoryview, space_uuid: bytes | None) -> None:
        """Read header, table and trailer. With None for the uuid it may be any space's.

        Raises :class:`wal.errors.Damaged`, `Foreign` (another space's) or `Unsupported` (newer).
        """
        self.where = where
        self._view = view
        self.identity = _decode_header(where, view, space_uuid)
        self._checks, self._places, self._end = self._read_trailer()
        self._verified = np.zeros(len(self._checks), np.bool_)

    @property
    def names(self) -> Sequence[str]:
        """The columns, in the order they were written."""
        return list(self._places)

    @property
    def data(self) -> memoryview:
        """The whole file, as it was mapped."""
        return self._view

    @property
    def trailer_crc(self) -> int:
        """The stored checksum that stands for the whole file."""
        crc: int = _CRC.unpack(self._view[-_CRC.size :])[0]
        return crc

    def length_of(self, name: str) -> int:
        """The bytes that a column takes."""
        return self._places[name].length

    def column(self, name: str) -> Array:
        """A column, read-only, once its blocks have verified.

        Raises :class:`wal.errors.Damaged`; also for a column the file does not have.
        """
        place = self._places.get(name)
        if place is None:
            raise Damaged(self.where, 0, f"it has no column {name!r}")
        self._verify(place.offset, place.offset + place.length)
        data = self._view[place.offset : place.offset + place.length]
        array: Array = np.frombuffer(data, place.dtype).reshape(place.shape)
        return array

    def verify(self) -> None:
        """Check every block. Raises :class:`wal.errors.Damaged` at the first that is not whole."""
        self._verify(PAGE_BYTES, self._end)

    @property
    def end(self) -> int:
        """Where the blocks end; the first one begins behind the header page."""
        return self._end

    def check(self, offset: int, data: Buffer) -> None:
        """Check blocks that were read from the file rather than mapped: `data` from `offset` on,
        where a block begins, up to where one ends. Raises :class:`wal.errors.Damaged`.
        """
        view, seed = memoryview(data), self.identity.seed
        first = (offset - PAGE_BYTES) // BLOCK_BYTES
        for block, at in enumerate(range(0, len(view), BLOCK_BYTES), first):
            if mask(crc32c(view[at : at + BLOCK_BYTES], seed)) != self._checks[block]:
                raise Damaged(self.where, offset + at, "a block's checksum does not match")

    def _verify(self, start: int, stop: int) -> None:
        if start == stop:
            return
        first = (start - PAGE_BYTES) // BLOCK_BYTES
        last = (stop - PAGE_BYTES - 1) // BLOCK_BYTES
        blocks = first + np.flatnonzero(~self._verified[first : last + 1])
        data, seed = self._view[: self._end], self.identity.seed
        offsets = (PAGE_BYTES + blocks * BLOCK_BYTES).tolist()
        crcs = _crcs(data, offsets, seed)
        whole = np.array(crcs, np.uint32) == self._checks[blocks]
        self._verified[blocks] = whole
        if not whole.all():
            offset = offsets[int(np.argmin(whole))]
            raise Damaged(self.where, offset, "a block's checksum does not match")

    def _read_trailer(self) -> tuple[npt.NDArray[np.uint32], dict[str, _Place], int]:
        view, seed = self._view, self.identity.seed
        start = len(view) - _TRAILER.size
        if start < PAGE_BYTES:
            raise Damaged(self.where, len(view), "the file ends before its trailer")
        trailer = view[start:]
        magic, end, blocks, length, checks_crc, table_crc, _, crc = _TRAILER.unpack(trailer)
        if magic != _TRAILER_MAGIC or crc != mask(crc32c(trailer[: -_CRC.size], seed)):
            raise Damaged(self.where, start, "the trailer does not verify; the file may be cut")
        table_at = end + blocks * _CRC.size
        needed = -(-(end - PAGE_BYTES) // BLOCK_BYTES)
        if table_at + length != start or end % ALIGN_BYTES or blocks != needed:
            raise Damaged(self.where, start, "the trailer does not describe this file")
        checks, table = view[end:table_at], view[table_at:start]
        if checks_crc != mask(crc32c(checks, seed)) or table_crc != mask(crc32c(table, seed)):
            raise Damaged(self.where, end, "the table of columns does not verify")
        try:
            places = decoder_of(list[_Place]).decode(table)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Damaged(self.where, table_at, f"the table cannot be read: {error}") from error
        for place in places:
            if not place.fits(end):
                raise Damaged(self.where, table_at, f"column {place.name!r} cannot be so")
        by_name = {place.name: place for place in places}
        if len(by_name) < len(places):
            raise Damaged(self.where, table_at, "the table names a column twice")
        return np.frombuffer(checks, "<u4"), by_name, end


def begins_columns(data: bytes) -> bool:
    """Whether the first bytes of a file say that it is one of columns."""
    return data.startswith(_HEADER_MAGIC)


def _crcs(data: memoryview, offsets: Sequence[int], seed: int) -> list[int]:
    """The masked CRCs of the blocks at these offsets. Where there are many, by several threads:
    making a checksum lets others run.
    """

    def of(some: Sequence[int]) -> list[int]:
        return [mask(crc32c(data[offset : offset + BLOCK_BYTES], seed)) for offset in some]

    share = -(-len(offsets) // THREADS_MAX)
    if share < BLOCKS_A_THREAD_MIN:
        return of(offsets)
    with ThreadPoolExecutor(THREADS_MAX) as pool:
        shares = [offsets[at : at + share] for at in range(0, len(offsets), share)]
        return [crc for crcs in pool.map(of, shares) for crc in crcs]


def _decode_header(where: str, view: memoryview, space_uuid: bytes | None) -> Identity:
    if len(view) < PAGE_BYTES:
        raise Damaged(where, len(view), "the file ends inside its header page")
    page = view[:PAGE_BYTES]
    if bytes(page[: len(_HEADER_MAGIC)]) != _HEADER_MAGIC:
        raise Damaged(where, 0, "not a file of columns: the magic bytes are missing")
    (stored,) = _CRC.unpack_from(page, PAGE_BYTES - _CRC.size)
    if stored != mask(crc32c(page[: -_CRC.size])):
        raise Damaged(where, 0, "the header's checksum does not match")
    _, major, minor, _, uuid, position, time_ns, nonce = _HEADER.unpack_from(page)
    if major != MAJOR:
        raise Unsupported(
            f"{where} has format {major}.{minor}; this version reads format {MAJOR}. Upgrade "
            "Engram to open it"
        )
    if space_uuid is not None and uuid != space_uuid:
        raise Foreign(where, 0, f"this file belongs to another space (uuid {uuid.hex()})")
    return Identity(uuid, position, time_ns, nonce)
