"""Feeds as server-sent events, over real sockets to a server in this process."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn

import engram
from engram.access.gate import Access
from engram.client.sse import Block, SseParser
from engram.server.app import build_app
from engram.server.audience import DEFAULT_ROOM, Room
from engram.server.events import StreamOptions
from engram.server.protocol import EngramProtocol
from tests.unit.conftest import wait_until

from .harness import Server

READ_S = 20.0


class Serving(NamedTuple):
    db: engram.Database
    port: int
    streams: list[Stream]

    def stream(self, path: str, **headers: str) -> Stream:
        self.streams.append(Stream(self.port, path, headers))
        return self.streams[-1]


class Stream:
    """One GET whose answer does not end."""

    def __init__(self, port: int, path: str, headers: dict[str, str], method: str = "GET") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=READ_S)
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._file = self.socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers: dict[str, str] = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            self.headers[name.lower()] = value
        self._blocks = self._read()

    def _read(self) -> Iterator[Block]:
        parser = SseParser()
        while size := int(self._file.readline(), 16):  # a ValueError where the stream was cut
            chunk = self._file.read(size)
            self._file.readline()
            yield from parser.feed(chunk)

    def problem(self) -> Any:
        return json.loads(self._file.read(int(self.headers["content-length"])))

    def block(self) -> Block:
        return next(self._blocks)

    def events(self, count: int) -> list[Any]:
        """The next `count` events, their ids checked to be there."""
        found: list[Any] = []
        while len(found) < count:
            block = self.block()
            if block.data is not None:
                assert block.id is not None
                document = json.loads(block.data)
                assert block.event == document["type"]
                found.append({**document, "sse_id": block.id})
        return found

    def rest(self) -> list[Block]:
        """What comes until the server ends the stream."""
        return list(self._blocks)

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@contextmanager
def serving(
    root: Path,
    options: StreamOptions,
    *,
    room: Room = DEFAULT_ROOM,
    access: Access | None = None,
    **limits: int,
) -> Iterator[Serving]:
    with engram.open(root) as db, socket.create_server(("127.0.0.1", 0)) as listener:
        for name, value in limits.items():
            listener.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        app = build_app(db, options, access=access, room=room)
        config = uvicorn.Config(
            app, http=EngramProtocol, ws="none", lifespan="off", log_config=None, loop="asyncio"
        )
        server = uvicorn.Server(config)
        loop_of: list[asyncio.AbstractEventLoop] = []

        async def serve() -> None:
            loop_of.append(asyncio.get_running_loop())
            await server.serve([listener])

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        try:
            streams: list[Stream] = []
            yield Serving(db, listener.getsockname()[1], streams)
        finally:
            for stream in streams:
                stream.close()
            loop_of[0].call_soon_threadsafe(app.state.audiences.close)
            server.should_exit = True
            thread.join()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path, StreamOptions(heartbeat_s=0.2, write_s=1.0, retry_ms=250)) as server:
        alpha = server.db.create_space("alpha")
        alpha.remember("one", id="one")
        alpha.remember("two", id="two")
        server.db.create_space("beta")
        yield server


ALPHA = "/api/v1/spaces/alpha/events"


def positions(events: list[Any]) -> list[int]:
    return [event["position"] for event in events]


def test_history_comes_first_and_then_what_happens(served: Serving) -> None:
    stream = served.stream(ALPHA + "?after=0")
    assert stream.status == 200
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.block().retry_ms == 250
    events = stream.events(3)
    alpha = served.db.space("alpha")
    told = served.db.space("alpha").events()
    for event, known in zip(events, told, strict=True):
        assert event["sse_id"] == str(known.position)
        assert event["memory_space_id"] == "alpha"
        assert event["space_uuid"] == alpha.info().uuid
        assert (event["position"], event["type"]) == (known.position, known.type)
    assert events[1]["memory"]["content"] == "one"
    alpha.forget("one")
    (forgotten,) = stream.events(1)
    assert (forgotten["type"], forgotten["id"]) == ("memory.forgotten", "one")
    stream.close()


def test_a_stream_that_asks_for_nothing_before_begins_with_where_it_is(served: Serving) -> None:
    stream = served.stream(ALPHA)
    block = stream.block()
    assert (block.id, block.event, block.data) == ("3", None, None)
    served.db.space("alpha").remember("three")
    assert positions(stream.events(1)) == [4]
    stream.close()


def test_the_last_event_id_beats_the_address(served: Serving) -> None:
    stream = served.stream(ALPHA + "?after=0", Last_Event_ID="2")
    assert positions(stream.events(1)) == [3]
    stream.close()


def test_the_header_names_the_space_too(served: Serving) -> None:
    stream = served.stream("/api/v1/events?after=0", X_Memory_Space="alpha")
    assert positions(stream.events(3)) == [1, 2, 3]
    stream.close()


def test_types_narrow_a_stream_and_its_ids_still_move_on(served: Serving) -> None:
    stream = served.stream(ALPHA + "?after=0&type=memory.forgotten&type=memory.revised")
    assert stream.block().retry_ms == 250
    assert stream.block() == Block("3"), "told how far it has looked as soon as it has caught up"
    alpha = served.db.space("alpha")
    alpha.remember("three")
    block = stream.block()
    while block.id != "4":  # heartbeats
        assert block == Block("3")
        block = stream.block()
    alpha.forget("two")
    assert [event["id"] for event in stream.events(1)] == ["two"]
    stream.close()


def test_only_what_is_durable_is_told(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = served.db.space("alpha")
    stream = served.stream(ALPHA)
    assert stream.block().id == "3"
    log = served.db._registry._entries["alpha"].store().log
    syncing, go_on = threading.Event(), threading.Event()
    sync = log.sync

    def held_sync() -> None:
        syncing.set()
        go_on.wait()
        sync()

    monkeypatch.setattr(log, "sync", held_sync)
    writer = threading.Thread(target=lambda: alpha.remember("three"))
    writer.start()
    syncing.wait()
    for _ in range(3):
        assert stream.block() == Block("3"), "heartbeats only"
    go_on.set()
    assert positions(stream.events(1)) == [4]
    writer.join()
    stream.close()


def test_recalls_are_told(served: Serving) -> None:
    stream = served.stream(ALPHA)
    assert stream.block().id == "3"
    answer = served.db.space("alpha").recall("one")
    (event,) = stream.events(1)
    assert event["type"] == "memory.recalled"
    assert event["recall_id"] == answer.recall_id
    assert [item["id"] for item in event["results"]] == [hit.memory.id for hit in answer]
    assert "query" not in event
    stream.close()


def test_several_spaces_in_one_stream_resume_from_one_id(served: Serving) -> None:
    alpha, beta = served.db.space("alpha"), served.db.space("beta")
    both = "/api/v1/events?space=alpha&space=beta"
    stream = served.stream(both + "&after=0")
    events = stream.events(4)
    for name, count in (("alpha", 3), ("beta", 1)):
        own = [e for e in events if e["memory_space_id"] == name]
        assert positions(own) == list(range(1, count + 1))
    stream.close()
    seen: list[tuple[str, int]] = []
    for cut in range(6):  # taken up again behind every single event
        beta.remember(f"beta {cut}")
        alpha.remember(f"alpha {cut}")
        stream = served.stream(both, Last_Event_ID=events[-1]["sse_id"])
        events = stream.events(1)
        seen += [(e["memory_space_id"], e["position"]) for e in events]
        stream.close()
    stream = served.stream(both, Last_Event_ID=events[-1]["sse_id"])
    seen += [(e["memory_space_id"], e["position"]) for e in stream.events(6)]
    assert [p for name, p in seen if name == "alpha"] == list(range(4, 10))
    assert [p for name, p in seen if name == "beta"] == list(range(2, 8))
    stream.close()


def test_several_spaces_live_only(served: Serving) -> None:
    stream = served.stream("/api/v1/events?space=alpha&space=beta&type=memory.stored")
    first = stream.block()
    assert first.data is None
    assert first.id is not None
    served.db.space("beta").remember("b")
    (event,) = stream.events(1)
    assert (event["memory_space_id"], event["position"]) == ("beta", 2)
    assert event["sse_id"] != first.id
    stream.close()


def test_a_filtered_id_that_lies_far_back_is_scanned_to_the_end(served: Serving) -> None:
    alpha = served.db.space("alpha")
    for _ in range(6):
        alpha.remember_many([f"memory {n}" for n in range(1_000)])
    stream = served.stream(ALPHA + "?after=0&type=space.created")
    assert positions(stream.events(1)) == [1]
    assert stream.block().id == "6003"
    stream.close()


REFUSED: list[tuple[str, dict[str, str], int, str]] = [
    ("/api/v1/spaces/nobody/events", {}, 404, "space-not-found"),
    ("/api/v1/spaces/Alpha/events", {}, 400, "memory-space-invalid"),
    ("/api/v1/events", {}, 400, "memory-space-required"),
    (ALPHA, {"X-Memory-Space": "beta"}, 400, "memory-space-conflict"),
    ("/api/v1/events?space=alpha", {"X-Memory-Space": "alpha"}, 400, "memory-space-conflict"),
    ("/api/v1/events?space=alpha&space=nobody", {}, 404, "space-not-found"),
    ("/api/v1/events?space=alpha&space=alpha", {}, 400, "malformed"),
    ("/api/v1/events?space=alpha&after=3", {}, 400, "malformed"),
    ("/api/v1/events?space=alpha&after=%00", {}, 400, "malformed"),
    ("/api/v1/events?space=alpha&after=gA", {}, 400, "malformed"),
    ("/api/v1/events?space=alpha&incarnation=x", {}, 400, "malformed"),
    (ALPHA + "?space=alpha", {}, 400, "malformed"),
    (ALPHA + "?after=4", {}, 400, "position-beyond-end"),
    (ALPHA + "?after=-1", {}, 400, "malformed"),
    (ALPHA + "?after=99999999999999999999", {}, 400, "malformed"),
    (ALPHA, {"Last-Event-ID": "soon"}, 400, "malformed"),
    (ALPHA, {"Last-Event-ID": "1", "last-event-id": "1"}, 400, "malformed"),
    (ALPHA + "?type=memory.eaten", {}, 400, "malformed"),
    (ALPHA + "?incarnation=" + "0" * 32, {}, 410, "history-gone"),
    (ALPHA + "?after=99&incarnation=" + "0" * 32, {}, 410, "history-gone"),
]


@pytest.mark.parametrize(("path", "headers", "status", "name"), REFUSED)
def test_a_stream_that_cannot_be_is_refused(
    served: Serving, path: str, headers: dict[str, str], status: int, name: str
) -> None:
    stream = served.stream(path, **{k.replace("-", "_"): v for k, v in headers.items()})
    problem = stream.problem()
    assert (stream.status, problem["type"].rpartition("/")[2]) == (status, name)
    assert len(problem["detail"]) > 20
    if status == 410:
        uuid = served.db.space("alpha").info().uuid
        held = (problem["oldest_position"], problem["position"], problem["space_uuid"])
        assert held == (1, 3, uuid)
    stream.close()


def test_a_token_of_other_spaces_or_incarnations_is_refused(served: Serving) -> None:
    stream = served.stream("/api/v1/events?space=alpha&space=beta&after=0")
    token = stream.events(1)[0]["sse_id"]
    stream.close()
    stream = served.stream("/api/v1/events?space=alpha&after=" + token)
    assert "other spaces: alpha, beta" in stream.problem()["detail"]
    stream.close()


def test_a_token_from_another_data_root_is_gone(served: Serving, tmp_path: Path) -> None:
    stream = served.stream("/api/v1/events?space=alpha&after=0")
    token = stream.events(1)[0]["sse_id"]
    stream.close()
    with serving(tmp_path / "other", StreamOptions()) as other:
        other.db.create_space("alpha")
        stream = other.stream("/api/v1/events?space=alpha&after=" + token)
        assert stream.status == 410
        stream.close()


def test_head_says_what_get_would_without_a_stream(served: Serving) -> None:
    stream = Stream(served.port, ALPHA, {}, method="HEAD")
    assert stream.status == 200
    assert stream.headers["content-type"].startswith("text/event-stream")
    stream.close()


def test_a_reader_that_takes_nothing_is_cut_off_and_can_resume(tmp_path: Path) -> None:
    options = StreamOptions(heartbeat_s=0.2, write_s=0.5)
    with serving(tmp_path, options, SO_SNDBUF=32_768) as served:
        plain = engram.EmbeddingSpec(model="caller", dimensions=1)
        alpha = served.db.create_space("alpha", embedding=plain)
        for _ in range(8):
            alpha.remember_many([{"content": "x" * 1_000, "embedding": [1.0]}] * 1_000)
        stuck = served.stream(ALPHA + "?after=0")
        first = positions(stuck.events(1))
        other = served.stream(ALPHA + "?after=0")
        assert positions(other.events(8_001)) == list(range(1, 8_002)), "nobody else waits"
        feed = served.db._registry._entries["alpha"].feed
        other.close()
        wait_until(lambda: not feed._wakes)
        with pytest.raises((ConnectionError, ValueError)):
            stuck.rest()
        assert first == [1]


def test_who_hangs_up_is_forgotten(served: Serving) -> None:
    feed = served.db._registry._entries["alpha"].feed
    streams = [served.stream(ALPHA) for _ in range(5)]
    for stream in streams:
        assert stream.block().id == "3"
    wait_until(lambda: len(feed._wakes) == 1)
    for stream in streams:
        stream.close()
    wait_until(lambda: not feed._wakes)


def test_streams_end_with_the_server(tmp_path: Path, start_server: Callable[..., Server]) -> None:
    server = start_server(tmp_path)
    server.request("PUT", "/api/v1/spaces/alpha")
    port = int(server.url.rpartition(":")[2])
    stream = Stream(port, ALPHA, {})
    assert stream.block().id == "1"
    status, errors = server.stop()
    assert status == 0
    assert stream.rest() == []
    assert "Traceback" not in errors
    assert "without completing" not in errors
    stream.close()


def test_the_history_of_a_memory_over_http(served: Serving) -> None:
    alpha = served.db.space("alpha")
    alpha.forget("one")
    stream = served.stream("/api/v1/spaces/alpha/memories/one/history")
    document = stream.problem()
    assert [event["type"] for event in document["events"]] == ["memory.stored", "memory.forgotten"]
    stream.close()
    stream = served.stream("/api/v1/spaces/alpha/memories/never/history")
    assert stream.status == 404
    stream.close()


def test_who_catches_up_slowly_hears_heartbeats_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter may pass over much; a client that heard nothing would give up and begin again."""
    monkeypatch.setattr("engram.feed.reader.SCANNED_MAX", 100)
    plain = engram.EmbeddingSpec(model="caller", dimensions=1)
    with engram.open(tmp_path) as db:
        alpha = db.create_space("alpha", embedding=plain)
        alpha.remember_many([{"content": "x", "embedding": [1.0]}] * 999)
    options = StreamOptions(heartbeat_s=0.0)  # due after every page
    with serving(tmp_path, options) as served:
        stream = served.stream(ALPHA + "?after=0&type=memory.forgotten")
        assert stream.block().retry_ms is not None
        ids = [stream.block().id for _ in range(10)]
        assert ids == [str(position) for position in range(100, 1_001, 100)]


