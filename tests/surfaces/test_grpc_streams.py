"""gRPC calls that stream, who may make which call, and the server as a process of its own."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import engram
from engram.access.key_file import open_key_file
from engram.rpc.streams import IDS_TOLD_MAX
from engram.v1 import memories_pb2 as m
from engram.v1 import memories_pb2_grpc
from engram.v1 import spaces_pb2 as s
from engram.v1 import types_pb2 as t

from .harness import Server
from .rpc import Served, outcome, refusal, served

Cli = Callable[..., subprocess.CompletedProcess[str]]
CALLER = engram.EmbeddingSpec(model="caller", dimensions=1)


@pytest.fixture(scope="module")
def rpc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("streams")) as door:
        yield door


@pytest.fixture
def space(rpc: Served) -> engram.Space:
    return rpc.db.create_space(embedding=CALLER)


def new(content: str = "something", **fields: Any) -> t.NewMemory:
    return t.NewMemory(content=content, embedding=t.Vector(values=[1]), **fields)


def batch(*contents: str, **fields: Any) -> m.RememberManyRequest:
    return m.RememberManyRequest(memories=[new(each) for each in contents], **fields)


def meaning(space: engram.Space) -> list[tuple[str, str]]:
    return [("x-memory-space", space.id)]


def store(space: engram.Space, *contents: str) -> None:
    space.remember_many([{"content": each, "embedding": [1.0]} for each in contents])


# --- events -----------------------------------------------------------------------------------


def test_a_feed_goes_from_history_to_what_comes_and_on_behind_any_position(
    rpc: Served, space: engram.Space
) -> None:
    store(space, "a", "b")
    stream = rpc.memories.Events(m.EventsRequest(memory_space_id=space.id, after=0))
    came = [next(stream) for _ in range(3)]
    assert [each.position for each in came] == [1, 2, 3]
    assert [each.event.type for each in came] == ["space.created", *["memory.stored"] * 2]
    assert came[2].event.memory.content == "b"
    assert {each.space_uuid for each in came} == {space.info().uuid}
    store(space, "c")
    assert told_next(stream).event.memory.content == "c"
    stream.cancel()
    resumed = rpc.memories.Events(
        m.EventsRequest(memory_space_id=space.id, after=2, incarnation=came[0].space_uuid)
    )
    assert [told_next(resumed).position for _ in range(2)] == [3, 4]
    resumed.cancel()


def told_next(stream: Any) -> m.EventsResponse:
    """The next event, past messages that tell only how far was scanned."""
    return next(each for each in stream if each.HasField("event"))


def test_a_live_feed_says_where_it_begins_and_how_far_it_scanned(
    rpc: Served, space: engram.Space
) -> None:
    store(space, "before")
    types = ["memory.forgotten", "memory.linked"]
    stream = rpc.memories.Events(m.EventsRequest(memory_space_id=space.id, types=types))
    first = next(stream)
    assert (first.position, first.HasField("event")) == (2, False)
    store(space, "not asked for")
    beat = next(each for each in stream if each.position == 3)
    assert not beat.HasField("event")
    space.forget(space.list().memories[0].id)
    assert told_next(stream).event.type == "memory.forgotten"
    stream.cancel()


def test_positions_of_another_life_and_beyond_the_end_are_refused(
    rpc: Served, space: engram.Space
) -> None:
    wrong = m.EventsRequest(memory_space_id=space.id, after=0, incarnation="0" * 32)
    _, refused = outcome(rpc.memories.Events, wrong)
    assert refused is not None
    assert (refused.code, refused.problem) == ("OUT_OF_RANGE", "history-gone")
    assert refused.told["oldest_position"] == "1"
    assert refused.told["space_uuid"] == space.info().uuid
    beyond = m.EventsRequest(memory_space_id=space.id, after=99)
    _, refused = outcome(rpc.memories.Events, beyond)
    assert refused is not None
    assert (refused.code, refused.problem) == ("INVALID_ARGUMENT", "position-beyond-end")


def test_a_feed_ends_well_with_its_space(rpc: Served, space: engram.Space) -> None:
    stream = rpc.memories.Events(m.EventsRequest(memory_space_id=space.id, after=0))
    assert next(stream).event.type == "space.created"
    rpc.db.delete_space(space.id)
    assert [each.event.type for each in stream if each.HasField("event")] == ["space.deleted"]
    assert stream.code() is grpc.StatusCode.OK


# --- remembering many -------------------------------------------------------------------------


def test_each_message_is_stored_whole_and_what_was_before_a_refused_one_stays(
    rpc: Served, space: engram.Space
) -> None:
    bad = m.RememberManyRequest(memories=[new("c"), new("d", confidence=7)])
    stream = [batch("a", "b", memory_space_id=space.id), bad, batch("e")]
    _, refused = outcome(rpc.memories.RememberMany, stream)
    assert refused is not None
    assert refused.fields == ["memories[1].confidence"]
    assert (refused.told["batches_stored"], refused.told["memories_stored"]) == ("1", "2")
    assert refused.told["position"] == "3"
    assert [memory.content for memory in space.list().memories] == ["a", "b"]
    ((answer,), _) = outcome(rpc.memories.RememberMany, [batch("x"), batch("y")], meaning(space))
    assert (answer.batches, answer.memories, answer.position) == (2, 2, 5)
    assert [space.get(each).content for each in answer.ids] == ["x", "y"]


def test_a_stream_means_one_space_from_its_first_message_on(
    rpc: Served, space: engram.Space
) -> None:
    other = rpc.db.create_space(embedding=CALLER)
    stream = [batch("a", memory_space_id=space.id), batch("b", memory_space_id=other.id)]
    _, refused = outcome(rpc.memories.RememberMany, stream)
    assert refused is not None
    assert refused.problem == "memory-space-conflict"
    assert len(space.list().memories) == 1
    assert not other.list().memories
    ((answer,), _) = outcome(rpc.memories.RememberMany, [], meaning(space))
    assert (answer.memory_space_id, answer.memories) == (space.id, 0)
    _, refused = outcome(rpc.memories.RememberMany, [])
    assert refused is not None
    assert refused.problem == "memory-space-required"


def test_so_many_ids_are_told_that_the_answer_can_be_taken(
    rpc: Served, space: engram.Space
) -> None:
    full = batch(*["x"] * 1_000)
    count = IDS_TOLD_MAX // 1_000 + 1
    ((answer,), _) = outcome(rpc.memories.RememberMany, [full] * count, meaning(space))
    assert answer.memories == 1_000 * count
    assert len(answer.ids) == IDS_TOLD_MAX


def test_what_is_cut_off_leaves_whole_batches(rpc: Served, space: engram.Space) -> None:
    stored = threading.Event()

    def sending() -> Iterator[m.RememberManyRequest]:
        yield batch("a", "b", memory_space_id=space.id)
        stored.wait(30)

    feed = rpc.memories.Events(m.EventsRequest(memory_space_id=space.id, after=1))
    call = rpc.memories.RememberMany.future(sending())
    assert [told_next(feed).event.memory.content for _ in range(2)] == ["a", "b"]
    call.cancel()
    stored.set()
    feed.cancel()
    assert len(space.list().memories) == 2


# --- bundles ----------------------------------------------------------------------------------


def exported(rpc: Served, space: engram.Space) -> list[s.ExportResponse]:
    return list(rpc.spaces.Export(s.ExportRequest(memory_space_id=space.id)))


def test_a_bundle_makes_the_space_again_and_one_cut_short_makes_nothing(
    rpc: Served, space: engram.Space
) -> None:
    store(space, *["x" * 50_000] * 12)
    pieces = exported(rpc, space)
    assert len(pieces) > 1
    assert {piece.position for piece in pieces} == {13}
    sent = [s.ImportRequest(data=piece.data) for piece in pieces]
    ((made,), _) = outcome(rpc.spaces.Import, sent, [("x-memory-space", "again")])
    assert (made.space.memory_space_id, made.origin.memory_space_id) == ("again", space.id)
    assert rpc.db.space("again").list().memories[0].content == "x" * 50_000
    _, refused = outcome(rpc.spaces.Import, sent[:-1], [("x-memory-space", "short")])
    assert refused is not None
    assert (refused.code, refused.problem) == ("INVALID_ARGUMENT", "malformed")
    _, refused = outcome(rpc.spaces.Get, s.GetSpaceRequest(memory_space_id="short"))
    assert refused is not None
    assert refused.problem == "space-not-found"
    copy = s.ForkRequest(memory_space_id=space.id, new_memory_space_id="copied", as_of=1)
    assert rpc.spaces.Fork(copy).origin.as_of == 1


# --- who may ----------------------------------------------------------------------------------


def test_keys_say_who_may_do_what_and_end_what_goes_on(tmp_path: Path, cli: Cli) -> None:
    root = tmp_path / "data"

    def key(*options: str) -> tuple[str, list[tuple[str, str]]]:
        done = cli("keys", "create", *options, "--json")
        made = json.loads(done.stdout)
        return made["id"], [("authorization", f"Bearer {made['key']}")]

    with engram.open(root) as db:
        for name in ("alpha", "beta"):
            db.create_space(name, embedding=CALLER)
    _, admin = key("--all-spaces", "--scope", "admin")
    reader_id, reader = key("--space", "alpha", "--scope", "read", "--scope", "subscribe")
    alpha = {"memory_space_id": "alpha"}
    with closing(open_key_file(root)) as keys, served(root, keys) as door:
        get = m.GetMemoryRequest(id="x", **alpha)
        for metadata in ([], [("authorization", "Bearer engram_x_y")]):
            for stub, request in (
                (door.memories.Get, get),
                (door.memories.Get, m.GetMemoryRequest()),
                (door.spaces.List, s.ListSpacesRequest()),
                (door.memories.Events, m.EventsRequest(**alpha)),
                (door.memories.RememberMany, []),
            ):
                _, refused = outcome(stub, request, metadata)
                assert refused is not None
                assert (refused.code, refused.problem) == ("UNAUTHENTICATED", "unauthenticated")
        write = m.RememberRequest(memories=[new()], **alpha)
        assert outcome(door.memories.Remember, write, admin)[1] is None
        listing = m.ListMemoriesRequest(**alpha)
        assert outcome(door.memories.List, listing, reader)[1] is None
        for stub, request in (
            (door.memories.Remember, write),
            (door.spaces.Export, s.ExportRequest(**alpha)),
            (door.spaces.Create, s.CreateSpaceRequest()),
            (door.spaces.Import, [s.ImportRequest(memory_space_id="made")]),
        ):
            _, refused = outcome(stub, request, reader)
            assert refused is not None
            assert (refused.code, refused.problem) == ("PERMISSION_DENIED", "forbidden")
        foreign, missing = (
            outcome(door.memories.List, m.ListMemoriesRequest(memory_space_id=each), reader)[1]
            for each in ("beta", "none")
        )
        assert foreign is not None
        assert missing is not None
        assert foreign.detail.replace("beta", "none") == missing.detail
        assert foreign[:2] == missing[:2] == ("NOT_FOUND", "space-not-found")
        seen = door.spaces.List(s.ListSpacesRequest(deleted=True), metadata=reader).spaces
        assert [each.memory_space_id for each in seen] == ["alpha"]
        stream = door.memories.Events(m.EventsRequest(after=0, **alpha), metadata=reader)
        assert next(stream).position == 1
        assert cli("keys", "revoke", reader_id, "--yes").returncode == 0
        with pytest.raises(grpc.RpcError) as ended:
            list(stream)
        assert refusal(ended.value).problem == "unauthenticated"


def test_quotas_hold_here_too_and_say_when_to_come_again(rpc: Served) -> None:
    quotas = t.Quotas(writes_per_second=1, subscribers=1)
    made = rpc.spaces.Create(
        s.CreateSpaceRequest(
            memory_space_id="narrow",
            embedding=t.EmbeddingSpec(model="caller", dimensions=1),
            quotas=quotas,
        )
    )
    assert made.space.quotas == quotas
    stream = [batch("x", memory_space_id="narrow") for _ in range(50)]
    _, refused = outcome(rpc.memories.RememberMany, stream)
    assert refused is not None
    assert refused.code == "RESOURCE_EXHAUSTED"
    assert refused.problem == "rate-limited"
    assert refused.retry_s
    follow = m.EventsRequest(memory_space_id="narrow", after=0)
    first = rpc.memories.Events(follow)
    next(first)
    _, refused = outcome(rpc.memories.Events, follow)
    assert refused is not None
    assert (refused.code, refused.problem) == ("RESOURCE_EXHAUSTED", "quota-exceeded")
    first.cancel()


# --- the server -------------------------------------------------------------------------------


def test_health_and_reflection_are_served(rpc: Served) -> None:
    checked = health_pb2_grpc.HealthStub(rpc.channel)  # type: ignore[no-untyped-call]
    for name in ("", "engram.v1.MemoryService", "engram.v1.SpaceService"):
        status = checked.Check(health_pb2.HealthCheckRequest(service=name)).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    stub = reflection_pb2_grpc.ServerReflectionStub(rpc.channel)  # type: ignore[no-untyped-call]
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([asked]))
    names = {service.name for service in answer.list_services_response.service}
    assert {"engram.v1.MemoryService", "engram.v1.SpaceService", "grpc.health.v1.Health"} <= names


def test_a_server_tells_where_grpc_is_and_ends_its_streams_when_it_stops(
    tmp_path: Path, start_server: Callable[..., Server]
) -> None:
    server = start_server(tmp_path / "data", "--json")
    ready = json.loads(server.ready_line)
    assert ready["ready"].startswith("http://127.0.0.1:")
    with grpc.insecure_channel(ready["grpc"]) as channel:
        memories = memories_pb2_grpc.MemoryServiceStub(channel)  # type: ignore[no-untyped-call]
        server.url = ready["ready"]
        assert server.request("PUT", "/api/v1/spaces/alpha")[0] == 201
        stream = memories.Events(m.EventsRequest(memory_space_id="alpha", after=0))
        assert next(stream).event.type == "space.created"
        code, errors = server.stop()
        assert (code, errors) == (0, "")
        with pytest.raises(grpc.RpcError) as ended:
            list(stream)
        assert refusal(ended.value)[:2] == ("UNAVAILABLE", "overloaded")


def test_a_taken_port_is_refused_if_it_was_named_and_made_do_without_if_not(
    tmp_path: Path, cli: Cli, start_server: Callable[..., Server]
) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = cli("serve", "--port", "0", "--grpc-port", str(port))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"engram: port {port} is taken; choose another with --grpc-port, or 0 for a free one\n"
        )
        assert not (tmp_path / "data").exists()
    server = start_server(tmp_path / "off", "--grpc-port", "off", "--json")
    assert json.loads(server.ready_line)["grpc"] is None
    assert server.stop()[0] == 0


def test_commands_do_not_load_grpc(cli: Cli) -> None:
    code = "import sys, engram.cli.app, engram.cli.serve; print('grpc' in sys.modules)"
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
