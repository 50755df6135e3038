"""Recall quality and speed on LoCoMo, through a real server.

    python -m tools.bench.locomo --data locomo.json [--embedding MODEL --dimensions N] [--json]

Loads each conversation of the LoCoMo file (snap-research/LoCoMo, CC BY-NC 4.0; it is not part of
this project) into a space of its own over REST, one memory per turn, asks every question that has
usable evidence, and reports the share of its evidence turns among the first results.

A turn becomes `content` = "speaker: text [shares caption]", `source` = its session, `occurred_at` =
the session's date. Figures are over categories 1 to 4, as is usual; 5 asks for what is not there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from tools.bench.measures import machine, mean, ndcg_at, recall_at

CATEGORIES: Final = {
    1: "multi-hop",
    2: "temporal",
    3: "open-domain",
    4: "single-hop",
    5: "adversarial",
}
COUNTED: Final = (1, 2, 3, 4)
MODES: Final = ("lexical", "similarity", "hybrid", "spreading")
_TURN: Final = re.compile(r"D:?(\d+):0*(\d+)")
_DATE_FORM: Final = "%I:%M %p on %d %B, %Y"


class Question(NamedTuple):
    text: str
    evidence: frozenset[str]
    category: int


class Conversation(NamedTuple):
    """`memories` are request bodies in the order they were said."""

    space: str
    memories: list[dict[str, Any]]
    questions: list[Question]


def turn_ids(text: str) -> list[str]:
    """The turn ids in an evidence string, which may hold several, or stray characters."""
    return [f"D{session}:{turn}" for session, turn in _TURN.findall(text)]


def read_conversations(path: Path) -> list[Conversation]:
    """The file's conversations; questions whose evidence names no turn are left out."""
    return [_conversation(item) for item in json.loads(path.read_text(encoding="utf-8"))]


def _conversation(item: dict[str, Any]) -> Conversation:
    memories = []
    talk = item["conversation"]
    for name in sorted((n for n in talk if re.fullmatch(r"session_\d+", n)), key=_number):
        said_at = datetime.strptime(talk[f"{name}_date_time"], _DATE_FORM).replace(tzinfo=UTC)
        for turn in talk[name]:
            caption = f" [shares {turn['blip_caption']}]" if turn.get("blip_caption") else ""
            memories.append(
                {
                    "id": turn_ids(turn["dia_id"])[0],
                    "content": f"{turn['speaker']}: {turn['text']}{caption}",
                    "source": name,
                    "occurred_at": said_at.isoformat(),
                    "metadata": {"speaker": turn["speaker"]},
                }
            )
    known = {memory["id"] for memory in memories}
    questions = []
    for qa in item["qa"]:
        evidence = frozenset(t for e in qa["evidence"] for t in turn_ids(e)) & known
        if evidence:
            questions.append(Question(qa["question"], evidence, qa["category"]))
    return Conversation(item["sample_id"].lower(), memories, questions)


def _number(session: str) -> int:
    return int(session.removeprefix("session_"))


@contextmanager
def own_server() -> Iterator[str]:
    """A server on a fresh data root and a free port, as its own process; yields its URL."""
    with tempfile.TemporaryDirectory() as root:
        command = [sys.executable, "-m", "engram.cli.app", "serve", "--data-root", root]
        server = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if line.startswith("engram ready "):
                    yield line.split()[-1]
                    break
            else:
                raise SystemExit("the server did not start")
        finally:
            server.terminate()
            server.wait()


async def load(
    session: aiohttp.ClientSession,
    conversations: list[Conversation],
    batch: int,
    embedding: dict[str, Any] | None,
) -> float:
    """Remember every turn; returns turns acknowledged per second."""
    started = time.perf_counter()
    for conversation in conversations:
        body = None if embedding is None else {"embedding": embedding}
        await _call(session, "PUT", f"/api/v1/spaces/{conversation.space}", body)
    put = time.perf_counter()
    for conversation in conversations:
        path = f"/api/v1/spaces/{conversation.space}/memories"
        for at in range(0, len(conversation.memories), batch):
            await _call(session, "POST", path, {"memories": conversation.memories[at : at + batch]})
    turns = sum(len(c.memories) for c in conversations)
    print(
        f"loaded {turns} turns into {len(conversations)} spaces "
        f"(made in {(put - started) * 1000:.0f} ms)",
        file=sys.stderr,
    )
    return turns / (time.perf_counter() - put)


