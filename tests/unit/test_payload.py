"""Payloads: whatever is encoded comes back, and whatever is altered is refused in one way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engram.memory.decay import Decay
from engram.memory.events import (
    Event,
    MemoryConsolidated,
    MemoryForgotten,
    MemoryLinked,
    MemoryRestored,
    MemoryRevised,
    MemoryStored,
    MemoryUnlinked,
    MemoryVersion,
    RequestAnswered,
    SpaceConfigured,
    SpaceCreated,
)
from engram.memory.forgetting import Forgetting
from engram.memory.payload import NO_VECTORS, Batch, PayloadError, decode_batch, encode_batch
from engram.memory.quotas import Quotas
from engram.memory.retention import Retention
from engram.memory.rhythm import Rhythm

text = st.text(max_size=12)
scalar = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
json_value = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3)
)
times = st.none() | st.integers(-(1 << 63), (1 << 63) - 1)


def versions(of: type[MemoryVersion]) -> st.SearchStrategy[Any]:
    return st.builds(
        of,
        id=text,
        revision=st.integers(1, 1 << 32),
        kind=st.sampled_from(["episode", "belief", "fact"]),
        content=text,
        tags=st.lists(text, max_size=3).map(tuple),
        metadata=st.dictionaries(text, json_value, max_size=3),
        confidence=st.floats(0, 1),
        occurred_us=times,
        expires_us=times,
        source=st.none() | text,
    )


events = st.lists(
    versions(MemoryStored)
    | versions(MemoryRevised)
    | versions(MemoryRestored)
    | st.builds(
        MemoryForgotten,
        id=text,
        revision=st.integers(1, 9),
        reason=text,
        base_level=st.none() | st.floats(-9, 9),
        bound=st.none() | st.floats(-9, 9),
    )
    | st.builds(MemoryLinked, source=text, target=text, relation=text, weight=st.floats(0, 1))
    | st.builds(MemoryUnlinked, source=text, target=text, relation=text)
    | st.builds(
        MemoryConsolidated,
        id=text,
        revision=st.integers(1, 9),
        sources=st.lists(text, max_size=3).map(tuple),
        revisions=st.lists(st.integers(1, 9), max_size=3).map(tuple),
        strength=st.floats(0, 1),
        citations=st.lists(st.tuples(*[st.integers(0, 9)] * 3), max_size=3).map(tuple),
        summariser=text,
    )
    | st.builds(
        SpaceConfigured,
        retention=st.builds(Retention, positions=st.none() | st.integers(1, 9))
        | st.builds(Retention, age_s=st.integers(1, 9)),
        consolidation=st.builds(Rhythm, after=st.none() | st.integers(1, 9)),
        quotas=st.builds(Quotas, bytes=st.none() | st.integers(0, 9)),
        decay=st.builds(Decay, exponent=st.floats(0.01, 5), weight=st.floats(0, 1))
        | st.builds(Decay, family=st.just("exponential"), half_life_s=st.integers(1, 9)),
        forgetting=st.builds(Forgetting, capacity=st.none() | st.integers(1, 9))
        | st.builds(Forgetting, threshold=st.floats(-9, 9), spare_tags=st.just(("t",))),
    )
    | st.builds(
        SpaceCreated,
        memory_space_id=text,
        generation=st.integers(1, 9),
        embedding_model=text,
        dimensions=st.integers(1, 4_096),
    ),
    min_size=1,
    max_size=4,
)


answers = st.builds(
    RequestAnswered,
    key=st.binary(max_size=16),
    request=st.binary(max_size=16),
    status=st.integers(200, 299),
    headers=st.lists(st.tuples(text, text), max_size=2).map(tuple),
    body=st.binary(),
    ids=st.lists(text, max_size=3).map(tuple),
)


def test_an_answer_alone_is_an_event_of_its_own() -> None:
    answered = RequestAnswered(key=b"k", request=b"r", status=201, headers=(), body=b"", ids=())
    batch = Batch([answered], NO_VECTORS)
    assert decode_batch(memoryview(encoded(batch))).events == [answered]


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    drawn: list[Event] = draw(events)
    rows = sum(isinstance(event, MemoryVersion) for event in drawn)
    dimensions = draw(st.integers(1, 5))
    numbers = st.floats(width=32, allow_nan=False)
    vectors = draw(hnp.arrays(np.float32, (rows, dimensions), elements=numbers))
    return Batch(drawn, vectors, draw(st.none() | answers))


DEEP = (
    b"\x91\x9b\xadmemory.stored\xa1a\x01\xa4fact\xa1c\x90\x81\xa1k"
    + b"\x91" * 100_000
    + b"\xc0" * 5
)


def encoded(batch: Batch) -> bytes:
    return b"".join(encode_batch(batch))


EXAMPLE = encoded(
    Batch(
        [
            MemoryStored(
                id="a",
                revision=1,
                kind="fact",
                content="something ☃ to remember",
                tags=("x",),
                metadata={"n": [1, 2.5, None]},
                confidence=1.0,
                occurred_us=None,
                expires_us=5,
                source="s",
            ),
            MemoryForgotten(id="b", revision=2, reason="request"),
        ],
        np.array([[1.0, -2.0]], np.float32),
    )
)


@given(batches())
def test_a_batch_comes_back_as_it_was(batch: Batch) -> None:
    back = decode_batch(memoryview(encoded(batch)))
    assert back.events == batch.events
    assert back.answered == batch.answered
    assert [repr(event) for event in back.events] == [repr(event) for event in batch.events]
    assert back.vectors.tobytes() == batch.vectors.tobytes()
    assert back.vectors.shape == batch.vectors.shape


@given(batches())
def test_vectors_are_aligned_for_reading_in_place(batch: Batch) -> None:
    head, packed, padding, _ = encode_batch(batch)
    assert (len(head) + len(packed) + len(padding)) % 8 == 0


@pytest.mark.parametrize("length", range(len(EXAMPLE)))
def test_a_payload_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(PayloadError):
        decode_batch(memoryview(EXAMPLE[:length]))


def test_a_payload_with_more_behind_it_is_refused() -> None:
    with pytest.raises(PayloadError):
        decode_batch(memoryview(EXAMPLE + b"\0"))


@given(
    st.lists(st.tuples(st.integers(0, len(EXAMPLE) - 1), st.integers(1, 255)), min_size=1),
)
def test_an_altered_payload_is_read_or_refused_and_nothing_else(
    changes: list[tuple[int, int]],
) -> None:
    altered = bytearray(EXAMPLE)
    for at, change in changes:
        altered[at] ^= change
    assert_read_or_refused(bytes(altered))


@given(st.binary(max_size=200))
def test_random_bytes_behind_a_right_head_are_read_or_refused(noise: bytes) -> None:
    head = bytes([1, 0, 0, 0]) + len(noise).to_bytes(4, "little") + bytes(8)
    assert_read_or_refused(head + noise + bytes(-(16 + len(noise)) % 8))


@pytest.mark.parametrize(
    "packed",
    [
        b"\x91" * 100_000 + b"\xc0",  # lists in lists, where events are due
        DEEP,  # metadata nested deeper than any stack
        b"\x91\x93\xb0memory.forgotten\xa1a\x01",  # an array that ends early
        b"\x91\x94\xb0memory.forgotten\xa2\xff\xfe\x01\xa1x",  # text that is not UTF-8
        b"\x91\x92\xadmemory.dreamt\xa1a",  # an event nobody knows
        b"\x90\x90",  # something behind the end
        b"\xdd\xff\xff\xff\xff",  # four milliard events
    ],
    ids=["lists", "deep", "short", "not UTF-8", "unknown", "trailing", "huge"],
)
def test_events_that_make_no_sense_are_refused(packed: bytes) -> None:
    head = bytes([1, 0, 0, 0]) + len(packed).to_bytes(4, "little") + bytes(8)
    with pytest.raises(PayloadError):
        decode_batch(memoryview(head + packed + bytes(-(16 + len(packed)) % 8)))


@pytest.mark.parametrize("rows", [0, 2])
def test_vectors_that_do_not_match_the_events_are_refused(rows: int) -> None:
    event = decode_batch(memoryview(EXAMPLE)).events[0]
    with pytest.raises(ValueError, match="1 memory versions"):
        encode_batch(Batch([event], np.zeros((rows, 2), np.float32)))
    right = encode_batch(Batch([event], np.zeros((1, 2), np.float32)))
    head = right[0][:8] + rows.to_bytes(4, "little") + right[0][12:]
    with pytest.raises(PayloadError, match="vectors do not match"):
        decode_batch(memoryview(head + right[1] + right[2] + bytes(rows * 2 * 4)))


def test_another_version_of_the_format_asks_for_an_upgrade() -> None:
    with pytest.raises(PayloadError, match="Upgrade"):
        decode_batch(memoryview(b"\x02" + EXAMPLE[1:]))


def assert_read_or_refused(payload: bytes) -> None:
    try:
        batch = decode_batch(memoryview(payload))
    except PayloadError:
        return
    assert len(batch.vectors) == sum(isinstance(e, MemoryVersion) for e in batch.events)
