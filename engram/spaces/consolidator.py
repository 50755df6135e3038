"""Consolidating an open space: what belongs together, as beliefs that the log tells of.

What is to be formed is worked out from a view, beside reads and writes; whether it still holds is
decided in the writer's thread. Consolidations of a space run one at a time: who comes while one
runs waits for it, and finds what it left to be done.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol
from weakref import ref

import msgspec
import numpy as np
import numpy.typing as npt

from engram.cognition.consolidation import Group, plan
from engram.cognition.summaries import Summary, extract
from engram.embedding.summariser import configured
from engram.errors import EngramError, Unavailable
from engram.memory.beliefs import EXTRACTIVE, Belief, Consolidation, cited_of, sources_of
from engram.memory.believing import Consolidate, Formed, Overtaken
from engram.memory.events import MemoryConsolidated, MemoryStored, MemoryVersion
from engram.memory.rhythm import OFF
from engram.memory.view import View
from wal.errors import WalError

if TYPE_CHECKING:
    from engram.spaces.store import Store
    from engram.spaces.sweeper import Sweeper

BELIEFS_PER_RECORD_MAX: Final = 64
SOURCES_PER_RECORD_MAX: Final = 5_000
SUMMED_UP_MAX: Final = 200
"""A summary is made of so many sources at most, those nearest to the centroid."""
RETRY_S: Final = 60.0
"""How long a consolidation that failed by itself waits until it is tried again."""
LOOKED_AT_EVERY: Final = 64
"""A writer asks whether one is due once a part of so much more is new."""
_ID_BYTES: Final = 12
_LOG: Final = logging.getLogger("engram.spaces")


class Summariser(Protocol):
    """What makes a belief's content of its sources."""

    @property
    def name(self) -> str: ...

    def summarise(self, texts: Sequence[tuple[int, str]]) -> Summary:
        """The summary of texts in order of time, each with the number of its source. May raise
        what keeps anything from being formed.
        """


class Extractive:
    """Sentences of the sources, as they stand there."""

    name = EXTRACTIVE

    def summarise(self, texts: Sequence[tuple[int, str]]) -> Summary:
        return extract(texts)


def chosen_summariser() -> Summariser:
    """The one that the environment names now, else :class:`Extractive`. Raises Invalid if it names
    one that there cannot be.
    """
    return configured() or Extractive()


class _Proposal(NamedTuple):
    formed: Formed
    centroid: npt.NDArray[np.float32]


