"""What one request costs through a server: remembering a memory, and recalling from 10,000.

    python -m tools.bench.doors [--chroma /path/to/chroma] [--memories 10000] [--rounds 3] [--json]

16 clients in one process, each waiting for its answer before it asks again: first each of --writes
requests stores one memory, then each of --recalls asks for the ten nearest ones. Vectors are the
caller's, 256 random dimensions, so nobody embeds anything; a text of a dozen words comes along.
Servers run one at a time on fresh folders, in turn, --rounds times; a figure is the median of its
rounds, and ratios are taken within a round. Engram acknowledges what is on disk. --chroma is the
command of an installed Chroma, whose server is run beside it, with its own settings.

Engram is asked over REST: in mode `similarity`, as the peer does it, and by words alone in the mode
that it picks, which the peer has no counterpart of; nothing is put on record.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, NamedTuple, Protocol

import aiohttp
import numpy as np

from tools.bench.measures import machine

CLIENTS: Final = 16
DIMENSIONS: Final = 256
LIMIT: Final = 10
WORDS: Final = 12
PER_REQUEST: Final = 500
READY_S_MAX: Final = 60.0

Vector = list[float]
Operation = Callable[[int], Awaitable[None]]


class Corpus:
    """Seeded texts and unit vectors."""

    def __init__(self, count: int) -> None:
        random = np.random.default_rng(1)
        vectors = random.standard_normal((count, DIMENSIONS)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self.vectors: list[Vector] = vectors.round(6).tolist()
        words = np.array([f"w{number:x}q" for number in range(20_000)])
        chosen = random.zipf(1.3, (count, WORDS)) % len(words)
        self.texts = [" ".join(row) for row in words[chosen]]


class Door(Protocol):
    """One way to one server that holds the first memories of a corpus."""

    async def load(self, first: int, last: int) -> None: ...
    def operations(self) -> dict[str, Operation]:
        """What is measured, by name; each takes the number of a memory."""


class Rest:
    """Engram over REST."""

    def __init__(self, session: aiohttp.ClientSession, corpus: Corpus) -> None:
        self._session = session
        self._corpus = corpus

    async def open(self) -> Rest:
        embedding = {"model": "caller", "dimensions": DIMENSIONS}
        await _ask(self._session, "PUT", "/api/v1/spaces/alpha", {"embedding": embedding})
        return self

    def _memory(self, number: int) -> dict[str, Any]:
        corpus = self._corpus
        return {
            "id": str(number),
            "content": corpus.texts[number],
            "embedding": corpus.vectors[number],
        }

    async def load(self, first: int, last: int) -> None:
        for at in range(first, last, PER_REQUEST):
            memories = [self._memory(number) for number in range(at, min(at + PER_REQUEST, last))]
            await self._post("memories", {"memories": memories})

    async def _post(self, what: str, body: dict[str, Any]) -> None:
        await _ask(self._session, "POST", f"/api/v1/spaces/alpha/{what}", body)

    def operations(self) -> dict[str, Operation]:
        async def remember(number: int) -> None:
            await self._post("memories", self._memory(number))

        async def recall(number: int) -> None:
            cue = {"embedding": self._corpus.vectors[number], "mode": "similarity"}
            await self._post("recall", {**cue, "limit": LIMIT, "record": False})

        async def recall_by_words(number: int) -> None:
            body = {"query": self._corpus.texts[number], "limit": LIMIT, "record": False}
            await self._post("recall", body)

        return {"remember": remember, "recall": recall, "recall by words": recall_by_words}


class Chroma:
    """A Chroma server, API v2."""

    _COLLECTIONS: Final = "/api/v2/tenants/default_tenant/databases/default_database/collections"

    def __init__(self, session: aiohttp.ClientSession, corpus: Corpus) -> None:
        self._session = session
        self._corpus = corpus
        self._path = ""

    async def open(self) -> Chroma:
        made = await _ask(self._session, "POST", self._COLLECTIONS, {"name": "alpha"})
        self._path = f"{self._COLLECTIONS}/{made['id']}"
        return self

    async def load(self, first: int, last: int) -> None:
        for at in range(first, last, PER_REQUEST):
            await self._add(range(at, min(at + PER_REQUEST, last)))

    async def _add(self, numbers: Sequence[int]) -> None:
        corpus = self._corpus
        body = {
            "ids": [str(number) for number in numbers],
            "documents": [corpus.texts[number] for number in numbers],
            "embeddings": [corpus.vectors[number] for number in numbers],
        }
        await _ask(self._session, "POST", f"{self._path}/add", body)

    def operations(self) -> dict[str, Operation]:
        async def remember(number: int) -> None:
            await self._add([number])

        async def recall(number: int) -> None:
            cue = {"query_embeddings": [self._corpus.vectors[number]], "n_results": LIMIT}
            included = ["documents", "metadatas", "distances"]
            await _ask(self._session, "POST", f"{self._path}/query", {**cue, "include": included})

        return {"remember": remember, "recall": recall}


async def _ask(session: aiohttp.ClientSession, method: str, path: str, body: Any) -> Any:
    async with session.request(method, path, json=body) as answer:
        document = await answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {document[:300]!r}")
        return json.loads(document)


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[str]:
    """A server as its own process, once it takes connections; yields its URL."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + READY_S_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"did not start: {' '.join(command)}") from None
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@asynccontextmanager
async def session_to(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=CLIENTS)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        yield session


