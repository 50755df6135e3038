"""Bundles whose checksums are right and whose contents no request could have led to: refused whole,
since what is taken in has to be readable ever after.
"""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pytest

import engram
from engram.bundles.codec import BundleDocument, BundledRecord, BundleEncoder
from engram.errors import Malformed
from engram.memory.events import (
    Event,
    MemoryConsolidated,
    MemoryForgotten,
    MemoryPurged,
    MemoryRecalled,
    MemoryRestored,
    MemoryStored,
    MemoryVersion,
    SpaceConfigured,
    SpaceCreated,
    SpaceDeleted,
    SpaceRestored,
)
from engram.memory.forgetting import Forgetting
from engram.memory.model import Changes, Filter
from engram.memory.payload import Batch, encode_batch
from engram.memory.times import FIRST_US, LAST_US
from tests.unit.conftest import CALLER, UNIT
from tests.unit.test_bundles import exported, half_made, state_of, with_base

BEGINNING = SpaceCreated(
    memory_space_id="alpha", generation=1, embedding_model="caller", dimensions=3
)
STORED = MemoryStored(
    id="m",
    revision=1,
    kind="episode",
    content="hello world",
    tags=("t",),
    metadata={"a": 1},
    confidence=1.0,
    occurred_us=None,
    expires_us=None,
    source="s",
)


def stored(**changes: Any) -> MemoryStored:
    return msgspec.structs.replace(STORED, **changes)


BELIEF = stored(id="b", kind="belief")


def formed(**changes: Any) -> MemoryConsolidated:
    event = MemoryConsolidated(
        id="b",
        revision=1,
        sources=("m",),
        revisions=(1,),
        strength=0.9,
        citations=((0, 0, 5),),
        summariser="extractive",
    )
    return msgspec.structs.replace(event, **changes)


def restored(revision: int) -> MemoryRestored:
    return MemoryRestored(**{**msgspec.structs.asdict(STORED), "revision": revision})


def bundle_of(*events: Event) -> bytes:
    """A bundle with one record for each event."""
    encoder = BundleEncoder(b"n" * 16)
    document = BundleDocument(
        memory_space_id="alpha",
        space_uuid="0" * 32,
        generation=1,
        created_us=0,
        exported_us=0,
        embedding=CALLER,
        base_position=0,
        base_bytes=0,
        position=len(events),
    )
    parts = [encoder.begin(document)]
    for position, event in enumerate(events, 1):
        rows = int(isinstance(event, MemoryVersion))
        payload = b"".join(encode_batch(Batch([event], np.ones((rows, 3), np.float32))))
        parts.append(encoder.record(BundledRecord(position, 10**18, 1, 1, 0, payload)))
    return b"".join([*parts, encoder.end()])


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels else {}


def faded(**fields: float) -> MemoryForgotten:
    return MemoryForgotten(id="m", revision=1, reason="faded", **fields)


def policy(**fields: Any) -> SpaceConfigured:
    return SpaceConfigured(forgetting=Forgetting(capacity=1, **fields))


HOSTILE: dict[str, tuple[Event, ...]] = {
    "a time before the first": (stored(occurred_us=FIRST_US - 1),),
    "a time behind the last": (stored(occurred_us=LAST_US + 1),),
    "an expiry behind the last": (stored(expires_us=LAST_US + 1),),
    "an expiry of more than 63 bits": (stored(expires_us=(1 << 64) - 1),),
    "a deletion at no time": (SpaceDeleted(purge_after_us=LAST_US + 1), SpaceRestored()),
    "revision 0": (stored(revision=0),),
    "a revision below 0": (stored(revision=-(1 << 63)),),
    "a revision that none can follow": (stored(revision=(1 << 64) - 1),),
    "a restored revision that none can follow": (restored((1 << 64) - 1),),
    "no content": (stored(content=""),),
    "too much content": (stored(content="x" * (1 << 21)),),
    "an id with a slash": (stored(id="../m"),),
    "a purge of no id": (MemoryPurged(id="../m", revision=1),),
    "a purge of no revision": (STORED, MemoryPurged(id="m", revision=-1)),
    "a forgetting of no revision": (STORED, MemoryForgotten(id="m", revision=0, reason="")),
    "a forgetting by what is no number": (STORED, faded(base_level=float("nan"))),
    "a forgetting below what is no number": (STORED, faded(bound=float("-inf"))),
    "a policy that spares an empty tag": (policy(spare_tags=("",)),),
    "a policy that spares a tag twice": (policy(spare_tags=("t", "t")),),
    "a policy that spares a kind twice": (policy(spare_kinds=("fact", "fact")),),
    "many tags": (stored(tags=tuple(f"t{n}" for n in range(100_000))),),
    "an empty tag": (stored(tags=("",)),),
    "a tag twice": (stored(tags=("t", "t")),),
    "an empty source": (stored(source=""),),
    "NaN in metadata": (stored(metadata={"a": float("nan")}),),
    "metadata that JSON does not have": (stored(metadata={"a": msgspec.msgpack.Ext(5, b"x")}),),
    "a time in metadata": (stored(metadata={"a": datetime.now().astimezone()}),),
    "bytes in metadata": (stored(metadata={"a": b"x"}),),
    "deep metadata": (stored(metadata=nested(500)),),
    "a confidence above 1": (stored(confidence=1.5),),
    "a belief that rests on what never was": (STORED, BELIEF, formed(sources=("other",))),
    "a belief that rests on nothing": (STORED, BELIEF, formed(sources=(), revisions=())),
    "a belief that rests on itself": (STORED, BELIEF, formed(sources=("b",))),
    "a belief that rests on one twice": (
        *(STORED, BELIEF),
        formed(sources=("m", "m"), revisions=(1, 1)),
    ),
    "a belief that is none": (STORED, stored(id="b"), formed()),
    "a belief in no revision": (STORED, BELIEF, formed(revision=0)),
    "a belief in another revision": (STORED, BELIEF, formed(revision=2)),
    "a belief that rests on no revision": (STORED, BELIEF, formed(revisions=(-1,))),
    "a belief with more revisions than sources": (STORED, BELIEF, formed(revisions=(1, 1))),
    "a belief that cites what it does not have": (
        *(STORED, BELIEF),
        formed(citations=((1, 0, 5),)),
    ),
    "a belief that cites backwards": (STORED, BELIEF, formed(citations=((0, 5, 1),))),
    "a belief of no strength": (STORED, BELIEF, formed(strength=float("nan"))),
    "a belief of a summariser with no end": (STORED, BELIEF, formed(summariser="x" * 1_000)),
    "a recall with fewer scores than ids": (
        MemoryRecalled(recall_id="r", mode="lexical", query_digest=None, ids=("m",), scores=()),
    ),
    "a recall with a score that is no number": (
        MemoryRecalled(
            recall_id="r", mode="lexical", query_digest=None, ids=("m",), scores=(float("nan"),)
        ),
    ),
}


