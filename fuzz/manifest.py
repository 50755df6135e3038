"""Fuzzes manifests and the other framed JSON documents: space, tombstone, generation, receipt.

Three kinds of input, chosen by the first byte. *Raw*: the rest is taken for the file. *Framed*: the
rest is a body whose frame is right. *Structured*: the rest chooses a document, which comes back
from being written, and which no changed, missing or added byte turns into another one.

    python -m fuzz.manifest -max_total_time=300
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Final

import atheris
import msgspec

from fuzz.driver import Surprise, fuzz
from fuzz.values import draw, same

with atheris.instrument_imports(include=["wal"]):
    from crc32c import crc32c

    from engram.spaces.identity import Identity
    from engram.spaces.trash import Generation, ReceiptFile, Tombstone
    from wal import format as f
    from wal import framed, manifest
    from wal.errors import Damaged, Unsupported
    from wal.manifest import Manifest

NAME: Final = "manifest"
DOCUMENTS: Final[tuple[tuple[str, type[msgspec.Struct]], ...]] = (
    (f.MANIFEST_MAGIC, Manifest),
    ("ENGRAM-SPACE", Identity),
    ("ENGRAM-TOMBSTONE", Tombstone),
    ("ENGRAM-GENERATION", Generation),
    ("ENGRAM-RECEIPT", ReceiptFile),
)
NUMBER: Final = b'"number":'


def target(data: bytes) -> None:
    """One input; raises if any property does not hold."""
    if len(data) < 2:
        return
    magic, shape = DOCUMENTS[data[1] % len(DOCUMENTS)]
    body = data[2:]
    match data[0] % 3:
        case 0:
            check_structured(atheris.FuzzedDataProvider(body), magic, shape)
        case 1:
            check_bytes(magic, shape, body)
        case _:
            head = f"{magic} 1 {len(body)} {crc32c(body):08x}\n".encode()
            check_bytes(magic, shape, head + body)


def decode(magic: str, shape: type[Any], data: bytes, name: str = "it") -> Any:
    """The document, or None if it was refused as it should be."""
    try:
        if shape is Manifest:
            return manifest.decode_manifest(name, data)
        return framed.decode_framed(magic, 1, shape, name, data)
    except (Damaged, Unsupported):
        return None


def encode(magic: str, document: Any) -> bytes:
    if isinstance(document, Manifest):
        return manifest.encode_manifest(document)
    return framed.encode_framed(magic, 1, document)


def name_of(document: Any) -> str:
    return document.name if isinstance(document, Manifest) else "it"


def check_bytes(magic: str, shape: type[Any], data: bytes) -> None:
    """Any bytes: what is taken comes back from being written again."""
    number = data.partition(NUMBER)[2].lstrip()[:20].partition(b",")[0]
    name = f"MANIFEST-{number.decode('ascii', 'replace')}"
    found = decode(magic, shape, data, name)
    if found is None:
        return
    again = decode(magic, shape, encode(magic, found), name)
    if again is None or not same(found, again):
        raise Surprise(f"{found} does not survive being written again")


def check_structured(
    choices: atheris.FuzzedDataProvider, magic: str, shape: type[msgspec.Struct]
) -> None:
    """A document comes back, and no changed byte makes another of it."""
    document = draw(choices, shape)
    name = name_of(document)
    data = encode(magic, document)
    back = decode(magic, shape, data, name)
    if back is None or not same(back, document):
        raise Surprise(f"{document} came back as {back}")
    changed = bytearray(data)
    at = choices.ConsumeIntInRange(0, len(data) - 1)
    match choices.ConsumeIntInRange(0, 2):
        case 0:
            changed[at] ^= choices.ConsumeIntInRange(1, 255)
        case 1:
            del changed[at:]
        case _:
            changed += choices.ConsumeBytes(4) or b"\n"
    found = decode(magic, shape, bytes(changed), name)
    if found is not None and not same(found, document):
        raise Surprise(f"{document} was changed and read as {found}")


def seeds() -> Iterator[bytes]:
    """Every document three times over, as each kind of input."""
    rng = Random(NAME)
    for index, (magic, shape) in enumerate(DOCUMENTS):
        choices = rng.randbytes(300)
        document = draw(atheris.FuzzedDataProvider(choices), shape)
        data = encode(magic, document)
        yield bytes([0, index]) + choices
        yield bytes([1, index]) + data
        yield bytes([2, index]) + data.partition(b"\n")[2]


WORDS: Final = (*(magic.encode() for magic, _ in DOCUMENTS), b'"sealed"', NUMBER, b"null")

if __name__ == "__main__":
    fuzz(target, NAME, WORDS)
