"""Memories, answers, events and spaces as people read them. Text only; printing is `output`'s."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from engram.cli.output import one_line, printable

if TYPE_CHECKING:
    from engram import Belief, Event, Filled, Hit, Lapsed, Link, Memory, SpaceInfo

CONTENT_CHARACTERS_MAX: Final = 400
"""How much of a memory a line of a table shows; `get` shows all of it."""

VOTERS_SHOWN: Final = 3
"""How many memories a completed field is shown with; --json shows all that were asked for."""

_REASONS: Final = {
    "request": "on request",
    "source-forgotten": "what it rested on was forgotten",
    "source-revised": "what it rested on was revised",
}

LIST_TITLES: Final = ("POSITION", "TIME", "ID", "MEMORY")
HIT_TITLES: Final = ("SCORE", "CONFIDENCE", "ID", "MEMORY")
EXPLAINED_TITLES: Final = (
    *("SCORE", "SIMILARITY", "LEXICAL", "WINDOW", "ACTIVATION"),
    *("RECENCY", "FREQUENCY", "COSINE", "BM25"),
    *HIT_TITLES[1:],
)
LINK_TITLES: Final = ("POSITION", "WEIGHT", "SOURCE", "RELATION", "TARGET")
BELIEF_TITLES: Final = ("ACTION", "STRENGTH", "SOURCES", "ID", "BELIEF")
SPACE_TITLES: Final = ("SPACE", "CREATED", "EMBEDDING", "DIMENSIONS")
ENDED_TITLES: Final = ("SPACE", "STATE", "CREATED", "CAN BE RESTORED UNTIL")
STATUS_TITLES: Final = ("SPACE", "STATE", "MEMORIES", "POSITION", "SIZE")


def time_text(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def memory_line(memory: Memory) -> str:
    """The beginning of a memory, and what it is filed under."""
    text = memory.content[: 2 * CONTENT_CHARACTERS_MAX]
    cut = len(text) < len(memory.content)
    text = " ".join(text.split())
    if cut or len(text) > CONTENT_CHARACTERS_MAX:
        text = text[:CONTENT_CHARACTERS_MAX] + " ..."
    kind = "" if memory.kind == "episode" else f"[{memory.kind}] "
    return one_line(f"{kind}{text} {' '.join(f'#{tag}' for tag in memory.tags)}")


def memory_row(memory: Memory) -> tuple[str, ...]:
    """For :data:`LIST_TITLES`. The time is when it happened, else when it was stored."""
    time = time_text(memory.occurred_at or memory.stored_at)
    return (str(memory.position), time, printable(memory.id), memory_line(memory))


def link_row(link: Link) -> tuple[str, ...]:
    """For :data:`LINK_TITLES`."""
    ends = printable(link.source), printable(link.target)
    return (str(link.position), f"{link.weight:g}", ends[0], printable(link.relation), ends[1])


def belief_row(belief: Belief) -> tuple[str, ...]:
    """For :data:`BELIEF_TITLES`."""
    text = " / ".join(" ".join(line.split()) for line in belief.content.split("\n"))
    if len(text) > CONTENT_CHARACTERS_MAX:
        text = text[:CONTENT_CHARACTERS_MAX] + " ..."
    sources = str(len(belief.sources))
    named = printable(belief.id), one_line(text)
    return (belief.action, f"{belief.strength:.2f}", sources, *named)


def memory_fields(memory: Memory) -> Iterator[tuple[str, str]]:
    """Everything about a memory but its content, which may have many lines."""
    yield "id", printable(memory.id)
    yield "space", memory.memory_space_id
    yield "kind", memory.kind
    yield "tags", printable(", ".join(memory.tags)) or "-"
    yield "metadata", _json(memory.metadata) if memory.metadata else "-"
    yield "confidence", f"{memory.confidence:g}"
    yield "occurred", "-" if memory.occurred_at is None else time_text(memory.occurred_at)
    yield "expires", "-" if memory.expires_at is None else time_text(memory.expires_at)
    yield "stored", time_text(memory.stored_at)
    yield "source", "-" if memory.source is None else printable(memory.source)
    yield "revision", str(memory.revision)
    yield "position", str(memory.position)


def content_lines(memory: Memory) -> Iterator[str]:
    """The content, indented: whatever it says, it cannot be taken for a field."""
    for line in memory.content.split("\n"):
        yield f"  {printable(line.rstrip().expandtabs())}".rstrip()


def hit_row(hit: Hit) -> tuple[str, ...]:
    """For :data:`HIT_TITLES`, or :data:`EXPLAINED_TITLES` if the recall was asked to explain."""
    why = hit.why
    parts: tuple[str, ...] = ()
    if why is not None:
        parts = (
            f"{why.similarity:.3f}",
            f"{why.lexical:.3f}",
            f"{why.window:.3f}",
            f"{why.activation:.3f}",
            f"{why.recency:.3f}",
            f"{why.frequency:.3f}",
            "-" if why.cosine is None else f"{why.cosine:.3f}",
            "-" if why.bm25 is None else f"{why.bm25:.3f}",
        )
    sure = hit.confidence
    return (
        f"{hit.score:.3f}",
        *parts,
        f"{sure.point:.2f} ({sure.lower:.2f}-{sure.upper:.2f})",
        printable(hit.memory.id),
        memory_line(hit.memory),
    )


def path_lines(hits: Iterable[Hit]) -> Iterator[str]:
    """For each memory that was reached by associations, the strongest way there."""
    for hit in hits:
        path = () if hit.why is None else hit.why.path
        if path:
            steps = [f"-{s.relation} {s.weight:.2f}-> {printable(s.to_id)}" for s in path]
            yield " ".join((printable(path[0].from_id), *steps))


def filled_row(name: str, filled: Filled[Any]) -> tuple[str, ...]:
    """A completed field: its name, how sure it is, its value, and the memories that say so."""
    value = filled.value
    if isinstance(value, datetime):
        text = time_text(value)
    else:
        text = value if isinstance(value, str) else _json(value)
    text = " ".join(text.split())
    if len(text) > CONTENT_CHARACTERS_MAX:
        text = text[:CONTENT_CHARACTERS_MAX] + " ..."
    voters = ", ".join(f"{voter.id} {voter.weight:.2f}" for voter in filled.evidence[:VOTERS_SHOWN])
    more = len(filled.evidence) - VOTERS_SHOWN
    shown = f"{voters} and {more} more" if more > 0 else voters
    return (printable(name), f"{filled.confidence:.2f}", one_line(text), one_line(shown))


def event_parts(event: Event) -> tuple[str, str, str, str]:
    """Time, position, type and what happened."""
    return (
        time_text(event.time),
        str(event.position),
        printable(event.type),
        one_line(_what_happened(event)),
    )


def _what_happened(event: Event) -> str:
    if event.memory is not None:
        revised = f" (revision {event.memory.revision})" if event.memory.revision > 1 else ""
        return f"{event.memory.id}{revised}: {memory_line(event.memory)}"
    if event.relation is not None:
        weight = "" if event.weight is None else f" ({event.weight:g})"
        return f"{event.source} -[{event.relation}]-> {event.target}{weight}"
    if event.type == "memory.forgotten":
        return f"{event.id} ({reason_text(event)})"
    if event.sources is not None:
        rests_on = ", ".join(source.id for source in event.sources)
        return f"{event.id} (strength {event.strength:.2f}) rests on {rests_on}"
    if event.activated is not None:
        return ", ".join(f"{item.id} {item.activation:.3f}" for item in event.activated)
    if event.results is not None:
        found = ", ".join(f"{item.id} {item.score:.3f}" for item in event.results)
        return f"{event.recall_id} ({event.mode}) found {found or 'nothing'}"
    if event.embedding is not None:
        spec = event.embedding
        return f"{event.memory_space_id}, embedding {spec.model} of {spec.dimensions} dimensions"
    if event.retention is not None:
        return settings_text(event)
    if event.purge_after is not None:
        return f"can be restored until {time_text(event.purge_after)}"
    if event.checkpoint_position is not None:
        gone = "" if event.purged_to is None else f", purged for good up to {event.purged_to}"
        return f"a checkpoint at position {event.checkpoint_position}{gone}"
    return "" if event.id is None else event.id


def reason_text(lapsed: Event | Lapsed) -> str:
    """Why a memory was forgotten, or would be."""
    if lapsed.base_level is None or lapsed.bound is None:
        return _REASONS.get(str(lapsed.reason), str(lapsed.reason))
    of = "threshold" if lapsed.reason == "faded" else "capacity"
    return f"{lapsed.reason}, base level {lapsed.base_level:.3f}, {of} {lapsed.bound:g}"


def settings_text(holder: Event | SpaceInfo) -> str:
    """What is set about a space."""
    from engram.memory.settings import SETTINGS

    return ", ".join(f"{name} {getattr(holder, name)}" for name in SETTINGS)


def space_row(info: SpaceInfo) -> tuple[str, ...]:
    """For :data:`SPACE_TITLES`."""
    if info.embedding is None or info.created_at is None:
        return (printable(info.memory_space_id), info.state or "", "", "")
    return (
        printable(info.memory_space_id),
        time_text(info.created_at),
        printable(info.embedding.model),
        str(info.embedding.dimensions),
    )


def ended_row(info: SpaceInfo) -> tuple[str, ...]:
    """For :data:`ENDED_TITLES`: spaces, deleted ones among them."""
    return (
        printable(info.memory_space_id),
        info.state or "",
        "" if info.created_at is None else time_text(info.created_at),
        "" if info.purge_after is None else time_text(info.purge_after),
    )


def space_fields(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A space's description; what is not known is a dash."""
    from engram import EmbeddingSpec

    for name, value in document.items():
        if isinstance(value, EmbeddingSpec):
            yield name, printable(f"{value.model}, {value.dimensions} dimensions")
        else:
            yield name, "-" if value is None else printable(str(value))


def status_row(document: Mapping[str, Any]) -> tuple[str, ...]:
    """For :data:`STATUS_TITLES`."""
    figures = (document["memories"], document["position"], document["bytes"])
    memories, position, size = figures
    return (
        printable(document["memory_space_id"]),
        printable(document["state"] or "-"),
        "-" if memories is None else f"{memories}",
        "-" if position is None else f"{position}",
        "-" if size is None else size_text(size),
    )


def size_text(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1_024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1_024
    return f"{size:.1f} TiB"


def _json(value: object) -> str:
    from engram.server.wire import encode

    return printable(encode(value).decode())
