"""Purging over HTTP and at a terminal: receipts, what is asked, and what a full disk leaves."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import engram
from engram.server.app import build_app
from wal.os_vfs import OsDirectory

from .command_line import CommandLine, run_in_terminal
from .harness import LOCAL

SECRET = "xylophone"
M = "/api/v1/spaces/alpha/memories"
MATCHING = {"filter": {"tags_all": ["music"]}, "purge": True}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with engram.open(tmp_path / "data") as db:
        alpha = db.create_space("alpha")
        alpha.remember(f"the {SECRET} is in the attic", id="one", tags=["music"])
        alpha.remember(f"another {SECRET}", id="two", tags=["music"])
        alpha.remember("lunch is at noon", id="lunch")
    return tmp_path / "data"


@pytest.fixture
def http(root: Path) -> Iterator[TestClient]:
    with engram.open(root) as db, TestClient(build_app(db), LOCAL) as client:
        yield client


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> CommandLine:
    place = {"ENGRAM_DATA_ROOT": str(tmp_path / "data"), "ENGRAM_SPACE": "alpha"}
    return CommandLine(capfd, monkeypatch, tmp_path).set(**place)


def files_with_the_secret(root: Path) -> list[Path]:
    return [p for p in root.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]


def refused(answer: Any, status: int, problem: str) -> str:
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert document["type"].endswith("/" + problem)
    assert document["memory_space_id"] == "alpha"
    return str(document["detail"])


def no_room_for_checkpoints(patched: pytest.MonkeyPatch) -> None:
    create = OsDirectory.create

    def refuse(self: OsDirectory, name: str) -> Any:
        if self.path.endswith("checkpoints"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return create(self, name)

    patched.setattr(OsDirectory, "create", refuse)


def test_a_purge_is_answered_with_its_receipt_and_again_with_the_same(
    http: TestClient, root: Path
) -> None:
    assert http.delete(f"{M}/one").json()["id"] == "one"  # forgotten first: purged all the same
    answer = http.delete(f"{M}/one", params={"purge": "true"})
    assert answer.status_code == 200
    (receipt,) = answer.json().values()
    assert set(receipt) == {
        *("memory_space_id", "id", "count", "position", "purged_at"),
        *("completed_position", "completed_at", "files"),
    }
    assert (receipt["id"], receipt["count"], receipt["position"]) == ("one", 1, 6)
    for file in receipt["files"]:
        assert set(file) == {"name", "crc32c"}
        assert (root / "alpha" / file["name"]).is_file()
    assert http.delete(f"{M}/one?purge=true").json() == {"receipt": receipt}
    assert "purged" in refused(http.post(f"{M}/one/restore"), 404, "memory-not-found")
    refused(http.delete(f"{M}/one"), 404, "memory-not-found")
    purged, compacted = http.get(f"{M}/one/history").json()["events"], receipt
    assert [(event["type"], event["revision"]) for event in purged] == [("memory.purged", 1)]
    assert compacted["completed_position"] == 7
    again = http.post(M, json={"id": "one", "content": "something else"})
    assert again.json()["memories"][0]["revision"] == 2


def test_a_purge_can_be_declined_by_its_own_parameter(http: TestClient) -> None:
    assert http.delete(f"{M}/one?purge=false").json() == {"id": "one", "position": 5}
    assert http.post(f"{M}/one/restore").status_code == 200


def test_all_that_matches_is_purged(http: TestClient, root: Path) -> None:
    http.delete(f"{M}/two")
    answer = http.request("DELETE", M, json=MATCHING)
    assert answer.status_code == 200
    receipt = answer.json()["receipt"]
    assert (receipt["id"], receipt["count"]) == (None, 2)
    assert files_with_the_secret(root) == []
    again = http.request("DELETE", M, json=MATCHING)
    assert (again.status_code, again.json()) == (200, {"receipt": None})
    assert [memory["id"] for memory in http.get(M).json()["memories"]] == ["lunch"]
    by_header = http.request(
        "DELETE", "/api/v1/memories", json=MATCHING, headers={"X-Memory-Space": "alpha"}
    )
    assert by_header.json() == {"receipt": None}


@pytest.mark.parametrize("by", ["id", "filter"])
def test_on_a_full_disk_it_is_out_of_reach_and_later_off_the_disk(
    http: TestClient, root: Path, by: str
) -> None:
    def purge() -> Any:
        if by == "id":
            return [http.delete(f"{M}/{name}?purge=true") for name in ("one", "two")][-1]
        return http.request("DELETE", M, json=MATCHING)

    with pytest.MonkeyPatch.context() as patched:
        no_room_for_checkpoints(patched)
        detail = refused(purge(), 507, "disk-full")
        assert "out of reach by now" in detail
        assert "purge it again" in detail
        assert "as it was" not in detail
        for name in ("one", "two"):
            refused(http.get(f"{M}/{name}"), 404, "memory-not-found")
            assert "purged" in refused(http.post(f"{M}/{name}/restore"), 404, "memory-not-found")
        assert files_with_the_secret(root)
        refused(purge(), 507, "disk-full")
    answer = purge()
    assert answer.status_code == 200
    assert files_with_the_secret(root) == []
    if by == "id":
        assert answer.json()["receipt"]["id"] == "two"
    else:  # of what was found then there is nothing left to be found
        assert answer.json() == {"receipt": None}


def test_a_damaged_space_purges_nothing(root: Path) -> None:
    (segment,) = (root / "alpha" / "log").iterdir()
    data = bytearray(segment.read_bytes())
    data[data.index(SECRET.encode())] ^= 1
    segment.write_bytes(data)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with engram.open(root) as db, TestClient(build_app(db), LOCAL) as http:
        for answer in (
            http.delete(f"{M}/one?purge=true"),
            http.request("DELETE", M, json=MATCHING),
        ):
            refused(answer, 503, "space-damaged")
    after = {path: path.read_bytes() for path in before if path.name != "LOCK"}
    assert after == {path: data for path, data in before.items() if path.name != "LOCK"}


@pytest.mark.parametrize(("typed", "purged"), [("y\n", True), ("n\n", False), ("\n", False)])
@pytest.mark.parametrize("by", ["id", "filter"])
def test_a_terminal_is_asked_and_told_that_it_is_for_good(
    run: CommandLine, root: Path, typed: str, purged: bool, by: str
) -> None:
    run("forget", "two", "--yes")
    what = ["one", "two"] if by == "id" else ["--tag", "music"]
    environment = {"ENGRAM_DATA_ROOT": str(root), "ENGRAM_SPACE": "alpha"}
    status, shown = run_in_terminal(
        ["forget", "--purge", *what], environment, typed=typed, columns=200
    )
    assert f"the {SECRET} is in the attic" in shown
    assert "This is for good" in shown
    assert "Backups, bundles and other copies are not reached" in shown
    if by == "id":
        assert "two  (forgotten)" in shown
        assert "Purge these 2 memories from alpha?" in shown
    else:
        assert "Purge these, and forgotten memories that match, from alpha?" in shown
    assert status == (0 if purged else 1)
    assert ("nothing was purged" in shown) is not purged
    assert (files_with_the_secret(root) == []) is purged
    assert run("get", "lunch").code == 0
