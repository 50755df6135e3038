"""Reopening a space after a failed sync, on every surface; streams over spaces that close."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

import engram
from engram.errors import OutcomeUnknown, SpaceDamaged, SpaceNotFound
from engram.server.events import StreamOptions
from engram.spaces import entry as entry_module
from wal.os_vfs import OsFile

from .command_line import CommandLine
from .test_events import Serving, serving

UNCHANGED = "it was neither poisoned nor damaged, so nothing was changed"
REOPENED = "it was reopened, and holds what is on disk"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path, StreamOptions(heartbeat_s=60.0, write_s=5.0, retry_ms=20)) as server:
        server.db.create_space("alpha").remember("one", id="one")
        server.db.create_space("beta")
        yield server


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> CommandLine:
    return CommandLine(capfd, monkeypatch, tmp_path).set(ENGRAM_DATA_ROOT=str(tmp_path / "data"))


def poison(space: engram.Space, id: str = "doubt") -> None:
    """Let the sync of a write fail whose bytes have reached the disk all the same."""

    def refuse(self: OsFile) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(OsFile, "sync_data", refuse)
        with pytest.raises(OutcomeUnknown, match="engram space reopen"):
            space.remember("in doubt", id=id)
    assert space.info().state == "poisoned"


def test_a_poisoned_space_is_reopened_by_the_clients(served: Serving) -> None:
    url = f"http://127.0.0.1:{served.port}"
    with engram.Client(url) as client:
        there = client.space("alpha")
        assert (there.reopen().state, there.reopen().detail) == ("active", UNCHANGED)
        poison(served.db.space("alpha"))
        with pytest.raises(OutcomeUnknown, match=r"POST …/reopen"):
            there.remember("more")
        info = there.info()
        assert info.state == "poisoned"
        assert "engram space reopen" in (info.detail or "")
        assert there.get("one").content == "one"
        reopened = there.reopen()
        assert (reopened.state, reopened.detail, reopened.position) == ("active", REOPENED, 3)
        assert there.get("doubt").content == "in doubt"
        assert there.info().detail is None
        assert there.remember("more").position == 4
        with pytest.raises(SpaceNotFound):
            client.space("nobody").reopen()

    async def asynchronously() -> None:
        async with engram.AsyncClient(url) as other:
            poison(served.db.space("alpha"), "again")
            assert (await other.space("alpha").reopen()).detail == REOPENED

    asyncio.run(asynchronously())


@pytest.mark.parametrize("query", ["", "&type=memory.stored"], ids=["all", "typed"])
def test_a_stream_goes_on_over_a_reopening_without_a_gap(served: Serving, query: str) -> None:
    alpha = served.db.space("alpha")
    stream = served.stream(f"/api/v1/spaces/alpha/events?after=1{query}")
    events = stream.events(1)
    poison(alpha)
    alpha.reopen()  # brings to light what nobody was told: its sync had failed
    alpha.remember("later", id="later")
    events += stream.events(2)
    assert [(e["position"], e["memory"]["id"]) for e in events] == [
        (2, "one"),
        (3, "doubt"),
        (4, "later"),
    ]


@pytest.mark.parametrize("query", ["", "&type=memory.stored"], ids=["all", "typed"])
def test_what_a_reopening_brings_to_light_wakes_those_who_wait(served: Serving, query: str) -> None:
    """Nothing is written behind it that could wake them, and no heartbeat comes for a minute."""
    alpha = served.db.space("alpha")
    stream = served.stream(f"/api/v1/spaces/alpha/events?after=1{query}")
    assert stream.events(1)[0]["position"] == 2
    poison(alpha)
    alpha.reopen()
    assert stream.events(1)[0]["memory"]["id"] == "doubt"


def test_damage_that_a_reader_found_is_verified_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_module, "DAMAGE_REMEMBERED_S", 3_600.0)
    with engram.open(tmp_path / "data") as db:
        alpha = db.create_space("alpha")
        alpha.remember("one", id="one")
        (segment,) = (db.path / "alpha" / "log").iterdir()
        whole = segment.read_bytes()
        at = whole.rindex(b"one")
        segment.write_bytes(whole[:at] + b"two" + whole[at + 3 :])
        with pytest.raises(SpaceDamaged):
            list(alpha.events())
        for _ in range(2):
            with pytest.raises(SpaceDamaged):
                alpha.reopen()
            assert alpha.info().state == "damaged"
            assert alpha.get("one").content == "one", "what is in memory stays readable"
        segment.write_bytes(whole)
        assert alpha.reopen().detail == REOPENED
        assert alpha.remember("two").position == 3
        db.close()
    with engram.open(tmp_path / "data") as db:
        (manifest,) = (db.path / "alpha").glob("MANIFEST-*")
        manifest.rename(tmp_path / "kept")
        alpha = db.space("alpha")
        with pytest.raises(SpaceDamaged):
            alpha.list()
        (tmp_path / "kept").rename(manifest)
        with pytest.raises(SpaceDamaged):
            alpha.list()  # it is not read again for a while,
        assert alpha.reopen().detail == REOPENED  # unless somebody says so
        assert len(alpha.list().memories) == 2


def test_reopening_on_the_command_line(run: CommandLine, served: Serving, tmp_path: Path) -> None:
    run.set(ENGRAM_SERVER=f"http://127.0.0.1:{served.port}")
    assert run("space", "reopen", "beta") == (0, f"beta is active: {UNCHANGED}\n", "")
    poison(served.db.space("alpha"))
    refused = run("remember", "more", "--space", "alpha")
    assert (refused.code, refused.out) == (1, "")
    assert "engram space reopen" in refused.err
    assert run("space", "reopen", "alpha") == (0, f"alpha is active: {REOPENED}\n", "")
    (document,) = run("space", "reopen", "alpha", "--json").documents
    assert (document["state"], document["position"]) == ("active", 3)
    assert run("space", "reopen", "nobody").code == 3


def test_reopening_damage_on_the_command_line_ends_with_5(run: CommandLine, tmp_path: Path) -> None:
    assert run("space", "create", "alpha").code == 0
    assert run("space", "reopen", "alpha").out == f"alpha is active: {UNCHANGED}\n"
    for manifest in (tmp_path / "data" / "alpha").glob("MANIFEST-*"):
        manifest.unlink()
    assert run("space", "reopen", "alpha").code == 5


def test_a_stream_over_a_space_that_had_just_closed_is_live(served: Serving) -> None:
    alpha = served.db.space("alpha")
    assert alpha._entry.rest()
    stream = served.stream("/api/v1/spaces/alpha/events?after=0")
    assert [event["position"] for event in stream.events(2)] == [1, 2]
    assert not alpha._entry.rest(), "it is followed"
    alpha.remember("three")
    assert stream.events(1)[0]["position"] == 3
