"""What one busy space costs another on the same server.

    python -m tools.bench.fairness [--memories 10000] [--seconds 5] [--pairs 4] [--clients 16]
                                   [--json FILE]

A real server in a process of its own, on a data root on the disk that the temporary folder is on,
with two spaces of so many memories each. In one of them a single client recalls and remembers in
turn, on a connection kept open; the other is left alone, or hammered without a pause by clients of
another process, each on a connection of its own, with recalls in mode `spreading` or with single
durable writes. Rounds come in pairs, without and with, which of the two is first alternates.

Reported are the latencies of the single client, and the ratio of its 99th percentiles: the median
over pairs. Clients share the processors with the server, so the ratio has what they take in it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Final

import engram
from tools.bench.measures import machine

QUIET: Final = "quiet"
BUSY: Final = "busy"
KINDS: Final = ("recall", "remember")
WORDS: Final = 4_000
WORDS_PER_MEMORY: Final = 12
BATCH: Final = 1_000
SETTLE_S: Final = 0.5

Latencies = dict[str, list[float]]


def texts(seed: int) -> Iterator[str]:
    """Endless texts, of words whose frequencies fall like those of a language."""
    draw = random.Random(seed)
    words = [f"w{number}" for number in range(WORDS)]
    weights = [1 / (rank + 1) for rank in range(WORDS)]
    while True:
        yield " ".join(draw.choices(words, weights, k=WORDS_PER_MEMORY))


def fill(root: Path, memories: int) -> None:
    with engram.open(root) as db:
        for seed, name in enumerate((QUIET, BUSY)):
            space, made = db.create_space(name), texts(seed)
            for start in range(0, memories, BATCH):
                space.remember_many([next(made) for _ in range(min(BATCH, memories - start))])


@contextmanager
def serving(root: Path) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "engram.cli.app", "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "--data-root", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            ready = re.fullmatch(r"engram ready http://(.+):(\d+)\n", process.stdout.readline())
            assert ready is not None
            yield ready[1], int(ready[2])
        finally:
            process.terminate()


class Asking:
    """One connection, and what is asked on it."""

    def __init__(self, address: tuple[str, int], space: str, seed: int) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=60)
        self._space = space
        self._texts = texts(seed)

    def ask(self, kind: str) -> int:
        text = next(self._texts)
        if kind == "recall":
            path, body = "recall", {"query": text, "mode": "spreading", "record": False}
        else:
            path, body = "memories", {"content": text}
        self._connection.request(
            "POST",
            f"/api/v1/spaces/{self._space}/{path}",
            json.dumps(body),
            {"Content-Type": "application/json"},
        )
        answer = self._connection.getresponse()
        answer.read()
        return answer.status


def hammer(
    address: tuple[str, int], kind: str, clients: int, over: Event, counts: Any, refused: Any
) -> None:
    def run(seed: int) -> None:
        asking = Asking(address, BUSY, seed)
        while not over.is_set():
            status = asking.ask(kind)
            counter = counts if status < 300 else refused
            with counter.get_lock():
                counter.value += 1

    threads = [threading.Thread(target=run, args=(100 + n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measured(address: tuple[str, int], seconds: float, seed: int) -> Latencies:
    """Milliseconds that the single client waited, by kind."""
    asking, found = Asking(address, QUIET, seed), Latencies({kind: [] for kind in KINDS})
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for kind in KINDS:
            started = time.perf_counter()
            status = asking.ask(kind)
            found[kind].append((time.perf_counter() - started) * 1_000)
            assert status < 300, status
    return found


@contextmanager
def hammered(address: tuple[str, int], kind: str, clients: int) -> Iterator[Callable[[], Any]]:
    over = multiprocessing.Event()
    counts, refused = multiprocessing.Value("q", 0), multiprocessing.Value("q", 0)
    arguments = (address, kind, clients, over, counts, refused)
    process = multiprocessing.Process(target=hammer, args=arguments)
    process.start()
    try:
        time.sleep(SETTLE_S)
        begun = time.perf_counter()
        yield lambda: (
            round(counts.value / (time.perf_counter() - begun + SETTLE_S)),
            refused.value,
        )
    finally:
        over.set()
        process.join()


def at(quantile: float, values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(quantile * len(values)))]


def all_of(rounds: list[Latencies], kind: str) -> list[float]:
    return [each for latencies in rounds for each in latencies[kind]]


def compare(address: tuple[str, int], busy_with: str, options: argparse.Namespace) -> Any:
    alone: list[Latencies] = []
    beside: list[Latencies] = []
    rates: list[Any] = []
    for pair in range(options.pairs):
        for loud in (pair % 2 == 1, pair % 2 == 0):
            seed = 1_000 + 2 * pair + loud
            if not loud:
                alone.append(measured(address, options.seconds, seed))
                continue
            with hammered(address, busy_with, options.clients) as rate:
                beside.append(measured(address, options.seconds, seed))
                rates.append(rate())
    result: dict[str, Any] = {
        "busy_per_s": statistics.median(rate for rate, _ in rates),
        "busy_refused": sum(refused for _, refused in rates),
    }
    for kind in KINDS:
        ratios = [
            at(0.99, loud[kind]) / at(0.99, quiet[kind])
            for quiet, loud in zip(alone, beside, strict=True)
        ]
        result[kind] = {
            "p50_ms": [round(at(0.5, all_of(rounds, kind)), 2) for rounds in (alone, beside)],
            "p99_ms": [round(at(0.99, all_of(rounds, kind)), 2) for rounds in (alone, beside)],
            "p99_ratio": round(statistics.median(ratios), 2),
            "p99_ratios": [round(ratio, 2) for ratio in sorted(ratios)],
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--memories", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), options.memories)
        with serving(Path(folder)) as address:
            measured(address, 1.0, 1)
            found = {busy_with: compare(address, busy_with, options) for busy_with in KINDS}
    result = {"machine": machine(), "options": vars(options) | {"json": None}, "beside": found}
    text = json.dumps(result, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