async def ask(
    session: aiohttp.ClientSession, conversations: list[Conversation], mode: str
) -> dict[str, Any]:
    """Ask everything in one mode, one question after the other."""
    figures: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    engine_ms = []
    started = time.perf_counter()
    for conversation in conversations:
        for question in conversation.questions:
            body = {"query": question.text, "limit": 10, "mode": mode}
            path = f"/api/v1/spaces/{conversation.space}/recall"
            answer = await _call(session, "POST", path, body)
            ranked = [hit["memory"]["id"] for hit in answer["results"]]
            engine_ms.append(answer["took_ms"])
            figure = (
                recall_at(5, ranked, question.evidence),
                recall_at(10, ranked, question.evidence),
                ndcg_at(10, ranked, question.evidence),
            )
            figures[CATEGORIES[question.category]].append(figure)
            if question.category in COUNTED:
                figures["overall"].append(figure)
                figures[conversation.space].append(figure)
    elapsed = time.perf_counter() - started
    return {
        "mode": mode,
        "questions_per_second": round(len(engine_ms) / elapsed, 1),
        "engine_ms_median": sorted(engine_ms)[len(engine_ms) // 2],
        "groups": {name: _summary(rows) for name, rows in figures.items()},
    }


def _summary(rows: list[tuple[float, float, float]]) -> dict[str, float]:
    r5, r10, ndcg = zip(*rows, strict=True)
    return {
        "questions": len(rows),
        "recall@5": round(mean(r5), 4),
        "recall@10": round(mean(r10), 4),
        "ndcg@10": round(mean(ndcg), 4),
    }


async def _call(session: aiohttp.ClientSession, method: str, path: str, body: Any) -> Any:
    async with session.request(method, path, json=body) as response:
        answer = await response.json(content_type=None)
        if response.status >= 400:
            raise SystemExit(f"{method} {path}: {response.status} {answer}")
        return answer


async def run(url: str, conversations: list[Conversation], args: argparse.Namespace) -> Any:
    embedding = None
    if args.embedding is not None:
        embedding = {"model": args.embedding, "dimensions": args.dimensions}
    async with aiohttp.ClientSession(url) as session:
        turns_per_second = await load(session, conversations, args.batch, embedding)
        results = [await ask(session, conversations, mode) for mode in args.mode]
    return {
        "benchmark": "locomo",
        "machine": machine(),
        "turns": sum(len(c.memories) for c in conversations),
        "turns_per_request": args.batch,
        "embedding": embedding,
        "turns_per_second": round(turns_per_second, 1),
        "modes": results,
    }


def show(report: dict[str, Any]) -> None:
    print(
        f"{report['turns']} turns in, {report['turns_per_second']:.0f} turns/s "
        f"({report['turns_per_request']} a request); commit {report['machine']['commit']}"
    )
    for result in report["modes"]:
        print(
            f"\n{result['mode']}: {result['questions_per_second']:.0f} questions/s out, "
            f"engine {result['engine_ms_median']} ms (median)"
        )
        print(f"  {'group':<14}{'questions':>10}{'recall@5':>10}{'recall@10':>11}{'nDCG@10':>9}")
        names = ["overall", *sorted(set(result["groups"]) - {"overall"})]
        for name in names:
            row = result["groups"][name]
            print(
                f"  {name:<14}{row['questions']:>10}{row['recall@5']:>10.3f}"
                f"{row['recall@10']:>11.3f}{row['ndcg@10']:>9.3f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the LoCoMo JSON file")
    parser.add_argument("--server", help="URL of a running server; without it one is started")
    parser.add_argument("--batch", type=int, default=100, help="turns a request (1 to 1000)")
    parser.add_argument("--embedding", help="the spaces' embedder; default: the default one")
    parser.add_argument("--dimensions", type=int, default=384, help="of that embedder (384)")
    parser.add_argument("--mode", action="append", choices=MODES, help="default: all of them")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    args.mode = args.mode or list(MODES)
    try:
        conversations = read_conversations(args.data)
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"{args.data} cannot be read as the LoCoMo file: {error!r}") from error
    if args.server:
        report = asyncio.run(run(args.server, conversations, args))
    else:
        with own_server() as url:
            report = asyncio.run(run(url, conversations, args))
    if args.json:
        print(json.dumps(report, indent=1))
    else:
        show(report)


if __name__ == "__main__":
    main()
