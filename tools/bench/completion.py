"""Pattern completion against plain nearest neighbour, on spoilt vectors.

    python -m tools.bench.completion [--memories 10000] [--dimensions 256] [--cues 500] [--json]

Memories are random directions, or lie in groups of ten with cosines of about .8 inside a group, as
turns of one talk do. A cue is the vector of a memory with half of its components hidden, or with
Gaussian noise of the vector's own length added. Counted is the share of cues that come back to
their memory: as the first result of a recall by similarity (hidden components as zeros), and as the
memory with the most attention after completion; and how near the completed vector is to the
original.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from typing import Any, Final

import numpy as np

import engram
from tools.bench.measures import machine

BATCH: Final = 1_000
BETAS: Final = (16.0, 32.0, 64.0)
GROUP: Final = 10
SPREAD: Final = 0.5
"""Length of what sets a memory apart from the middle of its group; 1 / (1 + .5²) = .8."""

Floats = np.ndarray[Any, np.dtype[np.float32]]


def patterns(kind: str, count: int, dimensions: int, random: np.random.Generator) -> Floats:
    """Vectors, float32 (count, dimensions)."""
    own = random.standard_normal((count, dimensions))
    if kind == "groups":
        middles = random.standard_normal((-(-count // GROUP), dimensions))
        own = np.repeat(middles, GROUP, axis=0)[:count] + SPREAD * own
    return own.astype(np.float32)


def spoilt(how: str, vector: Floats, random: np.random.Generator) -> tuple[Floats, Floats]:
    """The cue as completion takes it, and as a recall does."""
    if how == "half hidden":
        known = random.permutation(len(vector)) < len(vector) // 2
        return np.where(known, vector, np.float32(np.nan)), np.where(known, vector, np.float32(0))
    noise = random.standard_normal(len(vector))
    noise *= np.linalg.norm(vector) / np.linalg.norm(noise)
    cue = (vector + noise).astype(np.float32)
    return cue, cue


def measure(space: engram.Space, vectors: Floats, how: str, cues: int) -> dict[str, Any]:
    random = np.random.default_rng(2)
    chosen = random.choice(len(vectors), cues, replace=False)
    pairs = [spoilt(how, vectors[n], random) for n in chosen]
    found = [space.recall(embedding=plain, limit=1, record=False) for _, plain in pairs]
    figures: dict[str, Any] = {
        "nearest_neighbour": _share(
            answer.results[0].memory.id == f"m{n}" for answer, n in zip(found, chosen, strict=True)
        ),
        "recall_ms": statistics.median(answer.took_ms for answer in found),
    }
    for beta in BETAS:
        answers = [
            space.complete(embedding=cue, beta=beta, limit=1, include_embedding=True)
            for cue, _ in pairs
        ]
        both = list(zip(answers, chosen, strict=True))
        figures[f"beta {beta:g}"] = {
            "right": _share(answer.attractor[0].id == f"m{n}" for answer, n in both),
            "single": _share(answer.single for answer in answers),
            "cosine": round(
                statistics.mean(_cosine(answer.embedding, vectors[n]) for answer, n in both), 3
            ),
            "steps": statistics.mean(answer.steps for answer in answers),
            "ms": statistics.median(answer.took_ms for answer in answers),
        }
    return figures


def _share(flags: Any) -> float:
    return statistics.mean(map(float, flags))


def _cosine(one: Floats | None, other: Floats) -> float:
    return 0.0 if one is None else float(one @ other / np.linalg.norm(other))


def run(memories: int, dimensions: int, cues: int) -> dict[str, Any]:
    random = np.random.default_rng(1)
    spec = engram.EmbeddingSpec(model="caller", dimensions=dimensions)
    results = {}
    with tempfile.TemporaryDirectory() as root, engram.open(root) as db:
        for kind in ("random", "groups"):
            vectors = patterns(kind, memories, dimensions, random)
            space = db.create_space(kind, embedding=spec)
            for first in range(0, memories, BATCH):
                space.remember_many(
                    engram.NewMemory(content=f"memory {n}", id=f"m{n}", embedding=vectors[n])
                    for n in range(first, min(first + BATCH, memories))
                )
            for how in ("half hidden", "noise"):
                results[f"{kind}, {how}"] = measure(space, vectors, how, cues)
    return {"machine": machine(), "memories": memories, "cues": cues, "results": results}


def show(report: dict[str, Any]) -> None:
    print(
        f"{report['memories']} memories, {report['cues']} cues; "
        f"commit {report['machine']['commit']}"
    )
    for name, figures in report["results"].items():
        print(
            f"{name}: nearest neighbour {figures['nearest_neighbour']:.3f} "
            f"({figures['recall_ms']:.1f} ms)"
        )
        for beta in BETAS:
            row = figures[f"beta {beta:g}"]
            print(
                f"  beta {beta:<4g} right {row['right']:.3f}  one memory {row['single']:.3f}  "
                f"cosine {row['cosine']:.3f}  steps {row['steps']:.1f}  {row['ms']:.1f} ms"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memories", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--cues", type=int, default=500)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    report = run(args.memories, args.dimensions, args.cues)
    if args.json:
        print(json.dumps(report, indent=1))
    else:
        show(report)


if __name__ == "__main__":
    main()
