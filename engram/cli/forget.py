"""`engram forget`: memories out of recall, or with `--purge` out of every file too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from engram.cli import output, render
from engram.cli.asking import confirm, need_terminal
from engram.cli.connection import opened_space
from engram.cli.options import (
    ConfigOption,
    DataRootOption,
    FromOption,
    JsonOption,
    KindFilterOption,
    Named,
    ServerOption,
    SourceFilterOption,
    SpaceOption,
    TagFilterOption,
    ToOption,
)
from engram.cli.times import time_of
from engram.errors import Malformed, MemoryNotFound

if TYPE_CHECKING:
    from engram import Filter, ForgettingReport, PurgeReceipt
    from engram.cli.connection import OpenSpace

_SHOWN_MAX: Final = 10
"""How many memories that match a filter are shown before the question."""
_FOR_GOOD: Final = (
    "This is for good: there is no restoring. Backups, bundles and other copies are not reached, "
    "and have to be seen to by themselves."
)
PurgeOption = Annotated[
    bool, typer.Option("--purge", help="Let nothing be left of them in any file, for good.")
]
PolicyOption = Annotated[
    bool,
    typer.Option("--policy", help="Now what has expired, and what the policy of the space has go."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="With --policy: only name what would go, and why.")
]


def forget(
    memory_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Ids of the memories.")
    ] = None,
    purge: PurgeOption = False,
    tag: TagFilterOption = None,
    kind: KindFilterOption = None,
    source: SourceFilterOption = None,
    since: FromOption = None,
    until: ToOption = None,
    policy: PolicyOption = False,
    dry_run: DryRunOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget memories.

    No recall and no list finds them again; their history stays, and `engram restore` takes them
    back. All of them have to be there, else none is forgotten. It asks before it does it, and
    without a terminal to ask on it needs --yes.

    With --purge it is for good: every file of the space that holds a byte of them is written anew
    without it, and a receipt says so; asked again, it is the same receipt. Forgotten memories can
    be purged too. Instead of ids, --purge takes the filters of `engram list`: all that match are
    purged, also those forgotten. Backups, bundles and other copies are not reached. On a full disk
    they are out of reach at once, but on the disk until there is room; then purge them again.

    With --policy it is what the space forgets by itself a little later: what has expired, and what
    `engram space configure --forgetting` has go. With --dry-run beside it nothing is forgotten.

    \b
    Example:  engram space create alpha --if-not-exists; engram remember "Backups run at two" \
--id backups --space alpha; engram forget backups --yes --space alpha
    Example:  engram forget --purge --source "customer 4711" --space alpha
    Example:  engram space create alpha --if-not-exists; engram forget --policy --dry-run \
--space alpha
    """
    from engram import Filter

    ids = list(dict.fromkeys(memory_ids or ()))
    wanted = Filter(
        tags_all=tuple(tag or ()),
        kind=kind,
        source=source,
        since=time_of("--from", since),
        until=time_of("--to", until),
    )
    filtered = wanted != Filter()
    if policy or dry_run:
        if not policy:
            raise Malformed("--dry-run goes with --policy; add it")
        if ids or purge or filtered:
            raise Malformed("--policy itself says what goes. Leave out ids, filters and --purge")
        where = Named(server, data_root, config, space)
        _apply_policy(where, dry_run=dry_run, yes=yes, as_json=as_json)
        return
    _check_combination(ids, purge=purge, filtered=filtered)
    what = "to purge is for good" if purge else "to forget takes memories from whoever recalls them"
    need_terminal(yes, what)
    with opened_space(Named(server, data_root, config, space)) as place:
        if filtered:
            _purge_matching(place, wanted, yes=yes, as_json=as_json)
        elif purge:
            _purge(place, ids, yes=yes, as_json=as_json)
        else:
            _forget(place, ids, yes=yes, as_json=as_json)


def _check_combination(ids: Sequence[str], *, purge: bool, filtered: bool) -> None:
    if filtered and not purge:
        raise Malformed(
            "a filter only says what to purge; memories are forgotten by their ids. Name them, or "
            "add --purge, which is for good"
        )
    if filtered and ids:
        raise Malformed("ids and a filter exclude each other. Give one of them")
    if not filtered and not ids:
        instead = "a filter, as --tag TAG" if purge else "with --purge a filter"
        raise Malformed(f"nothing was named; give the ids of the memories, or {instead}")


