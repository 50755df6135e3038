"""`engram get|list|revise|restore|history`: what a space holds, one memory or many."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram import limits
from engram.cli import output, render
from engram.cli.connection import opened_space
from engram.cli.given import content_of, metadata_of
from engram.cli.options import (
    AsOfOption,
    AtOption,
    ConfidenceOption,
    ConfigOption,
    DataRootOption,
    ExpiresOption,
    FromOption,
    IfMatchOption,
    JsonOption,
    KindFilterOption,
    MemoryArgument,
    Named,
    ServerOption,
    SourceFilterOption,
    SourceOption,
    SpaceOption,
    TagFilterOption,
    ToOption,
)
from engram.cli.times import moment_of, time_of
from engram.errors import Malformed

if TYPE_CHECKING:
    from engram import Changes, Memory
    from engram.cli.connection import OpenSpace
    from engram.memory.model import AsOf


class Clearable(StrEnum):
    """The fields of a memory that can be emptied."""

    TAGS = "tags"
    METADATA = "metadata"
    CONFIDENCE = "confidence"
    OCCURRED_AT = "occurred_at"
    EXPIRES_AT = "expires_at"
    SOURCE = "source"


def get(
    memory_id: MemoryArgument,
    as_of: AsOfOption = None,
    etag: Annotated[
        bool, typer.Option("--etag", help="Only what --if-match takes for this revision of it.")
    ] = False,
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one memory whole.

    Its content, and everything it is filed under; with --as-of, as it was then.

    \b
    Example:  engram space create alpha --if-not-exists; engram remember "Backups run at two" \
--id backups --space alpha; engram get backups --space alpha
    """
    if etag and as_json:
        raise Malformed("--etag prints the etag alone; leave out --json")
    when = moment_of("--as-of", as_of)
    with opened_space(Named(server, data_root, config, space)) as place:
        memory = place.get(memory_id, as_of=when)
    if etag:
        output.print_line(memory.etag)
        return
    if as_json:
        output.print_json(memory)
        return
    output.print_fields(render.memory_fields(memory))
    output.print_line("content")
    for line in render.content_lines(memory):
        output.print_line(line)


def list_memories(
    tag: TagFilterOption = None,
    kind: KindFilterOption = None,
    source: SourceFilterOption = None,
    since: FromOption = None,
    until: ToOption = None,
    as_of: AsOfOption = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", "-n", min=1, help="How many at most. Default: 50.", show_default=False
        ),
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(
            "--after",
            min=0,
            metavar="POSITION",
            help="Only memories behind this position: where the last list ended.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="To the end, however many there are.")
    ] = False,
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the living memories of a space.

    They come in the order in which they were stored or last revised; with --as-of they are those
    that lived then. A page ends with a hint at how
    to go on, on stderr. With --json: one memory a line, in full.

    \b
    Example:  engram space create alpha --if-not-exists && engram remember "Backups run at two" \
