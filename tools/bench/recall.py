"""What each part of recall is worth: LoCoMo and HotpotQA, part by part, with intervals.

    python -m tools.bench.recall --locomo locomo.json --hotpotqa hotpotqa.json [--quality] [--json]

Embedded, nothing recorded. LoCoMo (snap-research/LoCoMo, CC BY-NC 4.0): one memory per turn, as
tools.bench.locomo stores it; turn-level recall over categories 1 to 4. What can be tuned was tuned
on conversations 1 to 3, so that those behind them, `held out`, tell what it is worth. HotpotQA (the
sample of the HippoRAG repository, CC BY-SA 4.0): one memory per passage, "title: text", without a
source. Neither file is part of this project. Questions to LoCoMo are asked a day after the last
turn of their conversation, which base levels count from; of uses, nothing else is known there.

Intervals are 95 % bootstrap intervals over questions (Efron 1979), 1,000 resamples with a fixed
seed; a difference between two rows is resampled in pairs. `session hit` is whether any session that
holds evidence is among the first ten answers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np

import engram
from engram.cognition import recall as engine
from engram.memory.model import Mode
from engram.memory.times import to_us
from engram.spaces import space as handle
from tools.bench.locomo import COUNTED, Conversation, read_conversations
from tools.bench.measures import machine, ndcg_at, recall_at

TUNED_ON: Final = 3
RESAMPLES: Final = 1_000
QUALITY: Final = engram.EmbeddingSpec(model="all-minilm-l6-v2-int8", dimensions=384)
BATCH: Final = 500
ASKED_AFTER: Final = timedelta(days=1)
COMPARED: Final = ("hybrid", "hybrid + window")


@dataclass(frozen=True, slots=True)
class Way:
    """One row of the table: how to ask, and what the engine is made to leave out meanwhile."""

    name: str
    mode: Mode
    spread: engram.Spread | None = None
    window_weight: float | None = None
    decay: str = "none,weight:0"


BASE_LEVEL: Final = "power:0.5"
WAYS: Final = (
    Way("lexical", "lexical"),
    Way("similarity", "similarity"),
    Way("hybrid", "hybrid"),
    Way("hybrid + base level", "hybrid", decay=BASE_LEVEL),
    Way("hybrid + window", "spreading", engram.Spread(max_hops=0)),
    Way("hybrid + spreading", "spreading", window_weight=0.0),
    Way("hybrid + window + spreading", "spreading"),
    Way("hybrid + window + spreading + base level", "spreading", decay=BASE_LEVEL),
)


@dataclass(slots=True)
class Question:
    """What is asked in which space and when, and what should come; `group` is `tuned on` or
    `held out`.
    """

    space: str
    text: str
    relevant: frozenset[str]
    group: str
    asked_us: int
    sources: dict[str, str] = field(default_factory=dict)


def load_locomo(
    db: engram.Database, path: Path, spec: engram.EmbeddingSpec | None
) -> list[Question]:
    questions = []
    for number, conversation in enumerate(read_conversations(path)):
        name, turns = f"locomo-{number}", _turns(conversation)
        _fill(db.create_space(name, embedding=spec), turns)
        asked_us = to_us(max(turn["occurred_at"] for turn in turns) + ASKED_AFTER)
        group = "tuned on" if number < TUNED_ON else "held out"
        sources = {memory["id"]: memory["source"] for memory in conversation.memories}
        questions += [
            Question(name, asked.text, asked.evidence, group, asked_us, sources)
            for asked in conversation.questions
            if asked.category in COUNTED
        ]
    return questions


def _turns(conversation: Conversation) -> list[dict[str, Any]]:
    return [
        {**memory, "occurred_at": datetime.fromisoformat(memory["occurred_at"])}
        for memory in conversation.memories
    ]


def load_hotpotqa(
    db: engram.Database, path: Path, spec: engram.EmbeddingSpec | None
) -> list[Question]:
    data = json.loads(path.read_text(encoding="utf-8"))
    ids = {passage["title"]: f"p{number}" for number, passage in enumerate(data["passages"])}
    memories = [
        {"id": ids[passage["title"]], "content": f"{passage['title']}: {passage['text']}"}
        for passage in data["passages"]
    ]
    _fill(db.create_space("hotpotqa", embedding=spec), memories)
    return [
        Question(
            "hotpotqa",
            asked["question"],
            frozenset(ids[title] for title in asked["gold_titles"] if title in ids),
            "hotpotqa",
            time.time_ns() // 1_000,
        )
        for asked in data["questions"]
    ]


def _fill(space: engram.Space, memories: Sequence[dict[str, Any]]) -> None:
    for at in range(0, len(memories), BATCH):
        space.remember_many(memories[at : at + BATCH])
        print(
            f"{space.id}: {at + len(memories[at : at + BATCH])} of {len(memories)}", file=sys.stderr
        )


@contextmanager
def asked_at(now_us: int) -> Iterator[None]:
    """Have the engine take that time for now, which no request can say."""

    def wanted(*args: Any, **kwargs: Any) -> engine.Wanted:
        return engine.Wanted(*args, **kwargs)._replace(now_us=now_us)

    with mock.patch.object(handle, "Wanted", wanted):
        yield


@contextmanager
def left_out(way: Way) -> Iterator[None]:
    """Have the engine do without a part that no request can switch off."""
    weight = engine.WINDOW_WEIGHT if way.window_weight is None else way.window_weight
    with mock.patch.object(engine, "WINDOW_WEIGHT", weight):
        yield


def ask(db: engram.Database, questions: Sequence[Question], way: Way) -> list[dict[str, float]]:
    """The figures of each question."""
    figures = []
    for name in dict.fromkeys(question.space for question in questions):
        db.space(name).configure(decay=way.decay)
    with left_out(way):
        for question in questions:
            with asked_at(question.asked_us):
                answer = db.space(question.space).recall(
                    question.text, limit=10, mode=way.mode, spread=way.spread, record=False
                )
            ranked = [hit.memory.id for hit in answer]
            wanted = {question.sources.get(id_) for id_ in question.relevant}
            figures.append(
                {
                    "recall@2": recall_at(2, ranked, question.relevant),
                    "recall@5": recall_at(5, ranked, question.relevant),
                    "recall@10": recall_at(10, ranked, question.relevant),
                    "ndcg@10": ndcg_at(10, ranked, question.relevant),
                    "session hit": float(any(question.sources.get(i) in wanted for i in ranked)),
                    "ms": answer.took_ms,
                }
            )
    return figures


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of means of resamples."""
    array = np.asarray(values)
    chosen = np.random.default_rng(1).integers(0, len(array), (RESAMPLES, len(array)))
    low, high = np.percentile(array[chosen].mean(axis=1), [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def table(
    questions: Sequence[Question], measured: dict[str, list[dict[str, float]]]
) -> list[dict[str, Any]]:
    """A row for each group and way; gains in recall@10 over another way are taken in pairs."""
    rows = []
    for group in dict.fromkeys(question.group for question in questions):
        chosen = [n for n, question in enumerate(questions) if question.group == group]
        for name, figures in measured.items():
            of_group = [figures[n] for n in chosen]
            found = [figure["recall@10"] for figure in of_group]
            gains = {
                over: [figures[n]["recall@10"] - measured[over][n]["recall@10"] for n in chosen]
                for over in COMPARED
            }
            means = {
                key: round(statistics.fmean(figure[key] for figure in of_group), 4)
                for key in of_group[0]
                if key != "ms"
            }
            rows.append(
                {
                    "group": group,
                    "way": name,
                    "questions": len(chosen),
                    **means,
                    "interval": interval(found),
                    "gains": {
                        over: (round(statistics.fmean(gain), 4), *interval(gain))
                        for over, gain in gains.items()
                    },
                    "ms": round(statistics.median(figure["ms"] for figure in of_group), 2),
                }
            )
    return rows


Load = Callable[[engram.Database, Path, engram.EmbeddingSpec | None], list[Question]]


def run(args: argparse.Namespace) -> dict[str, Any]:
    sources: list[tuple[Load, Path]] = []
    if args.locomo:
        sources.append((load_locomo, args.locomo))
    if args.hotpotqa:
        sources.append((load_hotpotqa, args.hotpotqa))
    spec = QUALITY if args.quality else None
    rows = []
    with tempfile.TemporaryDirectory() as folder, engram.open(folder) as db:
        for load, path in sources:
            questions = load(db, path, spec)
            measured = {}
            for way in WAYS:
                print(f"asking {len(questions)} questions: {way.name}", file=sys.stderr)
                measured[way.name] = ask(db, questions, way)
            rows += table(questions, measured)
    embedding = "default" if spec is None else spec.model
    return {"benchmark": "recall", "machine": machine(), "embedding": embedding, "rows": rows}


def show(report: dict[str, Any]) -> None:
    print(f"embedding {report['embedding']}; commit {report['machine']['commit']}")
    titles = ["questions", "way", "R@2", "R@5", "R@10", "interval"]
    titles += [*(f"over {over}" for over in COMPARED), "nDCG@10", "session hit", "ms"]
    print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}")
    for row in report["rows"]:
        cells = [
            f"{row['group']} ({row['questions']})",
            row["way"],
            *(f"{row[key]:.3f}" for key in ("recall@2", "recall@5", "recall@10")),
            "{:.3f}-{:.3f}".format(*row["interval"]),
            *("{:+.3f} ({:+.3f} to {:+.3f})".format(*gain) for gain in row["gains"].values()),
            f"{row['ndcg@10']:.3f}",
            f"{row['session hit']:.3f}",
            f"{row['ms']}",
        ]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--locomo", type=Path, help="the LoCoMo JSON file")
    parser.add_argument("--hotpotqa", type=Path, help="the HotpotQA JSON file")
    parser.add_argument("--quality", action="store_true", help="with the better embedder")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    if not (args.locomo or args.hotpotqa):
        parser.error("name at least one of --locomo and --hotpotqa")
    try:
        report = run(args)
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"a file cannot be read as what it should be: {error!r}") from error
    if args.json:
        print(json.dumps(report, indent=1))
    else:
        show(report)


if __name__ == "__main__":
    main()
