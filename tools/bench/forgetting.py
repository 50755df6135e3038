"""How long it takes to forget what is beyond a capacity, and what writers notice of it.

    python -m tools.bench.forgetting [--memories 100000] [--capacity 50000] [--json]

Memories of 12 random words with vectors of 256 dimensions of their own, in batches of 1,000, in an
embedded space on the disk that the temporary folder is on. A thread then writes single memories
one after the other, 2 ms apart, first with nothing else going on. Then the policy is set, and what
is timed is how long it takes until no more memories live than it allows (but for a few just
written); and the writes meanwhile. Beside it stands the judging alone: finding the weakest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from typing import Any, Final

import numpy as np

import engram
from engram.cognition.fading import beyond
from engram.memory.decay import Decay
from engram.memory.forgetting import Forgetting
from engram.spaces.forgetting import FORGOTTEN_PER_RECORD_MAX, RECORDS_AT_ONCE
from tools.bench.measures import machine

BATCH: Final = 1_000
DIMENSIONS: Final = 256
WORDS: Final = 5_000
ALONE_S: Final = 3.0
BETWEEN_WRITES_S: Final = 0.002
WITHIN: Final = 50
"""So many beyond the capacity may have been written since."""


class Writer:
    """Writes until it is stopped; how long each write took, by when it began."""

    def __init__(self, space: engram.Space, vector: list[float]) -> None:
        self._space = space
        self._vector = vector
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.took_s: list[tuple[float, float]] = []
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(BETWEEN_WRITES_S):
            began = time.perf_counter()
            self._space.remember("one more", embedding=self._vector)
            self.took_s.append((began, time.perf_counter() - began))

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()


def fill(space: engram.Space, memories: int) -> list[float]:
    random = np.random.default_rng(7)
    known = np.array([f"word{number}" for number in range(WORDS)])
    for first in range(0, memories, BATCH):
        texts = known[random.integers(0, WORDS, (BATCH, 12))]
        vectors = random.normal(size=(BATCH, DIMENSIONS))
        space.remember_many(
            [
                {"content": " ".join(words), "source": f"s{(first + i) // 25}", "embedding": vector}
                for i, (words, vector) in enumerate(zip(texts, vectors, strict=True))
            ]
        )
    last: list[float] = vectors[-1].tolist()
    return last


def summary(took_s: list[float]) -> dict[str, float]:
    """Milliseconds."""
    quantiles = statistics.quantiles(took_s, n=20)
    return {
        "writes": len(took_s),
        "median_ms": round(1e3 * statistics.median(took_s), 2),
        "p95_ms": round(1e3 * quantiles[-1], 2),
        "max_ms": round(1e3 * max(took_s), 2),
    }


def run(memories: int, capacity: int) -> dict[str, Any]:
    spec = engram.EmbeddingSpec(model="caller", dimensions=DIMENSIONS)
    with tempfile.TemporaryDirectory() as folder, engram.open(f"{folder}/data") as db:
        space = db.create_space("s", embedding=spec)
        vector = fill(space, memories)
        store = space._entry.store()
        now_us, most = store.now_ns() // 1_000, RECORDS_AT_ONCE * FORGOTTEN_PER_RECORD_MAX
        began = time.perf_counter()
        beyond(store.state.view, Forgetting(capacity=capacity), Decay(), now_us, most)
        judged_s = time.perf_counter() - began
        writer = Writer(space, vector)
        time.sleep(ALONE_S)
        began = time.perf_counter()
        space.configure(forgetting=f"capacity:{capacity}")
        while (space.info().memories or 0) > capacity + WITHIN:
            time.sleep(0.02)
        ended = time.perf_counter()
        writer.stop()
        before = [took for at, took in writer.took_s if at < began]
        during = [took for at, took in writer.took_s if began <= at < ended]
    return {
        **machine(),
        "memories": memories,
        "capacity": capacity,
        "forgotten_s": round(ended - began, 2),
        "judged_ms": round(1e3 * judged_s, 1),
        "before": summary(before),
        "during": summary(during),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--memories", type=int, default=100_000, help="rounded up to 1,000")
    parser.add_argument("--capacity", type=int, default=50_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    figures = run(given.memories, given.capacity)
    if given.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:12} {value}")


if __name__ == "__main__":
    main()
