"""Help that teaches: every command says what it does, and its first example works as it stands."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from engram.cli.app import app

from .command_line import WAIT_S_MAX
from .forked import engram_command

EXAMPLE = re.compile(r"^ *Example: +(.+)$", re.MULTILINE)
WIDTH = 80


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """(its words, the command), of every command there is."""
    group = typer.main.get_command(app) if group is None else group
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands())


def environment(home: Path, binaries: Path = Path(sys.executable).parent) -> dict[str, str]:
    """A fresh machine: an empty home, Engram on the path, and a port that nobody else has."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ENGRAM_")}
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    xdg = dict.fromkeys(("XDG_DATA_HOME", "XDG_CONFIG_HOME"), "")
    return {**kept, **xdg, "HOME": str(home), "PATH": path, "ENGRAM_PORT": "0"}


def help_of(words: str) -> str:
    """The help, as it is shown."""
    done = subprocess.run(
        [sys.executable, "-m", "engram.cli.app", *words.split(), "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": str(WIDTH)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    return {words: help_of(words) for words in COMMANDS}


def test_every_command_was_found() -> None:
    assert set(COMMANDS) == {
        *("remember", "recall", "get", "list", "revise", "forget", "restore"),
        *("compact", "complete", "consolidate", "history", "watch", "status"),
        *("link", "unlink", "links"),
        *("space configure", "space delete", "space restore", "space purge"),
        *("serve", "space create", "space list", "space show", "log verify", "config show"),
        *("drill crash", "log inspect", "log dump", "log repair", "log salvage"),
        *("keys create", "keys list", "keys revoke"),
        *("migrate split", "migrate import"),
        *("space reopen", "space export", "space import", "space fork"),
    }


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_explains_itself(helps: dict[str, str], words: str) -> None:
    shown = helps[words]
    assert shown.isascii()
    assert shown.startswith(f"Usage: engram {words} ")
    summary = shown.splitlines()[2].strip()
    assert summary.endswith(".")
    assert len(summary) < 60
    assert "--json" in shown
    examples = EXAMPLE.findall(shown)
    assert examples
    assert all(f"engram {words}" in example for example in examples)
    for line in shown.splitlines():
        assert len(line) <= WIDTH or "Example:" in line
    undescribed = [line for line in shown.splitlines() if re.fullmatch(r"  --[a-z-]+ *\S*", line)]
    for line in undescribed:  # then its description has to stand on the next line
        following = shown.splitlines()[shown.splitlines().index(line) + 1]
        assert following.startswith(" " * 10)


@pytest.mark.parametrize("words", ["", "space", "log", "drill", "migrate", "config"])
def test_every_group_lists_its_commands_whole(words: str) -> None:
    shown = help_of(words)
    assert shown.isascii()
    listed = shown[shown.index("Commands:") :].split("\n\n")[0]
    assert "..." not in listed
    for name in COMMANDS:
        if name.startswith(words) and " " not in name.removeprefix(words).strip():
            assert re.search(rf"^  {name.removeprefix(words).strip()} +\S", listed, re.MULTILINE)


def test_each_first_example_works_by_itself_on_a_fresh_machine_and_again(
    helps: dict[str, str], tmp_path: Path
) -> None:
    """Nothing is left to an example that happened to run before."""
    with engram_command(tmp_path) as binaries:
        for number, words in enumerate(COMMANDS):
            home = tmp_path / str(number)
            home.mkdir()
            example = EXAMPLE.findall(helps[words])[0]
            # A drill works on a machine of its own wherever it runs; and it takes its time.
            for again in range(1 if words == "drill crash" else 2):
                if words == "serve":
                    serve(example, home)
                else:
                    # What keys may do is told beside them: on stdout there are keys alone.
                    quiet = not again and not words.startswith("keys ")
                    run(example, home, binaries, quiet=quiet)


def run(example: str, home: Path, binaries: Path, *, quiet: bool) -> None:
    done = subprocess.run(
        ["bash", "-c", example],
        capture_output=True,
        text=True,
        cwd=home,
        env=environment(home, binaries),
        check=False,
        timeout=WAIT_S_MAX,
    )
    assert done.returncode == 0, f"{example}\n{done.stdout}\n{done.stderr}"
    assert done.stdout
    assert not (quiet and done.stderr)


def serve(example: str, home: Path) -> None:
    """Start it as it stands, and stop it by SIGTERM once it is ready."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {example}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=home,
        env=environment(home),
    ) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], WAIT_S_MAX)[0]
        assert process.stdout.readline().startswith("engram ready http://")
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S_MAX) == 0


def test_help_loads_nothing_that_is_slow_to_load() -> None:
    """Its time is measured by tools/bench; what makes it slow can be named."""
    code = (
        "import sys; from engram.cli.app import main; main(['--help']);"
        "print([m for m in ('numpy', 'aiohttp', 'starlette', 'uvicorn', 'rich.table', 'msgspec')"
        " if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr.strip() == "[]"
