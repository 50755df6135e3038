"""What the commands of `engram migrate` have in common: the plan shown, the work, the receipt."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import typer

from engram import __version__
from engram.cli import output, render
from engram.cli.exit_codes import INTERRUPTED
from engram.errors import EngramError, Malformed, SpaceExists, SpaceInvalid, SpaceNotFound
from engram.migrate.copying import Copier, plan
from engram.migrate.ledger import Ledger
from engram.migrate.receipt import is_complete, plan_of, problems_of, receipt_of
from engram.migrate.routing import Routes, by_of
from engram.migrate.splitting import SharedSpace

if TYPE_CHECKING:
    from types import TracebackType

    from engram.cli.connection import OpenSpace, Spaces
    from engram.migrate.copying import Plan
    from engram.migrate.items import Source
    from engram.migrate.places import Place, Places

_CONFLICT: Final = 4
_FAILED: Final = 1
_PLAN_TITLES: Final = ("SPACE", "STATE", "MEMORIES", "SIZE", "THERE", "CONFLICTS", "LINKS", "FOR")
_DONE_TITLES: Final = ("SPACE", "MEMORIES", "COPIED", "CONFLICTS", "LINKS", "POSITION", "VERIFIED")
_MEANWHILE: Final = {
    "changed_meanwhile": "not copied, as they were revised or forgotten meanwhile; run it again",
    "expired_meanwhile": "expired meanwhile",
}
_SHOWN_MAX: Final = 20
"""Of what is listed one by one for people; a receipt has all."""


def split_source(
    place: OpenSpace, by: str, *, keep_times: bool, routing: dict[str, Any]
) -> SharedSpace:
    """A shared space as what is to be split; `routing` as :class:`Routes` takes it."""
    decides = by_of(by)
    routes = Routes(place.id, decides, **routing)
    return SharedSpace(cast("Place", place), decides, routes, keep_times=keep_times)


class Run:
    """One migration on the command line. Use it as a context manager."""

    def __init__(
        self,
        source: Source,
        spaces: Spaces,
        receipt: str | None,
        *,
        as_json: bool,
        makes_spaces: bool = True,
    ) -> None:
        self._source = source
        self._places = cast("Places", spaces)
        self._file = None if receipt is None else _new_file(receipt)
        self._as_json = as_json
        self._ledger = Ledger()
        self._stack = ExitStack()
        self._receipt: dict[str, Any] = {}
        self._makes_spaces = makes_spaces

    def __enter__(self) -> Run:
        self._stack.callback(self._ledger.close)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        if isinstance(error, KeyboardInterrupt):
            output.print_hint(f"engram: interrupted. {_AGAIN}")
            raise typer.Exit(INTERRUPTED) from None

    def planned(self, *, dry_run: bool) -> bool:
        """Look at both sides and show the plan; whether it is to be carried out."""
        with _progress() as progress:
            self._plan: Plan = plan(self._source, self._places, self._ledger, progress)
        for target in self._plan.targets if not self._makes_spaces else ():
            if target.info is None:
                raise SpaceNotFound(
                    f"there is no space {target.id!r}. --create makes it",
                    memory_space_id=target.id,
                )
        document = plan_of(self._source, self._plan, self._ledger)
        routes = getattr(self._source, "routes", None)
        problems = [] if routes is None else list(routes.problems.values())
        document["problems"] = problems_of(problems)
        document["dry_run"] = dry_run
        if dry_run and self._as_json:
            output.print_json(document)
        elif not self._as_json:
            _print_plan(document, {} if routes is None else routes.by_space())
        if problems and not dry_run:
            first = problems[0]
            raise SpaceInvalid(
                f"{len(problems)} of the values have no space of their own, the first "
                f"{first.value[:80]!r}: {first.reason}. Say where they go with --map VALUE=SPACE; "
                "nothing was changed"
            )
        return not dry_run

    def copied(self) -> None:
        with _progress() as progress:
            copier = Copier(self._source, self._places, self._ledger, self._plan, progress)
            try:
                copier.run()
            except EngramError as error:
                error.detail = f"{error.detail.rstrip('.')}. {_AGAIN}"
                raise
        infos = {t.id: self._places.space(t.id).info() for t in self._plan.targets}
        self._receipt = {
            "engram": __version__,
            "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            **receipt_of(self._source, self._plan, self._ledger, copier, infos),
        }
        self._receipt["forgotten"] = 0

    def forgotten(self, source: SharedSpace) -> None:
        """Forget in the shared space what is where it was to go."""
        with _progress() as progress:
            count, left = source.forget_moved(self._ledger, progress)
        self._receipt["forgotten"] = count
        self._receipt["revised_meanwhile"] = left

    def ended(self) -> None:
        """Show the receipt; an exit code says what it comes to."""
        if self._file is not None:
            _write(self._file, self._receipt)
        if self._as_json:
            output.print_json(self._receipt)
        else:
            _print_receipt(self._receipt)
        if not is_complete(self._receipt):
            output.print_hint(f"engram: not all is where it was to go. {_AGAIN}")
            raise typer.Exit(_FAILED)
        if self._receipt["conflicts"]:
            raise typer.Exit(_CONFLICT)


_AGAIN: Final = "Run the command again: it goes on with what is missing, and stores nothing twice"


def _print_plan(document: Mapping[str, Any], values: Mapping[str, list[str]]) -> None:
    if document["to"]:
        output.print_table(
            _PLAN_TITLES,
            (
                (
                    row["memory_space_id"],
                    "there" if row["exists"] else "new",
                    str(row["memories"]),
                    render.size_text(row["bytes"]),
                    str(row["already_there"]),
                    str(row["conflicts"]),
                    str(row["links"]),
                    output.one_line(", ".join(values.get(row["memory_space_id"], []))),
                )
                for row in document["to"]
            ),
        )
    else:
        output.print_line("nothing goes anywhere")
    _print_left(document)
    for problem in document["problems"][:_SHOWN_MAX]:
        space = f" as {problem['space']}" if problem["space"] else ""
        output.print_line(
            output.one_line(f"no space for {problem['value']}{space}: {problem['reason']}")
        )


def _print_left(document: Mapping[str, Any]) -> None:
    for why, count in document["stays"].items():
        output.print_line(f"{count} stay: {why}")
    left = document["links_not_carried"]
    if left:
        output.print_line(f"{len(left)} links are not carried:")
    for link in left[:_SHOWN_MAX]:
        shown = f"{link['source']} -[{link['relation']}]-> {link['target']}: {link['why']}"
        output.print_line("  " + output.one_line(shown))
    for conflict in document["conflicts"][:_SHOWN_MAX]:
        shown = f"conflict: {conflict['id']} holds something else in {conflict['memory_space_id']}"
        output.print_line(output.one_line(shown))
    more = max(len(left), len(document["conflicts"])) > _SHOWN_MAX
    if more:
        output.print_line("and more, which --json has")


def _print_receipt(receipt: Mapping[str, Any]) -> None:
    if receipt["to"]:
        output.print_line("")
        output.print_table(
            _DONE_TITLES,
            (
                (
                    row["memory_space_id"],
                    str(row["memories"]),
                    str(row["copied"]),
                    str(row["conflicts"]),
                    str(row["links"]),
                    "-" if row["last_position"] is None else str(row["last_position"]),
                    "yes" if row["verified"] else "no",
                )
                for row in receipt["to"]
            ),
        )
    for field, said in _MEANWHILE.items():
        count = sum(row[field] for row in receipt["to"])
        if count:
            output.print_line(f"{count} {said}")
    if receipt["forgotten"]:
        place = receipt["from"]["memory_space_id"]
        output.print_line(f"{receipt['forgotten']} forgotten in {place}")
    if receipt.get("revised_meanwhile"):
        count = len(receipt["revised_meanwhile"])
        output.print_line(f"{count} not forgotten: they were revised after they were copied")


def _new_file(name: str) -> Path:
    """The receipt's file, which must not be there yet, in a folder that is."""
    if not name:
        raise Malformed("--receipt is empty; name a file")
    path = Path(name)
    try:
        if path.exists():
            raise SpaceExists(f"--receipt {name!r} is there already; name another file")
        if not path.absolute().parent.is_dir():
            raise Malformed(f"--receipt {name!r} is in a folder that does not exist")
    except (OSError, ValueError) as error:
        raise Malformed(f"--receipt {name!r} cannot be used: {error}") from None
    return path


def _write(path: Path, receipt: Mapping[str, Any]) -> None:
    """The file under its name is whole, or not there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("x", encoding="utf-8") as file:
            json.dump(receipt, file, indent=2, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except OSError as error:
        raise Malformed(
            f"the receipt cannot be written to {path}: {error.strerror}. All else is done"
        ) from None


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """What is being done and how far, on stderr if that is a terminal."""
    if not output.is_terminal(sys.stderr):
        yield lambda what, count: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed}"))
    with Progress(*columns, console=output.console_on(sys.stderr), transient=True) as progress:
        tasks: dict[str, Any] = {}

        def advance(what: str, count: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(output.one_line(what), total=None)
            progress.update(tasks[what], advance=count)

        yield advance
