"""Real processes killed with SIGKILL while they write, boot after boot on one data root.

After each, everything acknowledged is there, exactly; what was not answered is there whole or not
at all; positions are dense and mean what they meant; and the space nobody wrote to has not changed
by a byte.
"""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.crash.drill import (
    SPACES,
    STARTED,
    WORKERS_PER_SPACE,
    Ledger,
    Op,
    Writer,
    embedding_of,
    lay_out,
    write_without_end,
)

SEED = 20_261_123
BOOTS = 5
WRITING_S_MIN, WRITING_S_MAX = 0.05, 1.5
STARTING_S_MAX = 0.6
TIMEOUT_S = 30
REPOSITORY = Path(__file__).parents[2]


def digest(folder: Path) -> str:
    """Of every name and byte below."""
    hashed = blake2b()
    for path in sorted(folder.rglob("*")):
        hashed.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            hashed.update(path.read_bytes())
    return hashed.hexdigest()


def moments(seed: int) -> list[float]:
    """How long each boot may write, in seconds: one very short, one long, the others between."""
    rng = random.Random(seed)
    between = [rng.uniform(WRITING_S_MIN, WRITING_S_MAX) for _ in range(BOOTS - 2)]
    return [WRITING_S_MIN, *between, WRITING_S_MAX]


def read_reports(
    process: subprocess.Popen[bytes], ledger: Ledger, started: threading.Event
) -> None:
    """Take every report into the ledger, until the pipe ends with the process."""
    assert process.stdout is not None
    for line in process.stdout:
        if not line.endswith(b"\n"):
            break  # killed in the middle of a report: that step was not taken
        told = json.loads(line)
        if STARTED in told:
            started.set()
        elif "op" in told:
            kind, ids, contents = told["op"]
            op = Op(kind, tuple(ids), tuple(contents))
            ledger.announce(told["space"], told["worker"], op)
        elif "positions" in told:
            ledger.acknowledge(told["space"], told["worker"], told["positions"])
        else:
            raise AssertionError(told["error"])


def kill_while(process: subprocess.Popen[Any], seconds: float) -> None:
    """SIGKILL after so long; the process must not have ended by itself."""
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)
    process.kill()
    process.wait(timeout=TIMEOUT_S)


class Thread(threading.Thread):
    """A thread whose failure is raised where it is joined."""

    def __init__(self, target: Callable[..., object], *args: Any) -> None:
        super().__init__(daemon=True)
        self._call = lambda: target(*args)
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._call()
        except BaseException as error:
            self._error = error

    def finish(self) -> None:
        self.join(TIMEOUT_S)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error


def test_an_embedded_writer_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    root, ledger = tmp_path / "data", Ledger()
    lay_out(root)
    bystander = digest(root / "bystander")
    starting = random.Random(SEED).uniform(0.1, STARTING_S_MAX)
    for boot, seconds in enumerate([*moments(SEED), None, WRITING_S_MIN]):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.crash.drill", str(root), str(SEED), str(boot)],
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
        ) as process:
            started = threading.Event()
            reader = Thread(read_reports, process, ledger, started)
            reader.start()
            if seconds is None:  # in the middle of starting, wherever that is
                kill_while(process, starting)
            else:
                assert started.wait(TIMEOUT_S)
                kill_while(process, seconds)
            reader.finish()
        ledger.verify(root)
        assert digest(root / "bystander") == bystander
    assert ledger.acknowledged > 10  # of hundreds, where the machine has nothing else to do
    assert ledger.unanswered > 0


@contextmanager
def server(root: Path) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """`engram serve` on a free port, and where it is."""
    with subprocess.Popen(
        [sys.executable, "-m", "engram.cli.app", "serve", "--port", "0", "--data-root", str(root)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert ready.startswith("engram ready http://"), ready
            host, _, port = ready.strip().rpartition("/")[2].rpartition(":")
            yield process, host, int(port)
        finally:
            process.kill()


class Client:
    """One connection that carries operations out over HTTP."""

    def __init__(self, host: str, port: int, space: str) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        self._base = f"/api/v1/spaces/{space}/memories"
        self._own_vectors = SPACES[space] is not None

    def __call__(self, op: Op) -> list[int]:
        if op.kind == "forget":
            return [self._send("DELETE", f"/{quote(op.ids[0])}", None, 200)["position"]]
        if op.kind == "revise":
            body = self._fields(op.contents[0])
            return [self._send("PATCH", f"/{quote(op.ids[0])}", body, 200)["position"]]
        items = [{"id": i, **self._fields(c)} for i, c in zip(op.ids, op.contents, strict=True)]
        answer = self._send("POST", "", items[0] if len(items) == 1 else {"memories": items}, 201)
        return [memory["position"] for memory in answer["memories"]]

    def _fields(self, content: str) -> dict[str, Any]:
        return {
            "content": content,
            **({"embedding": embedding_of(content)} if self._own_vectors else {}),
        }

    def _send(self, method: str, path: str, body: Any, status: int) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        self._connection.request(method, self._base + path, data, headers)
        answer = self._connection.getresponse()
        document = json.loads(answer.read())
        assert answer.status == status, document
        return document

    def close(self) -> None:
        self._connection.close()


def write_over_http(
    host: str, port: int, space: str, worker: int, boot: int, ledger: Ledger
) -> None:
    client = Client(host, port, space)
    try:
        write_without_end(
            Writer(space, worker, boot, SEED, ledger.living(space)),
            client,
            lambda op: ledger.announce(space, worker, op),
            lambda positions: ledger.acknowledge(space, worker, positions),
        )
    except (ConnectionError, http.client.HTTPException):
        pass  # the server is gone: whatever was asked last was not answered
    finally:
        client.close()


def test_a_server_killed_under_concurrent_clients_loses_nothing(tmp_path: Path) -> None:
    root, ledger = tmp_path / "data", Ledger()
    lay_out(root)
    bystander = digest(root / "bystander")
    for boot, seconds in enumerate(moments(SEED + 1)):
        with server(root) as (process, host, port):
            clients = [
                Thread(write_over_http, host, port, space, worker, boot, ledger)
                for space in SPACES
                for worker in range(WORKERS_PER_SPACE)
            ]
            for client in clients:
                client.start()
            kill_while(process, seconds)
            for client in clients:
                client.finish()
        ledger.verify(root)
        assert digest(root / "bystander") == bystander
    assert ledger.acknowledged > 100
    assert ledger.unanswered > 0