class Consolidator:
    """Consolidates one open space. Thread-safe; keeps no store alive."""

    def __init__(self, store: Store, sweeper: Sweeper | None) -> None:
        """Without a sweeper nothing happens by itself."""
        self._store = ref(store)
        self._sweeper = sweeper
        self._running = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._settled: npt.NDArray[np.int64] | None = None
        self._seen: int | None = None
        self._noticed = (0, 0, OFF)
        self._not_before_s = 0.0

    @property
    def runs(self) -> bool:
        return self._running.locked() or self._thread is not None

    def notice(self) -> None:
        """See to it that a consolidation that is due is run. Where the space is opened, and for its
        writer, after a group; it looks again only once a part more has been stored. Never raises.
        """
        store = self._store()
        if store is None or self._sweeper is None:
            return
        rows, new, rhythm = self._noticed
        same = rhythm == store.state.settings.consolidation
        if same and 0 <= store.state.view.rows - rows <= new // LOOKED_AT_EVERY:
            return
        due_s = self.due_s()
        if due_s is not None:
            self._sweeper.expect(self, due_s)

    def due_s(self) -> float | None:
        """In how many seconds it should consolidate by itself; None if nothing is due, or while it
        does, or in a space that is not well, or is no longer open.
        """
        store = self._store()
        if store is None or store.closing or self._stopping or self._thread is not None:
            return None
        if store.state.deleted or store.condition[0] != "active":
            return None
        rhythm, view = store.state.settings.consolidation, store.state.view
        if rhythm == OFF:
            self._noticed = (view.rows, 0, OFF)
            return None
        # What formed the last belief has looked at all that was stored before it.
        seen = view.beliefs.last_position if self._seen is None else self._seen
        first = int(np.searchsorted(view.positions, seen, side="right"))
        new = first + np.flatnonzero(view.live[first:] & view.attributes.of_kind("episode", first))
        self._noticed = (view.rows, len(new), rhythm)
        if not len(new):
            return None
        wait_s = float("inf")
        if rhythm.after is not None and len(new) >= rhythm.after:
            wait_s = 0.0
        elif rhythm.every_s is not None:
            oldest_us = int(view.stored_us[new].min())
            wait_s = (oldest_us - store.now_ns() // 1_000) / 1e6 + rhythm.every_s
        if wait_s == float("inf"):
            return None
        return max(wait_s, self._not_before_s - time.monotonic(), 0.0)

    def tend(self) -> None:
        """Consolidate in a thread of its own, unless one does. Never raises."""
        store = self._store()
        if store is None or self._thread is not None or self._stopping:
            return
        name = f"engram-consolidator-{store.identity.memory_space_id}"
        self._thread = threading.Thread(target=self._in_background, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None

    def stop(self) -> None:
        """Have a running consolidation give up, and wait for it."""
        self._stopping = True
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        with self._running:
            pass

    def _in_background(self) -> None:
        try:
            self.run(chosen_summariser())
        except (EngramError, WalError, OSError) as error:
            self._not_before_s = time.monotonic() + RETRY_S
            if not self._stopping:
                _LOG.warning("a space was not consolidated: %s", error)
        finally:
            self._noticed = (0, 0, OFF)
            self._thread = None
        self.notice()

    def _check(self) -> None:
        if self._stopping:
            raise Unavailable("the space is being closed; nothing more was consolidated")

    def run(self, summariser: Summariser, *, dry_run: bool = False) -> Consolidation:
        """Form what belongs together, or with `dry_run` only say what that would be. Raises what
        the summariser raises, what committing does, and :class:`engram.errors.Unavailable` where
        the space is being closed.
        """
        started = time.perf_counter()
        store = self._store()
        if store is None:
            raise Unavailable("the space was closed")
        with self._running:
            self._check()
            view, now_us = store.state.view, store.now_ns() // 1_000
            planned = plan(view, now_us, self._settled, self._check)

            def taken(belief_id: str) -> bool:
                return store.state.find(belief_id, now_us) is not None

            proposals = []
            for group in planned.groups:
                self._check()
                proposals.append(_proposal(view, group, summariser, taken))
            position = view.position
            beliefs = [_belief(each.formed, None) for each in proposals] if dry_run else []
            for batch in _batches([] if dry_run else proposals):
                self._check()
                position, formed = _committed(store, batch, position)
                beliefs += formed
            if not dry_run:
                self._settled, self._seen = planned.settled, view.position
        return Consolidation(
            memory_space_id=store.identity.memory_space_id,
            beliefs=tuple(beliefs),
            position=position,
            dry_run=dry_run,
            episodes=planned.episodes,
            left=planned.left,
            took_ms=round((time.perf_counter() - started) * 1_000, 3),
        )


def _committed(store: Store, batch: Sequence[_Proposal], position: int) -> tuple[int, list[Belief]]:
    """Form what of a batch still holds; the last position then, `position` if nothing did."""
    command = Consolidate(
        [each.formed for each in batch],
        np.stack([each.centroid for each in batch]),
        store.now_ns() // 1_000,
    )
    try:
        committed = store.commit(command)
    except Overtaken:
        return position, []
    events = committed.batch.events
    revisions = {e.id: e.revision for e in events if isinstance(e, MemoryVersion)}
    formed = [each.formed for each in batch if each.formed.version.id in revisions]
    return committed.ack.last_position, [_belief(f, revisions[f.version.id]) for f in formed]


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


def _proposal(
    view: View, group: Group, summariser: Summariser, taken: Callable[[str], bool]
) -> _Proposal:
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
    belief_id = _id_for(versions, taken) if standing is None else standing.id
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


def _id_for(versions: Sequence[MemoryVersion], taken: Callable[[str], bool]) -> str:
    """The id of the belief that is first formed from these: the same from the same, but for one
    that somebody has used again.
    """
    ids = [version.id for version in versions]
    while taken(belief_id := f"belief-{_digest(ids)}"):
        ids = [belief_id, *ids]
    return belief_id


def _digest(ids: Sequence[str]) -> str:
    return blake2b(msgspec.json.encode(ids), digest_size=_ID_BYTES).hexdigest()


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
