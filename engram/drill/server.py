"""`engram serve` as a child process, on a folder of the drill's own, and `engram log verify`."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from engram.errors import EngramError

READY_S_MAX: Final = 60.0
STOP_S_MAX: Final = 30.0
END_S_MAX: Final = 1.0
"""How long a process that is dying takes to be gone."""
_COMMAND: Final = (sys.executable, "-m", "engram.cli.app")
_SERVER: Final = (sys.executable, "-m", "engram.drill.small")
_READY: Final = "engram ready "
OPEN_SPACES_MAX: Final = 3
"""So few that spaces which nobody follows are closed and opened all the time."""
_CONFIG: Final = f"open_spaces_max = {OPEN_SPACES_MAX}\n"


class DrillFailed(EngramError):
    """The drill could not be carried out; nothing is said about the data."""

    problem, title = "drill-failed", "Drill failed"


class NotReady(Exception):
    """A server did not get ready to serve; the message has its last words."""


class Server:
    """One server, started and killed again and again on the same data and the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_root = folder / "data"
        self.url = ""
        self.up = asyncio.Event()
        """Set while it takes requests, until it is killed."""
        self.down = asyncio.Event()
        """Set while `up` is not, once it was."""
        self.killed = False
        self._config = folder / "engram.toml"
        self._log = folder / "server.log"
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def command(self) -> str:
        """The command line of the next start, as one would type it."""
        return shlex.join(["engram", *self._arguments()])

    async def status(self) -> int | None:
        """Its exit status, None if it runs on; for when it was found not to answer."""
        if self._process is None:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S_MAX):
                await self._process.wait()
        return self._process.returncode

    async def start(self) -> float:
        """Return once it takes requests, with the seconds that took. Raises `NotReady`."""
        began = time.perf_counter()
        process = await self._spawn()
        line = ""
        try:
            async with asyncio.timeout(READY_S_MAX):
                line = (await _stdout(process).readline()).decode()
        except TimeoutError:
            pass
        if not line.startswith(_READY):
            self.kill()
            await self.ended()
            raise NotReady(self.last_words())
        self.url = line.removeprefix(_READY).rstrip("\n")
        self._port = int(self.url.rpartition(":")[2])
        self.up.set()
        self.down.clear()
        return time.perf_counter() - began

    async def start_and_kill(self, after_s: float) -> int | None:
        """Start it and kill it so soon. Returns its exit status if it had ended by itself."""
        process = await self._spawn()
        try:
            async with asyncio.timeout(after_s):
                await process.wait()
        except TimeoutError:
            self.kill()
        status = await self.ended()
        return None if self.killed else status

    def kill(self) -> None:
        """SIGKILL, at this very moment: no handler runs, nothing is flushed. Idempotent."""
        self.up.clear()
        self.down.set()
        if self._process is not None and self._process.returncode is None and not self.killed:
            self.killed = True
            try:
                self._process.kill()
            except ProcessLookupError:
                self.killed = False  # it had ended by itself

    async def ended(self) -> int:
        """Wait until it runs no more; returns its exit status."""
        if self._process is None:
            return 0
        await self._process.communicate()
        self.up.clear()
        self.down.set()
        return self._process.returncode or 0

    async def stop(self) -> int:
        """SIGTERM: it finishes what runs and closes its data. Returns its exit status."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_S_MAX):
                return await self.ended()
        except TimeoutError:
            self.kill()
            return await self.ended()

    async def log_reports(self) -> list[dict[str, Any]]:
        """What `engram log verify` says of each folder of the data root. Raises `DrillFailed`."""
        process = await asyncio.create_subprocess_exec(
            *(*_COMMAND, "log", "verify", str(self.data_root), "--json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
            process_group=0,
        )
        out, errors = await process.communicate()
        if process.returncode not in {0, 5}:
            raise DrillFailed(f"engram log verify failed: {errors.decode(errors='replace')[-500:]}")
        return [msgspec.json.decode(line) for line in out.splitlines()]

    def last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _arguments(self) -> Sequence[str]:
        return (
            *("serve", "--data-root", str(self.data_root), "--port", str(self._port)),
            *("--config", str(self._config)),
        )

    async def _spawn(self) -> asyncio.subprocess.Process:
        self.killed = False
        # The user's own configuration is for the user's own data.
        self._config.write_text(_CONFIG, encoding="utf-8")
        with self._log.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *(*_SERVER, *self._arguments()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=_environment(),
                # Ctrl-C in the terminal is for the drill, which then ends the server itself.
                process_group=0,
            )
        return self._process


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ENGRAM_")}


def _stdout(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    if process.stdout is None:
        raise DrillFailed("the server has no standard output")
    return process.stdout
