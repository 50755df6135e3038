"""Events to record payloads and back. Pure.

A payload is a 16-byte head, the events as one msgpack array, zeros up to a multiple of 8, and one
float32 row per memory version among the events, in their order. The vectors lie side by side, so
that reading a batch is one view on the bytes and not one object per number.

    u8 version | u8 zero | u16 zero | u32 length of the events | u32 vectors | u32 dimensions
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

import msgspec
import numpy as np

from engram.memory.events import Event, MemoryVersion, RequestAnswered
from engram.memory.model import Vector

PAYLOAD_VERSION: Final = 1
_HEAD: Final = Struct("<BBHIII")
_ALIGN: Final = 8
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Event])


class PayloadError(Exception):
    """A payload whose checksum is right but whose contents make no sense to this version."""


class Batch(NamedTuple):
    """The events of one record. `vectors` has shape (memory versions among them, dimensions).
    `answered` is what their request was answered, where that is kept; it has no position.
    """

    events: Sequence[Event]
    vectors: Vector
    answered: RequestAnswered | None = None


NO_VECTORS: Final[Vector] = np.empty((0, 0), np.float32)
"""Of a batch that holds no memory version."""


def encode_batch(batch: Batch) -> list[bytes]:
    """The payload as buffers, to be written behind each other."""
    versions = sum(isinstance(event, MemoryVersion) for event in batch.events)
    rows, dimensions = batch.vectors.shape
    if rows != versions:
        raise ValueError(f"{versions} memory versions need as many vectors, not {rows}")
    last = [] if batch.answered is None else [batch.answered]
    events = _encoder.encode([*batch.events, *last])
    head = _HEAD.pack(PAYLOAD_VERSION, 0, 0, len(events), rows, dimensions)
    padding = bytes(-(len(head) + len(events)) % _ALIGN)
    vectors = np.ascontiguousarray(batch.vectors, dtype="<f4")
    return [head, events, padding, vectors.tobytes()]


def decode_batch(payload: memoryview) -> Batch:
    """The events of a payload; the vectors are a view on it. Raises :class:`PayloadError`."""
    if len(payload) < _HEAD.size:
        raise PayloadError(f"a payload of {len(payload)} bytes has no head")
    version, _, _, length, rows, dimensions = _HEAD.unpack_from(payload)
    if version != PAYLOAD_VERSION:
        raise PayloadError(
            f"a payload of version {version}; this Engram reads {PAYLOAD_VERSION}. Upgrade it"
        )
    start = _HEAD.size + length
    start += -start % _ALIGN
    if len(payload) != start + rows * dimensions * 4:
        raise PayloadError("a payload's parts do not add up to its length")
    try:
        events = _decoder.decode(payload[_HEAD.size : _HEAD.size + length])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError(f"a payload's events cannot be read: {error}") from error
    if rows != sum(isinstance(event, MemoryVersion) for event in events):
        raise PayloadError("a payload's vectors do not match its events")
    vectors = np.frombuffer(payload[start:], dtype="<f4").reshape(rows, dimensions)
    last = events[-1] if len(events) > 1 else None
    if isinstance(last, RequestAnswered):
        return Batch(events[:-1], vectors, last)
    return Batch(events, vectors)
