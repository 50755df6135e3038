"""A data root behind an in-process app, and real servers in processes of their own."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

import engram

READY_S_MAX = 30.0
SPACE = "alpha"
OTHER = "beta"
LOCAL = "http://localhost:7432"
VECTORS = "caller-vectors"
DIMENSIONS = 4


class Api:
    """A data root with three spaces, an in-process client of its app, and what must not change.

    `alpha` holds memories, `beta` is empty, `caller-vectors` takes vectors of four dimensions.
    """

    def __init__(self, root: Path, db: engram.Database, client: TestClient) -> None:
        self.root = root
        self.db = db
        self.client = client
        db.create_space(SPACE).remember_many(
            [
                {"id": "one", "content": "The deploy key is rotated every Monday", "tags": ["ops"]},
                {"id": "two", "content": "Lunch is at noon", "metadata": {"place": "kitchen"}},
            ]
        )
        db.create_space(OTHER)
        spec = engram.EmbeddingSpec(model="caller", dimensions=DIMENSIONS)
        db.create_space(VECTORS, embedding=spec).remember(
            "north", id="north", embedding=[1.0, 0.0, 0.0, 0.0]
        )

    def everything(self) -> Any:
        """All that is stored: folders, positions, memories."""
        folders = sorted(path.name for path in self.root.iterdir())
        spaces = [self.db.space(info.memory_space_id) for info in self.db.spaces()]
        return folders, [(s.id, s.info().position, s.list(limit=1_000).memories) for s in spaces]


class Server:
    """A real `engram serve` on a free port."""

    def __init__(self, data_root: Path, *options: str) -> None:
        command = [sys.executable, "-m", "engram.cli.app", "serve", "--data-root", str(data_root)]
        self.process = subprocess.Popen(
            [*command, "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.ready_line = _first_line(self.process, READY_S_MAX)
        self.url = self.ready_line.removeprefix("engram ready ").rstrip("\n")

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it by a signal; returns its exit status and what it said on stderr."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=30)


def _first_line(process: subprocess.Popen[str], seconds: float) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 0.1)[0]:
            return process.stdout.readline()
        if process.poll() is not None:
            break
    process.kill()
    raise AssertionError(f"the server did not get ready: {process.communicate()[1]}")
