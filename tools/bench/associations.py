"""What following associations costs: a spreading recall against a hybrid one in a large space.

    python -m tools.bench.associations [--memories 100000] [--edges 1000000] [--json]

A space in memory, without a log: synthetic memories of 14 words with Zipf-like frequencies and 256
random dimensions, 25 to a source. What they are associated by is counted; random links are added
until there are as many associations as asked for, each way counted. Questions of 8 words, each
asked in both modes in turn; the first of a view, which makes what others find made, is left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from typing import Any, Final

import numpy as np

from engram.cognition.associations import associations, reasons
from engram.cognition.matching import Cue
from engram.cognition.recall import Wanted, recall
from engram.memory.events import MemoryLinked, MemoryStored
from engram.memory.model import Mode
from engram.memory.payload import NO_VECTORS, Batch
from engram.memory.state import State
from engram.memory.view import View
from tools.bench.measures import machine

WORDS: Final = 40_000
LENGTH: Final = 14
ASKED: Final = 8
DIMENSIONS: Final = 256
PER_SOURCE: Final = 25
BATCH: Final = 1_000
QUESTIONS: Final = 60
MODES: Final[tuple[Mode, ...]] = ("hybrid", "spreading")


class Corpus:
    """Seeded texts and vectors."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(1)
        self._words = np.array([f"w{number:x}q" for number in range(WORDS)])
        frequency = 1 / np.arange(1, WORDS + 1)
        self._frequency = frequency / frequency.sum()

    def text(self, words: int) -> str:
        return " ".join(self._words[self._random.choice(WORDS, words, p=self._frequency)])

    def vectors(self, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return self._random.standard_normal((count, DIMENSIONS)).astype(np.float32)

    def pairs(self, memories: int, count: int) -> list[tuple[int, int]]:
        """Distinct, and nothing with itself."""
        chosen = self._random.integers(0, memories, (count + count // 10 + 10, 2))
        apart = chosen[chosen[:, 0] != chosen[:, 1]]
        return list(dict.fromkeys(map(tuple, apart.tolist())))[:count]


def filled(corpus: Corpus, memories: int) -> State:
    state = State("bench", DIMENSIONS)
    for first in range(0, memories, BATCH):
        versions = [
            MemoryStored(
                id=f"m{number}",
                revision=1,
                kind="episode",
                content=corpus.text(LENGTH),
                tags=(),
                metadata={},
                confidence=1.0,
                occurred_us=None,
                expires_us=None,
                source=f"s{number // PER_SOURCE}",
            )
            for number in range(first, min(first + BATCH, memories))
        ]
        state.apply(Batch(versions, corpus.vectors(len(versions))), first + 1, first)
        _progress(f"storing {first + len(versions):,} of {memories:,} …")
    state.publish()
    return state


def counted(view: View) -> Counter[str]:
    """How many associations of each kind all memories have, each way counted."""
    names = reasons(view)
    found: Counter[str] = Counter()
    for first in range(0, view.rows, BATCH):
        rows = np.arange(first, min(first + BATCH, view.rows))
        kinds = associations(view, rows, view.live).kinds
        found.update({names[kind]: int(n) for kind, n in enumerate(np.bincount(kinds)) if n})
        _progress(f"counting, {first + len(rows):,} of {view.rows:,} …")
    return found


def link(state: State, corpus: Corpus, memories: int, links: int) -> None:
    position = memories
    pairs = corpus.pairs(memories, links)
    for first in range(0, len(pairs), BATCH):
        events = [
            MemoryLinked(source=f"m{one}", target=f"m{other}", relation="about", weight=0.5)
            for one, other in pairs[first : first + BATCH]
        ]
        state.apply(Batch(list(events), NO_VECTORS), position + 1, 0)
        position += len(events)
        _progress(f"linking {first + len(events):,} of {len(pairs):,} …")
    state.publish()


def asked(view: View, corpus: Corpus) -> dict[str, dict[str, float]]:
    took: dict[str, list[float]] = {mode: [] for mode in MODES}
    for number in range(QUESTIONS + 1):
        cue = Cue(corpus.text(ASKED), corpus.vectors(1)[0])
        for mode in MODES:
            started = time.perf_counter()
            hits = recall(view, cue, Wanted(mode, 10, None, None, False, 0))
            if number:
                took[mode].append((time.perf_counter() - started) * 1_000)
            if len(hits) != 10:
                raise RuntimeError(f"{len(hits)} answers in mode {mode}")
    return {
        mode: {
            "median_ms": round(statistics.median(each), 2),
            "p95_ms": round(float(np.percentile(each, 95)), 2),
        }
        for mode, each in took.items()
    }


def measure(memories: int, edges: int) -> dict[str, Any]:
    corpus = Corpus()
    state = filled(corpus, memories)
    before = counted(state.view)
    link(state, corpus, memories, max(0, edges - before.total() + 1) // 2)
    after = counted(state.view)
    figures = asked(state.view, corpus)
    ratio = figures["spreading"]["median_ms"] / figures["hybrid"]["median_ms"]
    return {
        "benchmark": "associations",
        "machine": machine(),
        "memories": memories,
        "associations": dict(after),
        **figures,
        "ratio": round(ratio, 2),
    }


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memories", type=int, default=100_000)
    parser.add_argument("--edges", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    if args.memories < 10 or args.edges < 0:
        parser.error("there must be 10 memories or more, and no less than 0 edges")
    report = measure(args.memories, args.edges)
    if args.json:
        print(json.dumps(report, indent=1))
        return
    for kind, count in report["associations"].items():
        print(f"{kind:10} {count:>10,}")
    for mode in MODES:
        print(f"{mode:10} {report[mode]['median_ms']} ms (95 %: {report[mode]['p95_ms']} ms)")
    print(f"ratio      {report['ratio']}")


if __name__ == "__main__":
    main()
