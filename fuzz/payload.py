"""Fuzzes record payloads: events and vectors.

Three kinds of input, chosen by the first byte. *Raw*: the rest is taken for a payload. *Headed*:
the rest is events in msgpack, behind a head that fits. *Structured*: the rest chooses events and
vectors, which come back as they were; then a byte of the record that holds them changes, and what
is read is the batch or nothing.

    python -m fuzz.payload -max_total_time=300
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from struct import Struct
from typing import Any, Final

import atheris
import numpy as np

from fuzz.driver import Surprise, fuzz
from fuzz.values import draw

with atheris.instrument_imports(include=["wal", "engram.memory"]):
    from engram.memory import payload
    from engram.memory.events import Event, MemoryVersion, RequestAnswered
    from engram.memory.payload import Batch, PayloadError, encode_batch
    from wal.codec import Draft, Record, decode_record, encode_record

NAME: Final = "payload"
HEAD: Final = Struct("<BBHIII")
ALIGN: Final = 8
SEED: Final = 5


def target(data: bytes) -> None:
    """One input; raises if any property does not hold."""
    if not data:
        return
    match data[0] % 3:
        case 0:
            check_structured(atheris.FuzzedDataProvider(data[1:]))
        case 1:
            check_bytes(data[1:])
        case _:
            check_bytes(headed(data[1:]))


def headed(data: bytes) -> bytes:
    """A payload whose events are the rest of `data`; the first byte says how many vectors."""
    rows, packed = (data[0] % 4, data[1:]) if data else (0, data)
    head = HEAD.pack(1, 0, 0, len(packed), rows, 1)
    return head + packed + bytes(-(len(head) + len(packed)) % ALIGN) + bytes(4 * rows)


def shown(batch: Batch) -> tuple[str, Any, bytes]:
    """All of a batch, to the last bit."""
    vectors = np.ascontiguousarray(batch.vectors, "<f4")
    return repr((list(batch.events), batch.answered)), vectors.shape, vectors.tobytes()


def check_bytes(data: bytes) -> None:
    """Any bytes: what is taken is whole, and comes back from being written again."""
    try:
        batch = payload.decode_batch(memoryview(data))
    except PayloadError:
        return
    if len(batch.vectors) != sum(isinstance(event, MemoryVersion) for event in batch.events):
        raise Surprise("vectors and events do not match")
    again = payload.decode_batch(memoryview(b"".join(encode_batch(batch))))
    if shown(again) != shown(batch):
        raise Surprise(f"{batch} comes back as {again} from being written again")


def drawn(choices: atheris.FuzzedDataProvider) -> Batch:
    events = [draw(choices, Event) for _ in range(choices.ConsumeIntInRange(1, 4))]
    rows = sum(isinstance(event, MemoryVersion) for event in events)
    dimensions = choices.ConsumeIntInRange(1, 4)
    bits = choices.ConsumeBytes(4 * rows * dimensions).ljust(4 * rows * dimensions, b"\0")
    vectors = np.frombuffer(bits, "<f4").reshape(rows, dimensions)
    if len(events) > 1 and isinstance(events[-1], RequestAnswered):
        return Batch(events[:-1], vectors, events[-1])
    return Batch(events, vectors)


def check_structured(choices: atheris.FuzzedDataProvider) -> None:
    """A batch comes back; out of a damaged record comes nothing, never something else."""
    batch = drawn(choices)
    buffers = encode_batch(batch)
    back = payload.decode_batch(memoryview(b"".join(buffers)))
    if shown(back) != shown(batch):
        raise Surprise(f"{batch} came back as {back}")
    parts, _, _ = encode_record(
        Draft(buffers, len(batch.events), 1),
        position=1,
        time_ns=1,
        synced_position=0,
        prev_crc=SEED,
        seed=SEED,
    )
    record = bytearray(b"".join(parts))
    at = choices.ConsumeIntInRange(0, len(record) - 1)
    record[at] ^= choices.ConsumeIntInRange(1, 255)
    found = decode_record(memoryview(record), 0, SEED)
    if isinstance(found, Record):
        raise Surprise(f"a changed byte at {at} of a record was not seen")
    try:
        payload.decode_batch(memoryview(record)[64:])
    except PayloadError:
        pass  # or a batch: without its record, nothing protects a payload


def seeds() -> Iterator[bytes]:
    """Batches of all kinds of events, as each kind of input."""
    rng = Random(NAME)
    for _ in range(8):
        choices = rng.randbytes(200)
        head, packed, padding, vectors = encode_batch(drawn(atheris.FuzzedDataProvider(choices)))
        yield b"\0" + choices
        yield b"\1" + head + packed + padding + vectors
        yield b"\2" + head[8:9] + packed


WORDS: Final = (b"memory.stored", b"memory.forgotten", b"space.created", b"\x91\x9b", b"\xc0")

if __name__ == "__main__":
    fuzz(target, NAME, WORDS)
