"""Bundles over HTTP, by the clients and on the command line: in and out, whole or not at all."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import engram
from engram.bundles.codec import MEDIA_TYPE
from engram.errors import (
    Malformed,
    PositionBeyondEnd,
    ServerUnreachable,
    SpaceExists,
    SpaceNotFound,
)
from engram.server.app import build_app
from engram.server.events import StreamOptions
from engram.server.transfers import TRANSFERS_AT_WORK_MAX

from .command_line import run_in_terminal
from .harness import LOCAL, Server
from .test_events import Serving, serving

S = "/api/v1/spaces"
VECTORS = engram.EmbeddingSpec(model="caller", dimensions=2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with engram.open(tmp_path / "data") as database:
        alpha = database.create_space("alpha", embedding=VECTORS)
        for number in range(5):
            alpha.remember(f"memory {number}", id=f"m{number}", embedding=[1.0, number])
        batch = [{"content": "b", "id": f"b{n}", "embedding": [1.0, n]} for n in range(3)]
        alpha.remember_many(batch)  # positions 7 to 9
    return tmp_path / "data"


@pytest.fixture
def db(root: Path) -> Iterator[engram.Database]:
    with engram.open(root) as database:
        yield database


@pytest.fixture
def http(db: engram.Database) -> Iterator[TestClient]:
    with TestClient(build_app(db), LOCAL) as client:
        yield client


@pytest.fixture
def served(root: Path) -> Iterator[Serving]:
    with serving(root, StreamOptions()) as found:
        yield found


def url_of(served: Serving) -> str:
    return f"http://127.0.0.1:{served.port}"


def ids(space: Any) -> list[str]:
    return [memory.id for memory in space.list(limit=100).memories]


ALL = ["m0", "m1", "m2", "m3", "m4", "b0", "b1", "b2"]


def test_a_bundle_goes_out_and_comes_in(http: TestClient, db: engram.Database) -> None:
    out = http.get(f"{S}/alpha/export")
    assert out.status_code == 200
    assert out.headers["content-type"] == MEDIA_TYPE
    assert out.headers["content-disposition"] == 'attachment; filename="alpha-9.engram"'
    assert http.get("/api/v1/export", headers={"X-Memory-Space": "alpha"}).status_code == 200
    made = http.post(f"{S}/copy/import", content=out.content, headers={"Content-Type": MEDIA_TYPE})
    assert made.status_code == 201
    assert made.headers["location"] == f"{S}/copy"
    document = made.json()
    assert (document["memory_space_id"], document["position"]) == ("copy", 9)
    assert document["origin"] == {
        "memory_space_id": "alpha",
        "space_uuid": db.space("alpha").info().uuid,
        "position": 9,
        "as_of": None,
        "reembedded": None,
    }
    assert ids(db.space("copy")) == ALL


def test_head_asks_for_the_headers_alone(http: TestClient) -> None:
    answer = http.head(f"{S}/alpha/export")
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["engram-position"] == "9"


def refused(answer: Any, status: int, problem: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["type"].endswith(f"/{problem}")


def test_what_cannot_be_imported_is_refused_and_leaves_nothing(
    http: TestClient, db: engram.Database
) -> None:
    data = http.get(f"{S}/alpha/export").content
    typed = {"Content-Type": "application/octet-stream"}
    refused(http.post(f"{S}/alpha/import", content=data, headers=typed), 409, "space-exists")
    refused(http.post(f"{S}/copy/import", content=data[:-1], headers=typed), 400, "malformed")
    refused(http.post(f"{S}/copy/import", content=data + b"x", headers=typed), 400, "malformed")
    refused(http.post(f"{S}/copy/import"), 400, "malformed")
    refused(http.post(f"{S}/copy/import", json={}), 415, "unsupported-media-type")
    packed = {**typed, "Content-Encoding": "gzip"}
    refused(
        http.post(f"{S}/copy/import", content=data, headers=packed), 415, "unsupported-media-type"
    )
    refused(http.post(f"{S}/copy/import?x=1", content=data, headers=typed), 400, "malformed")
    key = {**typed, "Idempotency-Key": "k"}
    refused(http.post(f"{S}/copy/import", content=data, headers=key), 400, "malformed")
    refused(http.post(f"{S}/CON/import", content=data), 400, "memory-space-invalid")
    refused(http.get(f"{S}/copy/export"), 404, "space-not-found")
    refused(http.get(f"{S}/alpha/export?as_of=3"), 400, "malformed")
    assert [info.memory_space_id for info in db.spaces()] == ["alpha"]
    assert list((db.path / ".engram" / "tmp").iterdir()) == []
    db.delete_space("alpha")
    refused(http.post(f"{S}/alpha/import", content=data, headers=typed), 409, "space-deleted")


def test_a_fork_says_where_it_ends(http: TestClient, db: engram.Database) -> None:
    made = http.post(f"{S}/alpha/fork", json={"memory_space_id": "copy", "as_of": 8})
    assert made.status_code == 201
    assert made.headers["location"] == f"{S}/copy"
    assert made.json()["position"] == 6
    assert made.json()["origin"]["as_of"] == 8
    assert made.json()["origin"]["position"] == 6
    assert ids(db.space("copy")) == ALL[:5]


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        ({}, 422, "invalid"),
        ({"memory_space_id": "copy", "as_of": 0}, 422, "invalid"),
        ({"memory_space_id": "copy", "as_of": "5"}, 422, "invalid"),
        ({"memory_space_id": "copy", "as_of": 10}, 400, "position-beyond-end"),
        ({"memory_space_id": "Copy"}, 400, "memory-space-invalid"),
        ({"memory_space_id": "alpha"}, 409, "space-exists"),
        ({"memory_space_id": "copy", "at": 3}, 422, "invalid"),
    ],
)
def test_a_fork_that_cannot_be_is_refused(
    http: TestClient, db: engram.Database, body: Any, status: int, problem: str
) -> None:
    refused(http.post(f"{S}/alpha/fork", json=body), status, problem)
    assert [info.memory_space_id for info in db.spaces()] == ["alpha"]


def test_clients_export_import_and_fork(served: Serving, tmp_path: Path) -> None:
    with engram.Client(url_of(served)) as client:
        alpha = client.space("alpha")
        report = alpha.export(tmp_path / "alpha.engram")
        assert (report.position, report.events) == (9, 9)
        assert report.bytes == (tmp_path / "alpha.engram").stat().st_size
        with pytest.raises(FileExistsError):
            alpha.export(tmp_path / "alpha.engram")
        file = io.BytesIO()
        assert alpha.export(file).position == 9
        assert client.import_space("one", tmp_path / "alpha.engram").origin is not None
        two = client.import_space("two", io.BytesIO(file.getvalue()))
        assert two.origin is not None
        assert two.origin.memory_space_id == "alpha"
        assert ids(two) == ids(client.space("one")) == ALL
        copy = alpha.fork("copy", as_of=8)
        assert copy.origin is not None
        assert copy.origin.rounded
        assert copy.info().position == 6
        with pytest.raises(SpaceExists):
            alpha.fork("copy")
        with pytest.raises(PositionBeyondEnd):
            alpha.fork("later", as_of=100)
        with pytest.raises(SpaceExists):
            client.import_space("one", tmp_path / "alpha.engram")
        with pytest.raises(Malformed):
            client.import_space("three", io.BytesIO(file.getvalue()[:-5]))
        with pytest.raises(SpaceNotFound):
            client.space("three").export(tmp_path / "three.engram")
        assert sorted(path.name for path in tmp_path.glob("*.engram*")) == ["alpha.engram"]


def test_the_asynchronous_client_does_the_same(served: Serving, tmp_path: Path) -> None:
    async def main() -> None:
        async with engram.AsyncClient(url_of(served)) as client:
            report = await client.space("alpha").export(tmp_path / "alpha.engram")
            made = await client.import_space("copy", tmp_path / "alpha.engram")
            assert made.origin is not None
            assert made.origin.position == report.position == 9
            fork = await made.fork("fork", as_of=3)
            assert (await fork.info()).position == 3

    asyncio.run(main())


def test_more_than_a_request_may_hold_goes_through(served: Serving) -> None:
    """In pieces, both ways: no part of it is ever held as a whole."""
    big = served.db.create_space("big", embedding=VECTORS)
    for number in range(24):
        big.remember("x" * 1_000_000, id=f"m{number}", embedding=[1.0, number])
    with engram.Client(url_of(served)) as client:
        file = io.BytesIO()
        assert client.space("big").export(file).bytes > 16 << 20
        file.seek(0)
        assert client.import_space("copy", file).info().memories == 24


def test_a_file_that_fails_while_it_is_sent_is_told_as_that(served: Serving) -> None:
    class Failing:
        def read(self, length: int, /) -> bytes:
            raise OSError(5, "Input/output error")

    with engram.Client(url_of(served)) as client:
        with pytest.raises(Malformed, match="Input/output error"):
            client.import_space("copy", Failing())
        with pytest.raises(SpaceNotFound):
            client.space_info("copy")


def test_who_hangs_up_in_the_middle_leaves_nothing(served: Serving) -> None:
    file = io.BytesIO()
    served.db.space("alpha").export(file)
    with socket.create_connection(("127.0.0.1", served.port)) as half:
        head = f"POST {S}/copy/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: {MEDIA_TYPE}\r\n"
        half.sendall(f"{head}Content-Length: 100000\r\n\r\n".encode() + file.getvalue()[:-50])
        tmp = served.db.path / ".engram" / "tmp"
        while not list(tmp.iterdir()):
            pass  # until it is being built
    while list(tmp.iterdir()):
        pass
    assert [info.memory_space_id for info in served.db.spaces()] == ["alpha"]


def test_slow_uploads_hold_up_no_export(served: Serving) -> None:
    file = io.BytesIO()
    served.db.space("alpha").export(file)
    tmp = served.db.path / ".engram" / "tmp"
    with ExitStack() as stack:
        for number in range(TRANSFERS_AT_WORK_MAX):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
            head = f"POST {S}/copy{number}/import HTTP/1.1\r\nHost: localhost\r\n"
            slow.sendall(f"{head}Content-Length: 100000\r\n\r\n".encode() + file.getvalue()[:-50])
        while len(list(tmp.iterdir())) < TRANSFERS_AT_WORK_MAX:
            pass  # until all are being built
        with engram.Client(url_of(served)) as client:
            assert client.space("alpha").export(io.BytesIO()).position == 9
        assert len(list(tmp.iterdir())) == TRANSFERS_AT_WORK_MAX


def test_an_export_that_ends_early_is_noticed(
    served: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engram.bundles import outgoing

    def read(entry: Any, position: int, last: int) -> Any:
        raise engram.Unavailable("history went away")

    monkeypatch.setattr(outgoing, "read_in_steps", read)
    with engram.Client(url_of(served)) as client, pytest.raises(ServerUnreachable):
        client.space("alpha").export(tmp_path / "alpha.engram")
    assert not list(tmp_path.glob("*alpha.engram*"))


def test_commands_export_import_and_fork(
    root: Path, tmp_path: Path, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    file = str(tmp_path / "alpha.engram")
    done = cli("space", "export", "alpha", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"exported alpha to {file}: positions 1 to 9, ")
    before = Path(file).read_bytes()
    done = cli("space", "export", "alpha", file)
    assert (done.returncode, done.stdout) == (4, "")
    assert "--force" in done.stderr
    assert Path(file).read_bytes() == before
    done = cli("space", "export", "alpha", file, "--force", "--json")
    assert json.loads(done.stdout)["report"]["position"] == 9
    assert cli("space", "import", "copy", file).stdout == (
        "imported copy from alpha, up to position 9\n"
    )
    assert cli("space", "import", "copy", file).returncode == 4
    done = cli("space", "fork", "copy", "part", "--as-of", "8")
    assert done.stdout == (
        "forked part from copy, up to position 6: 8 falls inside a batch, or on a deletion, so it "
        "ends before that\n"
    )
    done = cli("space", "fork", "copy", "other", "--as-of", "4", "--json")
    assert json.loads(done.stdout)["origin"]["position"] == 4
    assert cli("space", "fork", "copy", "later", "--as-of", "99").returncode == 2
    Path(file).write_bytes(before[:-1])
    done = cli("space", "import", "broken", file)
    assert done.returncode == 2
    assert "cut short" in done.stderr
    assert cli("space", "export", "nothing", file, "-f").returncode == 3
    assert Path(file).read_bytes() == before[:-1]
    assert cli("space", "import", "broken", str(tmp_path / "nothing")).returncode == 2
    assert cli("space", "export", "alpha", str(tmp_path / "no" / "where")).returncode == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alpha.engram", "data"]


def test_commands_pipe_bundles(root: Path, served: Serving, tmp_path: Path) -> None:
    """From a server, through a pipe, into another data root."""
    engram_command = f"{sys.executable} -m engram.cli.app"
    line = (
        f"{engram_command} space export alpha - --server {url_of(served)} | "
        f"{engram_command} space import copy - --data-root {tmp_path / 'other'}"
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with engram.open(tmp_path / "other") as other:
        assert ids(other.space("copy")) == ALL


def test_who_reads_a_piped_bundle_may_leave(
    root: Path, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    command = f"{sys.executable} -m engram.cli.app space export alpha - --data-root {root} | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {0, 1}  # it may have been written before the reader left
    assert "Traceback" not in done.stderr
    assert cli("space", "export", "alpha", "-", "--json").returncode == 2
    assert cli("space", "export", "alpha", "").returncode == 2


def test_a_terminal_shows_progress_and_gets_no_bundle(root: Path, tmp_path: Path) -> None:
    where = {"ENGRAM_DATA_ROOT": str(root)}
    file = str(tmp_path / "a.engram")
    code, shown = run_in_terminal(["space", "export", "alpha", file], where)
    assert code == 0
    assert "exporting" in shown
    assert "exported alpha" in shown
    code, shown = run_in_terminal(["space", "import", "copy", file], where)
    assert code == 0
    assert "importing" in shown
    code, shown = run_in_terminal(["space", "export", "alpha", "-"], where)
    assert code == 2
    assert "not for a terminal" in shown


def test_a_server_that_stops_in_the_middle_of_a_bundle_says_so_and_leaves_nothing(
    root: Path, start_server: Callable[..., Server]
) -> None:
    file = io.BytesIO()
    with engram.open(root) as db:
        db.space("alpha").export(file)
    server = start_server(root)
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as half:
        head = f"POST {S}/copy/import HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
        half.sendall(head.encode() + file.getvalue()[:-50])
        tmp = root / ".engram" / "tmp"
        while not list(tmp.iterdir()):
            pass  # until it is being built
        status, errors = server.stop()
        answer = half.makefile("rb").read()
    assert status == 0
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert "Traceback" not in errors
    assert list(tmp.iterdir()) == []
    with engram.open(root) as db:
        assert [info.memory_space_id for info in db.spaces()] == ["alpha"]
