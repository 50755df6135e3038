"""How long a space takes to open and answer, and what compacting it costs.

    python -m tools.bench.opening [--memories 10000,100000] [--dimensions 256] [--json]

Synthetic memories of about 200 bytes with random caller-supplied vectors, in a data root on the
disk that the temporary folder is on. For each size: the space is filled and compacted; then new
processes open it and ask one question (imports not counted, files in the page cache; median of
several), with the whole log to replay and with the checkpoint. The peer in the same run is
sqlite-vec, the same texts and vectors in one file, asked for the same nearest vectors; it needs
`pip install apsw sqlite-vec`, and is left out without them.

Then, while the largest space is compacted, one thread goes on writing single memories: its worst
waits are compared with those of the same time without a compaction.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

import engram
from tools.bench.engine import BATCH, Corpus, as_text
from tools.bench.measures import machine

OPENINGS: Final = 7
NEAREST: Final = 10
WRITING_S: Final = 3.0
SPACE: Final = "bench"

ASK: Final = """
import sys, time
import numpy as np
{imports}
cue = np.frombuffer(bytes.fromhex(sys.stdin.read()), np.float32)
started = time.perf_counter()
{work}
print((time.perf_counter() - started) * 1000)
"""
ENGRAM: Final = ASK.format(
    imports="import engram\nimport engram.cognition.recall, engram.spaces.database",
    work="""
db = engram.open(sys.argv[1])
assert len(db.space("bench").recall(embedding=cue, limit=10, record=False).results) == 10
""",
)
PEER: Final = ASK.format(
    imports="import apsw, sqlite_vec",
    work="""
db = apsw.Connection(sys.argv[1])
db.enable_load_extension(True)
db.load_extension(sqlite_vec.loadable_path())
sql = (
    "select content from texts join (select rowid, distance from vectors where embedding match ? "
    "and k = 10) as near on texts.id = near.rowid order by near.distance"
)
assert len(db.execute(sql, (cue.tobytes(),)).fetchall()) == 10
""",
)


def fill(root: Path, memories: int, dimensions: int) -> int:
    """Make the space and the peer's file; returns the bytes of texts and vectors."""
    corpus = Corpus(dimensions)
    spec = engram.EmbeddingSpec(model="caller", dimensions=dimensions)
    peer = Peer(root / "peer.db", dimensions) if has_peer() else None
    logical = 0
    with engram.open(root / "data") as db:
        space = db.create_space(SPACE, embedding=spec)
        for number in range(0, memories, BATCH):
            batch = [corpus.memory() for _ in range(BATCH)]
            logical += sum(len(memory.content.encode()) + 4 * dimensions for memory in batch)
            space.remember_many(batch)
            if peer is not None:
                peer.add(number, batch)
            _progress(f"filling {number + BATCH:,} of {memories:,} …")
    return logical


class Peer:
    """The same memories in sqlite-vec."""

    def __init__(self, path: Path, dimensions: int) -> None:
        import apsw  # type: ignore[import-not-found]
        import sqlite_vec  # type: ignore[import-not-found]

        self._db = apsw.Connection(str(path))
        self._db.enable_load_extension(True)
        self._db.load_extension(sqlite_vec.loadable_path())
        self._db.execute("pragma journal_mode = wal")
        self._db.execute(f"create virtual table vectors using vec0(embedding float[{dimensions}])")
        self._db.execute("create table texts (id integer primary key, content text)")

    def add(self, first: int, batch: list[engram.NewMemory]) -> None:
        with self._db:
            for row, memory in enumerate(batch, first):
                vector = np.asarray(memory.embedding, np.float32).tobytes()
                self._db.execute(
                    "insert into vectors(rowid, embedding) values (?, ?)", (row, vector)
                )
                self._db.execute("insert into texts values (?, ?)", (row, memory.content))


def has_peer() -> bool:
    return find_spec("apsw") is not None and find_spec("sqlite_vec") is not None


def first_answer_ms(script: str, path: Path, dimensions: int) -> float:
    """From opening to the first answer in a new process: the median of several."""
    took = []
    for number in range(OPENINGS):
        cue = Corpus(dimensions, seed=100 + number).vector().tobytes().hex()
        asked = subprocess.run(
            [sys.executable, "-c", script, str(path)],
            input=cue,
            capture_output=True,
            text=True,
            check=True,
        )
        took.append(float(asked.stdout))
        _progress(f"opening {number + 1} of {OPENINGS} …")
    return statistics.median(took)


def measure(root: Path, memories: int, dimensions: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"logical_bytes": fill(root, memories, dimensions)}
    data = root / "data"
    # Closing compacts a long tail; without its checkpoint the same space replays the whole log.
    with engram.open(data) as db:
        space = db.space(SPACE)
        started = time.perf_counter()
        done = space.compact()
        figures["compaction_s"] = time.perf_counter() - started
        figures["checkpoint_bytes"] = done.checkpoint_bytes
        figures["log_bytes"] = done.log_bytes
    figures["checkpoint_over_logical"] = figures["checkpoint_bytes"] / figures["logical_bytes"]
    figures["open_and_first_recall_ms"] = first_answer_ms(ENGRAM, data, dimensions)
    if has_peer():
        peer_ms = first_answer_ms(PEER, root / "peer.db", dimensions)
        figures["sqlite_vec_open_and_first_query_ms"] = peer_ms
        figures["ratio_to_sqlite_vec"] = figures["open_and_first_recall_ms"] / peer_ms
    return figures


def write_waits(root: Path, dimensions: int) -> dict[str, Any]:
    """The waits of one writer in ms: without a compaction, and with one after the other."""
    corpus = Corpus(dimensions, seed=11)
    figures: dict[str, Any] = {}
    with engram.open(root / "data") as db:
        space = db.space(SPACE)
        space.info()
        for name in ("without", "while_compacting"):
            stop, compactions = threading.Event(), 0
            waits: list[float] = []

            def write(waits: list[float] = waits, stop: threading.Event = stop) -> None:
                while not stop.is_set():
                    memory = corpus.memory()
                    started = time.perf_counter()
                    space.remember_many([memory])
                    waits.append((time.perf_counter() - started) * 1_000)

            writer = threading.Thread(target=write)
            writer.start()
            until = time.perf_counter() + WRITING_S
            while time.perf_counter() < until:
                if name == "while_compacting":
                    space.compact()
                    compactions += 1
                else:
                    time.sleep(0.1)
            stop.set()
            writer.join()
            figures[name] = {
                "writes": len(waits),
                "median_ms": statistics.median(waits),
                "p99_ms": float(np.percentile(waits, 99)),
                "worst_ms": max(waits),
                "compactions": compactions,
            }
    return figures


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memories", default="10000,100000", help="sizes, multiples of 1,000")
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    sizes = [int(size) for size in args.memories.split(",")]
    report: dict[str, Any] = {
        "benchmark": "opening",
        "machine": machine(),
        "dimensions": args.dimensions,
    }
    for size in sizes:
        with tempfile.TemporaryDirectory() as root:
            report[f"{size}"] = measure(Path(root), size, args.dimensions)
            if size == max(sizes):
                report["write_waits"] = write_waits(Path(root), args.dimensions)
    _progress("")
    print(json.dumps(report, indent=1) if args.json else as_text(report))


if __name__ == "__main__":
    main()
