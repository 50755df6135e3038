"""Command lines run in this process, on a data root or over a server, and one that runs beside."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engram.cli.app import main

ENGRAM = [sys.executable, "-m", "engram.cli.app"]
WAIT_S_MAX = 60.0
ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[a-zA-Z]|\].*?\x07)")


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class CommandLine:
    """Runs command lines in this process: as fast as a call. Its environment is all its own."""

    def __init__(
        self, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch, home: Path
    ) -> None:
        self._capture = capture
        self._patch = patch
        self.home = home
        for name in list(os.environ):
            if name.startswith(("ENGRAM_", "XDG_")):
                patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.chdir(home)

    def set(self, **environment: str) -> CommandLine:
        for name, value in environment.items():
            self._patch.setenv(name, value)
        return self

    def __call__(self, *arguments: str) -> Done:
        self._capture.readouterr()
        code = main(arguments)
        return Done(code, *self._capture.readouterr())


def run_in_terminal(
    arguments: list[str],
    environment: Mapping[str, str],
    *,
    typed: str = "",
    columns: int = 80,
    until: str | None = None,
    then: bytes = b"",
    engram: Sequence[str] = ENGRAM,
) -> tuple[int, str]:
    """A command in a pseudo-terminal: (exit status, all that the terminal got).

    Once `until` has appeared, `then` is typed; so Ctrl-C can be, as b"\\x03".
    """
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(
            [*engram, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": str(columns), **environment},
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        os.write(master, typed.encode())
        return _talk(process, master, until, then)
    finally:
        os.close(master)


def _take_terminal() -> None:
    """Make the terminal the process's own, so that Ctrl-C becomes its SIGINT."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _talk(
    process: subprocess.Popen[bytes], master: int, until: str | None, then: bytes
) -> tuple[int, str]:
    seen = b""
    deadline = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.1)[0]:
            try:
                data = os.read(master, 1 << 16)
            except OSError:  # Linux says EIO once the other end is closed
                data = b""
            if not data:
                return process.wait(WAIT_S_MAX), seen.decode("utf-8", "replace")
            seen += data
            if until is not None and until.encode() in seen:
                until = None
                os.write(master, then)
    process.kill()
    process.wait()
    raise AssertionError(f"the command did not end: {seen!r}")
