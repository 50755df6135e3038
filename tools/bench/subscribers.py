"""What idle subscribers cost the one who writes.

    python -m tools.bench.subscribers [--subscribers 1000] [--seconds 5] [--pairs 5] [--json FILE]

A real server in a process of its own, on a data root on the disk that the temporary folder is on.
A second process writes single memories of about 200 bytes to one space over REST, each on the disk
before it is answered, on 8 connections kept open, with vectors of 64 dimensions of its own. Rounds
come in pairs, which of the two is first alternates:

- without subscribers;
- with N that get nothing: half follow ten other spaces, half the written one with a type that
  never comes; and one more follows the written space and never reads what it is sent.

Reported are the rates, the ratio within each pair, what a subscriber takes of the server's memory
(as connected first), and when the server lets go of the one that never reads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple

from tools.bench.engine import Corpus
from tools.bench.measures import machine

WRITERS: Final = 8
DIMENSIONS: Final = 64
BODIES: Final = 500
WRITTEN: Final = "written"
OTHERS: Final = tuple(f"other-{number}" for number in range(10))
NEVER: Final = "memory.forgotten"
CONNECTING_AT_ONCE: Final = 50
WARM_UP_S: Final = 2.0
LET_GO_S_MAX: Final = 60.0
SPARE_FILES: Final = 100
SMALL_BUFFER: Final = 4_096
TCP_ESTABLISHED: Final = "01"


class Server(NamedTuple):
    """Where the server is."""

    pid: int
    host: str
    port: int

    def rss_bytes(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) << 10

    def create(self, space: str) -> None:
        body = {"embedding": {"model": "caller", "dimensions": DIMENSIONS}}
        request = urllib.request.Request(
            f"http://{self.host}:{self.port}/api/v1/spaces/{space}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method="PUT",
        )
        urllib.request.urlopen(request, timeout=30).close()


@contextmanager
def serving(root: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "engram.cli.app", "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "--data-root", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # hints for someone at a terminal
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            ready = re.fullmatch(r"engram ready http://(.+):(\d+)\n", process.stdout.readline())
            if ready is None:
                raise SystemExit("the server did not start")
            yield Server(process.pid, ready[1], int(ready[2]))
        finally:
            process.terminate()


class Load:
    """The writing process."""

    def __init__(self, server: Server) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=write_when_told, args=(server.host, server.port, theirs), daemon=True
        )
        self._process.start()
        self._pipe.recv()

    def rate(self, seconds: float) -> float:
        """Memories acknowledged per second."""
        self._pipe.send(seconds)
        written, took_s = self._pipe.recv()
        return float(written / took_s)

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


def write_when_told(host: str, port: int, orders: Connection[Any, Any]) -> None:
    """The writing process: takes seconds, answers how many memories were written in what time."""
    asyncio.run(_write_when_told(host, port, orders))


async def _write_when_told(host: str, port: int, orders: Connection[Any, Any]) -> None:
    requests = [_request(host, body) for body in _bodies()]
    connections = [await asyncio.open_connection(host, port) for _ in range(WRITERS)]
    orders.send("ready")
    while True:
        try:
            seconds = orders.recv()
        except EOFError:
            break
        started = time.perf_counter()
        counts = await asyncio.gather(
            *(
                _write(reader, writer, requests[number:], started + seconds)
                for number, (reader, writer) in enumerate(connections)
            )
        )
        orders.send((sum(counts), time.perf_counter() - started))


def _bodies() -> Iterator[bytes]:
    corpus = Corpus(DIMENSIONS)
    for _ in range(BODIES):
        vector = [round(float(x), 5) for x in corpus.vector()]
        yield json.dumps({"content": corpus.text(), "embedding": vector}).encode()


def _request(host: str, body: bytes) -> bytes:
    head = (
        f"POST /api/v1/spaces/{WRITTEN}/memories HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _write(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    requests: list[bytes],
    until: float,
) -> int:
    for count, request in enumerate(cycle(requests)):
        if time.perf_counter() >= until:
            return count
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if length is None or not head.startswith(b"HTTP/1.1 201 "):
            raise RuntimeError(f"a write was answered {head!r}")
        await reader.readexactly(int(length[1]))
    raise AssertionError("cycle() has no end")


class Crowd:
    """Subscribers that get nothing, and one that never reads."""

    def __init__(self, server: Server, size: int) -> None:
        self._server = server
        self._size = size
        self._writers: list[asyncio.StreamWriter] = []
        self.never_reading: socket.socket | None = None
        self.connected_at = 0.0

    async def connect(self) -> None:
        """Returns once every one of them has been answered."""
        others = cycle(OTHERS)
        paths = [
            f"{WRITTEN}/events?type={NEVER}" if number % 2 else f"{next(others)}/events"
            for number in range(self._size)
        ]
        for start in range(0, self._size, CONNECTING_AT_ONCE):
            batch = paths[start : start + CONNECTING_AT_ONCE]
            self._writers += await asyncio.gather(*map(self._subscribe, batch))
        self.never_reading = await asyncio.to_thread(self._subscribe_and_sleep)
        self.connected_at = time.monotonic()

    async def _subscribe(self, path: str) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection(self._server.host, self._server.port)
        writer.write(self._ask(path))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"a subscription was answered {head!r}")
        await reader.readuntil(b"\nid: ")
        return writer

    def _subscribe_and_sleep(self) -> socket.socket:
        """From the first event on, so that there is at once more than the buffers hold."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        connection.connect((self._server.host, self._server.port))
        connection.sendall(self._ask(f"{WRITTEN}/events?after=0"))
        return connection

    def _ask(self, path: str) -> bytes:
        return f"GET /api/v1/spaces/{path} HTTP/1.1\r\nHost: {self._server.host}\r\n\r\n".encode()

    def let_go_s(self) -> float | None:
        """Wait until the server's end of the never-reading one is closed: seconds since it came.

        The kernel keeps what was sent, so this side hears nothing of it; the server's state tells.
        """
        assert self.never_reading is not None
        port = self.never_reading.getsockname()[1]
        while (waited_s := time.monotonic() - self.connected_at) < LET_GO_S_MAX:
            if not _established(self._server.port, port):
                return waited_s
            time.sleep(0.1)
        return None

    async def leave(self) -> None:
        if self.never_reading is not None:
            self.never_reading.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        await asyncio.sleep(1)  # the server hears of it and forgets them


