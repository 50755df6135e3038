"""How long consolidation takes: of many episodes at first, of a few new ones, and of none.

    python -m tools.bench.consolidation [--episodes 10000] [--new 100] [--dimensions 256] [--json]

Caller's vectors, embedded. In `mixed`, six of ten episodes lie in groups of about 40 whose members
have cosines of .78 with one another, and the others are random directions; in `alone` all are; in
`hub` all have a cosine of .8 with one direction, so .64 with one another, about as much as it
takes. The new episodes are like the first ones. Each figure is one run in a space of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from typing import Any, Final

import numpy as np

import engram
from tools.bench.measures import machine

BATCH: Final = 1_000
GROUP: Final = 40
GROUPED: Final = 0.6
ALIKE: Final = 0.78
HUB: Final = 0.8

Floats = np.ndarray[Any, np.dtype[np.float32]]


def directions(count: int, dimensions: int, random: np.random.Generator) -> Floats:
    found = random.standard_normal((count, dimensions))
    units: Floats = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return units


def episodes(kind: str, count: int, dimensions: int) -> Floats:
    """Vectors in random order, float32 (count, dimensions)."""
    random = np.random.default_rng(1)
    own = directions(count, dimensions, random)
    if kind == "mixed":
        grouped = int(count * GROUPED)
        middles = directions(max(grouped // GROUP, 1), dimensions, random)
        which = random.integers(0, len(middles), grouped)
        own[:grouped] = np.sqrt(ALIKE) * middles[which] + np.sqrt(1 - ALIKE) * own[:grouped]
    elif kind == "hub":
        own = HUB * directions(1, dimensions, random) + np.sqrt(1 - HUB**2) * own
    mixed: Floats = own[random.permutation(count)].astype(np.float32)
    return mixed


def remember(space: engram.Space, vectors: Floats, first: int) -> None:
    for at in range(0, len(vectors), BATCH):
        space.remember_many(
            engram.NewMemory(
                content=f"Episode {first + at + n}.", id=f"e{first + at + n}", embedding=vector
            )
            for n, vector in enumerate(vectors[at : at + BATCH])
        )


def measure(space: engram.Space, vectors: Floats, new: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    remember(space, vectors[:-new], 0)
    for name in ("first", "again", "new"):
        if name == "new":
            remember(space, vectors[-new:], len(vectors) - new)
        done = space.consolidate()
        figures[name] = {"ms": done.took_ms, "beliefs": len(done), "left": done.left}
    return figures


def run(count: int, new: int, dimensions: int) -> dict[str, Any]:
    spec = engram.EmbeddingSpec(model="caller", dimensions=dimensions)
    results = {}
    with tempfile.TemporaryDirectory() as root, engram.open(root) as db:
        for kind in ("mixed", "alone", "hub"):
            space = db.create_space(kind, embedding=spec)
            results[kind] = measure(space, episodes(kind, count + new, dimensions), new)
    return {"machine": machine(), "episodes": count, "new": new, "results": results}


def show(report: dict[str, Any]) -> None:
    commit = report["machine"]["commit"]
    print(f"{report['episodes']} episodes, then {report['new']} new ones; commit {commit}")
    for kind, figures in report["results"].items():
        for name, row in figures.items():
            print(
                f"{kind:<6} {name:<6} {row['ms'] / 1_000:7.2f} s   "
                f"{row['beliefs']} beliefs formed or revised, {row['left']} episodes left"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--new", type=int, default=100)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    report = run(args.episodes, args.new, args.dimensions)
    if args.json:
        print(json.dumps(report, indent=1))
    else:
        show(report)


if __name__ == "__main__":
    main()
