"""A bundle's bytes, written and read in one pass without seeking. Sans-io.

    opening   magic, version, nonce, checksum                      64 bytes
    document  what it is of, as JSON                               one piece
    base      where history does not begin at 1: a column file     pieces
    records   positions, times, flags and payloads as in the log   pieces
    end       totals, and a digest of all before it                one piece

Each piece has a head of 16 bytes that says its kind and length, and is checked before they are
believed; each checksum starts from the one before, so no piece can be lost, moved or exchanged.
There are no names of files, no links and no compression in it: nothing leads out of a bundle, and
reading one takes no more room than it has bytes. Numbers are little-endian.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from struct import Struct
from typing import Final, NamedTuple

import msgspec
from crc32c import crc32c

from engram.memory.model import EmbeddingSpec
from wal.decoding import decoder_of
from wal.format import EVENTS_PER_RECORD_MAX, PAYLOAD_BYTES_MAX, mask
from wal.vfs import Buffer

MAJOR: Final = 1
MINOR: Final = 0
MAGIC: Final = b"\xe6EGBUN\r\n"
MEDIA_TYPE: Final = "application/vnd.engram.bundle"
NONCE_BYTES: Final = 16
BASE_PART_BYTES: Final = 1 << 20
DOCUMENT_BYTES_MAX: Final = 64 << 10
POSITION_MAX: Final = (1 << 63) - 1
OPENING_BYTES: Final = 64
DOCUMENT, BASE, RECORD, END = 1, 2, 3, 4
_OPENING: Final = Struct("<8sHH16s")
_CRC: Final = Struct("<I")
# kind, zero, length, header_crc, payload_crc
_HEAD: Final = Struct("<HHIII")
_HEAD_CRC_OFFSET: Final = 8
# position, time_ns, events, type, flags
_RECORD: Final = Struct("<QQIHH")
# base bytes, records, events, bytes before the end piece, digest of these
_END: Final = Struct("<QQQQ32s")
_LENGTH_MAX: Final = {
    DOCUMENT: DOCUMENT_BYTES_MAX,
    BASE: BASE_PART_BYTES,
    RECORD: _RECORD.size + PAYLOAD_BYTES_MAX,
    END: _END.size,
}


class BundleError(Exception):
    """A bundle that is damaged, cut short, contradicts itself, or is from a newer version."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"{reason} (at byte {offset})")
        self.offset = offset
        self.reason = reason


class BundleDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle is of: a space up to `position`, with the history behind `base_position`.

    `base_bytes` is the length of the column file that stands for what is not in that history.
    """

    memory_space_id: str
    space_uuid: str
    generation: int
    created_us: int
    exported_us: int
    embedding: EmbeddingSpec
    base_position: int
    base_bytes: int
    position: int


class BasePart(NamedTuple):
    """A part of the base's column file."""

    data: bytes


class BundledRecord(NamedTuple):
    """One record, as it was in the log."""

    position: int
    time_ns: int
    events: int
    type: int
    flags: int
    payload: Buffer

    @property
    def next_position(self) -> int:
        return self.position + self.events


class Totals(NamedTuple):
    """What a bundle holds. `bytes` and `digest` (hexadecimal) are of all of it before its end."""

    base_bytes: int
    records: int
    events: int
    bytes: int
    digest: str


Piece = BundleDocument | BasePart | BundledRecord | Totals


class _Sum:
    """What is counted and digested alike by who writes and who reads."""

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=32)
        self.chain = 0
        self.bytes = 0
        self.base_bytes = self.records = self.events = 0

    def take(self, *parts: Buffer) -> None:
        for part in parts:
            self._digest.update(part)
            self.bytes += memoryview(part).nbytes

    def totals(self) -> Totals:
        digest = self._digest.hexdigest()
        return Totals(self.base_bytes, self.records, self.events, self.bytes, digest)


