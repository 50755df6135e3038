"""A bundle's bytes: they come back however they are cut, and no damage to them goes unnoticed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from random import Random

import msgspec
import pytest
from crc32c import crc32c

from engram.bundles import codec
from engram.bundles.codec import (
    BASE_PART_BYTES,
    OPENING_BYTES,
    BasePart,
    BundleDecoder,
    BundleDocument,
    BundledRecord,
    BundleEncoder,
    BundleError,
    Piece,
    Totals,
)
from engram.memory.model import EmbeddingSpec
from wal.format import EVENTS_PER_RECORD_MAX, PAYLOAD_BYTES_MAX, mask

DOCUMENT = BundleDocument(
    memory_space_id="alpha",
    space_uuid="ab" * 16,
    generation=3,
    created_us=1_000,
    exported_us=2_000,
    embedding=EmbeddingSpec(model="caller", dimensions=2),
    base_position=4,
    base_bytes=300,
    position=9,
)
BASE = bytes(range(250)) + bytes(50)
RECORDS = [
    BundledRecord(5, 10, 2, 1, 0, b"a payload of two events"),
    BundledRecord(7, 10, 1, 1, 1, b""),
    BundledRecord(8, 11, 2, 1, 0, bytes(100)),
]


def encoded(
    document: BundleDocument = DOCUMENT,
    base: bytes = BASE,
    records: list[BundledRecord] | None = None,
) -> bytes:
    encoder = BundleEncoder(b"n" * 16)
    parts = [encoder.begin(document)]
    parts += [encoder.base(base[at : at + 200]) for at in range(0, len(base), 200)]
    parts += [encoder.record(record) for record in (RECORDS if records is None else records)]
    return b"".join([*parts, encoder.end()])


def decoded(data: bytes, sizes: Iterator[int] | None = None) -> list[Piece]:
    decoder, pieces, at = BundleDecoder(), list[Piece](), 0
    while at < len(data):
        size = len(data) if sizes is None else next(sizes)
        pieces += decoder.feed(data[at : at + size])
        at += size
    decoder.finish()
    return pieces


def test_what_was_written_comes_back_however_it_is_cut() -> None:
    data = encoded()
    pieces = decoded(data)
    assert pieces[0] == DOCUMENT
    assert b"".join(piece.data for piece in pieces if isinstance(piece, BasePart)) == BASE
    assert [piece for piece in pieces if isinstance(piece, BundledRecord)] == RECORDS
    totals = pieces[-1]
    assert isinstance(totals, Totals)
    assert totals[:3] == (300, 3, 5)
    rng = Random(1)
    assert decoded(data, iter(lambda: 1, None)) == pieces
    for _ in range(50):
        assert decoded(data, iter(lambda: rng.randint(1, 90), None)) == pieces


def test_every_truncation_is_noticed() -> None:
    data = encoded()
    assert len(data) <= 12 << 10
    for length in range(len(data)):
        with pytest.raises(BundleError):
            decoded(data[:length])


def test_every_flipped_bit_is_noticed() -> None:
    data = encoded()
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            with pytest.raises(BundleError):
                decoded(bytes(changed))


@pytest.mark.parametrize("more", [b"\0", b"more", encoded()], ids=["zero", "some", "another"])
def test_nothing_may_follow_the_end(more: bytes) -> None:
    for sizes in (None, iter(lambda: 7, None)):
        with pytest.raises(BundleError, match="follow"):
            decoded(encoded() + more, sizes)


def pieces_of(data: bytes) -> list[bytes]:
    """The opening, then each piece."""
    found, at = [data[:OPENING_BYTES]], OPENING_BYTES
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        found.append(data[at : at + 16 + length])
        at += 16 + length
    return found


def test_no_piece_can_be_lost_doubled_moved_or_exchanged() -> None:
    parts, other = pieces_of(encoded()), pieces_of(encoded(records=[*RECORDS[:2], RECORDS[2]]))
    assert parts == other
    strange = pieces_of(encoded(msgspec.structs.replace(DOCUMENT, space_uuid="cd" * 16)))
    for index in range(len(parts)):
        changed = [
            parts[:index] + parts[index + 1 :],
            parts[: index + 1] + parts[index:],
            [*parts[:index], parts[(index + 1) % len(parts)], *parts[index + 1 :]],
        ]
        if index > 0:  # nonce and version are the same in both, and so is the opening
            changed.append([*parts[:index], strange[index], *parts[index + 1 :]])
        for each in changed:
            with pytest.raises(BundleError):
                decoded(b"".join(each))


def reopened(**fields: int) -> Callable[[bytes], bytes]:
    """Another opening, whose checksum is right, with the pieces chained to it."""

    def change(data: bytes) -> bytes:
        opening = bytearray(data[:OPENING_BYTES])
        struct.pack_into("<H", opening, 8, fields["major"])
        crc = crc32c(bytes(opening[:-4]))
        struct.pack_into("<I", opening, OPENING_BYTES - 4, mask(crc))
        return bytes(opening) + data[OPENING_BYTES:]

    return change


def test_a_newer_format_is_refused_and_says_so() -> None:
    with pytest.raises(BundleError, match="upgrade Engram"):
        decoded(reopened(major=2)(encoded()))


def with_head(kind: int, length: int, zero: int = 0) -> bytes:
    """An opening and a document, then a head whose checksum is right."""
    encoder = BundleEncoder(b"n" * 16)
    start = encoder.begin(DOCUMENT)
    head = struct.pack("<HHI", kind, zero, length)
    crc = crc32c(head, encoder._sum.chain)
    return start + head + struct.pack("<II", mask(crc), 0)


@pytest.mark.parametrize(
    ("kind", "length", "zero"),
    [
        (0, 0, 0),
        (5, 10, 0),
        (1, codec.DOCUMENT_BYTES_MAX + 1, 0),
        (2, BASE_PART_BYTES + 1, 0),
        (3, PAYLOAD_BYTES_MAX + 25, 0),
        (3, 0xFFFFFFFF, 0),
        (4, 65, 0),
        (3, 100, 1),
    ],
)
def test_a_length_that_cannot_be_is_refused_before_anything_is_waited_for(
    kind: int, length: int, zero: int
) -> None:
    with pytest.raises(BundleError, match="cannot be"):
        list(BundleDecoder().feed(with_head(kind, length, zero)))


WRONG: list[tuple[str, Callable[[], bytes]]] = [
    ("too little base", lambda: encoded(base=BASE[:-1])),
    ("too much base", lambda: encoded(base=BASE + b"x")),
    ("no base", lambda: encoded(base=b"")),
    ("a record is missing", lambda: encoded(records=RECORDS[:2])),
    ("a gap", lambda: encoded(records=[RECORDS[0], RECORDS[2]])),
    ("twice", lambda: encoded(records=[RECORDS[0], *RECORDS])),
    ("too many", lambda: encoded(records=[*RECORDS, BundledRecord(10, 11, 1, 1, 0, b"")])),
    ("beyond", lambda: encoded(records=[RECORDS[0]._replace(events=6)])),
    ("no events", lambda: encoded(records=[RECORDS[0]._replace(events=0), *RECORDS])),
    (
        "more events than a record may have",
        lambda: encoded(
            msgspec.structs.replace(DOCUMENT, position=1 << 40),
            records=[RECORDS[0]._replace(events=EVENTS_PER_RECORD_MAX + 1)],
        ),
    ),
    ("backwards in time", lambda: encoded(records=[RECORDS[0]._replace(time_ns=12), *RECORDS[1:]])),
    ("base behind the end", lambda: encoded(msgspec.structs.replace(DOCUMENT, base_position=10))),
    ("a base of nothing", lambda: encoded(msgspec.structs.replace(DOCUMENT, base_position=0))),
    ("no position", lambda: encoded(msgspec.structs.replace(DOCUMENT, position=-1))),
    (
        "a uuid that is a path",
        lambda: encoded(msgspec.structs.replace(DOCUMENT, space_uuid="../x")),
    ),
    ("huge", lambda: encoded(msgspec.structs.replace(DOCUMENT, position=1 << 63))),
]


@pytest.mark.parametrize("make", [make for _, make in WRONG], ids=[name for name, _ in WRONG])
def test_what_contradicts_itself_is_refused_although_every_checksum_is_right(
    make: Callable[[], bytes],
) -> None:
    with pytest.raises(BundleError):
        decoded(make())


def test_a_document_with_more_in_it_is_refused() -> None:
    encoder = BundleEncoder(b"n" * 16)

    class More(BundleDocument, frozen=True, kw_only=True):
        path: str

    more = More(**msgspec.structs.asdict(DOCUMENT), path="../../somewhere")
    with pytest.raises(BundleError, match="unknown field"):
        list(BundleDecoder().feed(encoder.begin(more)))


def test_a_decoder_holds_one_piece_at_most() -> None:
    data = encoded(
        msgspec.structs.replace(DOCUMENT, base_position=0, base_bytes=0, position=200),
        b"",
        [BundledRecord(n, 1, 1, 1, 0, bytes(1_000)) for n in range(1, 201)],
    )
    decoder, most = BundleDecoder(), 0
    for at in range(0, len(data), 100):
        list(decoder.feed(data[at : at + 100]))
        most = max(most, len(decoder._buffer))
    decoder.finish()
    assert most < 1_300
