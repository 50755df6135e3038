"""How long it takes to embed a space anew, and what going on where it was cut off saves.

    python -m tools.bench.reembedding [--memories 10000] [--words 14]
                                      [--embedding all-minilm-l6-v2-int8] [--json]

Memories of so many English words, drawn from the project's documents, in a space with the default
embedder; the data root is on the disk that the temporary folder is on. Timed are: a plain fork; a
fork with the other embedder; one that is cut off half way, and the same again; one that is cut off
when all is embedded, and the same again. Beside them stands what the embedder alone takes for these
texts, from a sample, in the pieces that a fork embeds.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

import engram
from engram.embedding.registry import dimensions_of, embedder_for
from engram.spaces.reembedding import PIECE_MEMORIES_MAX
from tools.bench.measures import machine

BATCH: Final = 1_000
SAMPLE: Final = 8 * PIECE_MEMORIES_MAX
DOCUMENTS: Final = Path(__file__).parents[2] / "docs"


class Cut(Exception):
    """Ends a fork half way."""


def texts(count: int, words: int) -> list[str]:
    """Distinct texts, the same every time for the same documents."""
    written = "\n".join(path.read_text("utf-8") for path in sorted(DOCUMENTS.glob("*.md")))
    known = np.array(re.findall(r"\b[a-z]{2,12}\b", written))
    random = np.random.default_rng(7)
    drawn = (" ".join(random.choice(known, words)) for _ in range(count))
    return [f"{text} {number}" for number, text in enumerate(drawn)]


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def cut_at(wanted: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done >= wanted:
            raise Cut

    return progress


def cut_off(space: engram.Space, name: str, spec: engram.EmbeddingSpec, at: int) -> None:
    try:
        space.fork(name, embedding=spec, progress=cut_at(at))
    except Cut:
        pass


def run(memories: int, words: int, model: str) -> dict[str, Any]:
    dimensions = dimensions_of(model)
    if dimensions is None:
        raise SystemExit(f"{model} is no model that packages carry")
    spec = engram.EmbeddingSpec(model=model, dimensions=dimensions)
    embedder = embedder_for(spec)
    contents = texts(memories, words)
    embedder.embed(contents[:2])  # loads it
    sample = contents[:SAMPLE]
    pieces = range(0, len(sample), PIECE_MEMORIES_MAX)
    alone_s = timed(lambda: [embedder.embed(sample[n : n + PIECE_MEMORIES_MAX]) for n in pieces])
    figures = {"embedder_alone_s": alone_s / len(sample) * memories}
    with tempfile.TemporaryDirectory() as folder, engram.open(Path(folder) / "data") as db:
        space = db.create_space("source")
        for first in range(0, memories, BATCH):
            space.remember_many(contents[first : first + BATCH])
        figures["plain_fork_s"] = timed(lambda: space.fork("plain"))
        figures["whole_s"] = timed(lambda: space.fork("whole", embedding=spec))
        figures["cut_at_half_s"] = timed(lambda: cut_off(space, "half", spec, memories // 2))
        figures["half_again_s"] = timed(lambda: space.fork("half", embedding=spec))
        cut_off(space, "all", spec, memories)
        staged = Path(folder, "data", ".engram", "staged")
        kept = sum(path.stat().st_size for path in staged.rglob("vectors"))
        figures["staged_mb"] = kept / 1e6
        figures["all_again_s"] = timed(lambda: space.fork("all", embedding=spec))
    return {"machine": machine(), "memories": memories, "embedding": model, "figures": figures}


def show(report: dict[str, Any]) -> None:
    print(
        f"{report['memories']} memories to {report['embedding']}; "
        f"commit {report['machine']['commit']}"
    )
    for name, figure in report["figures"].items():
        print(f"  {name:18} {figure:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memories", type=int, default=10_000)
    parser.add_argument("--words", type=int, default=14)
    parser.add_argument("--embedding", default="all-minilm-l6-v2-int8")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    report = run(args.memories, args.words, args.embedding)
    if args.json:
        print(json.dumps(report, indent=1))
    else:
        show(report)


if __name__ == "__main__":
    main()