class BundleEncoder:
    """Makes a bundle piece by piece. `totals` are complete once :meth:`end` was called."""

    def __init__(self, nonce: bytes) -> None:
        self._sum = _Sum()
        self._nonce = nonce
        self.totals: Totals | None = None

    def begin(self, document: BundleDocument) -> bytes:
        opening = bytearray(OPENING_BYTES)
        _OPENING.pack_into(opening, 0, MAGIC, MAJOR, MINOR, self._nonce)
        crc = crc32c(memoryview(opening)[: -_CRC.size])
        _CRC.pack_into(opening, OPENING_BYTES - _CRC.size, mask(crc))
        self._sum.take(opening)
        self._sum.chain = crc
        return bytes(opening) + self._piece(DOCUMENT, msgspec.json.encode(document))

    def base(self, part: Buffer) -> bytes:
        """A part of the base, of :data:`BASE_PART_BYTES` at most."""
        self._sum.base_bytes += memoryview(part).nbytes
        return self._piece(BASE, part)

    def record(self, record: BundledRecord) -> bytes:
        self._sum.records += 1
        self._sum.events += record.events
        head = _RECORD.pack(*record[:-1])
        return self._piece(RECORD, head, record.payload)

    def end(self) -> bytes:
        self.totals = totals = self._sum.totals()
        return self._piece(END, _END.pack(*totals[:-1], bytes.fromhex(totals.digest)))

    def _piece(self, kind: int, *parts: Buffer) -> bytes:
        length = sum(memoryview(part).nbytes for part in parts)
        head = bytearray(_HEAD.pack(kind, 0, length, 0, 0))
        crc = crc32c(memoryview(head)[:_HEAD_CRC_OFFSET], self._sum.chain)
        _CRC.pack_into(head, _HEAD_CRC_OFFSET, mask(crc))
        for part in parts:
            crc = crc32c(part, crc)
        _CRC.pack_into(head, _HEAD_CRC_OFFSET + _CRC.size, mask(crc))
        self._sum.chain = crc
        self._sum.take(head, *parts)
        return b"".join((head, *parts))


