"""`engram forget`: memories out of recall, or with `--purge` out of every file too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from engram import limits
from engram.cli import output, render
from engram.cli.asking import confirm, need_terminal
from engram.cli.connection import opened_space
from engram.cli.options import (
    ConfigOption,
    DataRootOption,
    FromOption,
    IfMatchOption,
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
_TAKES: Final = "to forget takes memories from whoever recalls them"
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
    bool,
    typer.Option("--dry-run", help="With a filter or --policy: only name what would go."),
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
    if_match: IfMatchOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget memories.

    No recall and no list finds them again; their history stays, and `engram restore` takes them
    back. All of them have to be there, else none is forgotten. Instead of ids, the filters of
    `engram list` can be given: all that match are forgotten, and with --dry-run only named. It asks
    before it does it, and without a terminal to ask on it needs --yes.

    With --purge it is for good: every file of the space that holds a byte of them is written anew
    without it, and a receipt says so; asked again, it is the same receipt. Forgotten memories can
    be purged too; with a filter, all that match are, also those forgotten. Backups, bundles and
    other copies are not reached. On a full disk they are out of reach at once, but on the disk
    until there is room; then purge them again.

    With --policy it is what the space forgets by itself a little later: what has expired, and what
    `engram space configure --forgetting` has go. With --dry-run beside it nothing is forgotten.

    \b
    Example:  engram space create alpha --if-not-exists; engram remember "Backups run at two" \
--id backups --space alpha; engram forget backups --yes --space alpha
    Example:  engram space create alpha --if-not-exists; engram forget --tag ops --dry-run \
--space alpha
    Example:  engram forget --purge --source "customer 4711" --space alpha
    Example:  engram space create alpha --if-not-exists; engram forget --policy --dry-run \
--space alpha
    """
    from engram import Filter

    wanted = Filter(
        tags_all=tuple(tag or ()),
        kind=kind,
        source=source,
        since=time_of("--from", since),
        until=time_of("--to", until),
    )
    asked = _Asked(list(dict.fromkeys(memory_ids or ())), wanted, if_match, purge, dry_run)
    where = Named(server, data_root, config, space)
    if policy:
        if asked != _Asked([], Filter(), dry_run=dry_run):
            raise Malformed(
                "--policy itself says what goes. Leave out ids, filters, --purge and --if-match"
            )
        _apply_policy(where, dry_run=dry_run, yes=yes, as_json=as_json)
        return
    _check_combination(asked, filtered=wanted != Filter())
    if not dry_run:
        what = "to purge is for good" if purge else _TAKES
        need_terminal(yes, what)
    with opened_space(where) as place:
        _do(place, asked, yes=yes, as_json=as_json)


class _Asked(NamedTuple):
    """What is to go: some ids, or else what matches."""

    ids: Sequence[str]
    wanted: Filter
    if_match: str | None = None
    purge: bool = False
    dry_run: bool = False


def _do(place: OpenSpace, asked: _Asked, *, yes: bool, as_json: bool) -> None:
    if asked.dry_run:
        _name_matching(place, asked.wanted, as_json=as_json)
    elif asked.ids:
        act = _purge if asked.purge else _forget
        act(place, asked.ids, asked.if_match, yes=yes, as_json=as_json)
    else:
        act_on_all = _purge_matching if asked.purge else _forget_matching
        act_on_all(place, asked.wanted, yes=yes, as_json=as_json)


def _check_combination(asked: _Asked, *, filtered: bool) -> None:
    if filtered and asked.ids:
        raise Malformed("ids and a filter exclude each other. Give one of them")
    if not filtered and not asked.ids:
        raise Malformed("nothing was named; give ids of memories, or a filter, as --tag TAG")
    if asked.dry_run and (asked.purge or not filtered):
        raise Malformed("--dry-run goes with a filter, or with --policy, and without --purge")
    if asked.if_match is not None and len(asked.ids) != 1:
        raise Malformed("--if-match is about one memory; name just that")


def _apply_policy(where: Named, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    if not dry_run:
        need_terminal(yes, _TAKES)
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


def _name_matching(place: OpenSpace, wanted: Filter, *, as_json: bool) -> None:
    count, after = 0, None
    while True:
        page = place.list(wanted, limit=limits.LIST_LIMIT_MAX, after=after)
        for memory in page.memories:
            if not as_json:
                shown = output.printable(memory.id)
                output.print_line(f"  {shown}  {render.memory_line(memory)}")
        count, after = count + len(page.memories), page.next
        if after is None:
            break
    if as_json:
        output.print_json({"memory_space_id": place.id, "dry_run": True, "count": count})
    else:
        output.print_line(f"{_several(count)} of {place.id} would be forgotten")


def _forget_matching(place: OpenSpace, wanted: Filter, *, yes: bool, as_json: bool) -> None:
    if not yes:
        found = _show_matching(place, wanted)
        confirm(
            f"Forget {'these' if found else 'what matches'} of {place.id}?",
            "nothing was forgotten",
        )
    done = place.forget_matching(wanted)
    if as_json:
        output.print_json(done)
    elif done.count:
        output.print_line(
            f"forgot {_several(done.count)} of {place.id}, the last at position {done.position}"
        )
    else:
        output.print_hint(f"no memories in {place.id} fit; nothing was forgotten")


def _show_matching(place: OpenSpace, wanted: Filter) -> bool:
    """Show some of what lives and matches; whether there is any."""
    page = place.list(wanted, limit=_SHOWN_MAX)
    for memory in page.memories:
        output.print_hint(f"  {output.printable(memory.id)}  {render.memory_line(memory)}")
    if page.next is not None:
        output.print_hint("  and more")
    return bool(page.memories)


def _forget(
    place: OpenSpace, ids: Sequence[str], if_match: str | None, *, yes: bool, as_json: bool
) -> None:
    memories = [place.get(memory_id) for memory_id in ids]
    if not yes:
        for memory in memories:
            output.print_hint(f"  {output.printable(memory.id)}  {render.memory_line(memory)}")
        confirm(f"Forget {_these(ids)} of {place.id}?", "nothing was forgotten")
    for memory_id in ids:
        forgotten = place.forget(memory_id, if_match=if_match)
        if as_json:
            output.print_json(forgotten)
        else:
            shown = output.printable(forgotten.id)
            output.print_line(f"forgot {shown} at position {forgotten.position}")


def _purge(
    place: OpenSpace, ids: Sequence[str], if_match: str | None, *, yes: bool, as_json: bool
) -> None:
    lines = [f"  {output.printable(memory_id)}  {_state_of(place, memory_id)}" for memory_id in ids]
    if not yes:
        for line in lines:
            output.print_hint(line)
        output.print_hint(_FOR_GOOD)
        confirm(f"Purge {_these(ids)} from {place.id}?", "nothing was purged")
    for memory_id in ids:
        _print_receipt(place.purge(memory_id, if_match=if_match), as_json=as_json)


def _purge_matching(place: OpenSpace, wanted: Filter, *, yes: bool, as_json: bool) -> None:
    if not yes:
        found = _show_matching(place, wanted)
        output.print_hint(_FOR_GOOD)
        what = "these, and forgotten memories that match," if found else "what matches"
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


def _several(count: int) -> str:
    return "1 memory" if count == 1 else f"{count} memories"


def _print_receipt(receipt: PurgeReceipt, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"receipt": receipt})
        return
    it = "it" if receipt.count == 1 else "them"
    what = _several(receipt.count) if receipt.id is None else output.printable(receipt.id)
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
