"""The gRPC services: what each call does, which space it means, and what is refused how."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

import engram
from engram.access.principal import NEEDS
from engram.limits import BODY_BYTES_MAX
from engram.memory.beliefs import Belief, Consolidation
from engram.memory.completion import Completion, Voter
from engram.memory.forgetting import ForgettingReport, Lapsed
from engram.memory.quotas import Quotas
from engram.rpc.handlers import SERVICES
from engram.rpc.values import given_object, told, told_object
from engram.server.default_space import DefaultSpace
from engram.v1 import memories_pb2 as m
from engram.v1 import spaces_pb2 as s
from engram.v1 import types_pb2 as t

from .rpc import Served, outcome, refusal, served

ROOT = Path(__file__).parents[2]
CALLER = engram.EmbeddingSpec(model="caller", dimensions=2)
ALPHA = [("x-memory-space", "alpha")]


@pytest.fixture(scope="module")
def rpc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("rpc")) as door:
        alpha = door.db.create_space("alpha")
        alpha.remember("The deploy key is rotated every Monday", id="one", tags=["ops"])
        alpha.remember("Lunch is at noon", id="two")
        door.db.create_space("beta")
        vectors = door.db.create_space("vectors", embedding=CALLER)
        vectors.remember("north", id="north", embedding=[1.0, 0.0])
        door.db.create_space("gone")
        door.db.delete_space("gone")
        yield door


def new(content: str = "something", **fields: Any) -> t.NewMemory:
    return t.NewMemory(content=content, **fields)


# --- which space a call means -----------------------------------------------------------------

Make = Callable[[dict[str, str]], Any]
# A request of each method, given how it names its space; a list where it takes a stream. What it
# does must not keep the next from doing the same.
REQUESTS: dict[tuple[str, str], Make] = {
    ("MemoryService", "Remember"): lambda n: m.RememberRequest(memories=[new()], **n),
    ("MemoryService", "RememberMany"): lambda n: [m.RememberManyRequest(memories=[new()], **n)],
    ("MemoryService", "Recall"): lambda n: m.RecallRequest(query="key", **n),
    ("MemoryService", "Complete"): lambda n: m.CompleteRequest(query="key", **n),
    ("MemoryService", "Get"): lambda n: m.GetMemoryRequest(id="one", **n),
    ("MemoryService", "List"): lambda n: m.ListMemoriesRequest(**n),
    ("MemoryService", "History"): lambda n: m.HistoryRequest(id="one", **n),
    ("MemoryService", "Revise"): lambda n: m.ReviseRequest(id="one", confidence=0.5, **n),
    ("MemoryService", "Forget"): lambda n: m.ForgetRequest(
        filter=t.Filter(tags_all=["none has it"]), **n
    ),
    ("MemoryService", "Restore"): lambda n: m.RestoreMemoryRequest(id="forgotten", **n),
    ("MemoryService", "Link"): lambda n: m.LinkRequest(source="one", target="two", weight=0.5, **n),
    ("MemoryService", "Unlink"): lambda n: m.UnlinkRequest(
        source="one", target="two", relation="for the test", **n
    ),
    ("MemoryService", "Links"): lambda n: m.LinksRequest(memory_id="one", **n),
    ("MemoryService", "Consolidate"): lambda n: m.ConsolidateRequest(dry_run=True, **n),
    ("MemoryService", "ApplyForgetting"): lambda n: m.ApplyForgettingRequest(dry_run=True, **n),
    ("MemoryService", "Events"): lambda n: m.EventsRequest(after=0, **n),
    ("SpaceService", "Get"): lambda n: s.GetSpaceRequest(**n),
    ("SpaceService", "Configure"): lambda n: s.ConfigureSpaceRequest(retention=t.Retention(), **n),
    ("SpaceService", "Delete"): lambda n: s.DeleteSpaceRequest(**n),
    ("SpaceService", "Restore"): lambda n: s.RestoreSpaceRequest(**n),
    ("SpaceService", "Purge"): lambda n: s.PurgeSpaceRequest(**n),
    ("SpaceService", "Compact"): lambda n: s.CompactRequest(**n),
    ("SpaceService", "Reopen"): lambda n: s.ReopenRequest(**n),
    ("SpaceService", "Export"): lambda n: s.ExportRequest(**n),
    ("SpaceService", "Import"): lambda n: [s.ImportRequest(data=b"no bundle", **n)],
    ("SpaceService", "Fork"): lambda n: s.ForkRequest(new_memory_space_id="copy", **n),
}
# Those that need not name a space, or are about one that need not be there.
OF_THEIR_OWN = {("SpaceService", "Create"), ("SpaceService", "List")}
MAKE_OR_UNMAKE = {"Import", "Delete", "Restore", "Purge"}

NAMED: list[tuple[str, dict[str, str], list[str], str | None]] = [
    ("right field", {"memory_space_id": "alpha"}, [], None),
    ("right metadata", {}, ["alpha"], None),
    ("both, the same", {"memory_space_id": "alpha"}, ["alpha"], None),
    ("none", {}, [], "memory-space-required"),
    ("unknown in field", {"memory_space_id": "nowhere"}, [], "space-not-found"),
    ("unknown in metadata", {}, ["nowhere"], "space-not-found"),
    ("deleted", {"memory_space_id": "gone"}, [], "space-not-found"),
    ("malformed in field", {"memory_space_id": "No Where"}, [], "memory-space-invalid"),
    ("malformed in metadata", {}, ["No Where"], "memory-space-invalid"),
    ("reserved", {"memory_space_id": "con"}, [], "memory-space-invalid"),
    ("empty field", {"memory_space_id": ""}, [], "memory-space-invalid"),
    ("empty metadata", {}, [""], "memory-space-invalid"),
    ("two different", {"memory_space_id": "alpha"}, ["beta"], "memory-space-conflict"),
    ("metadata twice", {}, ["alpha", "beta"], "memory-space-conflict"),
    ("metadata twice, the same", {}, ["alpha", "alpha"], "memory-space-conflict"),
    ("folded metadata", {}, ["alpha,beta"], "memory-space-conflict"),
]


def test_the_table_of_calls_is_complete() -> None:
    declared = {(service.name, method.name) for service in SERVICES for method in service.methods}
    assert declared == REQUESTS.keys() | OF_THEIR_OWN
    for service, (rpcs, streams) in SERVICES.items():
        for method in (*rpcs, *streams):
            assert method.name in service.methods_by_name
            if isinstance(method.operation, str):
                assert method.operation in NEEDS


def ready_for(rpc: Served, name: str) -> None:
    """Have a call on alpha find what it is about."""
    alpha = rpc.db.space("alpha")
    if name == "Restore":
        alpha.remember_many([{"id": "forgotten", "content": "for a while"}], on_conflict="skip")
        alpha.forget("forgotten")
    if name == "Unlink":
        alpha.link("one", "two", relation="for the test")


@pytest.mark.parametrize(("service", "name"), REQUESTS)
def test_every_call_resolves_its_space_alike(rpc: Served, service: str, name: str) -> None:
    stub, make = rpc.stub(service, name), REQUESTS[service, name]
    for case, field, metadata, problem in NAMED:
        if service == "SpaceService" and name in MAKE_OR_UNMAKE:
            if problem in (None, "space-not-found"):
                continue
        elif problem is None and service == "MemoryService":
            ready_for(rpc, name)
        before = rpc.db.space("alpha").list(limit=1_000).memories
        answers, refused = outcome(stub, make(field), [("x-memory-space", v) for v in metadata])
        assert (refused.problem if refused else None) == problem, (case, refused, answers)
        if refused is not None:
            codes = {"space-not-found": "NOT_FOUND"}
            assert refused.code == codes.get(refused.problem, "INVALID_ARGUMENT"), case
            assert rpc.db.space("alpha").list(limit=1_000).memories == before, case
        if name == "Fork" and refused is None:
            rpc.db.delete_space("copy")
            rpc.db.purge_space("copy")


def test_a_space_is_made_deleted_restored_and_purged(rpc: Served) -> None:
    made = rpc.spaces.Create(s.CreateSpaceRequest(memory_space_id="brief"))
    assert made.created
    assert made.space.memory_space_id == "brief"
    again = s.CreateSpaceRequest(memory_space_id="brief", if_not_exists=True)
    assert not rpc.spaces.Create(again).created
    _, refused = outcome(rpc.spaces.Create, s.CreateSpaceRequest(memory_space_id="brief"))
    assert refused is not None
    assert (refused.code, refused.problem) == ("ALREADY_EXISTS", "space-exists")
    named = {"memory_space_id": "brief"}
    assert rpc.spaces.Delete(s.DeleteSpaceRequest(**named)).purge_after.seconds
    assert rpc.spaces.Get(s.GetSpaceRequest(deleted=True, **named)).state == s.SPACE_STATE_DELETED
    assert rpc.spaces.Restore(s.RestoreSpaceRequest(**named)).uuid == made.space.uuid
    _, refused = outcome(rpc.spaces.Purge, s.PurgeSpaceRequest(**named))
    assert refused is not None
    assert refused.problem == "space-exists"
    rpc.spaces.Delete(s.DeleteSpaceRequest(**named))
    assert rpc.spaces.Purge(s.PurgeSpaceRequest(**named)).uuid == made.space.uuid
    first = rpc.spaces.List(s.ListSpacesRequest(limit=1), metadata=ALPHA)
    assert [space.memory_space_id for space in first.spaces] == [first.next] == ["alpha"]
    _, refused = outcome(rpc.spaces.Create, s.CreateSpaceRequest(memory_space_id="x"), ALPHA)
    assert refused is not None
    assert refused.problem == "memory-space-conflict"


def test_settings_are_told_as_they_were_given(rpc: Served) -> None:
    given = s.ConfigureSpaceRequest(
        memory_space_id="beta",
        retention=t.Retention(positions=1_000),
        decay=t.Decay(family="exponential", half_life_s=3_600, weight=0.25),
        forgetting=t.Forgetting(
            threshold=-7.5, grace_s=60, spare_kinds=[t.KIND_BELIEF], spare_tags=["a,b"]
        ),
        consolidation=t.Rhythm(after=100, every_s=86_400),
        quotas=t.Quotas(memories=100_000, subscribers=7),
    )
    told_space = rpc.spaces.Configure(given)
    for name in ("retention", "decay", "forgetting", "consolidation", "quotas"):
        assert getattr(told_space, name) == getattr(given, name)
    assert str(rpc.db.space("beta").info().decay) == "exponential:1h,weight:0.25"


# --- what is remembered and found -------------------------------------------------------------


def test_a_memory_comes_back_as_it_went_in(rpc: Served) -> None:
    metadata = {
        "none": None,
        "flag": True,
        "whole": -(1 << 63),
        "large": (1 << 64) - 1,
        "number": 1.0,
        "text": "é\N{SNOWMAN}",
        "list": [1, [], {"deep": [None]}],
    }
    time = Timestamp(seconds=-62_135_596_800, nanos=1_000)
    given = new(
        id="as it was",
        kind=t.KIND_FACT,
        tags=["a", "b"],
        metadata=told_object(metadata),
        confidence=0.25,
        occurred_at=time,
        source="test",
    )
    (stored,) = rpc.memories.Remember(m.RememberRequest(memories=[given]), metadata=ALPHA).memories
    got = rpc.memories.Get(m.GetMemoryRequest(id="as it was"), metadata=ALPHA)
    assert got == stored
    for name in ("id", "kind", "content", "tags", "confidence", "occurred_at", "source"):
        assert getattr(got, name) == getattr(given, name)
    kept = given_object("metadata", got.metadata)
    assert kept == metadata
    assert [type(value) for value in kept.values()] == [
        type(metadata[name]) for name in sorted(metadata)
    ]
    assert rpc.db.space("alpha").get("as it was").metadata == metadata


def test_a_recall_answers_as_the_embedded_engine_does(rpc: Served) -> None:
    filter = engram.Filter(tags_all=("ops",), kind="episode")
    alpha = rpc.db.space("alpha")
    expected = alpha.recall("deploy key", explain=True, record=False, filter=filter)
    got = rpc.memories.Recall(
        m.RecallRequest(
            query="deploy key",
            explain=True,
            record=False,
            filter=t.Filter(tags_all=["ops"], kind=t.KIND_EPISODE),
        ),
        metadata=ALPHA,
    )
    assert not got.recorded
    assert [hit.memory.id for hit in got.results] == [hit.memory.id for hit in expected] == ["one"]
    assert got.results[0] == told(t.Hit, expected.results[0])
    assert got.results[0].why.similarity == expected.results[0].why.similarity  # type: ignore[union-attr]
    named = m.RecallRequest(memory_ids=["one"], mode=m_mode("LEXICAL"), as_of=t.AsOf(position=3))
    assert rpc.memories.Recall(named, metadata=ALPHA).mode == t.MODE_LEXICAL


def m_mode(name: str) -> Any:
    return t.Mode.Value(f"MODE_{name}")


def test_a_memory_is_revised_forgotten_restored_linked_and_purged(rpc: Served) -> None:
    call = rpc.memories
    call.Remember(m.RememberRequest(memories=[new("before", id="r", source="x")]), metadata=ALPHA)
    change = m.ReviseRequest(id="r", content="after", tags=m.Tags(values=["t"]), clear=["source"])
    revised = call.Revise(change, metadata=ALPHA)
    assert (revised.content, list(revised.tags), revised.HasField("source")) == (
        "after",
        ["t"],
        False,
    )
    stale = m.ForgetRequest(id="r", if_match=["0123456789abcdef-1"])
    _, refused = outcome(call.Forget, stale, ALPHA)
    assert refused is not None
    assert (refused.code, refused.problem) == ("ABORTED", "stale")
    link = m.LinkRequest(source="r", target="one", weight=0.5, relation="causes")
    assert call.Link(link, metadata=ALPHA).weight == 0.5
    (found,) = call.Links(m.LinksRequest(memory_id="r"), metadata=ALPHA).links
    assert (found.target, found.relation) == ("one", "causes")
    unlink = m.UnlinkRequest(source="r", target="one", relation="causes")
    assert call.Unlink(unlink, metadata=ALPHA).position > found.position
    _, refused = outcome(call.Unlink, unlink, ALPHA)
    assert refused is not None
    assert (refused.code, refused.problem) == ("NOT_FOUND", "link-not-found")
    gone = call.Forget(m.ForgetRequest(id="r", if_match=[revised.etag]), metadata=ALPHA)
    assert gone.forgotten.id == "r"
    assert call.Restore(m.RestoreMemoryRequest(id="r"), metadata=ALPHA).content == "after"
    matching = call.Forget(m.ForgetRequest(filter=t.Filter(tags_any=["t"])), metadata=ALPHA)
    assert matching.matching.count == 1
    receipt = call.Forget(m.ForgetRequest(id="r", purge=True), metadata=ALPHA).receipt
    assert receipt.id == "r"
    assert not call.Forget(
        m.ForgetRequest(filter=t.Filter(tags_any=["t"]), purge=True), metadata=ALPHA
    ).HasField("receipt")
    _, refused = outcome(call.History, m.HistoryRequest(id="never"), ALPHA)
    assert refused is not None
    assert refused.problem == "memory-not-found"
    completed = call.Complete(m.CompleteRequest(query="deploy key"), metadata=ALPHA)
    assert completed.content.value.startswith("The deploy key")


def test_what_lives_is_refused_skipped_or_replaced(rpc: Served) -> None:
    again = {"memories": [new("again", id="two")]}
    _, refused = outcome(rpc.memories.Remember, m.RememberRequest(**again), ALPHA)
    assert refused is not None
    assert (refused.code, refused.problem) == ("ALREADY_EXISTS", "memory-exists")
    skipping = m.RememberRequest(on_conflict=m.ON_CONFLICT_SKIP, **again)
    assert list(rpc.memories.Remember(skipping, metadata=ALPHA).skipped) == ["two"]
    replacing = m.RememberRequest(on_conflict=m.ON_CONFLICT_REPLACE, **again)
    (stored,) = rpc.memories.Remember(replacing, metadata=ALPHA).memories
    assert stored.content == "again"


# --- what is refused --------------------------------------------------------------------------

BAD: list[tuple[str, Any, str]] = [
    ("Recall", m.RecallRequest(query="x", mode=77), "mode"),
    ("Recall", m.RecallRequest(query="x", limit=0), "limit"),
    ("Recall", m.RecallRequest(query="x", min_confidence=math.nan), "min_confidence"),
    ("Recall", m.RecallRequest(query="x", as_of=t.AsOf()), "as_of"),
    ("Recall", m.RecallRequest(query="x", as_of=t.AsOf(position=-1)), "as_of"),
    ("Recall", m.RecallRequest(query="x", spread=t.Spread(max_hops=99)), "spread.max_hops"),
    ("Recall", m.RecallRequest(query="x", filter=t.Filter(kind=9)), "filter.kind"),
    (
        "Recall",
        m.RecallRequest(query="x", filter=t.Filter(since=Timestamp(seconds=1 << 60))),
        "filter.since",
    ),
    ("Recall", m.RecallRequest(embedding=t.Vector(values=[1, 2, 3])), "embedding"),
    ("Recall", m.RecallRequest(embedding=t.Vector()), "embedding"),
    ("Recall", m.RecallRequest(embedding=t.Vector(values=[math.nan] * 256)), "embedding"),
    ("List", m.ListMemoriesRequest(after=-1), "after"),
    ("List", m.ListMemoriesRequest(limit=1_001), "limit"),
    ("Remember", m.RememberRequest(), "memories"),
    ("Remember", m.RememberRequest(memories=[t.NewMemory()]), "memories[0].content"),
    ("Remember", m.RememberRequest(memories=[new(kind=5)]), "memories[0].kind"),
    ("Remember", m.RememberRequest(memories=[new(), new(confidence=2)]), "memories[1].confidence"),
    (
        "Remember",
        m.RememberRequest(memories=[new(metadata=t.Object(fields={"a": t.Value()}))]),
        "memories[0].metadata.a",
    ),
    (
        "Remember",
        m.RememberRequest(
            memories=[new(metadata=t.Object(fields={"a": t.Value(number_value=math.inf)}))]
        ),
        "memories[0].metadata.a",
    ),
    (
        "Remember",
        m.RememberRequest(memories=[new(occurred_at=Timestamp(seconds=0, nanos=-1))]),
        "memories[0].occurred_at",
    ),
    ("Remember", m.RememberRequest(memories=[new()], on_conflict=8), "on_conflict"),
    ("Link", m.LinkRequest(source="one", target="two"), "weight"),
    ("Revise", m.ReviseRequest(id="one", clear=["content"]), "clear[0]"),
    ("Revise", m.ReviseRequest(id="one", source="x", clear=["source"]), "clear[0]"),
    ("Forget", m.ForgetRequest(), "id"),
    ("Forget", m.ForgetRequest(id="one", filter=t.Filter()), "id"),
    ("Get", m.GetMemoryRequest(id="a/b"), "id"),
    ("Events", m.EventsRequest(types=["no.such"]), "types"),
    ("Events", m.EventsRequest(after=-1), "after"),
]


@pytest.mark.parametrize(("name", "request_", "field"), BAD)
def test_bad_values_are_refused_by_the_name_of_their_field(
    rpc: Served, name: str, request_: Any, field: str
) -> None:
    _, refused = outcome(rpc.stub("MemoryService", name), request_, ALPHA)
    assert refused is not None
    assert (refused.code, refused.problem) == ("INVALID_ARGUMENT", "invalid"), refused
    assert refused.fields == [field], refused
    assert refused.told["memory_space_id"] == "alpha"


def test_vectors_are_refused_where_they_do_not_belong(rpc: Served) -> None:
    own = m.RememberRequest(memories=[new(embedding=t.Vector(values=[1, 2]))])
    _, refused = outcome(rpc.memories.Remember, own, ALPHA)
    assert refused is not None
    assert (refused.code, refused.problem) == ("FAILED_PRECONDITION", "embedder-mismatch")
    vectors = [("x-memory-space", "vectors")]
    for embedding in (None, t.Vector(values=[1, 2, 3])):
        wrong = m.RememberRequest(memories=[new(embedding=embedding)])
        _, refused = outcome(rpc.memories.Remember, wrong, vectors)
        assert refused is not None
        assert refused.fields == ["memories[0].embedding"]
    right = m.GetMemoryRequest(id="north", include_embedding=True)
    assert list(rpc.memories.Get(right, metadata=vectors).embedding.values) == [1, 0]


def raw(rpc: Served, method: str, data: bytes, metadata: Any = ALPHA) -> Any:
    """What a message of any bytes is refused with."""
    with pytest.raises(grpc.RpcError) as caught:
        rpc.channel.unary_unary(f"/engram.v1.{method}")(data, metadata=metadata, timeout=30)
    return caught.value


UNKNOWN = b"\xf8\x07\x01"  # field 127


def test_unknown_fields_are_refused_wherever_they_stand(rpc: Served) -> None:
    top = refusal(raw(rpc, "MemoryService/Get", b"\x12\x03one" + UNKNOWN))
    assert (top.problem, top.fields) == ("invalid", ["request"])
    assert "127" in top.detail
    memory = new(metadata=t.Object(fields={"a": t.Value.FromString(b"\x10\x01" + UNKNOWN)}))
    inner = m.RememberRequest(memories=[new(), memory]).SerializeToString()
    deep = refusal(raw(rpc, "MemoryService/Remember", inner))
    assert deep.fields == ["memories[1].metadata.fields.a"]
    elsewhere = refusal(raw(rpc, "MemoryService/Get", UNKNOWN, [("x-memory-space", "nowhere")]))
    assert elsewhere.problem == "space-not-found"  # first of all


def test_what_is_no_message_or_too_large_is_refused(rpc: Served) -> None:
    assert refusal(raw(rpc, "MemoryService/Get", b"\xff\xff")).problem == "malformed"
    assert refusal(raw(rpc, "MemoryService/Get", b"\xff\xff", [])).problem == "malformed"
    deep = b""
    for _ in range(200):
        deep = b"\x3a" + _length(deep) + deep  # a List in a Value in a List …
        deep = b"\x0a" + _length(deep) + deep
    assert refusal(raw(rpc, "MemoryService/Remember", deep)).code == "INVALID_ARGUMENT"
    large = m.RecallRequest(query="x" * BODY_BYTES_MAX).SerializeToString()
    assert refusal(raw(rpc, "MemoryService/Recall", large)).problem == "too-large"
    many = m.RememberRequest(memories=[new()] * 1_001).SerializeToString()
    assert refusal(raw(rpc, "MemoryService/Remember", many)).problem == "too-large"
    assert raw(rpc, "MemoryService/NoSuch", b"").code() is grpc.StatusCode.UNIMPLEMENTED
    idempotent = [*ALPHA, ("idempotency-key", "k")]
    assert refusal(raw(rpc, "MemoryService/List", b"", idempotent)).problem == "malformed"


def _length(data: bytes) -> bytes:
    size, out = len(data), bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes([*out, size])


def test_long_texts_do_not_keep_an_error_from_arriving(rpc: Served) -> None:
    long = m.GetMemoryRequest(id="\N{SNOWMAN}" * 120 + "/")
    _, refused = outcome(rpc.memories.Get, long, ALPHA)
    assert refused is not None
    assert refused.problem == "invalid"
    clear = m.ReviseRequest(id="one", clear=["\N{SNOWMAN}" * 50_000])
    _, refused = outcome(rpc.memories.Revise, clear, ALPHA)
    assert refused is not None
    assert refused.problem == "invalid"
    assert refused.fields == ["clear[0]"]


def messages(kind: Any, depth: int = 3) -> st.SearchStrategy[Any]:
    """Messages of a kind with any values in any of their fields."""

    def one(field: Any) -> st.SearchStrategy[Any]:
        if field.message_type is not None:
            if not depth:
                return st.just(field.message_type._concrete_class())
            return messages(field.message_type._concrete_class, depth - 1)
        bits = {FieldDescriptor.CPPTYPE_INT32: 31, FieldDescriptor.CPPTYPE_ENUM: 31}
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return st.binary(max_size=20)
            case FieldDescriptor.CPPTYPE_STRING:
                words = ["one", "two", "alpha", "vectors", "$in", "tags", "memory.stored", ""]
                return st.sampled_from(words) | st.text(max_size=5)
            case FieldDescriptor.CPPTYPE_BOOL:
                return st.booleans()
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return st.floats(width=32)
            case FieldDescriptor.CPPTYPE_UINT64:
                return st.integers(0, (1 << 64) - 1)
        most = 1 << bits.get(field.cpp_type, 63)
        return st.integers(-1, 3) | st.integers(-most, most - 1)

    def every(field: Any) -> st.SearchStrategy[Any]:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = one(field.message_type.fields_by_name["value"])
            return st.dictionaries(st.sampled_from(["a", "$gt", ""]), value, max_size=2)
        return st.lists(one(field), max_size=3) if field.is_repeated else one(field)

    fields = [field for field in kind.DESCRIPTOR.fields if field.name != "memory_space_id"]
    given_fields = {field.name: every(field) for field in fields}
    return st.fixed_dictionaries({}, optional=given_fields).map(lambda some: kind(**some))


# What answers without an end, or would end or multiply the spaces of this test.
NOT_AT_RANDOM = {"Delete", "Purge", "Create", "Fork", "Import"}
AT_RANDOM = [
    (service, method)
    for service in SERVICES
    for method in service.methods
    if method.name not in NOT_AT_RANDOM
]


@pytest.mark.parametrize(
    ("service", "method"), AT_RANDOM, ids=[f"{a.name}.{b.name}" for a, b in AT_RANDOM]
)
def test_no_message_meets_an_unexpected_error(rpc: Served, service: Any, method: Any) -> None:
    kind = method.input_type._concrete_class
    many = method.client_streaming

    @settings(max_examples=25)
    @given(message=messages(kind), space=st.sampled_from(["alpha", "vectors"]))
    def check(message: Any, space: str) -> None:
        request = [message, message] if many else message
        stub = rpc.stub(service.name, method.name)
        _, refused = outcome(stub, request, [("x-memory-space", space)])
        assert refused is None or refused.code not in {"UNKNOWN", "INTERNAL"}, refused

    check()


# --- the protocol itself ----------------------------------------------------------------------

TELLS: list[tuple[Any, Any]] = [
    (t.NewMemory, engram.NewMemory),
    (t.Memory, engram.Memory),
    (t.Filter, engram.Filter),
    (t.Link, engram.Link),
    (t.Confidence, engram.Confidence),
    (t.Step, engram.Step),
    (t.Why, engram.Why),
    (t.Hit, engram.Hit),
    (t.Spread, engram.Spread),
    (t.EmbeddingSpec, engram.EmbeddingSpec),
    (t.Retention, engram.Retention),
    (t.Decay, engram.Decay),
    (t.Forgetting, engram.Forgetting),
    (t.Rhythm, engram.Rhythm),
    (t.Quotas, Quotas),
    (t.BeliefSource, engram.BeliefSource),
    (t.Citation, engram.Citation),
    (t.PurgedFile, engram.PurgedFile),
    (t.PurgeReceipt, engram.PurgeReceipt),
    (t.Recalled, engram.Recalled),
    (t.Activated, engram.Activated),
    (t.Event, engram.Event),
    (m.RememberResponse, engram.Remembered),
    (m.RecallResponse, engram.Recall),
    (m.Known, engram.Known),
    (m.Voter, Voter),
    (m.CompleteResponse, Completion),
    (m.ListMemoriesResponse, engram.Page),
    (m.Forgotten, engram.Forgotten),
    (m.Unlinked, engram.Unlinked),
    (m.LinksResponse, engram.LinksPage),
    (m.Belief, Belief),
    (m.ConsolidateResponse, Consolidation),
    (m.Lapsed, Lapsed),
    (m.ApplyForgettingResponse, ForgettingReport),
    (s.Space, engram.SpaceInfo),
    (s.DeletedSpace, engram.DeletedSpace),
    (s.SpaceReceipt, engram.Receipt),
    (s.Compaction, engram.Compaction),
    (s.Reembedded, engram.Reembedded),
    (s.Origin, engram.Origin),
]


@pytest.mark.parametrize(("message", "struct"), TELLS)
def test_a_message_has_the_fields_of_what_it_tells(message: Any, struct: Any) -> None:
    fields = {field.name for field in message.DESCRIPTOR.fields}
    assert fields - {"etag"} == set(struct.__struct_fields__)


def test_the_generated_code_is_current_and_every_field_explained(tmp_path: Path) -> None:
    protos = sorted(path.relative_to(ROOT) for path in ROOT.glob("engram/v1/*.proto"))
    out = f"{tmp_path}"
    described = tmp_path / "described"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", ".", f"--python_out={out}"]
    command += [f"--pyi_out={out}", f"--grpc_python_out={out}", "--include_source_info"]
    command += [f"--descriptor_set_out={described}", *map(str, protos)]
    subprocess.run(command, cwd=ROOT, check=True)
    written = {path.name: path.read_bytes() for path in (tmp_path / "engram/v1").iterdir()}
    there = {path.name: path.read_bytes() for path in ROOT.glob("engram/v1/*_pb2*")}
    assert written == there, "run `make proto`"

    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    for file in FileDescriptorSet.FromString(described.read_bytes()).file:
        explained = {
            tuple(place.path)
            for place in file.source_code_info.location
            if place.leading_comments.strip()
        }
        for i, kind in enumerate(file.message_type):
            assert (4, i) in explained, kind.name
            for j, field in enumerate(kind.field):
                assert (4, i, 2, j) in explained, f"{kind.name}.{field.name}"
        for i, service in enumerate(file.service):
            assert (6, i) in explained
            for j, method in enumerate(service.method):
                assert (6, i, 2, j) in explained, method.name


def test_a_default_space_stands_in_where_a_server_lets_it(tmp_path: Path) -> None:
    default = DefaultSpace("main")
    with served(tmp_path, default_space=default) as door:
        default.prepare(door.db)
        answer, call = door.memories.Remember.with_call(m.RememberRequest(memories=[new()]))
        assert answer.memory_space_id == "main"
        trailing = dict(call.trailing_metadata())
        assert trailing["deprecation"].startswith("@")
        assert "warning" in trailing
        assert default.fallbacks == 1
        _, refused = outcome(door.memories.Get, m.GetMemoryRequest(id="never"))
        assert refused is not None
        assert refused.told["memory_space_id"] == "main"
        for stub, request in (
            (door.spaces.Delete, s.DeleteSpaceRequest()),
            (door.spaces.Fork, s.ForkRequest(new_memory_space_id="copy")),
        ):
            _, refused = outcome(stub, request)
            assert refused is not None
            assert refused.problem == "memory-space-required"
        _, refused = outcome(
            door.memories.List, m.ListMemoriesRequest(), [("x-memory_space", "alpha")]
        )
        assert refused is not None
        assert refused.problem == "memory-space-required"
        assert default.fallbacks == 2
