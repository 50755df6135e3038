"""Fuzzes the reader of bundles.

Three kinds of input, chosen by the first byte. *Raw*: the rest is taken for the bundle, in pieces
of changing size. *Repaired*: the rest is a list of pieces, whose heads and checksums are made to
match, so that what they say is all that can be wrong. *Structured*: the rest chooses a bundle,
which comes back; then a byte changes, or it is cut or goes on, and it is refused.

    python -m fuzz.bundle -max_total_time=300
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from struct import Struct
from typing import Final

import atheris

from fuzz.driver import Surprise, fuzz

with atheris.instrument_imports(include=["engram.bundles"]):
    from engram.bundles import codec
    from engram.bundles.codec import (
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

NAME: Final = "bundle"
NONCE: Final = b"n" * codec.NONCE_BYTES
RECORDS_MAX: Final = 4
BYTES_MAX: Final = 60
HEAD: Final = Struct("<BB")


def target(data: bytes) -> None:
    """One input; raises if any property does not hold."""
    if not data:
        return
    match data[0] % 3:
        case 0:
            check_structured(atheris.FuzzedDataProvider(data[1:]))
        case 1:
            check_read(data[1:])
        case _:
            check_read(repaired(data[1:]))


def read(data: bytes, step: int) -> list[Piece] | None:
    """All pieces of a bundle that comes in parts of that size; None if it was refused."""
    decoder, pieces = BundleDecoder(), list[Piece]()
    try:
        for at in range(0, len(data), step):
            pieces += decoder.feed(data[at : at + step])
        decoder.finish()
    except BundleError:
        return None
    return pieces


def check_read(data: bytes) -> None:
    """However it is cut it is the same, and what it holds adds up to what it says."""
    whole = read(data, max(len(data), 1))
    if read(data, 29) != whole:
        raise Surprise("it depends on how the bundle is cut")
    if whole is None:
        return
    document, *contents, totals = whole
    if not isinstance(document, BundleDocument) or not isinstance(totals, Totals):
        raise Surprise(f"{whole} begins or ends with something else")
    parts = [piece for piece in contents if isinstance(piece, BasePart)]
    records = [piece for piece in contents if isinstance(piece, BundledRecord)]
    position = document.base_position
    for record in records:
        if record.position != position + 1:
            raise Surprise(f"{record} follows position {position}")
        position = record.next_position - 1
    if position != document.position or len(parts) + len(records) != len(contents):
        raise Surprise(f"{document} holds {contents}")
    if sum(len(part.data) for part in parts) != document.base_bytes:
        raise Surprise(f"{document} has a base of another length")


def repaired(data: bytes) -> bytes:
    """Pieces whose heads are right: a document, then kinds and lengths as `data` says."""
    encoder = BundleEncoder(NONCE)
    base, position = data[:2].ljust(2, b"\0")
    out = encoder.begin(document_of(base, base, max(base + position % 8, 1)))
    at = 2
    while at + HEAD.size <= len(data):
        kind, length = HEAD.unpack_from(data, at)
        payload = data[at + HEAD.size : at + HEAD.size + length]
        at += HEAD.size + length
        if kind % 5 == codec.END:
            out += encoder.end()
        else:
            out += encoder._piece(kind % 5, payload)
    return out


def document_of(base_position: int, base_bytes: int, position: int) -> BundleDocument:
    return BundleDocument(
        memory_space_id="alpha",
        space_uuid="ab" * 16,
        generation=1,
        created_us=1,
        exported_us=2,
        embedding=EmbeddingSpec(model="caller", dimensions=2),
        base_position=base_position,
        base_bytes=base_bytes,
        position=position,
    )


def drawn(choices: atheris.FuzzedDataProvider) -> bytes:
    """A bundle that is right."""
    base = choices.ConsumeBytes(choices.ConsumeIntInRange(0, BYTES_MAX))
    base_position = choices.ConsumeIntInRange(1, 1 << 40) if base else 0
    at, time_ns, records = base_position + 1, 0, list[BundledRecord]()
    for _ in range(choices.ConsumeIntInRange(0 if base else 1, RECORDS_MAX)):
        events = choices.ConsumeIntInRange(1, 1 << 16)
        time_ns += choices.ConsumeIntInRange(0, 1 << 40)
        payload = choices.ConsumeBytes(choices.ConsumeIntInRange(0, BYTES_MAX))
        flags = choices.ConsumeIntInRange(0, 0xFFFF)
        records.append(BundledRecord(at, time_ns, events, 1, flags, payload))
        at += events
    encoder = BundleEncoder(NONCE)
    data = encoder.begin(document_of(base_position, len(base), at - 1))
    data += encoder.base(base) if base else b""
    data += b"".join(encoder.record(record) for record in records)
    return data + encoder.end()


def check_structured(choices: atheris.FuzzedDataProvider) -> None:
    """A bundle comes back; whatever happens to its bytes, it is refused."""
    data = drawn(choices)
    if read(data, len(data)) is None:
        raise Surprise("a bundle that is right was refused")
    check_read(data)
    changed = bytearray(data)
    at = choices.ConsumeIntInRange(0, len(data) - 1)
    match choices.ConsumeIntInRange(0, 3):
        case 0 | 1:
            changed[at] ^= choices.ConsumeIntInRange(1, 255)
        case 2:
            del changed[at:]
        case _:
            changed += choices.ConsumeBytes(8) or b"\0"
    if (found := read(bytes(changed), choices.ConsumeIntInRange(1, 500))) is not None:
        raise Surprise(f"a bundle changed at byte {at} was read as {found}")


def seeds() -> Iterator[bytes]:
    """Bundles with and without a base, as each kind of input."""
    rng = Random(NAME)
    for _ in range(4):
        choices = rng.randbytes(200)
        yield b"\0" + choices
        yield b"\1" + drawn(atheris.FuzzedDataProvider(choices))
    record = codec._RECORD.pack(1, 5, 1, 1, 0) + b"payload"
    later = codec._RECORD.pack(4, 5, 2, 1, 0)
    for base, pieces in (
        (b"\0\1", [(3, record), (4, b"")]),
        (b"\3\2", [(2, b"abc"), (3, later), (4, b"")]),
        (b"\3\2", [(3, later), (2, b"abc"), (4, b"")]),
        (b"\0\1", [(3, record), (3, record), (4, b"")]),
    ):
        body = b"".join(HEAD.pack(kind, len(payload)) + payload for kind, payload in pieces)
        yield b"\2" + base + body


WORDS: Final = (codec.MAGIC, b'"base_position":', b'"position":', b"9223372036854775807")

if __name__ == "__main__":
    fuzz(target, NAME, WORDS)
