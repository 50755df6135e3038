"""Real ext4, crashed at every write of its disk: what the log becomes of it is compared.

    python tools/torture.py [--states N] [--seed N | --resume FILE] [--canary] [--json]

Needs root, FUSE, loop devices and mkfs.ext4. A process that uses every verb runs on a file system
whose disk remembers each write and flush (:mod:`tests.crash.block_log`). Then, write by write, the
image is made that a loss of power there leaves: all that came before the last flush, and of what
came behind it everything, nothing, or a part drawn from the seed. It is mounted, so that ext4
replays its journal, and the data root is compared with what had been acknowledged by then.

`--canary` lets no file be synced, which must be found.

Exit codes: 0 every promise was kept, 1 one was not, 2 this machine cannot do it.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

# Run as a file, Python looks for modules beside it; the packages are one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.crash.block_log import Entry, Flush, Line, Write
from tests.crash.victim import Books, go_through
from wal.os_vfs import OsFile

ROOT: Final = Path(__file__).resolve().parents[1]
DISK_BYTES: Final = 16 << 20
STATES: Final = 600
BEGUN: Final = '{"laid out": true}\n'


class NotHere(Exception):
    """This machine cannot do it. The message says why."""


class State(NamedTuple):
    """What the disk may hold after a crash behind entry `at`, and what was acknowledged by then."""

    at: int
    kept: str
    image: bytes
    lines: list[str]


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise NotHere(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def looped(file: Path) -> Iterator[str]:
    device = run("losetup", "--find", "--show", file)
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextmanager
def mounted(device: str, folder: Path) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    run("mount", "-t", "ext4", device, folder)
    try:
        yield
    finally:
        try:
            run("umount", folder)
        except NotHere:  # what a failed check left open must not hide why it failed
            run("umount", "--lazy", folder)


def record(folder: Path) -> list[Entry]:
    """The block log of one run of the victim."""
    served, address, log = folder / "served", folder / "notes", folder / "log"
    served.mkdir()
    command = [sys.executable, "-m", "tests.crash.block_log"]
    with subprocess.Popen(
        [*command, str(served), str(DISK_BYTES), str(address), str(log)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as recorder:
        assert recorder.stdout is not None
        assert recorder.stderr is not None
        if recorder.stdout.readline() != "ready\n":
            raise NotHere(recorder.stderr.read().strip().rpartition("\n")[2])
        try:
            with socket.socket(socket.AF_UNIX) as notes:
                notes.connect(str(address))
                with notes.makefile("rw") as lines:
                    note = noting(lines)
                    with looped(served / "disk") as device:
                        run("mkfs.ext4", "-q", "-F", "-E", "nodiscard", device)
                        with mounted(device, folder / "fs"):
                            root = folder / "fs" / "data"
                            root.mkdir()
                            os.sync()
                            note(BEGUN)
                            go_through(root, lambda **line: note(json.dumps(line) + "\n"))
                            note('{"over": true}\n')
                    lines.write("end\n")
                    lines.flush()
            recorder.wait()
        finally:
            recorder.kill()
            recorder.wait()
            run("umount", "--lazy", served)
    entries: list[Entry] = pickle.loads(log.read_bytes())
    return entries


def noting(lines: Any) -> Callable[[str], None]:
    def note(line: str) -> None:
        lines.write(line)
        lines.flush()
        lines.readline()

    return note


def states(entries: list[Entry], seed: int, first: int) -> Iterator[State]:
    """Three for each write behind entry `first`, unless they are the same."""
    durable = bytearray(DISK_BYTES)
    pending: list[Write] = []
    lines: list[str] = []
    begun = False
    for at, entry in enumerate(entries):
        match entry:
            case Line(text):
                begun = begun or text == BEGUN
                lines.append(text)
            case Flush():
                for write in pending:
                    apply(durable, write)
                pending.clear()
            case Write():
                pending.append(entry)
                if not begun or at < first:
                    continue
                rng = Random(f"{seed} {at}")
                some = [write for write in pending if rng.random() < 0.5]
                chosen = {"all": pending, "none": [], "some": some}
                for kept, writes in chosen.items():
                    if kept == "none" and len(pending) > 1:
                        continue  # the same as behind the flush
                    if kept == "some" and len(pending) < 2:
                        continue
                    image = bytearray(durable)
                    for write in writes:
                        apply(image, write)
                    yield State(at, kept, bytes(image), [t for t in lines if t != BEGUN])


def apply(image: bytearray, write: Write) -> None:
    image[write.offset : write.offset + len(write.data)] = write.data


def check(state: State, folder: Path) -> None:
    """Mount the image, let ext4 recover, and compare."""
    image = folder / "image"
    image.write_bytes(state.image)
    with looped(image) as device, mounted(device, folder / "again"):
        Books(state.lines).check(folder / "again" / "data")


def torture(most: int, seed: int, first: int, folder: Path) -> dict[str, Any]:
    entries = record(folder)
    checked, at, failure = 0, first, None
    for state in states(entries, seed, first):
        if checked >= most and state.at > at:
            break
        at = state.at
        try:
            check(state, folder)
        except Exception as error:
            if isinstance(error, NotHere) and not checked:
                raise
            failure = f"behind entry {at}, {state.kept} kept of what was not flushed: {error!r}"
            break
        checked += 1
    else:
        seed, at = seed + 1, -1
    return {
        "states": checked,
        "writes": sum(isinstance(entry, Write) for entry in entries),
        "flushes": sum(isinstance(entry, Flush) for entry in entries),
        "next_seed": seed,
        "next_entry": at + (failure is None),
        "failure": failure,
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--states", type=int, default=STATES, help=f"how many ({STATES})")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, default=0, help="draws what is lost (0)")
    which.add_argument("--resume", type=Path, metavar="FILE", help="go on where it ended")
    parser.add_argument("--canary", action="store_true", help="sync no file: it must be found")
    parser.add_argument("--json", action="store_true", help="one document instead of lines")
    chosen = parser.parse_args(arguments)
    before = {"next_seed": chosen.seed, "next_entry": 0, "states_in_all": 0}
    if chosen.resume and chosen.resume.exists():
        before = json.loads(chosen.resume.read_text(encoding="utf-8"))
    if chosen.canary:
        OsFile.sync_data = lambda self: None  # type: ignore[method-assign]
    started = time.monotonic()
    try:
        if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
            raise NotHere("it takes root, and mkfs.ext4")
        with TemporaryDirectory() as folder:
            found = torture(chosen.states, before["next_seed"], before["next_entry"], Path(folder))
    except (NotHere, OSError) as reason:
        print(f"this machine cannot do it: {reason}", file=sys.stderr)
        return 2
    found["seconds"] = round(time.monotonic() - started, 1)
    found["states_in_all"] = before["states_in_all"] + found["states"]
    if chosen.resume:
        kept = {name: found[name] for name in before}
        chosen.resume.write_text(json.dumps(kept) + "\n", encoding="utf-8")
    if chosen.json:
        print(json.dumps(found, indent=1))
    else:
        print(
            f"{found['states']} states of ext4 ({found['writes']} writes, {found['flushes']} "
            f"flushes), {found['seconds']:.0f} s; in all {found['states_in_all']}"
        )
        print(found["failure"] or "every promise was kept")
    return 1 if found["failure"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