class BundleDecoder:
    """Takes a bundle in parts of any size and gives its pieces, each once it has verified.

    Nothing that was given counts before :meth:`finish` has returned: only the end says that all is
    there. Holds one piece at most.
    """

    def __init__(self) -> None:
        self._sum = _Sum()
        self._buffer = bytearray()
        self._at = 0
        self._opened = False
        self._head: tuple[int, int, int, int] | None = None
        self._next_position = 0
        self._time_ns = 0
        self.document: BundleDocument | None = None
        self.totals: Totals | None = None

    def feed(self, data: Buffer) -> Iterator[Piece]:
        """The pieces that are whole with this. Raises :class:`BundleError`."""
        self._buffer += data
        if not self._opened and not self._open():
            return
        while (piece := self._next()) is not None:
            yield piece
        if self.totals is not None and self._buffer:
            raise BundleError(self._at, "bytes follow its end")

    def finish(self) -> Totals:
        """To be called when no more comes. Raises :class:`BundleError` unless all was there."""
        if self.totals is None:
            raise BundleError(self._at + len(self._buffer), "it is cut short")
        return self.totals

    def _open(self) -> bool:
        start = bytes(self._buffer[: len(MAGIC)])
        if start != MAGIC[: len(start)]:
            raise BundleError(0, "it is not a bundle: the magic bytes are missing")
        if len(self._buffer) < OPENING_BYTES:
            return False
        opening = self._take(OPENING_BYTES)
        (stored,) = _CRC.unpack_from(opening, OPENING_BYTES - _CRC.size)
        crc = crc32c(memoryview(opening)[: -_CRC.size])
        if stored != mask(crc):
            raise BundleError(0, "the checksum of its opening does not match")
        _, major, minor, _ = _OPENING.unpack_from(opening)
        if major != MAJOR:
            raise BundleError(
                0,
                f"it has format {major}.{minor}, and this version reads format {MAJOR}: upgrade "
                "Engram to import it",
            )
        self._sum.take(opening)
        self._sum.chain = crc
        self._opened = True
        return True

    def _take(self, length: int) -> bytes:
        data = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        self._at += length
        return data

    def _next(self) -> Piece | None:
        if self.totals is not None:
            return None
        if self._head is None:
            if len(self._buffer) < _HEAD.size:
                return None
            self._head = self._checked_head()
        kind, length, crc, payload_crc = self._head
        if len(self._buffer) < _HEAD.size + length:
            return None
        start = self._at
        head, payload = self._take(_HEAD.size), self._take(length)
        self._head = None
        crc = crc32c(payload, crc)
        if payload_crc != mask(crc):
            raise BundleError(start, "the checksum of a piece does not match")
        piece = self._read(kind, payload, start)
        self._sum.take(head, payload)
        self._sum.chain = crc
        return piece

    def _checked_head(self) -> tuple[int, int, int, int]:
        kind, zero, length, head_crc, payload_crc = _HEAD.unpack_from(self._buffer)
        crc = crc32c(bytes(self._buffer[:_HEAD_CRC_OFFSET]), self._sum.chain)
        if head_crc != mask(crc):
            raise BundleError(self._at, "the checksum of a piece's head does not match")
        if zero or kind not in _LENGTH_MAX or length > _LENGTH_MAX[kind]:
            raise BundleError(self._at, f"a piece of kind {kind} and {length} bytes cannot be")
        return kind, length, crc, payload_crc

    def _read(self, kind: int, payload: bytes, start: int) -> Piece:
        if (kind == DOCUMENT) != (self.document is None):
            raise BundleError(start, "its document is not where it belongs")
        match kind:
            case 1:
                return self._read_document(payload, start)
            case 2:
                return self._read_base(payload, start)
            case 3:
                return self._read_record(payload, start)
            case _:
                return self._read_end(payload, start)

    def _read_document(self, payload: bytes, start: int) -> BundleDocument:
        try:
            document = decoder_of(BundleDocument).decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BundleError(start, f"its document cannot be read: {error}") from None
        if not (
            0 <= document.base_position <= document.position <= POSITION_MAX
            and document.position >= 1
            and 0 <= document.base_bytes <= POSITION_MAX
            and (document.base_position > 0) == (document.base_bytes > 0)
            and _is_uuid(document.space_uuid)
        ):
            raise BundleError(start, "its document contradicts itself")
        self._next_position = document.base_position + 1
        self.document = document
        return document

    def _read_base(self, payload: bytes, start: int) -> BasePart:
        self._sum.base_bytes += len(payload)
        if not payload or self._sum.records or self._sum.base_bytes > self._wanted.base_bytes:
            raise BundleError(start, "a part of the base stands where none belongs")
        return BasePart(payload)

    def _read_record(self, payload: bytes, start: int) -> BundledRecord:
        if len(payload) < _RECORD.size:
            raise BundleError(start, "a record is cut short")
        position, time_ns, events, type_, flags = _RECORD.unpack_from(payload)
        if not (
            self._sum.base_bytes == self._wanted.base_bytes
            and position == self._next_position
            and 1 <= events <= EVENTS_PER_RECORD_MAX
            and position + events - 1 <= self._wanted.position
            and self._time_ns <= time_ns
        ):
            raise BundleError(start, "a record stands where it does not belong")
        self._next_position, self._time_ns = position + events, time_ns
        self._sum.records += 1
        self._sum.events += events
        return BundledRecord(position, time_ns, events, type_, flags, payload[_RECORD.size :])

    def _read_end(self, payload: bytes, start: int) -> Totals:
        totals = self._sum.totals()
        if (
            payload != _END.pack(*totals[:-1], bytes.fromhex(totals.digest))
            or totals.base_bytes != self._wanted.base_bytes
            or self._next_position != self._wanted.position + 1
        ):
            raise BundleError(start, "its end does not say what came before it")
        self.totals = totals
        return totals

    @property
    def _wanted(self) -> BundleDocument:
        if self.document is None:
            raise BundleError(self._at, "its document is missing")
        return self.document


def _is_uuid(text: str) -> bool:
    return len(text) == 32 and all(character in "0123456789abcdef" for character in text)