def test_there_is_room_for_so_many_streams_and_no_more(tmp_path: Path) -> None:
    with engram.open(tmp_path) as db:
        db.create_space("alpha")
    with serving(tmp_path, StreamOptions(), room=Room(streams=2)) as served:
        first, second = served.stream(ALPHA), served.stream(ALPHA)
        assert (first.block().id, second.block().id) == ("1", "1")
        refused = served.stream(ALPHA)
        assert (refused.status, refused.problem()["type"][-14:]) == (429, "quota-exceeded")
        first.close()
        wait_until(lambda: served.stream(ALPHA).status == 200)


def test_damage_found_on_the_way_ends_the_stream_and_refuses_the_next(tmp_path: Path) -> None:
    with serving(tmp_path, StreamOptions()) as served:
        alpha = served.db.create_space("alpha")
        for number in range(60):
            alpha.remember(f"memory {number}")
        (segment,) = (tmp_path / "alpha" / "log").glob("*.seg")
        data = bytearray(segment.read_bytes())
        data[4_096 + 5_000] ^= 1
        segment.write_bytes(data)
        assert [b.id for b in served.stream(ALPHA + "?after=0").rest() if b.data] == []
        refused = served.stream(ALPHA + "?after=0")
        assert (refused.status, refused.problem()["type"][-13:]) == (503, "space-damaged")
        with (
            engram.Client(f"http://127.0.0.1:{served.port}") as client,
            pytest.raises(engram.SpaceDamaged),
        ):
            next(client.space("alpha").events(after=0))


def test_a_log_whose_files_are_gone_is_damaged(tmp_path: Path) -> None:
    with serving(tmp_path, StreamOptions()) as served:
        served.db.create_space("alpha").remember("x")
        for segment in (tmp_path / "alpha" / "log").glob("*.seg"):
            segment.unlink()
        assert [b for b in served.stream(ALPHA + "?after=0").rest() if b.data] == []
