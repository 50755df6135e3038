"""What commands do to a terminal, and what they do without one: colours, widths, Ctrl-C, pipes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import engram
from engram.cli.output import LAST_COLUMN_MIN

from .command_line import ENGRAM, ESCAPE, WAIT_S_MAX, CommandLine, run_in_terminal
from .harness import Server

EVIL = "\x1b]0;owned\x07\x1b[31mred\x1b[0m [bold]x[/bold] :smile: \r\b\x9b2J \u202egnp.exe\u2028end"
WIDE = "会議は金曜日に延期されました 👩‍💻 " * 8


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with engram.open(tmp_path / "data") as db:
        alpha = db.create_space("alpha")
        alpha.remember(EVIL, id="evil", tags=["[red]tag"], metadata={"k": "\x1b[2J"}, source="[b]")
        alpha.remember(WIDE, id="wide")
        alpha.remember("line one\n\tline two\n", id="lines")
    return tmp_path / "data"


@pytest.fixture
def environment(root: Path, tmp_path: Path) -> dict[str, str]:
    return {"ENGRAM_DATA_ROOT": str(root), "ENGRAM_SPACE": "alpha", "HOME": str(tmp_path)}


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    environment: dict[str, str],
) -> CommandLine:
    return CommandLine(capfd, monkeypatch, tmp_path).set(**environment)


@pytest.fixture
def seen_by(environment: dict[str, str], forked_engram: Path) -> Callable[..., tuple[int, str]]:
    """What a terminal gets of a command that nobody interrupts."""
    return partial(run_in_terminal, environment=environment, engram=[str(forked_engram)])


@pytest.fixture
def server(root: Path, start_server: Callable[..., Server]) -> Server:
    return start_server(root)


SHOWING = [
    ["get", "evil"],
    ["list"],
    ["recall", "red smile", "--no-record"],
    ["recall", "red smile", "--explain", "--no-record"],
    ["history", "evil"],
    ["watch", "--no-follow", "--after", "0"],
]


@pytest.mark.parametrize("arguments", SHOWING, ids=lambda item: " ".join(item))
def test_what_a_memory_holds_cannot_control_a_terminal(
    seen_by: Callable[..., tuple[int, str]], run: CommandLine, arguments: list[str]
) -> None:
    plain = run(*arguments).out
    code, seen = seen_by(arguments, columns=240)
    assert code == 0
    # Only rich's own styles are left in a terminal, and nothing at all elsewhere.
    styled = [code for code in ESCAPE.findall(seen) if not code.endswith("m")]
    assert styled == []
    for text in (plain, ESCAPE.sub("", seen).replace("\r\n", "\n")):
        assert "\\x1b[31mred" in text
        assert "[bold]x[/bold] :smile:" in text
        assert "\\u202egnp.exe" in text
        assert [c for c in text if not c.isprintable() and c not in "\n\u200d"] == []


@pytest.mark.parametrize("arguments", [*SHOWING[1:], ["status"]], ids=" ".join)
@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_a_terminal_of_any_width_cuts_nothing_but_the_last_column(
    seen_by: Callable[..., tuple[int, str]], run: CommandLine, arguments: list[str], columns: int
) -> None:
    from rich.cells import cell_len

    # What the tables say where nothing is cut: their columns are two spaces apart.
    plain = [line for line in run(*arguments).out.splitlines() if "  " in line]
    kept = [re.split(" {2,}", line) for line in plain]
    fixed = max(
        cell_len(line[: line.rindex(cells[-1])]) for line, cells in zip(plain, kept, strict=True)
    )
    code, seen = seen_by(arguments, columns=columns)
    assert code == 0
    lines = [line for line in ESCAPE.sub("", seen).replace("\r", "").splitlines() if "  " in line]
    for line, cells in zip(lines, kept, strict=False):
        assert re.split(" {2,}", line)[: len(cells) - 1] == cells[:-1]
    assert max(map(cell_len, lines)) <= max(columns, fixed + LAST_COLUMN_MIN)


@pytest.mark.parametrize("columns", [60, 120])
def test_minted_ids_and_figures_are_whole(
    seen_by: Callable[..., tuple[int, str]], run: CommandLine, columns: int
) -> None:
    memory_id = json.loads(run("remember", "The deploy key is rotated", "--json").out)["id"]
    _, listed = seen_by(["list"], columns=columns)
    assert memory_id in listed
    _, found = seen_by(["recall", "deploy key", "-n", "1"], columns=columns)
    assert memory_id in found
    assert re.search(r"\d\.\d{3}  \d\.\d\d \(\d\.\d\d-\d\.\d\d\)  ", found)


def test_lines_of_a_content_are_kept_and_set_in(run: CommandLine) -> None:
    assert run("get", "lines").out.endswith("content\n  line one\n          line two\n\n")


@pytest.mark.parametrize("name", ["list", "recall", "watch"])
def test_colours_go_where_they_are_wanted(
    environment: dict[str, str], seen_by: Callable[..., tuple[int, str]], name: str
) -> None:
    arguments = next(item for item in SHOWING if item[0] == name)
    assert "\x1b[" in seen_by(arguments)[1]
    for quiet in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}):
        assert "\x1b" not in seen_by(arguments, environment={**environment, **quiet})[1]


def test_without_a_terminal_nothing_is_cut(run: CommandLine) -> None:
    text = " ".join(WIDE.split())
    assert text in run("list").out
    assert text in run("watch", "--no-follow").out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("arguments", SHOWING[:4:3] + SHOWING[5:], ids=lambda item: item[0])
def test_any_encoding_will_do_for_contents(
    environment: dict[str, str], arguments: list[str], encoding: str
) -> None:
    environment = {**environment, "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [*ENGRAM, *arguments], capture_output=True, env={**os.environ, **environment}, check=False
    )
    assert (done.returncode, done.stderr.replace(b"mode ", b"")[:10]) in {
        (0, b""),
        (0, b"spreading;"),
    }
    done.stdout.decode(encoding)
    code, seen = run_in_terminal(arguments, environment, columns=60)
    assert (code, "Traceback" in seen) == (0, False)


def test_forgetting_asks(environment: dict[str, str], run: CommandLine) -> None:
    code, seen = run_in_terminal(["forget", "wide"], environment, typed="n\n")
    assert (code, "nothing was forgotten" in seen) == (1, True)
    assert "Forget this memory of alpha? [y/N]" in seen
    assert "wide" in seen
    assert run("get", "wide").code == 0
    code, seen = run_in_terminal(["forget", "wide", "lines"], environment, typed="y\n")
    assert (code, "these 2 memories" in seen) == (0, True)
    assert run("get", "wide").code == 3


def test_head_ends_a_command_quietly(environment: dict[str, str]) -> None:
    for arguments in (*SHOWING, ["status"], ["config", "show"], ["space", "list"]):
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "w") as closed:
            done = subprocess.run(
                [*ENGRAM, *arguments],
                stdout=closed,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **environment},
                check=False,
            )
        assert (done.returncode, done.stderr) == (0, ""), arguments


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_an_output_that_takes_nothing_is_said(environment: dict[str, str]) -> None:
    for arguments in (["get", "wide"], ["get", "wide", "--json"], ["status"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*ENGRAM, *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **environment},
                check=False,
            )
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_space_that_another_command_has_open_is_told_so(
    run: CommandLine, environment: dict[str, str], root: Path
) -> None:
    with subprocess.Popen(
        [*ENGRAM, "remember", "--file", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
    ) as other:
        assert other.stdin is not None
        lock = root / "alpha" / "LOCK"
        deadline = time.monotonic() + WAIT_S_MAX
        while f"pid {other.pid}" not in lock.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        done = run("get", "wide")
        assert (done.code, done.out) == (4, "")
        assert f"an engram command, pid {other.pid}. Try again when that is done" in done.err
        other.stdin.close()
        assert other.wait(WAIT_S_MAX) == 0


def test_damage_shows_in_the_status(run: CommandLine, root: Path) -> None:
    with engram.open(root) as db:
        db.create_space("sound")
    (root / "alpha" / "space.json").write_text("{}")
    done = run("status")
    assert done.code == 5
    assert done.out.splitlines()[2].split()[:2] == ["alpha", "damaged"]
    assert done.out.splitlines()[3].split()[:2] == ["sound", "active"]
    assert done.out.splitlines()[4].startswith("alpha: ")
    assert run("status", "--json").code == 5


class Watching:
    """`engram watch` on a server, as a process, with its lines as they come."""

    def __init__(self, url: str, environment: dict[str, str], *options: str) -> None:
        self.process = subprocess.Popen(
            [*ENGRAM, "watch", "--server", url, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self._timer = threading.Timer(WAIT_S_MAX, self.process.kill)
        self._timer.start()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        said = self.process.communicate(timeout=WAIT_S_MAX)[1]
        self._timer.cancel()
        return self.process.returncode, said


@pytest.fixture
def watch(environment: dict[str, str], server: Server) -> Iterator[Callable[..., Watching]]:
    started: list[Watching] = []

    def start(*options: str) -> Watching:
        started.append(Watching(server.url, environment, *options))
        return started[-1]

    yield start
    for watching in started:
        watching.end(signal.SIGKILL)


def test_watching_tells_history_and_then_what_happens(
    watch: Callable[..., Watching], run: CommandLine, server: Server
) -> None:
    watching = watch("--after", "2")
    for name in ("wide", "lines"):
        assert watching.line().split()[3:5] == ["memory.stored", f"{name}:"]
    assert run("remember", "Written live", "--id", "live", "--server", server.url).code == 0
    parts = watching.line().split(maxsplit=4)
    assert parts[2:4] == ["5", "memory.stored"]
    assert parts[4] == "live: Written live\n"
    assert watching.end(signal.SIGINT) == (130, "")


def test_watching_tells_programs_everything(
    watch: Callable[..., Watching], run: CommandLine, server: Server
) -> None:
    watching = watch(
        "--after", "0", "--type", "memory.revised", "--type", "memory.forgotten", "--json"
    )
    run.set(ENGRAM_SERVER=server.url)
    assert run("remember", "passed over").code == 0
    assert run("revise", "lines", "--tag", "new").code == 0
    event = json.loads(watching.line())
    assert (event["type"], event["position"], event["memory"]["tags"]) == (
        "memory.revised",
        6,
        ["new"],
    )
    assert run("forget", "lines", "--yes").code == 0
    assert json.loads(watching.line())["id"] == "lines"
    assert watching.end(signal.SIGINT) == (130, "")


def test_watching_ends_when_its_reader_has_left(
    watch: Callable[..., Watching], run: CommandLine, server: Server
) -> None:
    watching = watch("--after", "3")
    watching.line()
    assert watching.process.stdout is not None
    watching.process.stdout.close()
    assert run("remember", "one more", "--server", server.url).code == 0
    watching.process.wait(WAIT_S_MAX)
    assert watching.process.stderr is not None
    assert (watching.process.returncode, watching.process.stderr.read()) == (0, "")


def test_watching_a_terminal_ends_by_ctrl_c(environment: dict[str, str], server: Server) -> None:
    code, seen = run_in_terminal(
        ["watch", "--after", "0", "--server", server.url], environment, until="lines", then=b"\x03"
    )
    assert (code, "Traceback" in seen) == (130, False)


def test_a_data_root_has_nothing_to_follow(run: CommandLine) -> None:
    done = run("watch", "--follow")
    assert (done.code, done.out) == (2, "")
    assert "--server URL" in done.err


def test_a_space_that_a_server_has_open_is_told_with_the_server_s_address(
    run: CommandLine, server: Server
) -> None:
    assert run("get", "wide", "--server", server.url).code == 0
    done = run("get", "wide")
    assert (done.code, done.out) == (4, "")
    assert f"--server {server.url}\n" in done.err
    report = run("status")
    assert report.code == 0
    assert report.out.splitlines()[2].split()[:2] == ["alpha", "locked"]
    assert f"--server {server.url}" in report.out
    assert run("status", "--json").documents[0]["spaces"][0]["state"] == "locked"


def test_status_is_shown_until_ctrl_c(environment: dict[str, str], server: Server) -> None:
    arguments = ["status", "--watch", "--interval", "0.1", "--server", server.url]
    code, seen = run_in_terminal(arguments, environment, until="active", then=b"\x03")
    assert (code, "Traceback" in seen) == (130, False)
    assert server.url in seen
    # The cursor, hidden while it is redrawn, is back.
    assert seen.rfind("\x1b[?25h") > seen.rfind("\x1b[?25l")


def test_watching_the_status_of_a_data_root_leaves_it_to_others(
    environment: dict[str, str], root: Path
) -> None:
    """Reports follow what others write, who are never locked out for longer than a look takes."""
    with subprocess.Popen(
        [*ENGRAM, "status", "--watch", "--interval", "0.1", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["spaces"][0]["memories"] == 3
        with engram.open(root) as db:
            space = db.space("alpha")
            space.remember("one more", id="more")  # would be SpaceLocked if it held on to it
        while json.loads(watching.stdout.readline())["spaces"][0]["memories"] != 4:
            assert watching.poll() is None
        watching.send_signal(signal.SIGINT)
        assert watching.wait(WAIT_S_MAX) == 130
