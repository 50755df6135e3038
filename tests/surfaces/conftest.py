"""What the tests of the surfaces share; the classes behind it are in harness.py."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from starlette.testclient import TestClient

import engram
from engram.server.app import build_app

from .doors import CALLER, Awaited
from .forked import engram_command
from .harness import LOCAL, Api, Server


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    root = tmp_path_factory.mktemp("data")
    with engram.open(root) as db, TestClient(build_app(db), LOCAL) as client:
        yield Api(root, db, client)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("served"))
    yield server
    server.kill()


@pytest.fixture(scope="module", params=["embedded", "client", "async"])
def db(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if request.param == "embedded":
        with engram.open(tmp_path_factory.mktemp("embedded")) as database:
            yield database
        return
    server: Server = request.getfixturevalue("server")
    if request.param == "client":
        with engram.Client(server.url) as client:
            yield client
        return
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(engram.AsyncClient(server.url)) as asynchronous,
    ):
        yield Awaited(portal, asynchronous)


@pytest.fixture
def space(db: Any) -> Any:
    return db.create_space()


@pytest.fixture
def vectors(db: Any) -> Any:
    return db.create_space(embedding=CALLER)


@pytest.fixture
def unchanged(api: Api) -> Iterator[Api]:
    """For requests that must be refused: whatever was asked, the store is as it was."""
    before = api.everything()
    yield api
    assert api.everything() == before


@pytest.fixture
def start_server() -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(data_root: Path, *options: str) -> Server:
        started.append(Server(data_root, *options))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def forked_engram(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`engram` as a command that starts at once."""
    with engram_command(tmp_path_factory.mktemp("forked")) as binaries:
        yield binaries / "engram"


@pytest.fixture
def cli(tmp_path: Path, forked_engram: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `engram …` as its own process, on `tmp_path/data` unless told otherwise."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        # Servers, and what is told to Python itself, take a Python that has just started.
        itself = "serve" in arguments or any(name.startswith("PYTHON") for name in environment)
        command = [sys.executable, "-m", "engram.cli.app"] if itself else [str(forked_engram)]
        return subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "ENGRAM_DATA_ROOT": str(tmp_path / "data"), **environment},
        )

    return run
