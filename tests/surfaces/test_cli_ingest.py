"""`engram remember --file`: what is stored, what is not, and how a command that failed goes on."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import engram
from engram.cli import ingest as module
from engram.errors import OutcomeUnknown

from .command_line import ENGRAM, WAIT_S_MAX, CommandLine, run_in_terminal
from .harness import Server


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> CommandLine:
    run = CommandLine(capfd, monkeypatch, tmp_path)
    run.set(ENGRAM_DATA_ROOT=str(tmp_path / "data"), ENGRAM_SPACE="alpha")
    assert run("space", "create", "alpha").code == 0
    return run


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of three lines."""
    monkeypatch.setattr(module, "CHUNK_LINES_MAX", 3)


def write(folder: Path, lines: Iterable[object]) -> str:
    """A file of one line for each: bytes as they are, all else as JSON."""
    path = folder / "messages.jsonl"
    data = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(data) + b"\n")
    return str(path)


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"id": f"m{number}", "content": f"memory {number}"} for number in range(1, count + 1)]


def ids(run: CommandLine) -> list[str]:
    return [memory["id"] for memory in run("list", "--all", "--json").documents]


def test_every_field_of_a_line_is_kept(run: CommandLine, tmp_path: Path) -> None:
    full = {
        "content": "all of it",
        "id": "full",
        "tags": ["a", "b"],
        "metadata": {"deep": [1, {"x": None}]},
        "occurred_at": "2026-05-01T09:00:00Z",
        "expires_at": "2999-01-01T00:00:00Z",
        "kind": "belief",
        "confidence": 0.25,
        "source": "chat",
    }
    file = write(tmp_path, [b"\xef\xbb\xbf" + json.dumps(full).encode(), b"", b'{"content":"b"}\r'])
    done = run("remember", "--file", file)
    assert (done.code, done.err) == (0, "")
    assert done.out == "remembered 2 memories; durable up to position 3\n"
    stored = run("get", "full", "--json").documents[0]
    assert {name: stored[name] for name in full} == full


def test_vectors_come_with_the_lines_where_a_space_takes_them(
    run: CommandLine, tmp_path: Path
) -> None:
    assert run("space", "create", "vectors", "--dimensions", "2").code == 0
    good = {"content": "v", "embedding": [1, 0.5]}
    done = run("remember", "--space", "vectors", "--file", write(tmp_path, [good]), "--json")
    assert done.documents == [{"memory_space_id": "vectors", "memories": 1, "position": 2}]
    bad = write(tmp_path, [good, {"content": "w", "embedding": [1, 2, 3]}])
    done = run("remember", "--space", "vectors", "--file", bad)
    assert done.code == 2
    assert "line 2: embedding: must be a list of 2 numbers" in done.err
    done = run("remember", "--file", write(tmp_path, [{"content": "x"}, good]))
    assert (done.code, "line 2: embedding" in done.err) == (4, True)


def test_a_file_of_nothing_stores_nothing(run: CommandLine, tmp_path: Path) -> None:
    done = run("remember", "--file", write(tmp_path, [b"", b"  "]))
    assert (done.code, done.out) == (0, "remembered 0 memories; durable up to position 1\n")


@pytest.mark.parametrize("count", [499, 500, 501, 1_203])
def test_files_of_any_length_are_stored_whole(run: CommandLine, tmp_path: Path, count: int) -> None:
    done = run("remember", "--file", write(tmp_path, numbered(count)), "--json")
    assert done.documents[0] == {
        "memory_space_id": "alpha",
        "memories": count,
        "position": count + 1,
    }
    assert ids(run) == [f"m{number}" for number in range(1, count + 1)]