--space alpha && engram list --space alpha
    Example:  engram list --space alpha --tag ops --from 2026-05-01 --all --json
    """
    from engram import Filter

    if everything and limit is not None:
        raise Malformed("--all and --limit exclude each other. Give one of them")
    wanted = Filter(
        tags_all=tuple(tag or ()),
        kind=kind,
        source=source,
        since=time_of("--from", since),
        until=time_of("--to", until),
    )
    when = moment_of("--as-of", as_of)
    most = None if everything else limit or limits.LIST_LIMIT_DEFAULT
    with opened_space(Named(server, data_root, config, space)) as place:
        pages = _Pages(place, wanted, after, most, when)
        for memories in pages:
            if as_json:
                for memory in memories:
                    output.print_json(memory)
            else:
                output.print_table(render.LIST_TITLES, map(render.memory_row, memories))
        if pages.next is not None:
            output.print_hint(f"there is more: --after {pages.next}, or --all")
        elif not pages.found and not as_json:
            output.print_hint(f"no memories in {place.id} fit")


class _Pages:
    """Pages of a listing until `most` memories were given (None: all). `next` continues it."""

    def __init__(
        self,
        place: OpenSpace,
        wanted: Any,
        after: int | None,
        most: int | None,
        as_of: AsOf | None,
    ) -> None:
        self._place = place
        self._as_of = as_of
        self._wanted = wanted
        self._left = most
        self.next = after
        self.found = 0

    def __iter__(self) -> Iterator[tuple[Memory, ...]]:
        while self._left is None or self._left > 0:
            size = limits.LIST_LIMIT_MAX if self._left is None else self._left
            size = min(size, limits.LIST_LIMIT_MAX)
            page = self._place.list(self._wanted, limit=size, after=self.next, as_of=self._as_of)
            self.next = page.next
            self.found += len(page.memories)
            if self._left is not None:
                self._left -= len(page.memories)
            if page.memories:
                yield page.memories
            if page.next is None:
                return


def revise(
    memory_id: MemoryArgument,
    content: Annotated[
        str | None,
        typer.Option("--content", metavar="TEXT|-", help="Its new content; - reads it from stdin."),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", help="Its new tags: those given replace all it has."),
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option("--metadata", metavar="JSON", help="Its new metadata, replacing the old."),
    ] = None,
    at: AtOption = None,
    expires: ExpiresOption = None,
    source: SourceOption = None,
    confidence: ConfidenceOption = None,
    clear: Annotated[
        list[Clearable] | None,
        typer.Option(
            "--clear",
            metavar="FIELD",
            help=f"Empty this field; may be given several times. Fields: {', '.join(Clearable)}.",
        ),
    ] = None,
    if_match: IfMatchOption = None,
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a memory.

    What is given replaces the field whole, all else stays, and old revisions are kept. Times are
    dates (2026-05-01), local times or RFC 3339 (2026-05-01T09:00:00Z). With --if-match, nothing is
    changed if somebody has changed it since (exit code 4).

    \b
    Example:  engram space create alpha --if-not-exists; engram remember "Backups run at two" \
--id backups --space alpha; engram revise backups --content "Backups run at three" --space alpha
    """
    given = {
        "content": None if content is None else content_of(content),
        "tags": None if tag is None else tuple(tag),
        "metadata": metadata_of(metadata),
        "occurred_at": time_of("--at", at),
        "expires_at": time_of("--expires", expires),
        "source": source,
        "confidence": confidence,
    }
    cleared = [field.value for field in clear or ()]
    changes = _changes({n: v for n, v in given.items() if v is not None}, cleared)
    with opened_space(Named(server, data_root, config, space)) as place:
        memory = place.revise(memory_id, changes, if_match=if_match)
    if as_json:
        output.print_json(memory)
    else:
        output.print_line(
            f"revised {output.printable(memory.id)} to revision {memory.revision} at position "
            f"{memory.position}"
        )


def _changes(given: dict[str, Any], clear: list[str]) -> Changes:
    from engram import Changes

    for name in clear:
        if name in given:
            raise Malformed(f"{name} is both given and cleared. Do one of it")
    if not given and not clear:
        raise Malformed(
            "nothing to change was given; name at least one field, as --content TEXT or --clear "
            "tags"
        )
    fields: dict[str, Any] = {**given, **dict.fromkeys(clear)}
    return Changes(**fields)


def restore(
    memory_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the forgotten memory.")],
    if_match: IfMatchOption = None,
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a forgotten memory back.

    It is as it was when it was forgotten, as its next revision. One that has expired, or was
    purged, does not come back. This is about one memory; a deleted space is taken back with
    `engram space restore`.

    \b
    Example:  engram space create alpha --if-not-exists; engram remember "Lunch is at noon" \
--id lunch --space alpha; engram forget lunch --yes --space alpha; \
engram restore lunch --space alpha
    """
    with opened_space(Named(server, data_root, config, space)) as place:
        memory = place.restore(memory_id, if_match=if_match)
    if as_json:
        output.print_json(memory)
    else:
        shown = output.printable(memory.id)
        output.print_line(
            f"restored {shown} as revision {memory.revision} at position {memory.position}"
        )


def history(
    memory_id: MemoryArgument,
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything that happened to a memory.

    Oldest first, and also once it is forgotten. With --json: one event a line, each revision in
    full.

    \b
    Example:  engram space create alpha --if-not-exists; engram remember "Backups run at two" \
--id backups --space alpha; engram history backups --space alpha
    """
    with opened_space(Named(server, data_root, config, space)) as place:
        events = place.history(memory_id)
    if as_json:
        for event in events:
            output.print_json(event)
    else:
        titles = ("TIME", "POSITION", "TYPE", "WHAT")
        output.print_table(titles, map(render.event_parts, events))