def _apply_policy(where: Named, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    if not dry_run:
        need_terminal(yes, "to forget takes memories from whoever recalls them")
    with opened_space(where) as place:
        if not (dry_run or yes):
            _print_report(place.apply_forgetting(dry_run=True), hint=True)
            confirm(f"Forget these of {place.id}?", "nothing was forgotten")
        report = place.apply_forgetting(dry_run=dry_run)
    if as_json:
        output.print_json(report)
    else:
        _print_report(report)


def _print_report(report: ForgettingReport, *, hint: bool = False) -> None:
    say = output.print_hint if hint else output.print_line
    for lapsed in report.memories:
        say(f"  {output.printable(lapsed.id)}  {render.reason_text(lapsed)}")
    more = report.count - len(report.memories)
    if more:
        say(f"  and {more} more")
    done = "would be forgotten" if report.dry_run else "were forgotten"
    say(f"{report.count} memories {done}, by the policy {output.printable(str(report.forgetting))}")


def _forget(place: OpenSpace, ids: Sequence[str], *, yes: bool, as_json: bool) -> None:
    memories = [place.get(memory_id) for memory_id in ids]
    if not yes:
        for memory in memories:
            output.print_hint(f"  {output.printable(memory.id)}  {render.memory_line(memory)}")
        confirm(f"Forget {_these(ids)} of {place.id}?", "nothing was forgotten")
    for memory_id in ids:
        forgotten = place.forget(memory_id)
        if as_json:
            output.print_json(forgotten)
        else:
            shown = output.printable(forgotten.id)
            output.print_line(f"forgot {shown} at position {forgotten.position}")


def _purge(place: OpenSpace, ids: Sequence[str], *, yes: bool, as_json: bool) -> None:
    lines = [f"  {output.printable(memory_id)}  {_state_of(place, memory_id)}" for memory_id in ids]
    if not yes:
        for line in lines:
            output.print_hint(line)
        output.print_hint(_FOR_GOOD)
        confirm(f"Purge {_these(ids)} from {place.id}?", "nothing was purged")
    for memory_id in ids:
        _print_receipt(place.purge(memory_id), as_json=as_json)


def _purge_matching(place: OpenSpace, wanted: Filter, *, yes: bool, as_json: bool) -> None:
    if not yes:
        page = place.list(wanted, limit=_SHOWN_MAX)
        for memory in page.memories:
            output.print_hint(f"  {output.printable(memory.id)}  {render.memory_line(memory)}")
        if page.next is not None:
            output.print_hint("  and more")
        output.print_hint(_FOR_GOOD)
        what = "these, and forgotten memories that match," if page.memories else "what matches"
        confirm(f"Purge {what} from {place.id}?", "nothing was purged")
    receipt = place.purge_matching(wanted)
    if receipt is not None:
        _print_receipt(receipt, as_json=as_json)
    elif as_json:
        output.print_json({"receipt": None})
    else:
        output.print_hint(f"no memories in {place.id} fit; nothing was purged")


def _state_of(place: OpenSpace, memory_id: str) -> str:
    """A living memory as one line, or what became of it. Raises `MemoryNotFound` for an id that
    never was.
    """
    try:
        return render.memory_line(place.get(memory_id))
    except MemoryNotFound:
        events = place.history(memory_id)
    was_purged = bool(events) and events[-1].type == "memory.purged"
    return "(purged already)" if was_purged else "(forgotten)"


def _these(ids: Sequence[str]) -> str:
    return "this memory" if len(ids) == 1 else f"these {len(ids)} memories"


def _print_receipt(receipt: PurgeReceipt, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"receipt": receipt})
        return
    it = "it" if receipt.count == 1 else "them"
    several = "1 memory" if receipt.count == 1 else f"{receipt.count} memories"
    what = several if receipt.id is None else output.printable(receipt.id)
    output.print_line(
        f"purged {what} from {receipt.memory_space_id} at position {receipt.position}, "
        f"{render.time_text(receipt.purged_at)}"
    )
    output.print_line(
        f"no file holds a byte of {it} since position {receipt.completed_position}, "
        f"{render.time_text(receipt.completed_at)}; files made for that:"
    )
    for file in receipt.files:
        output.print_line(f"  {file.name}  crc32c {file.crc32c}")