BAD_LINES: list[tuple[object, int, str]] = [
    (b"not JSON", 2, "it is not a JSON object"),
    (b"[1]", 2, "it is not a JSON object"),
    (b'{"content": "x"', 2, "it is not JSON"),
    (b'{"content": "x"} {}', 2, "it is not JSON"),
    (b'{"content": "\xff"}', 2, "UTF-8"),
    ({"content": "x", "colour": "red"}, 2, "colour: unknown field"),
    ({"content": 1}, 2, "content: "),
    ({"id": "x"}, 2, "content: is required"),
    ({"content": ""}, 2, "content: is empty"),
    ({"content": "x" * (1 << 20) + "y"}, 2, "content has 1048577 bytes"),
    ({"content": "x", "occurred_at": "noon"}, 2, "occurred_at: "),
    ({"content": "x", "occurred_at": "2026-05-01T09:00:00"}, 2, "occurred_at: "),
    ({"content": "x", "id": "a/b"}, 2, "id: "),
    ({"content": "x", "tags": "ops"}, 2, "tags: "),
    ({"content": "x", "kind": "dream"}, 2, "kind: "),
    ({"content": "x", "confidence": 2}, 2, "confidence: "),
    ({"content": "x", "id": "m4"}, 2, "id: 'm4' stands in line 4 already"),
    ({"content": "x", "id": "m1"}, 4, "memory 'm1' exists already"),
]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("line", "code", "word"), BAD_LINES, ids=lambda item: str(item)[:50])
def test_a_bad_line_says_which_why_what_is_durable_and_how_to_go_on(
    run: CommandLine, tmp_path: Path, line: object, code: int, word: str
) -> None:
    lines: list[object] = list(numbered(8))
    lines[4] = line  # the fifth, in the middle of the second chunk
    done = run("remember", "--file", write(tmp_path, lines))
    assert (done.code, done.out) == (code, "")
    assert re.fullmatch(r"engram: line 5: [^\n]+\n", done.err)
    assert word in done.err
    assert "Lines 1 to 3 are durable, up to position 4" in done.err
    assert done.err.endswith("go on with --from-line 4\n")
    assert ids(run) == ["m1", "m2", "m3"]
    lines[4] = numbered(5)[4]
    done = run("remember", "--file", write(tmp_path, lines), "--from-line", "4")
    assert (done.code, done.out) == (0, "remembered 5 memories; durable up to position 9\n")
    assert ids(run) == [f"m{number}" for number in range(1, 9)]


def test_a_bad_first_line_leaves_nothing_behind(run: CommandLine, tmp_path: Path) -> None:
    file = write(tmp_path, [b"{}", *numbered(3)])
    done = run("remember", "--file", file, "--json")
    assert done.code == 2
    problem = json.loads(done.err)
    assert problem["memory_space_id"] == "alpha"
    assert problem["detail"] == (
        "line 1: content: is required. Nothing was stored by this run. Correct it and go on with "
        "--from-line 1"
    )
    assert ids(run) == []


def test_a_line_without_end_is_not_read_to_its_end(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINE_BYTES_MAX", 100)
    done = run("remember", "--file", write(tmp_path, [{"content": "x" * 200}]))
    assert (done.code, "line 1: it has more than 100 bytes" in done.err) == (2, True)


def test_chunks_stay_below_their_size(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES_MAX", 1_200)
    lines = [{"content": "x" * 300} for _ in range(7)]
    sizes = []
    with Path(write(tmp_path, lines)).open("rb") as stream:
        for chunk, _ in module._chunks(stream, 1):
            sizes.append(len(chunk))
    assert sizes == [3, 3, 1]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--file", "nowhere.jsonl"], "No such file"),
        (["--file", "."], "directory"),
        (["--file", "a\0b"], "null byte"),
        (["text", "--file", "x"], "TEXT and --file"),
        (["--file", "x", "--tag", "t"], "tags"),
        (["--file", "x", "--from-line", "0"], "--from-line"),
    ],
)
def test_files_that_cannot_be_meant(run: CommandLine, arguments: list[str], word: str) -> None:
    done = run("remember", *arguments)
    assert (done.code, done.out) == (2, "")
    assert word in done.err


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data), isatty=bool))


def test_standard_input_holds_lines_or_a_text(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, b'{"content": "one", "id": "one"}\n{"content": "two", "id": "two"}')
    assert run("remember", "--file", "-").out == "remembered 2 memories; durable up to position 3\n"
    feed(monkeypatch, "line 1\nläne 2\r\n".encode())
    assert run("remember", "-", "--id", "text").code == 0
    assert run("get", "text", "--json").documents[0]["content"] == "line 1\nläne 2"
    feed(monkeypatch, b"new")
    assert run("revise", "text", "--content", "-").code == 0
    assert run("get", "text").out.endswith("content\n  new\n")


