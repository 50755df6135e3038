"""What the demo states, compared with what was really read. Each returns what is wrong: [] is good.

Pure functions, so that the tests can show them things that must not pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from engram import Event, Hit, Memory


def same_count(what: str, found: int, expected: int) -> list[str]:
    return [] if found == expected else [f"{what}: {found}, expected {expected}"]


def own_answers(
    space: str, hits: Iterable[Hit], own: Mapping[str, str], other: Mapping[str, str]
) -> list[str]:
    """Answers hold this space's memories only: `own` and `other` are contents by id.

    An id may be in both spaces; then the content has to be this space's.
    """
    foreign = set(other.values())
    wrong = []
    for hit in hits:
        memory = hit.memory
        if memory.memory_space_id != space:
            wrong.append(f"{space} answered with a memory of {memory.memory_space_id}")
        if memory.content in foreign:
            wrong.append(f"{space} answered with another's content: {memory.content!r}")
        if own.get(memory.id) != memory.content:
            wrong.append(f"{space} answered {memory.id!r} with what it was never given")
    return wrong


def all_there(
    space: str,
    acknowledged: Mapping[str, Memory],
    read_back: Mapping[str, Memory],
    allowed: Mapping[str, str],
) -> list[str]:
    """Every acknowledged memory is there as it was acknowledged, at the position it had then.

    Beside them only what is `allowed` may be there, contents by id: writes that were never
    answered, which are there as a whole or not at all.
    """
    wrong = []
    for memory_id, memory in acknowledged.items():
        found = read_back.get(memory_id)
        if found is None:
            wrong.append(f"{space} lost {memory_id!r}, acknowledged at position {memory.position}")
        elif found != memory:
            wrong.append(f"{space} changed {memory_id!r}: {memory} is now {found}")
    for memory_id in read_back.keys() - acknowledged.keys():
        if allowed.get(memory_id) != read_back[memory_id].content:
            wrong.append(f"{space} has {memory_id!r}, which was never written like that")
    return wrong


def dense(space: str, events: Sequence[Event], last: int) -> list[str]:
    """Each position from 1 to the last came, once, and in order."""
    positions = [event.position for event in events]
    if positions == list(range(1, last + 1)):
        return []
    counts = Counter(positions)
    gaps = sorted(set(range(1, last + 1)) - counts.keys())
    repeats = sorted(position for position, times in counts.items() if times > 1)
    beyond = sorted(position for position in counts if not 1 <= position <= last)
    if not (gaps or repeats or beyond):
        return [f"{space}: positions came out of order"]
    return [
        f"{space}: {what} {_some(found)}"
        for what, found in (
            ("the feed left out", gaps),
            ("the feed repeated", repeats),
            (f"the feed told of positions beyond {last}:", beyond),
        )
        if found
    ]


def told_as_stored(
    space: str, events: Sequence[Event], read_back: Mapping[str, Memory]
) -> list[str]:
    """The feed told of exactly the memories that are there, with their contents and positions."""
    told = {event.memory.id: event.memory for event in events if event.memory is not None}
    wrong = [
        f"{space}: the feed told of {memory_id!r}, which is not there"
        for memory_id in told.keys() - read_back.keys()
    ]
    wrong += [
        f"{space}: the feed never told of {memory_id!r}"
        for memory_id in read_back.keys() - told.keys()
    ]
    wrong += [
        f"{space}: the feed told of another {memory_id!r} than is there"
        for memory_id in told.keys() & read_back.keys()
        if told[memory_id] != read_back[memory_id]
    ]
    return sorted(wrong)


def _some(positions: Sequence[int]) -> str:
    shown = ", ".join(map(str, positions[:5]))
    return shown if len(positions) <= 5 else f"{shown} and {len(positions) - 5} more"