@pytest.mark.parametrize("events", HOSTILE.values(), ids=HOSTILE)
def test_what_no_request_could_have_led_to_is_refused(
    db: engram.Database, events: tuple[Event, ...]
) -> None:
    with pytest.raises(Malformed, match="the bundle cannot be used"):
        db.import_space("copy", io.BytesIO(bundle_of(BEGINNING, *events)))
    assert half_made(db.path) == []
    assert db.spaces() == []


def test_the_same_bundle_without_it_is_taken(db: engram.Database) -> None:
    events = (
        BEGINNING,
        stored(occurred_us=FIRST_US, expires_us=LAST_US),
        MemoryPurged(id="m", revision=1),
        restored(2),
        BELIEF,
        formed(revisions=(2,)),
    )
    copy = db.import_space("copy", io.BytesIO(bundle_of(*events)))
    assert copy.get("m").revision == 2
    assert [event.type for event in copy.events()][2:4] == ["memory.purged", "memory.restored"]


@pytest.fixture
def data(db: engram.Database) -> bytes:
    """A bundle with a base that holds each kind of metadata, a husk, and what was forgotten."""
    alpha = db.create_space("alpha", embedding=CALLER)
    for n in range(6):
        metadata = {"a": n, "b": "x" * n, "c": [n % 2, {"d": 0.5}], "e": None}
        alpha.remember(
            f"m {n}", id=f"m{n}", tags=["t"], source="s", metadata=metadata, embedding=UNIT
        )
    alpha.revise("m1", Changes(metadata={"a": 1.0}))
    alpha.forget("m2")
    alpha.configure(retention="positions:1")
    alpha.compact()
    alpha.remember("later", id="later", embedding=UNIT)
    alpha.purge("m3")
    alpha.compact()
    alpha.remember("latest", id="latest", embedding=UNIT)
    data = exported(alpha)
    copy = db.import_space("same", io.BytesIO(with_base(data, lambda columns: None)))
    assert state_of(copy) == state_of(alpha)
    found = copy.list(filter=Filter(metadata={"a": {"$lt": 3}})).memories
    assert {memory.id for memory in found} == {"m0", "m1"}
    return data


def _late(columns: dict[str, Any]) -> None:
    columns["stored_us"][0] = LAST_US + 1


def _of_no_json(columns: dict[str, Any]) -> None:
    columns["attributes.values.data"][:] = ord("}")


def _cut_elsewhere(columns: dict[str, Any]) -> None:
    columns["attributes.values.offsets"][2] -= 1


def _numbers_for_texts(columns: dict[str, Any]) -> None:
    columns["attributes.numbers"][:] = 1.0


def _of_nobodys_value(columns: dict[str, Any]) -> None:
    columns["attributes.postings.values"][:] = 0


def _of_no_value(columns: dict[str, Any]) -> None:
    columns["attributes.postings.values"][:] = 1 << 20


def _of_other_kinds(columns: dict[str, Any]) -> None:
    columns["attributes.kinds"][:] = 200


def _of_other_rows(columns: dict[str, Any]) -> None:
    columns["attributes.postings.rows"][:] = columns["attributes.postings.rows"][::-1].copy()


def _of_later_company(columns: dict[str, Any]) -> None:
    columns["company.since"][0] = 1 << 40


def _twins(columns: dict[str, Any]) -> None:
    texts = columns["documents.data"].tobytes()
    columns["documents.data"][:] = np.frombuffer(texts.replace(b"\xa2m4", b"\xa2m5"), np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        _late,
        _of_no_json,
        _cut_elsewhere,
        _numbers_for_texts,
        _of_nobodys_value,
        _of_no_value,
        _of_other_kinds,
        _of_other_rows,
        _twins,
        _of_later_company,
    ],
)
def test_a_base_that_readers_would_stumble_over_is_refused(
    db: engram.Database, data: bytes, change: Any
) -> None:
    with pytest.raises(Malformed, match="the bundle cannot be used"):
        db.import_space("copy", io.BytesIO(with_base(data, change)))
    assert half_made(db.path) == []
