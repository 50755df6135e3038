"""See Engram work, in a minute: two agents, one server, one crash.

    python -m tools.demo [--fast] [--keep DIR]

Exit codes: 0 all checks held, 1 one did not, 2 usage, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tools.demo.screen import Screen

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: Sequence[str] | None = None, *, expected_turns: int | None = None) -> int:
    """Run one demo; returns the exit code. `expected_turns` lets tests fail a check."""
    options = _parser().parse_args(arguments)
    keep: Path | None = options.keep
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        print(f"demo: --keep {keep} is there already; name a new folder", file=sys.stderr)
        return 2
    scratch = Path(tempfile.mkdtemp(prefix="engram-demo-"))
    try:
        return asyncio.run(_run(options.fast, keep, scratch, expected_turns))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.demo",
        description="Two agents, one Engram server, one crash: see it work, in a minute.",
    )
    parser.add_argument("--fast", action="store_true", help="without pauses to read along")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave the data in this new folder"
    )
    return parser


async def _run(fast: bool, keep: Path | None, scratch: Path, expected_turns: int | None) -> int:
    from engram import EngramError
    from tools.demo.scenes import CheckFailed, Demo
    from tools.demo.screen import Screen, open_console
    from tools.demo.server import ServerFailed
    from tools.demo.watch import WatchFailed

    show = Screen(open_console(), fast=fast)
    data_root = keep or scratch / "data"
    story = Demo(show, data_root, scratch / "server.log", expected_turns=expected_turns)
    telling = asyncio.create_task(story.run())
    stopped_by = _cancel_on_signals(telling)
    try:
        await telling
    except asyncio.CancelledError:
        if not stopped_by:
            raise
        show.say(f"\nStopped. The server has ended; {_left(keep)}.")
        return 128 + stopped_by[0]
    except CheckFailed as error:
        print(f"demo: a check failed: {error}", file=sys.stderr)
        return 1
    except (EngramError, ServerFailed, WatchFailed, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    _farewell(show, keep)
    return 0


def _cancel_on_signals(telling: asyncio.Task[None]) -> list[int]:
    """Let the first signal end the story, and only that: cleaning up is not to be broken off."""
    stopped_by: list[int] = []

    def stop(number: int) -> None:
        if not stopped_by:
            stopped_by.append(number)
            telling.cancel()

    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    return stopped_by


def _left(keep: Path | None) -> str:
    return "its data is removed" if keep is None else f"its data is in {keep}"


def _farewell(show: Screen, keep: Path | None) -> None:
    """What to try next, in commands that work from here."""
    show.title("Try next")
    engram, python = _here("engram"), _here("python")
    recall = f'{engram} recall "When does the Lisbon office move?" --space reviewer'
    if keep is not None:
        data = shlex.quote(str(keep))
        show.command(f"{recall} --explain --data-root {data}", "ask what was kept")
        show.command(f"{engram} watch --space planner --after 0 --data-root {data}", "its history")
        show.command(f"{engram} serve --data-root {data}", "go on with it")
    else:
        show.command(f"{python} -m tools.demo --keep ./demo-data", "the same, and keep the data")
        show.command(f"{engram} serve --data-root ./demo-data", "then serve it")
        show.command(f"{recall} --server http://127.0.0.1:7432", "and ask, in another terminal")
    show.say("")


def _here(program: str) -> str:
    """How to call a program of this environment: by its name if the shell finds the same one."""
    beside = Path(sys.executable).with_name(program)
    found = shutil.which(program)
    if found is not None and Path(found) == beside:
        return program
    with suppress(ValueError):
        return shlex.quote(str(beside.relative_to(Path.cwd())))
    return shlex.quote(str(beside))


if __name__ == "__main__":
    sys.exit(main())