@pytest.mark.parametrize(
    ("data", "word"),
    [(b"", "empty"), (b"\n", "empty"), (b"a\xff", "byte 1"), (b"x" * (1 << 21), "more than")],
)
def test_standard_input_that_is_no_memory(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch, data: bytes, word: str
) -> None:
    feed(monkeypatch, data)
    done = run("remember", "-")
    assert (done.code, done.out) == (2, "")
    assert word in done.err


def test_a_closed_standard_input_is_said(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    for arguments in (["-"], ["--file", "-"]):
        done = run("remember", *arguments)
        assert (done.code, "standard input is closed" in done.err) == (2, True)


@pytest.mark.usefixtures("small")
def test_ctrl_c_waits_for_the_write_and_says_where_to_go_on(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engram.Space.remember_many

    def interrupted(space: engram.Space, memories: Any, **options: Any) -> engram.Remembered:
        if memories[0].id == "m4":
            os.kill(os.getpid(), signal.SIGINT)
        return real(space, memories, **options)

    monkeypatch.setattr(engram.Space, "remember_many", interrupted)
    before = signal.getsignal(signal.SIGINT)
    done = run("remember", "--file", write(tmp_path, numbered(9)))
    assert signal.getsignal(signal.SIGINT) is before
    assert (done.code, done.out) == (130, "")
    assert done.err.startswith("engram: interrupted. Lines 1 to 6 are durable, up to position 7.")
    assert done.err.endswith(" Go on with --from-line 7\n")
    assert ids(run) == [f"m{number}" for number in range(1, 7)]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("how", ["twice", "unknown"])
def test_where_the_outcome_is_unknown_that_is_said(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    real = engram.Space.remember_many

    def lost(space: engram.Space, memories: Any, **options: Any) -> engram.Remembered:
        if memories[0].id != "m4":
            return real(space, memories, **options)
        if how == "unknown":
            raise OutcomeUnknown("the connection was lost")
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal ends it")

    monkeypatch.setattr(engram.Space, "remember_many", lost)
    done = run("remember", "--file", write(tmp_path, numbered(9)))
    assert done.code == (130 if how == "twice" else 1)
    assert "Lines 1 to 3 are durable, up to position 4; lines 4 to 6 may be" in done.err
    assert "--from-line 7, else with --from-line 4" in done.err


def test_ctrl_c_while_lines_are_awaited_ends_at_once(run: CommandLine, tmp_path: Path) -> None:
    """A pipe that says nothing more: the command waits in a read, which the signal ends."""
    process = subprocess.Popen(
        [*ENGRAM, "remember", "--file", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ},
    )
    assert process.stdin is not None
    lock = tmp_path / "data" / "alpha" / "LOCK"
    owner = f"pid {process.pid}"
    deadline = time.monotonic() + WAIT_S_MAX
    while not (lock.exists() and owner in lock.read_text()):  # it has the space open, and reads
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=WAIT_S_MAX)
    assert process.returncode == 130
    assert b"Traceback" not in said


def test_over_a_server_a_file_ends_the_same(
    run: CommandLine, tmp_path: Path, start_server: Any
) -> None:
    server: Server = start_server(tmp_path / "served")
    run.set(ENGRAM_SERVER=server.url)
    assert run("space", "create", "alpha").code == 0
    done = run("remember", "--file", write(tmp_path, numbered(501)))
    assert done.out == "remembered 501 memories; durable up to position 502\n"
    done = run("remember", "--file", write(tmp_path, [*numbered(1)]))
    assert (done.code, "line 1: memory 'm1' exists already" in done.err) == (4, True)
    done = run("remember", "--file", "-", "--space", "nowhere")
    assert done.code == 3


def test_a_terminal_sees_how_far_it_is(run: CommandLine, tmp_path: Path) -> None:
    file = write(tmp_path, numbered(600))
    code, seen = run_in_terminal(["remember", "--file", file], {})
    assert code == 0
    assert "remembering" in seen
    assert "600 memories" in seen
    assert "remembered 600 memories; durable up to position 601" in seen
