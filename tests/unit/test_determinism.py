"""The same log gives the same answers: replayed twice, compacted or not, on another day with the
same `as_of`, under any hash seed and any number of threads.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import engram
from engram.memory.times import from_us
from engram.spaces.database import Database
from engram.spaces.registry import Registry
from tests.unit.conftest import START_NS, SetClock
from wal.opened import LogOptions
from wal.os_vfs import open_root

OPTIONS = LogOptions(segment_bytes=6 << 10, allocate_bytes_min=4 << 10)
DAY_NS = 24 * 3_600 * 10**9
AS_OF_S = 45
"""Seconds behind the start: some of what is told has happened by then, some has not."""
NAMES = ("Ada", "Grace", "Edsger", "Barbara")
THINGS = ("deploy key", "cat in Paris", "vault password", "lunch on Monday", "server room")
CUES = (
    "where is the deploy key of Ada",
    "lunch",
    "cat server",
    "who went to Paris on Monday",
    "zebra",
)

CHILD = """
import sys
from pathlib import Path
from tests.unit.test_determinism import answers
sys.stdout.buffer.write(answers(Path(sys.argv[1]), int(sys.argv[2])))
"""


def opened(root: Path, clock: SetClock) -> Database:
    return Database(Registry(open_root(root), owner="a test", clock=clock, options=OPTIONS), root)


def at(seconds: int) -> Any:
    return from_us(START_NS // 1_000) + timedelta(seconds=seconds)


def tell(space: engram.Space, clock: SetClock) -> None:
    """Some ninety seconds in the life of a space, of all that can happen to memories."""
    space.remember_many([{"content": "a zebra"}, {"content": "oboe lessons"}])
    for _ in range(3):
        space.recall("zebra oboe", limit=2)
    for number in range(60):
        name, thing = NAMES[number % 4], THINGS[number % 5]
        space.remember(
            f"{name}: the {thing} number {number // 7}",
            id=f"m{number}",
            source=f"talk-{number // 12}",
            occurred_at=at(number - 1_000) if number % 3 else None,
            expires_at=at(60 + number) if number % 11 == 5 else None,
        )
        if number % 4 == 3:
            space.link(f"m{number}", f"m{number // 2}", weight=0.5, relation="about")
        if number % 9 == 8:
            space.revise(f"m{number - 3}", engram.Changes(content=f"{name} sold the {thing}"))
        if number % 10 == 9:
            space.forget(f"m{number - 5}")
        if number % 6 == 0:
            space.recall(f"{name} {thing}", limit=3)
        clock.now_ns += 1_500_000_000
    space.restore("m4")
    space.recall("password", limit=2)


def answers(root: Path, now_ns: int) -> bytes:
    """What is recalled as of a position and as of a time, all of it but what names the request."""
    clock = SetClock()
    clock.now_ns = now_ns
    with opened(root, clock) as db:
        space = db.space("alpha")
        position = 80
        found = [
            space.recall(cue, mode=mode, limit=40, explain=True, record=False, as_of=moment)
            for cue in CUES
            for mode in ("lexical", "similarity", "hybrid", "spreading")
            for moment in (position, at(AS_OF_S))
        ]
        listed = [space.list(as_of=moment, limit=200) for moment in (position, at(AS_OF_S))]
    plain = [msgspec.structs.replace(each, recall_id="", took_ms=0.0) for each in found]
    return msgspec.json.encode([plain, listed])


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A data root as it was left, one with a checkpoint, and one with that and a tail behind it."""
    folder = tmp_path_factory.mktemp("determinism")
    clock = SetClock()
    plain = folder / "plain"
    plain.mkdir()
    with opened(plain, clock) as db:
        tell(db.create_space("alpha"), clock)
    found = {"plain": plain}
    for name in ("compacted", "with a tail"):
        found[name] = folder / name
        shutil.copytree(plain, found[name])
        with opened(found[name], clock) as db:
            db.space("alpha").compact()
            if name == "with a tail":
                db.space("alpha").remember("Ada: the deploy key was found")
    return found


def told(root: Path, now_ns: int, seed: str, threads: str) -> bytes:
    """What a process of its own answers."""
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(root), str(now_ns)],
        env={**os.environ, "PYTHONHASHSEED": seed, "OPENBLAS_NUM_THREADS": threads},
        capture_output=True,
        check=True,
        timeout=120,
    ).stdout


def test_a_past_moment_is_told_alike_by_every_replay_on_any_day(roots: dict[str, Path]) -> None:
    later = START_NS + 100 * DAY_NS
    first = told(roots["plain"], START_NS + DAY_NS, "0", "1")
    assert len(first) > 50_000
    assert b'"relation":"recall"' in first
    assert told(roots["plain"], later, "1", "2") == first
    assert told(roots["compacted"], later, "2", "4") == first
    assert told(roots["with a tail"], START_NS + DAY_NS, "3", "1") == first


def test_another_moment_is_told_otherwise(roots: dict[str, Path]) -> None:
    """Which is what the test above would miss, were every moment the same."""
    clock = SetClock()
    clock.now_ns = START_NS + DAY_NS
    with opened(roots["plain"], clock) as db:
        space = db.space("alpha")
        lived = [
            {memory.id for memory in space.list(as_of=moment, limit=200).memories}
            for moment in (80, at(AS_OF_S), None)
        ]
    assert lived[0] != lived[1] != lived[2]
