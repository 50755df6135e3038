"""Consolidating an open space: what belongs together, as beliefs that the log tells of.

What is to be formed is worked out from a view, beside reads and writes; whether it still holds is
decided in the writer's thread. Consolidations of a space run one at a time: who comes while one
runs waits for it, and finds what it left to be done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from engram.cognition.consolidation import Group, plan
from engram.cognition.summaries import Summary, extract
from engram.memory.beliefs import EXTRACTIVE, Belief, Consolidation, cited_of, sources_of
from engram.memory.believing import Consolidate, Formed, Overtaken
from engram.memory.events import MemoryConsolidated, MemoryStored, MemoryVersion
from engram.memory.view import View

if TYPE_CHECKING:
    from engram.spaces.store import Store

BELIEFS_PER_RECORD_MAX: Final = 64
SOURCES_PER_RECORD_MAX: Final = 5_000
SUMMED_UP_MAX: Final = 200
"""A summary is made of so many sources at most, those nearest to the centroid."""
_ID_BYTES: Final = 12


class Summariser(Protocol):
    """What makes a belief's content of its sources."""

    @property
    def name(self) -> str: ...

    def summarise(self, texts: Sequence[tuple[int, str]]) -> Summary:
        """The summary of texts in order of time, each with the number of its source."""


class Extractive:
    """Sentences of the sources, as they stand there."""

    name = EXTRACTIVE

    def summarise(self, texts: Sequence[tuple[int, str]]) -> Summary:
        return extract(texts)


class _Proposal(NamedTuple):
    formed: Formed
    centroid: npt.NDArray[np.float32]


class Consolidator:
    """Consolidates one open space. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running = threading.Lock()
        self._settled: npt.NDArray[np.int64] | None = None

    def run(self, summariser: Summariser, *, dry_run: bool = False) -> Consolidation:
        """Form what belongs together, or with `dry_run` only say what that would be. Raises what
        the summariser raises, and what committing does.
        """
        started = time.perf_counter()
        store = self._store
        with self._running:
            view, now_us = store.state.view, store.now_ns() // 1_000
            planned = plan(view, now_us, self._settled)
            proposals = [_proposal(view, group, summariser) for group in planned.groups]
            position, beliefs = view.position, list[Belief]()
            if dry_run:
                beliefs = [_belief(each.formed, None) for each in proposals]
            for batch in _batches([] if dry_run else proposals):
                command = Consolidate(
                    [each.formed for each in batch],
                    np.stack([each.centroid for each in batch]),
                    store.now_ns() // 1_000,
                )
                try:
                    committed = store.commit(command)
                except Overtaken:
                    continue
                position = committed.ack.last_position
                events = committed.batch.events
                revisions = {e.id: e.revision for e in events if isinstance(e, MemoryVersion)}
                beliefs += [
                    _belief(each.formed, revisions[each.formed.version.id])
                    for each in batch
                    if each.formed.version.id in revisions
                ]
            if not dry_run:
                self._settled = planned.settled
        return Consolidation(
            memory_space_id=store.identity.memory_space_id,
            beliefs=tuple(beliefs),
            position=position,
            dry_run=dry_run,
            episodes=planned.episodes,
            left=planned.left,
            took_ms=round((time.perf_counter() - started) * 1_000, 3),
        )


def _batches(proposals: Sequence[_Proposal]) -> Iterator[list[_Proposal]]:
    """As many at a time as one record takes."""
    batch, sources = list[_Proposal](), 0
    for each in proposals:
        more = len(each.formed.event.sources)
        if batch and (
            len(batch) == BELIEFS_PER_RECORD_MAX or sources + more > SOURCES_PER_RECORD_MAX
        ):
            yield batch
            batch, sources = [], 0
        batch.append(each)
        sources += more
    if batch:
        yield batch


def _proposal(view: View, group: Group, summariser: Summariser) -> _Proposal:
    versions = [view.version(row) for row in group.rows.tolist()]
    times = [
        int(view.stored_us[row]) if version.occurred_us is None else version.occurred_us
        for row, version in zip(group.rows.tolist(), versions, strict=True)
    ]
    central = np.lexsort((np.arange(len(versions)), -np.round(group.likeness, 6)))[:SUMMED_UP_MAX]
    in_order = sorted(central.tolist(), key=lambda number: (times[number], number))
    summary = summariser.summarise([(number, versions[number].content) for number in in_order])
    standing = None if group.belief is None else view.version(group.belief)
    expiries = [v.expires_us for v in versions if v.expires_us is not None]
    sure = sum(version.confidence for version in versions) / len(versions)
    belief_id = _id_for(versions) if standing is None else standing.id
    version = MemoryStored(
        id=belief_id,
        revision=0,
        kind="belief",
        content=summary.content,
        tags=_common_tags(versions),
        metadata={},
        confidence=round(group.strength * sure, 6),
        occurred_us=max(times),
        # A belief does not outlive what it rests on.
        expires_us=min(expiries, default=None),
        source=None,
    )
    event = MemoryConsolidated(
        id=belief_id,
        revision=0,
        sources=tuple(each.id for each in versions),
        revisions=tuple(each.revision for each in versions),
        strength=group.strength,
        citations=summary.citations,
        summariser=summariser.name,
    )
    based_on = None if standing is None else standing.revision
    return _Proposal(Formed(version, event, based_on), group.centroid)


def _id_for(versions: Sequence[MemoryVersion]) -> str:
    """The id of the belief that is first formed from these: the same from the same."""
    ids = msgspec.json.encode([version.id for version in versions])
    return f"belief-{blake2b(ids, digest_size=_ID_BYTES).hexdigest()}"


def _common_tags(versions: Sequence[MemoryVersion]) -> tuple[str, ...]:
    common = set(versions[0].tags).intersection(*(version.tags for version in versions[1:]))
    return tuple(tag for tag in versions[0].tags if tag in common)


def _belief(formed: Formed, revision: int | None) -> Belief:
    return Belief(
        id=formed.version.id,
        action="formed" if formed.based_on is None else "revised",
        revision=revision,
        content=formed.version.content,
        strength=formed.event.strength,
        sources=sources_of(formed.event),
        citations=cited_of(formed.event),
        summariser=formed.event.summariser,
    )
