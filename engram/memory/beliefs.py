"""Beliefs as users see them: what consolidating came to, and what each belief rests on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from engram.memory.events import MemoryConsolidated
from engram.memory.model import BeliefSource, Citation

EXTRACTIVE: Final = "extractive"
"""The summariser that picks sentences out of the sources."""


class Belief(msgspec.Struct, frozen=True, kw_only=True):
    """A belief that was formed, or formed anew with more sources (`revised`).

    `revision` is the one it has now; None where it was only asked what would be. `strength` is the
    mean cosine of its sources with their centroid.
    """

    id: str
    action: Literal["formed", "revised"]
    revision: int | None
    content: str
    strength: float
    sources: tuple[BeliefSource, ...]
    citations: tuple[Citation, ...]
    summariser: str


class Consolidation(msgspec.Struct, frozen=True, kw_only=True):
    """What consolidating came to, or would come to with `dry_run`. `position` is the one up to
    which the space was applied then.

    `episodes` is how many no belief rested on before, `left` how many it still does not.
    """

    memory_space_id: str
    beliefs: tuple[Belief, ...]
    position: int
    dry_run: bool
    episodes: int
    left: int
    took_ms: float

    def __iter__(self) -> Iterator[Belief]:
        return iter(self.beliefs)

    def __len__(self) -> int:
        return len(self.beliefs)


def sources_of(event: MemoryConsolidated) -> tuple[BeliefSource, ...]:
    """What a belief was formed from."""
    return tuple(map(BeliefSource, event.sources, event.revisions))


def cited_of(event: MemoryConsolidated) -> tuple[Citation, ...]:
    """Which parts of its content came from where."""
    return tuple(
        Citation(event.sources[number], start, end) for number, start, end in event.citations
    )
