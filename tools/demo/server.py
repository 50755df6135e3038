"""A real `engram serve` in a process of its own, and `engram log verify` on what it leaves."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

READY_S_MAX: Final = 60.0
STOP_S_MAX: Final = 15.0
POLL_S: Final = 0.01
_COMMAND: Final = (sys.executable, "-m", "engram.cli.app")
_READY: Final = "engram ready "
_ENVIRONMENT: Final = {
    name: value for name, value in os.environ.items() if not name.startswith("ENGRAM_")
}
"""The user's own settings are for the user's own data."""


class ServerFailed(Exception):
    """The server did not start, or did not end, as it should."""


class ServerProcess:
    """One server: started, killed and started again on the same data and the same port."""

    def __init__(self, data_root: Path, log: Path) -> None:
        self.data_root = data_root
        self.url = ""
        self.port = 0
        self.start_s = 0.0
        """How long the latest start took, from the process's beginning to its ready line."""
        self.alive = False
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def command(self) -> str:
        """The command line of the next start, as one would type it."""
        return f"engram serve --data-root {self.data_root} --port {self.port}"

    async def start(self) -> None:
        """Return once it takes requests. The first start finds a free port, later ones keep it."""
        began = time.perf_counter()
        with self._log.open("ab") as errors:
            self._process = subprocess.Popen(
                (*_COMMAND, "serve", "--data-root", self.data_root, "--port", str(self.port)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_ENVIRONMENT,
                # Ctrl-C in the terminal is for the demo, which then stops the server itself.
                process_group=0,
            )
        assert self._process.stdout is not None
        reading = asyncio.to_thread(self._process.stdout.readline)
        try:
            line = (await asyncio.wait_for(reading, READY_S_MAX)).decode()
        except TimeoutError:
            line = ""
        if not line.startswith(_READY):
            raise ServerFailed(f"the server did not get ready: {self._last_words()}")
        self.start_s = time.perf_counter() - began
        self.url = line.removeprefix(_READY).rstrip("\n")
        self.port = int(self.url.rpartition(":")[2])
        self.alive = True

    async def kill(self) -> int:
        """SIGKILL: no handler runs, nothing is flushed. Returns its exit status."""
        assert self._process is not None
        self._process.kill()
        return await self._ended(self._process)

    async def stop(self) -> int:
        """SIGTERM: it finishes what runs and closes its data. Returns its exit status."""
        assert self._process is not None
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_S_MAX):
                return await self._ended(self._process)
        except TimeoutError:
            raise ServerFailed(f"the server did not stop: {self._last_words()}") from None

    async def end(self) -> None:
        """Whatever has happened: it runs no more. Idempotent."""
        if self._process is None or self._process.poll() is not None:
            return
        try:
            await self.stop()
        except ServerFailed:
            await self.kill()

    async def _ended(self, process: subprocess.Popen[bytes]) -> int:
        while (status := process.poll()) is None:
            await asyncio.sleep(POLL_S)
        self.alive = False
        assert process.stdout is not None
        process.stdout.close()
        return status

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class Verified(msgspec.Struct, frozen=True):
    """What `engram log verify` says: in words, and one document for each space."""

    status: int
    words: str
    documents: dict[str, dict[str, Any]]


async def verify_log(data_root: Path) -> Verified:
    """Read every byte of a data root that nobody serves, by the command a user would run."""
    said, told = await asyncio.gather(
        asyncio.to_thread(_verify, data_root), asyncio.to_thread(_verify, data_root, "--json")
    )
    documents = [msgspec.json.decode(line) for line in told.stdout.splitlines()]
    by_space = {document["memory_space_id"]: document for document in documents}
    return Verified(said.returncode, said.stdout, by_space)


def _verify(data_root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*_COMMAND, "log", "verify", data_root, *options),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=_ENVIRONMENT,
        text=True,
        encoding="utf-8",
        check=False,
    )
