"""The demo as its users start it: it ends by itself, leaves nothing behind, and can fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engram import Confidence, Event, Hit, Memory
from tools.demo import checks
from tools.demo.__main__ import main
from tools.demo.turns import SPACES, TURNS, load_questions, load_turns

REPOSITORY = Path(__file__).parents[2]
DEMO = (sys.executable, "-m", "tools.demo")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def environment(scratch: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(scratch), "PYTHONIOENCODING": "utf-8", **more}


def run(
    scratch: Path, *arguments: str | Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, *arguments],
        cwd=REPOSITORY,
        env=environment(scratch, **variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def assert_nothing_left(scratch: Path) -> None:
    """No folder, and no process that was started on one."""
    assert list(scratch.iterdir()) == []
    running = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            running.append((folder / "cmdline").read_bytes())
        except OSError:
            continue
    assert running
    assert not [command for command in running if os.fsencode(scratch) in command]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_it_tells_its_story_and_leaves_nothing(scratch: Path) -> None:
    done = run(scratch, "--fast")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    for statement in (
        "✓ 200 memories written over HTTP",
        "✓ the subscriber saw all 202 events",
        "12 ids are in both spaces with different contents",
        "acknowledged memories are there: read back",
        "subscriber: planner resumed behind ",
        "subscriber: reviewer resumed behind ",
        "the subscriber missed nothing and saw nothing twice",
        "planner: ok, ",
        "reviewer: ok, ",
        "every byte of it is sound",
        "from starting the process to the ready line",
    ):
        assert statement in said, statement
    assert "was under way" in said
    assert "\x1b" not in done.stdout, "colours, though nobody sees them"
    assert_nothing_left(scratch)


def test_a_narrow_ascii_terminal_and_kept_data(scratch: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    done = run(scratch, "--fast", "--keep", kept, PYTHONIOENCODING="ascii", COLUMNS="48")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout.isascii()
    assert "Alcantara" in done.stdout
    framed = [line for line in done.stdout.splitlines() if line.startswith(("|", "+"))]
    assert framed
    assert all(len(line) == 48 for line in framed if line.startswith("|"))
    assert f"engram serve --data-root {kept}" in done.stdout
    commands = [line for line in done.stdout.splitlines() if line.startswith("$ ")]
    for command in commands[-3:-1]:  # the last one is the server
        tried = subprocess.run(
            command.removeprefix("$ "), shell=True, cwd=REPOSITORY, capture_output=True, check=False
        )
        assert tried.returncode == 0, tried.stderr
        assert b"lisbon-office" in tried.stdout
    assert {path.name for path in kept.iterdir() if path.is_dir()} >= set(SPACES)
    assert_nothing_left(scratch)

    again = run(scratch, "--fast", "--keep", kept)
    assert again.returncode == 2
    assert "name a new folder" in again.stderr


@pytest.mark.parametrize(
    ("number", "options", "moment"),
    [
        (signal.SIGINT, (), "$ engram serve"),
        (signal.SIGINT, (), "engram ready"),
        (signal.SIGINT, ("--fast",), "kill -9"),
        (signal.SIGTERM, (), "engram ready"),
    ],
)
def test_a_signal_ends_it_cleanly(
    scratch: Path, number: signal.Signals, options: tuple[str, ...], moment: str
) -> None:
    with subprocess.Popen(
        [*DEMO, *options],
        cwd=REPOSITORY,
        env=environment(scratch),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if moment in line:
                break
        process.send_signal(number)
        began = time.monotonic()
        said, errors = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert (process.returncode, errors) == (128 + number, "")
    assert "Stopped. The server has ended; its data is removed." in said
    assert_nothing_left(scratch)


def test_a_check_that_fails_is_shown_and_ends_it(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    assert main(["--fast"], expected_turns=TURNS + 1) == 1
    said = capsys.readouterr()
    assert "✗ check failed:" in said.out
    assert "memories acknowledged: 200, expected 201" in said.out
    assert "a check failed" in said.err
    assert "3  The same questions" not in said.out
    assert_nothing_left(scratch)


def test_the_data_is_what_the_story_says() -> None:
    turns = {space: load_turns(space) for space in SPACES}
    assert sum(map(len, turns.values())) == TURNS
    for question in load_questions():
        for space in SPACES:
            assert question.expected(space)
            assert set(question.expected(space)) <= {turn.id for turn in turns[space]}


def memory(memory_id: str, content: str, position: int = 2, space: str = "planner") -> Memory:
    return Memory(
        id=memory_id,
        memory_space_id=space,
        kind="episode",
        content=content,
        tags=(),
        metadata={},
        confidence=1.0,
        occurred_at=None,
        expires_at=None,
        stored_at=NOW,
        source=None,
        revision=1,
        position=position,
    )


def event(position: int, told: Memory | None = None) -> Event:
    kind = "memory.recalled" if told is None else "memory.stored"
    return Event(
        memory_space_id="planner",
        space_uuid="u",
        position=position,
        type=kind,
        time=NOW,
        memory=told,
    )


def hit(found: Memory) -> Hit:
    sure = Confidence(point=0.5, lower=0.4, upper=0.6)
    return Hit(memory=found, score=1.0, confidence=sure, activation=1.0, hops=0)


@pytest.mark.parametrize(
    ("positions", "wrong"),
    [
        ([1, 2, 3], []),
        ([1, 3], ["planner: the feed left out 2"]),
        ([], ["planner: the feed left out 1, 2, 3"]),
        ([1, 2, 2, 3], ["planner: the feed repeated 2"]),
        ([1, 3, 2], ["planner: positions came out of order"]),
        ([1, 2, 3, 4], ["planner: the feed told of positions beyond 3: 4"]),
    ],
)
def test_positions_that_are_not_dense_are_found(positions: list[int], wrong: list[str]) -> None:
    assert checks.dense("planner", [event(position) for position in positions], 3) == wrong


def test_a_memory_that_crossed_over_is_found() -> None:
    own, other = {"a": "mine", "b": "also mine"}, {"a": "theirs", "c": "theirs too"}
    good = [hit(memory("a", "mine")), hit(memory("b", "also mine"))]
    assert checks.own_answers("planner", good, own, other) == []
    for bad in (
        memory("a", "theirs"),
        memory("c", "theirs too"),
        memory("a", "mine", space="reviewer"),
        memory("z", "nobody's"),
    ):
        assert checks.own_answers("planner", [*good, hit(bad)], own, other), bad


Differ = Callable[[dict[str, Memory]], Any]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda stored: stored.pop("a"),
        lambda stored: stored.update(a=memory("a", "other words")),
        lambda stored: stored.update(a=memory("a", "one", position=9)),
        lambda stored: stored.update(z=memory("z", "never written", position=4)),
    ],
    ids=["lost", "changed", "moved", "made up"],
)
def test_what_is_not_as_acknowledged_is_found(spoil: Differ) -> None:
    acknowledged = {"a": memory("a", "one"), "b": memory("b", "two", position=3)}
    events = [event(1), *(event(m.position, m) for m in acknowledged.values())]
    stored = dict(acknowledged)
    assert checks.all_there("planner", acknowledged, stored, {}) == []
    assert checks.told_as_stored("planner", events, stored) == []
    spoil(stored)
    assert checks.all_there("planner", acknowledged, stored, {})
    assert checks.told_as_stored("planner", events, stored)


def test_only_the_unanswered_write_may_be_there_beside_the_acknowledged_ones() -> None:
    stored = {"x": memory("x", "in flight")}
    assert checks.all_there("planner", {}, stored, {"x": "in flight"}) == []
    assert checks.all_there("planner", {}, stored, {"x": "in flight, and half of it"})
