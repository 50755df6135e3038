"""Fuzzes files of columns, which checkpoints consist of.

Three kinds of input, chosen by the first byte. *Raw*: the rest is taken for what follows a right
header page. *Repaired*: the same, but table, trailer and their checksums are made to match, so that
what they say is all that can be wrong. *Structured*: the rest chooses columns, which come back;
then a byte changes or the file is cut, and each column is as it was or is refused.

    python -m fuzz.columns -max_total_time=300
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Final

import atheris
import numpy as np
from crc32c import crc32c

from fuzz.driver import Surprise, fuzz

with atheris.instrument_imports(include=["compaction"]):
    from compaction import columns
    from compaction.columns import DTYPES, PAGE_BYTES, ColumnFile, Identity, write_columns
    from wal.errors import Damaged, Unsupported

from wal.format import mask
from wal.sim_vfs import SimDisk

NAME: Final = "columns"
UUID: Final = b"u" * 16
IDENTITY: Final = Identity(UUID, 77, 1_000, b"n" * 16)
COLUMNS_MAX: Final = 3
SIDE_MAX: Final = 40
Columns = list[tuple[str, np.ndarray[Any, Any]]]


def target(data: bytes) -> None:
    """One input; raises if any property does not hold."""
    if not data:
        return
    match data[0] % 3:
        case 0:
            check_structured(atheris.FuzzedDataProvider(data[1:]))
        case 1:
            read_all(HEADER + data[1:])
            read_all(data[1:])
        case _:
            read_all(repaired(data[1:]))


def encode(named: Columns) -> bytes:
    file = SimDisk().root().create("columns")
    write_columns(file, IDENTITY, named)
    return file.read_at(0, file.size())


def read_all(data: bytes) -> dict[str, Any] | None:
    """Every column, to the last bit; None if the file was refused as it should be."""
    try:
        file = ColumnFile("the file", memoryview(data), UUID)
        file.verify()
        return {name: shown(file.column(name)) for name in file.names}
    except (Damaged, Unsupported):
        return None


def shown(values: np.ndarray[Any, Any]) -> tuple[str, tuple[int, ...], bytes]:
    return values.dtype.str, values.shape, values.tobytes()


def repaired(data: bytes) -> bytes:
    """A file of up to 256 zero bytes of columns, whose table is the rest of `data`.

    The first three bytes say where the columns end, how many blocks there are, and how long they
    are, each of which may be wrong.
    """
    pages, blocks, length, *table = data.ljust(3, b"\0")
    body = bytes(length)
    block = mask(crc32c(body, IDENTITY.seed)).to_bytes(4, "little")
    crcs = block * (blocks % 4)
    end = PAGE_BYTES * (pages % 4) + (length if pages & 4 else 0)
    trailer = columns._encode_trailer(IDENTITY.seed, end, crcs, bytes(table))
    body = (body + bytes(4 * PAGE_BYTES))[: max(0, end - PAGE_BYTES)]
    return HEADER[:end] + body + crcs + bytes(table) + trailer


def drawn(choices: atheris.FuzzedDataProvider) -> Columns:
    named: Columns = []
    for number in range(choices.ConsumeIntInRange(0, COLUMNS_MAX)):
        dtype = np.dtype(DTYPES[choices.ConsumeIntInRange(0, len(DTYPES) - 1)])
        shape = [choices.ConsumeIntInRange(0, SIDE_MAX)]
        if choices.ConsumeBool():
            shape.append(choices.ConsumeIntInRange(0, 4))
        size = int(np.prod(shape)) * dtype.itemsize
        data = choices.ConsumeBytes(size).ljust(size, b"\7")
        if dtype == np.bool_:
            data = bytes(byte & 1 for byte in data)
        named.append((f"column {number}", np.frombuffer(data, dtype).reshape(shape)))
    return named


def check_structured(choices: atheris.FuzzedDataProvider) -> None:
    """Columns come back; whatever happens to the file, they come back or are refused."""
    named = drawn(choices)
    data = encode(named)
    expected = {name: shown(values) for name, values in named}
    if read_all(data) != expected:
        raise Surprise(f"{named} did not come back")
    changed = bytearray(data)
    at = choices.ConsumeIntInRange(0, len(data) - 1)
    match choices.ConsumeIntInRange(0, 3):
        case 0 | 1:
            changed[at] ^= choices.ConsumeIntInRange(1, 255)
        case 2:
            del changed[at:]
        case _:
            changed += choices.ConsumeBytes(8) or b"\0"
    if (found := read_all(bytes(changed))) is not None:
        raise Surprise(f"a file changed at byte {at} was read as {found}")


HEADER: Final = encode([])[:PAGE_BYTES]


def seeds() -> Iterator[bytes]:
    """Files with columns of all kinds, as each kind of input."""
    rng = Random(NAME)
    for _ in range(6):
        choices = rng.randbytes(200)
        data = encode(drawn(atheris.FuzzedDataProvider(choices)))
        yield b"\0" + choices
        if len(data) < 3 * PAGE_BYTES:
            yield b"\1" + data[PAGE_BYTES:]
    table = b'[{"name":"a","dtype":"<u4","shape":[%s],"offset":4096}]'
    for shape in (b"2", b"2,3", b"0", b""):
        yield bytes([2, 2, 1, 0]) + table % shape
        yield bytes([2, 5, 1, 24]) + table % shape


WORDS: Final = (b'"shape":[', b'"dtype":"<f4"', b'"offset":', b"9223372036854775807", b"-1")

if __name__ == "__main__":
    fuzz(target, NAME, WORDS)