def _established(port: int, peer: int) -> bool:
    """Whether the connection between these ports of this machine is open at the first one's end."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, state = line.split()[1:4]
        if local.endswith(f":{port:04X}") and remote.endswith(f":{peer:04X}"):
            return state == TCP_ESTABLISHED
    return False


async def measure(server: Server, subscribers: int, seconds: float, pairs: int) -> dict[str, Any]:
    for space in (WRITTEN, *OTHERS):
        server.create(space)
    load = Load(server)
    _say("warming up")
    await asyncio.to_thread(load.rate, WARM_UP_S)
    rates: dict[bool, list[float]] = {False: [], True: []}
    rss_per_subscriber: list[float] = []
    for pair in range(pairs):
        for crowded in (False, True) if pair % 2 == 0 else (True, False):
            crowd = Crowd(server, subscribers)
            if crowded:
                _say(f"pair {pair + 1} of {pairs}: {subscribers:,} subscribers connect")
                before = server.rss_bytes()
                await crowd.connect()
                rss_per_subscriber.append((server.rss_bytes() - before) / subscribers)
            _say(f"pair {pair + 1} of {pairs}: writing {'with' if crowded else 'without'} them")
            rates[crowded].append(await asyncio.to_thread(load.rate, seconds))
            await crowd.leave()
    load.close()
    _say("waiting for the server to let go of one that never reads")
    alone = Crowd(server, 0)
    await alone.connect()
    let_go_s = await asyncio.to_thread(alone.let_go_s)
    await alone.leave()
    # Later crowds find the memory that the first one left behind.
    return _figures(rates[False], rates[True], rss_per_subscriber[0], let_go_s)


def _figures(
    without: list[float],
    with_them: list[float],
    rss_per_subscriber: float,
    let_go_s: float | None,
) -> dict[str, Any]:
    ratios = [b / a for a, b in zip(without, with_them, strict=True)]
    return {
        "writes_per_second_without": statistics.median(without),
        "writes_per_second_with": statistics.median(with_them),
        "ratio": {
            "median": statistics.median(ratios),
            "min": min(ratios),
            "max": max(ratios),
        },
        "rss_kib_per_subscriber": rss_per_subscriber / 1024,
        "never_reading_let_go_s": let_go_s,
        "rounds": {"without": without, "with": with_them},
    }


def _say(what: str) -> None:
    print(f"{what} …", file=sys.stderr, flush=True)


def _allow_files(count: int) -> None:
    """For this process and the server that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise SystemExit(f"{count} open files are needed, and {hard} allowed: see `ulimit -Hn`")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subscribers", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long a round writes")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    if args.subscribers < 1 or args.seconds <= 0 or args.pairs < 1:
        parser.error("--subscribers, --seconds and --pairs take numbers above 0")
    _allow_files(args.subscribers + SPARE_FILES)
    with tempfile.TemporaryDirectory() as root, serving(Path(root)) as server:
        figures = asyncio.run(measure(server, args.subscribers, args.seconds, args.pairs))
    report = {
        "benchmark": "subscribers",
        "machine": machine(),
        "subscribers": args.subscribers,
        "seconds": args.seconds,
        **figures,
    }
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    print(_as_text(report))


def _as_text(report: dict[str, Any]) -> str:
    ratio, let_go_s = report["ratio"], report["never_reading_let_go_s"]
    rows = [
        ("durable writes a second, without", f"{report['writes_per_second_without']:,.0f}"),
        (
            f"with {report['subscribers']:,} idle subscribers",
            f"{report['writes_per_second_with']:,.0f}",
        ),
        (
            "ratio (lowest, highest of the pairs)",
            f"{ratio['median']:.3f} ({ratio['min']:.3f}, {ratio['max']:.3f})",
        ),
        ("server memory per subscriber", f"{report['rss_kib_per_subscriber']:.1f} KiB"),
        (
            "one that never reads is let go after",
            f"not in {LET_GO_S_MAX:.0f} s" if let_go_s is None else f"{let_go_s:.1f} s",
        ),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {figure}" for name, figure in rows)


if __name__ == "__main__":
    main()