class Figure(NamedTuple):
    per_second: float
    p50_ms: float
    p99_ms: float


async def timed(operation: Operation, numbers: Sequence[int]) -> Figure:
    """All `numbers`, by CLIENTS at once, each on to the next when it was answered."""
    waiting = iter(numbers)
    took_ms: list[float] = []

    async def client() -> None:
        for number in waiting:
            started = time.perf_counter()
            await operation(number)
            took_ms.append((time.perf_counter() - started) * 1_000)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    seconds = time.perf_counter() - started
    ranked = sorted(took_ms)
    return Figure(len(ranked) / seconds, statistics.median(ranked), ranked[len(ranked) * 99 // 100])


async def measured(door: Door, options: argparse.Namespace) -> dict[str, Figure]:
    await door.load(0, options.memories)
    operations = door.operations()
    writes = range(options.memories, options.memories + options.writes)
    asked = [number * 7 % options.memories for number in range(options.recalls)]
    figures = {"remember": await timed(operations["remember"], writes)}
    for name, operation in operations.items():
        if name != "remember":
            await timed(operation, asked[: 2 * CLIENTS])  # what the first ones of a view find made
            figures[name] = await timed(operation, asked)
    return figures


async def one_round(corpus: Corpus, options: argparse.Namespace) -> dict[str, dict[str, Figure]]:
    found = {}
    with tempfile.TemporaryDirectory() as root:
        port = free_port()
        serve = [sys.executable, "-m", "engram.cli.app", "serve", "--data-root", root]
        with running([*serve, "--port", str(port)], port) as url:
            async with session_to(url) as session:
                found["engram rest"] = await measured(await Rest(session, corpus).open(), options)
    if options.chroma:
        with tempfile.TemporaryDirectory() as root:
            port = free_port()
            command = [options.chroma, "run", "--path", root, "--host", "127.0.0.1"]
            with running([*command, "--port", str(port)], port) as url:
                async with session_to(url) as session:
                    door = await Chroma(session, corpus).open()
                    found["chroma"] = await measured(door, options)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--memories", type=int, default=10_000)
    parser.add_argument("--writes", type=int, default=2_000)
    parser.add_argument("--recalls", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chroma", help="the command of an installed Chroma")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    corpus = Corpus(options.memories + options.writes)
    rounds = []
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        rounds.append(asyncio.run(one_round(corpus, options)))
    figures: dict[tuple[str, str], list[Figure]] = defaultdict(list)
    for found in rounds:
        for door, by_operation in found.items():
            for operation, figure in by_operation.items():
                figures[door, operation].append(figure)
    rows = [_row(door, operation, each, rounds) for (door, operation), each in figures.items()]
    if options.json:
        print(json.dumps({"machine": machine(), "clients": CLIENTS, "figures": rows}, indent=1))
        return
    for row in rows:
        ratio = f"{row['over_chroma']:.2f}x chroma" if "over_chroma" in row else ""
        print(
            f"{row['door']:12} {row['operation']:16} {row['per_second']:8.0f}/s "
            f"{row['p50_ms']:7.1f} ms {row['p99_ms']:7.1f} ms  {ratio}"
        )


def _row(
    door: str, operation: str, figures: list[Figure], rounds: list[dict[str, dict[str, Figure]]]
) -> dict[str, Any]:
    row: dict[str, Any] = {"door": door, "operation": operation}
    for name in Figure._fields:
        row[name] = round(statistics.median(getattr(figure, name) for figure in figures), 2)
    peers = [found["chroma"].get(operation) for found in rounds if "chroma" in found]
    if door != "chroma" and peers and all(peers):
        pairs = zip(figures, peers, strict=True)
        row["over_chroma"] = round(
            statistics.median(own.per_second / peer.per_second for own, peer in pairs if peer), 2
        )
    return row


if __name__ == "__main__":
    main()
