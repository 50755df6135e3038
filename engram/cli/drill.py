"""`engram drill crash`: the crash-recovery drill, on a folder of its own."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from engram.cli import output
from engram.cli.exit_codes import INTERRUPTED
from engram.cli.options import JsonOption
from engram.errors import Malformed, SpaceDamaged

if TYPE_CHECKING:
    from engram.drill.crash import Step
    from engram.drill.folder import Folder
    from engram.drill.report import Report, Tally

_SEEDS: Final = 1_000_000_000

_Iterations = Annotated[
    int, typer.Option("--iterations", min=1, max=10_000_000, metavar="N", help="How many kills.")
]
_Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        metavar="N",
        help="Repeats the choices of another run. Default: by chance.",
        show_default=False,
    ),
]
_Spaces = Annotated[
    int,
    typer.Option("--spaces", min=1, max=64, metavar="N", help="Memory spaces that it begins with."),
]
_Clients = Annotated[
    int,
    typer.Option("--clients", min=1, max=64, metavar="N", help="Clients at the same time."),
]
_Seconds = Annotated[
    float | None,
    typer.Option(
        "--seconds",
        min=1,
        metavar="N",
        help="Begin no more kills after so long. Default: no limit.",
        show_default=False,
    ),
]
_DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        metavar="DIR",
        help="Work in this folder: a new or empty one, or one that a drill has made and may "
        "empty. Default: a temporary folder.",
        show_default=False,
    ),
]
_Keep = Annotated[
    bool, typer.Option("--keep", help="Leave the data there, also if nothing was wrong.")
]
_ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="FILE", help="Write the report to this file, too.", show_default=False
    ),
]

app = typer.Typer(rich_markup_mode=None, help="Put the server's promises to the test.")


@app.callback()
def drill() -> None:
    """Put the server's promises to the test."""


@app.command("crash")
def crash(
    iterations: _Iterations = 25,
    seed: _Seed = None,
    spaces: _Spaces = 4,
    clients: _Clients = 8,
    seconds: _Seconds = None,
    data_root: _DataRoot = None,
    keep: _Keep = False,
    report: _ReportFile = None,
    as_json: JsonOption = False,
) -> None:
    """Kill a server under load, and look for what was lost.

    It starts a server of its own on a temporary folder, has clients remember, revise, forget,
    restore, purge, recall and compact while others follow the feeds, kills it with SIGKILL, starts
    it again, and compares every space with what was acknowledged: all of it has to be there, and
    nothing else. Your own data is not touched.

    Ends with 0 if every promise was kept and with 5 if one was not; then the data stays for you to
    look at. With 1 if the drill itself failed.

    \b
    Example:  engram drill crash --iterations 2
    Example:  engram drill crash --iterations 200 --report drill.txt
    """
    from engram.drill.folder import drill_folder
    from engram.drill.report import Options, Tally, text_of

    chosen = secrets.randbelow(_SEEDS) if seed is None else seed
    tally = Tally(Options(chosen, iterations, spaces, clients, seconds))
    with _report_file(report) as write_report, drill_folder(data_root, keep=keep) as folder:
        interrupted = _run(tally, folder, as_json=as_json)
        account = tally.report(folder.path, kept=folder.kept, interrupted=interrupted)
        write_report("\n".join(text_of(account)) + "\n")
    _print(account, as_json=as_json)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if account.violations:
        raise typer.Exit(SpaceDamaged.exit_code)


@contextmanager
def _report_file(path: Path | None) -> Iterator[Callable[[str], object]]:
    """What writes the report: known to work before hours are spent."""
    if path is None:
        yield lambda text: None
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise Malformed(f"--report {path} cannot be written: {error.strerror}") from None
    with file:
        yield file.write


def _run(tally: Tally, folder: Folder, *, as_json: bool) -> bool:
    """The drill, up to its end or to Ctrl-C; returns whether it was interrupted."""
    from engram.drill.crash import drill

    async def main(tell: Callable[[Step], None]) -> None:
        # As Ctrl-C does already; a server must not be left behind.
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await drill(tally, folder, tell)

    # Feeds report every reconnection, of which a drill has as many as kills.
    log, quiet = logging.getLogger("engram.client"), logging.NullHandler()
    log.addHandler(quiet)
    try:
        with _progress(tally, as_json=as_json) as tell:
            asyncio.run(main(tell))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return True
    finally:
        log.removeHandler(quiet)
    return False


def _print(account: Report, *, as_json: bool) -> None:
    from engram.drill.report import text_of

    if as_json:
        import msgspec

        output.print_json(msgspec.to_builtins(account))
        return
    for line in text_of(account):
        output.print_line(output.printable(line))


@contextmanager
def _progress(tally: Tally, *, as_json: bool) -> Iterator[Callable[[Step], None]]:
    """A bar on a terminal; else a line for each kill, which is never in the way of JSON."""
    options = tally.options
    begin = (
        f"seed {options.seed}: {options.iterations} kills, {options.spaces} spaces, "
        f"{options.clients} clients"
    )
    if not output.is_terminal(sys.stderr):
        say = output.print_hint if as_json else output.print_line
        say(begin)
        yield lambda step: say(_line(step))
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    output.print_hint(begin)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"),
    )
    console = output.console_on(sys.stderr)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("kills", total=options.iterations, said="")

        def tell(step: Step) -> None:
            said = f"{step.acknowledged_in_all:,} acknowledged, {step.violations} violations"
            progress.update(task, completed=step.kills, said=said)

        yield tell


def _line(step: Step) -> str:
    ready = "" if step.ready_s is None else f", ready again after {step.ready_s:.2f} s"
    found = "nothing wrong" if not step.violations else f"{step.violations} VIOLATIONS"
    return (
        f"kill {step.kills} of {step.of} {step.moment}: {step.acknowledged} acknowledged{ready}, "
        f"{found}"
    )
