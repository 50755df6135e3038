"""The past over every surface: the same memories, and the same refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

import engram
from engram.errors import HistoryGone, Invalid, MemoryNotFound, PositionBeyondEnd

from .command_line import CommandLine
from .harness import Server

A = "/api/v1/spaces/alpha"
VECTORS = engram.EmbeddingSpec(model="caller", dimensions=2)


class Places(NamedTuple):
    """Memories behind a server, and when the second one was stored."""

    server: Server
    url: str
    stored_at: datetime


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """tea (2) and milk (3) were remembered, tea revised (4), milk forgotten (5)."""
    root = tmp_path_factory.mktemp("places") / "data"
    with engram.open(root) as db:
        alpha = db.create_space("alpha", embedding=VECTORS)
        alpha.remember("tea at four", id="tea", embedding=[1.0, 0.0])
        milk = alpha.remember("milk in first", id="milk", embedding=[0.0, 1.0])
        alpha.revise("tea", engram.Changes(tags=["daily"]))
        alpha.forget("milk")
    server = Server(root)
    yield Places(server, server.url, milk.stored_at)
    server.kill()


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> CommandLine:
    return CommandLine(capfd, monkeypatch, tmp_path)


def ids(answer: tuple[int, Any]) -> list[str]:
    status, document = answer
    assert status == 200
    return [memory["id"] for memory in document["memories"]]


def test_over_http(places: Places) -> None:
    ask, time = places.server.request, quote(places.stored_at.isoformat())
    assert ids(ask("GET", f"{A}/memories")) == ["tea"]
    for when in ("3", time):
        assert ids(ask("GET", f"{A}/memories?as_of={when}")) == ["tea", "milk"]
        status, milk = ask("GET", f"{A}/memories/milk?as_of={when}&include=embedding")
        assert (status, milk["content"], milk["embedding"]) == (200, "milk in first", [0.0, 1.0])
    for moment in (3, places.stored_at.isoformat()):
        status, answer = ask("POST", f"{A}/recall", {"query": "milk tea", "as_of": moment})
        assert (status, answer["position"], answer["recorded"]) == (200, 3, False)
        assert sorted(hit["memory"]["id"] for hit in answer["results"]) == ["milk", "tea"]
    status, problem = ask("GET", f"{A}/memories/milk?as_of=5")
    assert (status, problem["type"].rpartition("/")[2]) == (404, "memory-not-found")
    header = {"X-Memory-Space": "alpha"}
    assert ids(ask("GET", "/api/v1/memories?as_of=2", headers=header)) == ["tea"]


def test_over_http_it_is_said_where_history_begins(places: Places) -> None:
    ask = places.server.request
    body: dict[str, Any] = {"query": "tea", "as_of": "1999-01-01T00:00:00Z"}
    status, problem = ask("POST", f"{A}/recall", body)
    assert (status, problem["oldest_position"], problem["position"]) == (410, 1, 5)
    assert problem["type"].endswith("/history-gone")
    assert "1999-01-01T00:00:00+00:00" in problem["detail"]
    status, problem = ask("POST", f"{A}/recall", {"query": "tea", "as_of": 100})
    assert (status, problem["detail"]) == (
        400,
        "as_of 100 lies behind position 5, the last of space 'alpha'. Leave it out for what is "
        "there now",
    )


def test_by_the_clients(places: Places) -> None:
    with engram.Client(places.url) as client:
        alpha = client.space("alpha")
        for when in (3, places.stored_at):
            assert [m.id for m in alpha.list(as_of=when).memories] == ["tea", "milk"]
            assert alpha.get("milk", as_of=when, include_embedding=True).embedding is not None
            found = alpha.recall("milk", as_of=when)
            assert ([hit.memory.id for hit in found.results], found.position) == (["milk"], 3)
        refuse(lambda when: alpha.list(as_of=when))
        refuse(lambda when: alpha.get("tea", as_of=when))
        refuse(lambda when: alpha.recall("tea", as_of=when))
        with pytest.raises(MemoryNotFound):
            alpha.get("milk", as_of=5)


def refuse(use: Any) -> None:
    for wrong in (0, True, 1.0, "3", datetime(2026, 5, 1)):
        with pytest.raises(Invalid, match="as_of"):
            use(wrong)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for wrong in (6, tomorrow):
        with pytest.raises(PositionBeyondEnd):
            use(wrong)
    with pytest.raises(HistoryGone) as caught:
        use(datetime(1999, 1, 1, tzinfo=UTC))
    assert (caught.value.oldest_position, caught.value.position) == (1, 5)


def test_by_the_asynchronous_client(places: Places) -> None:
    async def main() -> None:
        async with engram.AsyncClient(places.url) as client:
            alpha = client.space("alpha")
            for when in (3, places.stored_at):
                assert [m.id for m in (await alpha.list(as_of=when)).memories] == ["tea", "milk"]
                assert (await alpha.get("milk", as_of=when)).content == "milk in first"
                assert (await alpha.recall("milk", as_of=when)).position == 3
            with pytest.raises(PositionBeyondEnd):
                await alpha.get("tea", as_of=6)

    asyncio.run(main())


def test_on_the_command_line(run: CommandLine, places: Places) -> None:
    run.set(ENGRAM_SPACE="alpha", ENGRAM_SERVER=places.url)
    for when in ("3", places.stored_at.isoformat()):
        assert [d["id"] for d in run("list", "--as-of", when, "--json").documents] == [
            "tea",
            "milk",
        ]
        shown = run("get", "milk", "--as-of", when)
        assert (shown.code, "milk in first" in shown.out) == (0, True)
        found = run("recall", "milk", "--as-of", when, "--json")
        assert (found.code, found.documents[0]["position"]) == (0, 3)
    assert "as of position 3" in run("recall", "milk", "--as-of", "3").err
    assert run("get", "milk", "--as-of", "5").code == 3
    for command in (["list"], ["get", "tea"], ["recall", "tea"]):
        for wrong, code in (("0", 2), ("soon", 2), ("6", 2), ("2999-01-01", 2), ("1999-01-01", 3)):
            done = run(*command, "--as-of", wrong)
            assert (done.code, done.out) == (code, ""), (command, wrong)
            assert "as_of" in done.err or "as-of" in done.err or "position 1" in done.err


def test_on_the_command_line_of_a_folder(run: CommandLine) -> None:
    run.set(ENGRAM_SPACE="beta")
    assert run("space", "create", "beta").code == 0
    assert run("remember", "tea at four", "--id", "tea").code == 0
    assert run("forget", "tea", "--yes").code == 0
    assert run("list", "--json").documents == []
    assert [d["id"] for d in run("list", "--as-of", "2", "--json").documents] == ["tea"]
    assert "tea at four" in run("recall", "tea", "--as-of", "2").out
