"""Faults in the system calls of a real process, injected by strace, one place at a time.

    python -m tests.crash.faults [--stride N] [--json] [FAULT …]

The process is :mod:`tests.crash.victim`. For each fault, strace makes the n-th call of one kind
fail (in each thread: it counts them apart), or kills the process as it enters it, for n = 1, then
1 + stride and so on, until a run meets the fault no more. After each, a process that was not there
compares the data root with what the victim had been told, and goes on using it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from tests.crash.victim import Books

REPOSITORY: Final = Path(__file__).parents[2]
KILLED: Final = -9
KILLED_IN: Final = (
    "fdatasync",
    "fsync",
    "renameat",
    "openat",
    "ftruncate",
    "fallocate",
    "pwrite64",
)
FAILING: Final = (
    ("fdatasync", "EIO"),
    ("fsync", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("fallocate", "ENOSPC"),
    ("openat", "EMFILE"),
    ("openat", "ENOSPC"),
    ("ftruncate", "EIO"),
    ("renameat", "EIO"),
    ("pread64", "EIO"),
    ("unlinkat", "EIO"),
    ("mkdirat", "ENOSPC"),
)


class NotHere(Exception):
    """strace is missing, or may not trace. The message says which."""


class Fault(NamedTuple):
    """A kind of call, and what happens to it: an error's name or SIGKILL; from the n-th on for
    good, or to the n-th alone.
    """

    call: str
    what: str
    for_good: bool = False

    def __str__(self) -> str:
        return f"{self.call}-{self.what}{'-for-good' if self.for_good else ''}"

    def arguments(self, nth: int) -> list[str]:
        how = "signal=SIGKILL" if self.what == "SIGKILL" else f"error={self.what}"
        when = f"{nth}+" if self.for_good else str(nth)
        return [
            *("-e", f"trace={self.call}", "-e", f"inject={self.call}:{how}:when={when}"),
        ]


FAULTS: Final = {
    str(fault): fault
    for fault in (
        *(Fault(call, "SIGKILL") for call in KILLED_IN),
        *(Fault(call, code, persistent) for call, code in FAILING for persistent in (False, True)),
    )
}


class Tracer:
    """The process that forks victims under strace."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("strace") is None:
            raise NotHere("strace is not installed")
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.victim", str(folder / "warm-up")],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._answer() != "ready\n":
            raise RuntimeError("the victim cannot do its steps even without a fault")

    def close(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def strike(self, fault: Fault, nth: int) -> bool:
        """One run and its check; whether the fault was met at all."""
        root = self._folder / f"{fault}-{nth}"
        root.mkdir()
        report, trace = (self._folder / f"{root.name}.{kind}" for kind in ("report", "trace"))
        job = {"root": str(root), "report": str(report), "trace": str(trace)}
        assert self._process.stdin is not None
        print(
            json.dumps({**job, "strace": fault.arguments(nth)}),
            file=self._process.stdin,
            flush=True,
        )
        answer: dict[str, Any] = json.loads(self._answer())
        if "not permitted" in answer.get("error", ""):
            raise NotHere(f"this process may not trace another: {answer['error']}")
        where = f"{fault} at call {nth}"
        try:
            assert "error" not in answer, answer
            killed = answer["exit"] == KILLED
            met = killed or "(INJECTED)" in trace.read_text(errors="replace")
            assert killed == (fault.what == "SIGKILL" and met), answer
            books = Books.of(report)
            assert killed or books.ended
            if not met:
                assert set(books.fate.values()) == {"done"}, books.errors
            books.check(root)
        except Exception as error:
            again = f"python -m tests.crash.faults {fault} --first {nth}"
            raise AssertionError(f"{where}: {error}\nrepeat with: {again}") from error
        shutil.rmtree(root)
        for path in (report, trace):
            path.unlink()
        return met

    def strike_everywhere(self, fault: Fault, stride: int, first: int = 1) -> int:
        """How many places were hit."""
        for hit, nth in enumerate(count(first, stride)):
            if not self.strike(fault, nth):
                return hit
        raise AssertionError("unreachable")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.faults")
    parser.add_argument("--stride", type=int, default=1, help="try every so manieth call (1)")
    parser.add_argument("--first", type=int, default=1, help="begin with this one")
    parser.add_argument("--json", action="store_true", help="one document instead of lines")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(FAULTS))
    chosen = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        tracer = Tracer(Path(folder))
        try:
            for name in chosen.faults or FAULTS:
                started = time.monotonic()
                row: dict[str, Any] = {"fault": name, "problem": None}
                try:
                    row["places"] = tracer.strike_everywhere(
                        FAULTS[name], chosen.stride, chosen.first
                    )
                except AssertionError as error:
                    row["problem"] = str(error)
                row["seconds"] = round(time.monotonic() - started, 1)
                rows.append(row)
                if not chosen.json:
                    print(row["problem"] or f"{name}: {row['places']} places, all held", flush=True)
        finally:
            tracer.close()
    if chosen.json:
        print(json.dumps(rows, indent=1))
    else:
        print(f"{sum(row.get('places', 0) for row in rows)} places in {len(rows)} faults")
    return 1 if any(row["problem"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
