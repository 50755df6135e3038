"""Speed of the engine alone: bulk load, durable single writes, replay, recall.

    python -m tools.bench.engine [--memories 10000] [--dimensions 256] [--json]

Embedded, on synthetic memories of about 200 bytes with random caller-supplied vectors, in a data
root on the disk that the temporary folder is on. Every figure is the median of several repeats.
The peer in the same run is a bare group-commit log: what one fdatasync per write costs here.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

import engram
from engram.memory.model import MODES, Mode
from tools.bench.measures import machine

REPEATS: Final = 5
QUERIES: Final = 50
WORDS: Final = 20_000
WORDS_PER_MEMORY: Final = 30
BATCH: Final = 1_000
SINGLE_WRITES: Final = 500


class Corpus:
    """Seeded texts with Zipf-like word frequencies, and vectors."""

    def __init__(self, dimensions: int, seed: int = 7) -> None:
        self._random = np.random.default_rng(seed)
        letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
        lengths = self._random.integers(3, 10, WORDS)
        self._words = ["".join(self._random.choice(letters, n)) for n in lengths]
        self._dimensions = dimensions

    def text(self, words: int = WORDS_PER_MEMORY) -> str:
        ranks = self._random.zipf(1.2, words) % WORDS
        return " ".join(self._words[rank] for rank in ranks)

    def vector(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        return self._random.standard_normal(self._dimensions).astype(np.float32)

    def memory(self) -> engram.NewMemory:
        return engram.NewMemory(
            content=self.text(), embedding=self.vector(), tags=("bench",), source="bench"
        )


def median_s(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median wall time of `work` in seconds, after one run that is not counted."""
    work()
    return statistics.median(_timed(work) for _ in range(repeats))


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(root: Path, memories: int, dimensions: int) -> dict[str, Any]:
    corpus = Corpus(dimensions)
    spec = engram.EmbeddingSpec(model="caller", dimensions=dimensions)
    batches = [[corpus.memory() for _ in range(BATCH)] for _ in range(memories // BATCH)]
    data = root / "data"
    with engram.open(data) as db:
        space = db.create_space("bench", embedding=spec)
        load_s = sum(_timed(lambda b=b: space.remember_many(b)) for b in _progress(batches))  # type: ignore[misc]
        logical = sum(len(m.content) + 4 * dimensions for batch in batches for m in batch)
        figures: dict[str, Any] = {
            "bulk_memories_per_second": memories / load_s,
            "recall_ms": {mode: recall_ms(space, corpus, mode) for mode in MODES},
        }
        disk = space.info().bytes or 0
        writes = db.create_space("writes", embedding=spec)
        figures["durable_writes_per_second"] = {
            "1_thread": writes_per_second(writes, corpus, 1),
            "16_threads": writes_per_second(writes, corpus, 16),
            "bare_fdatasync_1_thread": bare_fdatasyncs_per_second(root),
        }
    figures["disk_over_logical"] = disk / logical
    figures["open_and_replay_s"] = median_s(lambda: _open(data))
    figures["replayed_memories_per_second"] = memories / figures["open_and_replay_s"]
    return figures


def recall_ms(space: engram.Space, corpus: Corpus, mode: Mode) -> dict[str, float]:
    """Engine time of one recall: median and worst of many different cues."""
    took = []
    for _ in range(QUERIES):
        query = None if mode == "similarity" else corpus.text(8)
        embedding = None if mode == "lexical" else corpus.vector()
        took.append(space.recall(query, embedding=embedding, mode=mode).took_ms)
    return {"median": statistics.median(took), "max": max(took)}


def writes_per_second(space: engram.Space, corpus: Corpus, threads: int) -> float:
    """Single memories acknowledged per second with that many writers."""
    work = [[corpus.memory() for _ in range(SINGLE_WRITES)] for _ in range(threads)]

    def write(memories: list[engram.NewMemory]) -> None:
        for memory in memories:
            space.remember_many([memory])

    writers = [threading.Thread(target=write, args=(memories,)) for memories in work]
    started = time.perf_counter()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    return threads * SINGLE_WRITES / (time.perf_counter() - started)


def bare_fdatasyncs_per_second(root: Path) -> float:
    """Appends of 1.5 KB, each followed by fdatasync: the most one thread could do here."""
    data = os.urandom(1_500)
    with (root / "bare").open("wb", buffering=0) as file:
        started = time.perf_counter()
        for _ in range(SINGLE_WRITES):
            file.write(data)
            os.fdatasync(file.fileno())
        return SINGLE_WRITES / (time.perf_counter() - started)


def _open(data: Path) -> None:
    with engram.open(data) as db:
        db.space("bench").info()


def _progress(batches: list[list[engram.NewMemory]]) -> Any:
    for number, batch in enumerate(batches):
        if sys.stderr.isatty():
            print(f"\rloading {number * BATCH:,} …", end="", file=sys.stderr)
        yield batch
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memories", type=int, default=10_000, help="a multiple of 1,000")
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    if args.memories < BATCH or args.memories % BATCH:
        parser.error("--memories takes a multiple of 1,000")
    with tempfile.TemporaryDirectory() as root:
        figures = measure(Path(root), args.memories, args.dimensions)
    report = {
        "benchmark": "engine",
        "machine": machine(),
        "memories": args.memories,
        "dimensions": args.dimensions,
        **figures,
    }
    print(json.dumps(report, indent=1) if args.json else as_text(report))


def as_text(report: dict[str, Any], indent: str = "") -> str:
    lines = []
    for name, value in report.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", as_text(value, indent + "  ")]
        else:
            shown = f"{value:,.3f}" if isinstance(value, float) else value
            lines.append(f"{indent}{name}: {shown}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
